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

/** Whether a range of a buffer holds nothing but zeroes. Data is nearly always told by one of four bytes. */
function isZero(buffer: Buffer, start = 0, end: number = buffer.length): boolean {
  if (start === end) return true;
  const middle = (start + end) >> 1;
  if (buffer[start] !== 0 || buffer[end - 1] !== 0 || buffer[middle] !== 0 || buffer[start + 8] !== 0) {
    return end - start <= 8 && buffer.subarray(start, end).every((byte) => byte === 0);
  }
  for (let at = start; at < end; at += ZEROES.length) {
    const length = Math.min(ZEROES.length, end - at);
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
  return isZero(buffer, start, end) ? 'zero' : 'data';
}
