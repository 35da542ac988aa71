/** Finding zeroes in data that was read: they need not be written. */

const ZEROES = Buffer.alloc(64 * 1024);

/** `same`: what stands behind holds it already. */
export type RunKind = 'zero' | 'same' | 'data';

/** A run inside a buffer. Bytes from the start of the buffer. */
export interface Run {
  readonly start: number;
  readonly end: number;
  readonly kind: RunKind;
}

/** Whether a buffer holds nothing but zeroes. */
export function isZero(buffer: Uint8Array): boolean {
  if (buffer.length === 0) return true;
  if (buffer[0] !== 0 || buffer[buffer.length - 1] !== 0 || buffer[buffer.length >> 1] !== 0) return false;
  for (let at = 0; at < buffer.length; at += ZEROES.length) {
    const length = Math.min(ZEROES.length, buffer.length - at);
    if (ZEROES.compare(buffer, at, at + length, 0, length) !== 0) return false;
  }
  return true;
}

/**
 * Cuts a buffer into runs of zeroes, of what `behind` holds too (when given), and of data. Runs consist of whole
 * pieces of `piece` bytes, counted from `phase` bytes before the buffer (so that pieces stay aligned on the disk);
 * the last piece may be shorter.
 */
export function findRuns(buffer: Buffer, piece: number, phase = 0, behind?: Buffer): Run[] {
  const runs: Run[] = [];
  let start = 0;
  let kind: RunKind | undefined;
  let at = 0;
  while (at < buffer.length) {
    const end = Math.min(buffer.length, at + piece - ((at + phase) % piece));
    const found = kindOf(buffer, at, end, behind);
    if (kind !== undefined && found !== kind) {
      runs.push({ start, end: at, kind });
      start = at;
    }
    kind = found;
    at = end;
  }
  if (kind !== undefined) runs.push({ start, end: buffer.length, kind });
  return runs;
}

function kindOf(buffer: Buffer, start: number, end: number, behind: Buffer | undefined): RunKind {
  if (behind !== undefined && buffer.compare(behind, start, end, start, end) === 0) return 'same';
  return isZero(buffer.subarray(start, end)) ? 'zero' : 'data';
}
