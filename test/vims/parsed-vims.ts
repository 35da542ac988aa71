/** What the compiled vims.ksy gives, as far as the test looks at it. Parts are parsed when they are asked for. */
import type { Parsed } from '../ksy-compiler.ts';

export interface ParsedVolume {
  readonly superblock0: ParsedBlock;
  readonly superblock2: ParsedBlock;
  readonly superblock: Parsed;
  readonly deviceIndex: number;
  readonly clusters: number;
  readonly backups: readonly { readonly cluster: number; readonly superblock?: ParsedBlock }[];
  readonly deviceRecordBlock: ParsedBlock;
  /** On the first device. */
  readonly nodeSlots?: readonly ParsedNodeSlot[];
  readonly groups: readonly ParsedGroup[];
  readonly rootFolder: ParsedTarget;
}

export interface ParsedBlock {
  readonly header: Parsed & { readonly type: number; readonly isBlock: boolean; readonly address: number };
  /** Bytes, when nothing is known of it. */
  readonly body: Parsed;
}

/** Where an address leads: to a block when that is on the same device. */
export interface ParsedTarget {
  readonly address: number;
  readonly device: number;
  readonly isHere: boolean;
  readonly block?: ParsedBlock;
}

interface ParsedNodeSlot {
  readonly heartbeat: ParsedBlock;
  readonly eviction: ParsedBlock;
  readonly ballot: ParsedBlock;
  readonly slotBlock: ParsedBlock;
  readonly isWritten: boolean;
  readonly journal?: ParsedJournal;
  readonly orphans?: ParsedTarget;
}

export interface ParsedJournal {
  readonly headerBlock: ParsedBlock;
  readonly ring: readonly ParsedBlock[];
  readonly oldest: ParsedRecord;
}

export interface ParsedRecord {
  readonly isThere: boolean;
  readonly sequence: number;
  readonly descriptors: readonly { readonly block: ParsedBlock }[];
  readonly images: readonly { readonly block: ParsedBlock }[];
  readonly next?: ParsedRecord;
}

interface ParsedGroup {
  readonly headerBlock: ParsedBlock;
  readonly counts: readonly ParsedBlock[];
  readonly clusters: readonly ParsedCluster[];
}

interface ParsedCluster {
  readonly cluster: number;
  readonly count: number;
  readonly isFree: boolean;
  readonly isSystem: boolean;
  readonly isMetadata: boolean;
  readonly blocks?: readonly { readonly isUsed: boolean; readonly block?: ParsedBlock }[];
}

export interface ParsedPointer {
  readonly address: number;
  readonly target: ParsedTarget;
}

export interface ParsedClusterEntry {
  readonly address: number;
  readonly device: number;
  readonly written: number;
  readonly isShared: boolean;
  readonly isHere: boolean;
  readonly data?: Uint8Array;
}

export interface ParsedNames {
  readonly names: readonly (Parsed & {
    readonly inode: number;
    readonly kind: number;
    readonly length: number;
    readonly name: string;
    readonly target: ParsedTarget;
  })[];
}

export interface ParsedUndoFile {
  readonly head: Parsed;
  readonly records: readonly (Parsed & {
    readonly device: number;
    readonly offset: number;
    readonly bytes: Uint8Array;
  })[];
}
