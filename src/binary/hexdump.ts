/** A classic hex dump, for `inspect` and for failing tests. */

/** Sixteen bytes a line: offset, hex, printable ASCII. Runs of equal lines are folded into `*`. */
export function hexdump(bytes: Uint8Array, baseOffset = 0): string {
  const lines: string[] = [];
  let previous = '';
  let folded = false;
  for (let at = 0; at < bytes.length; at += 16) {
    const row = bytes.subarray(at, at + 16);
    const hex = Array.from(row, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
    if (hex === previous && at + 16 < bytes.length) {
      if (!folded) lines.push('*');
      folded = true;
      continue;
    }
    folded = false;
    previous = hex;
    const text = Array.from(row, (byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : '.')).join(
      '',
    );
    lines.push(`${(baseOffset + at).toString(16).padStart(10, '0')}  ${hex.padEnd(47)}  ${text}`);
  }
  return lines.join('\n');
}
