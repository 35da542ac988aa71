/** Rows of text as columns, for a person: the first row is the heading. */
import { printable } from './printable.ts';

/** @param right columns that are aligned at the right */
export function columns(rows: readonly (readonly string[])[], right: readonly number[] = []): string[] {
  const safe = rows.map((row) => row.map(printable));
  const widths = (safe[0] ?? []).map((_, column) => Math.max(...safe.map((row) => row[column]?.length ?? 0)));
  return safe.map((row) =>
    row
      .map((text, column) => {
        const width = widths[column] ?? 0;
        return right.includes(column) ? text.padStart(width) : text.padEnd(width);
      })
      .join('  ')
      .trimEnd(),
  );
}
