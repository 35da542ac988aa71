/** The line that `create` prints: the file, its format and its options, in the order of qemu-img. */
import { parseSize } from '../../base/size.ts';
import type { FormatDriver, OptionValues } from '../../image/format-driver.ts';
import { printable } from './printable.ts';

/** qemu-img lists options in this order; those of ours follow the size. */
const BEFORE_SIZE: readonly string[] = ['cluster_size', 'extended_l2', 'preallocation', 'compression_type'];
const LAST: readonly string[] = ['data_file', 'data_file_raw', 'lazy_refcounts', 'refcount_bits'];

export function formattingLine(
  path: string,
  driver: FormatDriver,
  size: number,
  values: OptionValues,
  backing: { readonly path: string; readonly format?: string | undefined } | undefined,
): string {
  const shown = new Map<string, string>();
  for (const option of driver.createOptions) {
    const value = values[option.name];
    const preset = HIDDEN_DEFAULTS.has(option.name) ? undefined : option.default;
    if (value !== undefined)
      shown.set(option.name, typeof value === 'boolean' ? (value ? 'on' : 'off') : String(value));
    else if (preset !== undefined)
      shown.set(option.name, option.type === 'size' ? String(parseSize(preset)) : preset);
  }
  const take = (names: readonly string[]): string[] =>
    names.flatMap((name) => {
      const value = shown.get(name);
      shown.delete(name);
      return value === undefined ? [] : [`${name}=${value}`];
    });
  const first = take(driver.name === 'raw' ? [] : BEFORE_SIZE);
  const version = take(['compat']);
  const last = take(LAST);
  const rest = take([...shown.keys()]);
  const behind =
    backing === undefined ? [] : [`backing_file=${backing.path}`, `backing_fmt=${backing.format ?? ''}`];
  const parts = [`fmt=${driver.name}`, ...first, `size=${size}`, ...version, ...behind, ...rest, ...last];
  return printable(`Formatting '${path}', ${parts.join(' ')}`);
}

/** qemu-img says nothing of these unless they were given. */
const HIDDEN_DEFAULTS: ReadonlySet<string> = new Set([
  'preallocation',
  'compat',
  'data_file',
  'data_file_raw',
]);
