/** Single fields of the header, and the errors that judging a header gives. */
import { VimgError } from '../../src/base/errors.ts';
import { LIMITS } from '../../src/base/limits.ts';
import { COMPRESSION_TYPE_OFFSET, type HeaderFeatures, INCOMPATIBLE_COMPRESSION } from './layout.ts';

/** How compressed clusters are compressed. All of an image are alike. */
export type CompressionType = 'zlib' | 'zstd';

/** @param area the first bytes of the file, the whole header among them */
export function decodeCompressionType(features: HeaderFeatures, area: Uint8Array): CompressionType {
  const flagged = (features.incompatibleFeatures & INCOMPATIBLE_COMPRESSION) !== 0n;
  const present = features.headerLength > COMPRESSION_TYPE_OFFSET;
  const type = present ? (area[COMPRESSION_TYPE_OFFSET] ?? 0) : 0;
  if (flagged !== (type !== 0)) {
    throw invalid(
      `compression type ${type} does not go with the compression type bit`,
      COMPRESSION_TYPE_OFFSET,
    );
  }
  if (type === 0) return 'zlib';
  if (type === 1) return 'zstd';
  throw unsupported(`compression type ${type} is not known; 0 (zlib) and 1 (zstd) are`);
}

export function decodeEncryption(method: number): 'aes' | 'luks' | undefined {
  if (method === 0) return undefined;
  if (method === 1) return 'aes';
  if (method === 2) return 'luks';
  throw unsupported(`the image is encrypted with the unknown method ${method}`);
}

export function decodeVirtualSize(size: bigint): number {
  if (size <= BigInt(LIMITS.virtualSize)) return Number(size);
  throw new VimgError('LIMIT', `the image says that its disk has ${size} bytes, more than vimg handles`, {
    op: 'read qcow2 header',
    offset: 24,
  });
}

export function invalid(message: string, offset: number): VimgError {
  return new VimgError('INVALID_FORMAT', message, { op: 'read qcow2 header', offset });
}

export function tooLarge(what: string, offset: number): VimgError {
  return new VimgError('LIMIT', `${what}: more than vimg (and QEMU) take`, {
    op: 'read qcow2 header',
    offset,
  });
}

export function unsupported(message: string): VimgError {
  return new VimgError('UNSUPPORTED', message, {
    op: 'read qcow2 header',
    hint: 'qemu-img may be able to read it',
  });
}
