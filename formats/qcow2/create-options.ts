/** The options of a new qcow2 image: named, explained and judged. Names and defaults are those of qemu-img. */
import { VimgError } from '../../src/base/errors.ts';
import { formatSize, isPowerOfTwo } from '../../src/base/size.ts';
import type { OptionSpec, OptionValues } from '../../src/image/format-driver.ts';
import { CLUSTER_BITS_MAX, CLUSTER_BITS_MIN, CLUSTER_BITS_MIN_EXTENDED_L2 } from './header.ts';
import type { CompressionType } from './header-fields.ts';

export const QCOW2_CREATE_OPTIONS: readonly OptionSpec[] = [
  { name: 'cluster_size', type: 'size', help: 'allocation unit, 512 to 2M', default: '64K' },
  {
    name: 'compat',
    type: 'choice',
    choices: ['0.10', '1.1', 'v2', 'v3'],
    help: 'format version: 0.10 (v2) or 1.1 (v3)',
    default: '1.1',
  },
  {
    name: 'compression_type',
    type: 'choice',
    choices: ['zlib', 'zstd'],
    help: 'how compressed clusters are compressed',
    default: 'zlib',
  },
  {
    name: 'extended_l2',
    type: 'boolean',
    help: 'allocate in 32nds of a cluster; needs clusters of 16K or more',
    default: 'off',
  },
  { name: 'lazy_refcounts', type: 'boolean', help: 'let writers postpone refcount updates', default: 'off' },
  {
    name: 'preallocation',
    type: 'choice',
    choices: ['off', 'metadata', 'falloc', 'full'],
    help: 'only off is supported',
    default: 'off',
  },
  {
    name: 'refcount_bits',
    type: 'number',
    help: 'width of a refcount: 1, 2, 4, 8, 16, 32 or 64',
    default: '16',
  },
];

/** Options that were judged. */
export interface Qcow2CreateOptions {
  readonly version: 2 | 3;
  readonly clusterBits: number;
  readonly clusterSize: number;
  readonly compressionType: CompressionType;
  readonly extendedL2: boolean;
  readonly lazyRefcounts: boolean;
  readonly refcountBits: number;
}

/**
 * Judges the options of a new image.
 *
 * @throws VimgError `USAGE` for a wrong value or combination, `UNSUPPORTED` for what vimg does not write
 */
export function parseCreateOptions(values: OptionValues): Qcow2CreateOptions {
  for (const name of Object.keys(values)) {
    if (!QCOW2_CREATE_OPTIONS.some((option) => option.name === name)) {
      throw usage(
        `qcow2 has no option '${name}'`,
        `options: ${QCOW2_CREATE_OPTIONS.map((o) => o.name).join(', ')}`,
      );
    }
  }
  const { preallocation = 'off', compat = '1.1', compression_type: compression = 'zlib' } = values;
  const { cluster_size: size = 65536, refcount_bits: refcountBits = 16 } = values;
  const { extended_l2: extendedL2 = false, lazy_refcounts: lazyRefcounts = false } = values;
  if (preallocation !== 'off') {
    throw new VimgError('UNSUPPORTED', `qcow2 images are written without preallocation`, {
      op: 'create',
      hint: 'leave the option away, or create a vvd or raw disk',
    });
  }
  if (!['0.10', '1.1', 'v2', 'v3'].includes(String(compat))) {
    throw usage(`compat is '${compat}'`, '0.10 or 1.1');
  }
  const clusterSize = Number(size);
  const options: Qcow2CreateOptions = {
    version: compat === '0.10' || compat === 'v2' ? 2 : 3,
    clusterBits: Math.log2(clusterSize),
    clusterSize,
    compressionType: parseCompressionType(compression),
    extendedL2: extendedL2 === true,
    lazyRefcounts: lazyRefcounts === true,
    refcountBits: Number(refcountBits),
  };
  checkOptions(options);
  return options;
}

function parseCompressionType(value: string | number | boolean): CompressionType {
  if (value === 'zlib' || value === 'zstd') return value;
  throw usage(`compression_type is '${value}'`, 'zlib or zstd');
}

function checkOptions(options: Qcow2CreateOptions): void {
  const { version, clusterBits, clusterSize, refcountBits } = options;
  if (!isPowerOfTwo(clusterSize) || clusterBits < CLUSTER_BITS_MIN || clusterBits > CLUSTER_BITS_MAX) {
    throw usage(`cluster_size is ${clusterSize}`, 'a power of two from 512 to 2M');
  }
  if (![1, 2, 4, 8, 16, 32, 64].includes(refcountBits)) {
    throw usage(`refcount_bits is ${refcountBits}`, 'a power of two from 1 to 64');
  }
  if (options.extendedL2 && clusterBits < CLUSTER_BITS_MIN_EXTENDED_L2) {
    throw usage(`extended_l2 with clusters of ${formatSize(clusterSize)}`, 'clusters of at least 16K');
  }
  if (version === 3) return;
  const needed = (what: string): VimgError => usage(`${what} needs compat=1.1`, 'leave compat=0.10 away');
  if (options.lazyRefcounts) throw needed('lazy_refcounts');
  if (options.extendedL2) throw needed('extended_l2');
  if (options.compressionType !== 'zlib') throw needed('compression_type=zstd');
  if (refcountBits !== 16) throw needed('a refcount width other than 16');
}

function usage(message: string, hint: string): VimgError {
  return new VimgError('USAGE', message, { op: 'create', hint });
}
