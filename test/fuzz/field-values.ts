/** Values that a hostile image may give a field: the extremes, near misses, and places that belong to something else. */
import type { MemoryDevice } from '../../src/device/memory-device.ts';
import type { Structure } from './structures.ts';

/** Whether time was given (`npm run test:fuzz`): then every value of every field is tried. */
export const THOROUGH: boolean = process.env['VIMG_FUZZ_SECONDS'] !== undefined;

const LONG = 8;
const SAFE_MAX = 2n ** 53n - 1n;
/** What entries keep in the low bits of a place; kept as they are, so that only the place is wrong. */
const KIND_BITS = 0xfn;

/** The values for the field at `offset`, as the bytes to write, each another than what is there. */
export function fieldValues(
  file: MemoryDevice,
  structures: readonly Structure[],
  offset: number,
  size: number,
): string[] {
  const now = new Uint8Array(size);
  file.pread(now, offset);
  const flipped = (byte: number, mask: number): Uint8Array => {
    const bytes = now.slice();
    bytes[byte] = (bytes[byte] as number) ^ mask;
    return bytes;
  };
  const values = [new Uint8Array(size), new Uint8Array(size).fill(0xff), flipped(0, 0x01)];
  if (THOROUGH) values.push(flipped(0, 0x10), flipped(size - 1, 0x80), flipped(size >>> 1, 0x04));
  if (size === LONG)
    for (const place of wrongPlaces(file, structures)) values.push(...longValues(now, place));
  const different = new Set(values.map((bytes) => Buffer.from(bytes).toString('hex')));
  different.delete(Buffer.from(now).toString('hex'));
  return [...different];
}

/** The number, as it is and with the low bits that the field has now. */
function longValues(now: Uint8Array, value: bigint): Uint8Array[] {
  const kind = new DataView(now.buffer).getBigUint64(0, true) & KIND_BITS;
  return [value, ...(kind === 0n ? [] : [(value & ~KIND_BITS) | kind])].map((number) => {
    const bytes = new Uint8Array(LONG);
    new DataView(bytes.buffer).setBigUint64(0, number, true);
    return bytes;
  });
}

/** Places of the end of the file, of metadata, far past the end, and the largest that a number can be. */
export function wrongPlaces(file: MemoryDevice, structures: readonly Structure[]): bigint[] {
  const kinds = new Map(structures.map((structure) => [structure.kind, structure.places[0] as number]));
  const end = BigInt(file.size);
  const few = [end, BigInt(kinds.get('table') ?? 0), SAFE_MAX - 4095n];
  if (!THOROUGH) return few;
  return [...few, ...[...kinds.values()].map(BigInt), end - 4096n, end + 4096n, 2n ** 40n, SAFE_MAX];
}
