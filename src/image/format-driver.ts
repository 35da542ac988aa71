/** What a disk format is to the rest of vimg: a plain value that probes, opens, creates and checks. */
import type { BlockDevice } from '../device/block-device.ts';
import type { CheckReport } from './check-report.ts';
import type { Gate } from './gate.ts';
import type { Layer } from './layer.ts';
import type { Lifecycle } from './lifecycle.ts';

/** An option of `create -o`: parsing, `-o help` and the docs derive from it. */
export interface OptionSpec {
  readonly name: string;
  readonly type: 'size' | 'string' | 'boolean' | 'choice' | 'number';
  readonly choices?: readonly string[];
  readonly help: string;
  readonly default?: string;
}

/** Parsed options, by name. Sizes and numbers are numbers, booleans booleans. */
export type OptionValues = Readonly<Record<string, string | number | boolean>>;

/** What the first bytes of a file say. A `guess` is never enough to write to the file or trust its content. */
export type ProbeVerdict = 'no' | 'guess' | 'yes';

export interface OpenLayerOptions {
  readonly readOnly: boolean;
  /** Opens the files that the header points to (data file, extents); backing files are opened by the chain. */
  readonly gate: Gate;
  /** Open this snapshot of the file instead of its present content. */
  readonly snapshot?: string;
  /** Open no other file: the layer answers `info` and nothing else. */
  readonly infoOnly?: boolean;
  /** The file was just created by this process and is given up on a failure: skip the journal. */
  readonly fresh?: boolean;
}

export interface CreateLayerOptions {
  /** Guest bytes, a multiple of 512. */
  readonly virtualSize: number;
  readonly options: OptionValues;
  readonly backing?: {
    readonly path: string;
    readonly format: string | undefined;
    readonly layer: Layer | undefined;
  };
  readonly gate: Gate;
}

export interface CheckOptions {
  /** Repair what can be proven: `leaks`, or everything (`all`). */
  readonly repair?: 'leaks' | 'all';
  /** Where bytes are saved before a repair overwrites them. Required with `repair`. */
  readonly undoPath?: string;
  /** Also read data and verify its checksums. */
  readonly scrub?: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: (fraction: number) => void;
}

/** One on-disk structure, for `inspect`. */
export interface InspectedStructure {
  readonly name: string;
  readonly offset: number;
  readonly length: number;
  /** `ok`, or what is wrong with it. */
  readonly state: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** Writes a new image front to back or in any order, each unit at most once. What convert uses for new files. */
export interface ImageWriter {
  /** The unit that `writeCompressed` takes, and the best multiple for `write`. */
  readonly unit: number;
  write(offset: number, data: Uint8Array): Promise<void>;
  /** The range reads as zeroes; needed only where the image has a backing file. */
  writeZeroes(offset: number, length: number): Promise<void>;
  /** One whole unit (shorter only at the end of the disk), compressed; stored as data when it does not shrink. */
  writeCompressed?(offset: number, unit: Uint8Array): Promise<void>;
  /** Writes the metadata. The image is complete, not yet durable: flush the file for that. */
  finish(): Promise<void>;
}

export interface FormatDriver {
  /** As `-f` takes it. */
  readonly name: string;
  readonly description: string;
  /** File endings, without the dot. */
  readonly endings: readonly string[];
  readonly can: {
    readonly create: boolean;
    readonly write: boolean;
    readonly backing: boolean;
    readonly snapshot: boolean;
    readonly compress: boolean;
    readonly resize: boolean;
    readonly check: boolean;
  };
  readonly createOptions: readonly OptionSpec[];
  /** Bytes from the start of the file that `probe` wants to see (fewer at the end of a small file). */
  readonly probeLength: number;
  probe(head: Uint8Array, fileSize: number): ProbeVerdict;
  /** Opens the image in `file`. The layer owns `file` once this resolves; the caller closes it when this throws. */
  open(file: BlockDevice, options: OpenLayerOptions): Promise<Layer>;
  /** Writes a new, empty image into `file`. */
  create?(file: BlockDevice, options: CreateLayerOptions): Promise<void>;
  /** Starts a new image that convert fills; for formats that are not written through a `LayerWriter`. */
  startWriter?(file: BlockDevice, options: CreateLayerOptions): Promise<ImageWriter>;
  check?(file: BlockDevice, options: CheckOptions): Promise<CheckReport>;
  /**
   * Puts back what a repair overwrote, from its undo file; durable when this returns.
   *
   * @throws VimgError `INVALID_FORMAT` for what is no undo file, `USAGE` for that of another disk; `IO`
   */
  undoRepair?(file: BlockDevice, undoPath: string): Promise<void>;
  /** Every structure that can be read, damaged or not. */
  inspect?(file: BlockDevice): AsyncGenerator<InspectedStructure>;
  /** Present when snapshots and clones of the format are layers of their own. */
  readonly lifecycle?: Lifecycle;
  /** Bytes that a file of this format needs for a disk of this size with this much data. */
  measure?(
    virtualSize: number,
    dataBytes: number,
    options: OptionValues,
  ): { required: number; fullyAllocated: number };
}
