/** Text that came out of a file, safe to show: nothing in it moves the cursor, hides itself or starts a new line. */

/** Control characters and direction marks are written as escapes; everything else stays. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu, (c) => {
    const code = c.codePointAt(0) as number;
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16)}`;
  });
}
