/** The flags of `convert`, judged before anything is opened. Messages are those of qemu-img where it has them. */
import { isVimgError, VimgError } from '../base/errors.ts';
import { parseSize } from '../base/size.ts';
import { isUncached } from './cache-mode.ts';
import { usage } from './command-line.ts';
import type { AccessOptions } from './open-disk.ts';
import type { ProgressOptions } from './progress-display.ts';
import { snapshotParameter } from './snapshot-parameter.ts';

export interface ConvertFlags extends AccessOptions, ProgressOptions {
  readonly targetFormat?: string;
  readonly options?: readonly string[];
  readonly compress?: boolean;
  readonly snapshot?: string;
  readonly backing?: string;
  readonly backingFormat?: string;
  readonly sparseSize?: string;
  /** commander's form of `--no-create`: false when it was given. */
  readonly create?: boolean;
  readonly targetIsZero?: boolean;
  readonly seal?: boolean;
  readonly targetCache?: string;
  readonly sourceCache?: string;
  readonly parallel?: string;
  readonly oob?: boolean;
  readonly copyRangeOffloading?: boolean;
  readonly rateLimit?: string;
  readonly salvage?: boolean;
  readonly bitmaps?: boolean;
  readonly targetImageOpts?: boolean;
}

export interface ConvertPlan {
  readonly sources: number;
  readonly snapshot: string | undefined;
  readonly sparseSize: number;
  readonly parallel: number;
  readonly durable: boolean;
  readonly offload: boolean;
  /** Cache modes that keep a side out of the host's cache. */
  readonly uncached: { readonly source: boolean; readonly target: boolean };
  readonly existing: boolean;
  readonly zeroed: boolean;
  readonly rateLimit: number | undefined;
}

const SPARSE_SIZE_DEFAULT = 4096;
const SPARSE_SIZE_MAX = 16 * 1024 * 1024;
const PARALLEL_DEFAULT = 4;
const PARALLEL_MAX = 16;
const SECTOR = 512;

/** Judges the flags. @throws VimgError `USAGE`, `UNSUPPORTED` */
export function planConvert(flags: ConvertFlags, sources: readonly string[]): ConvertPlan {
  const existing = flags.create === false;
  if (flags.bitmaps) throw new VimgError('UNSUPPORTED', 'Bitmaps are not converted in this release');
  if (flags.targetImageOpts) throw new VimgError('UNSUPPORTED', '--target-image-opts is not supported');
  if (flags.targetIsZero && !existing) throw usage('--target-is-zero requires use of -n flag');
  if (flags.seal && existing) throw usage('--seal is for new images', 'use `seal` on the existing one');
  if (flags.copyRangeOffloading && flags.compress)
    throw usage('Cannot enable copy offloading when -c is used');
  if (flags.copyRangeOffloading && flags.sparseSize !== undefined) {
    throw usage('Cannot enable copy offloading when -S is used');
  }
  if (flags.snapshot !== undefined && sources.length > 1) {
    throw usage('No support for concatenating multiple snapshot');
  }
  const uncached = {
    source: isUncached(flags.sourceCache, 'source cache option'),
    target: isUncached(flags.targetCache, 'cache option'),
  };
  return {
    sources: sources.length,
    snapshot: snapshotParameter(flags.snapshot),
    sparseSize: readSparseSize(flags.sparseSize),
    parallel: readParallel(flags.parallel),
    durable: flags.targetCache !== 'unsafe',
    offload: flags.copyRangeOffloading ?? false,
    uncached,
    existing,
    zeroed: flags.targetIsZero ?? false,
    rateLimit: flags.rateLimit === undefined ? undefined : readRate(flags.rateLimit),
  };
}

function readSparseSize(text: string | undefined): number {
  if (text === undefined) return SPARSE_SIZE_DEFAULT;
  let size: number;
  try {
    size = parseSize(text);
  } catch (error) {
    if (!isVimgError(error, 'USAGE')) throw error;
    throw usage(`Invalid buffer size for sparse output specified: '${text}'`, error.hint);
  }
  if (size % SECTOR !== 0 || size > SPARSE_SIZE_MAX) {
    throw usage(
      `Invalid buffer size for sparse output specified. Valid sizes are multiples of ${SECTOR} up to ` +
        `${SPARSE_SIZE_MAX}. Select 0 to disable sparse detection (fully allocates output).`,
    );
  }
  return size;
}

function readParallel(text: string | undefined): number {
  if (text === undefined) return PARALLEL_DEFAULT;
  const number = Number(text);
  if (!/^[0-9]+$/.test(text) || number < 1 || number > PARALLEL_MAX) {
    throw usage(
      `Invalid number of coroutines. Allowed number of coroutines is between 1 and ${PARALLEL_MAX}`,
    );
  }
  return number;
}

function readRate(text: string): number {
  const rate = parseSize(text);
  if (rate === 0) throw usage('The rate limit must be positive');
  return rate;
}
