/**
 * On-disk structures declared as data.
 *
 * A layout lists each field with its visible offset. It checks itself when its module is loaded (no gap, no
 * overlap, the size adds up), and serves decoding, encoding, `vimg inspect`, the tables of each SPEC.md and the
 * fuzzers. Tables that are read on the data path bypass it with a `DataView`.
 */
import { VimgError } from '../base/errors.ts';

/** How one field is stored. Made by the functions of field-types.ts, never by hand. */
export interface FieldType<T> {
  /** As the SPEC's table names it: `u32`, `uuid`, `ascii[8]`. */
  readonly name: string;
  readonly size: number;
  get(view: DataView, offset: number): T;
  set(view: DataView, offset: number, value: T): void;
}

/** `[offset, type, meaning]`: one row of the specification. */
export type Field<T> = readonly [offset: number, type: FieldType<T>, meaning: string];

export type Fields<T> = { readonly [K in keyof T]: Field<T[K]> };

/** One row of a layout, as `inspect` and the SPEC's tables show it. */
export interface FieldRow {
  readonly offset: number;
  readonly size: number;
  readonly field: string;
  readonly type: string;
  readonly meaning: string;
}

/** A declared structure of `size` bytes. */
export interface Layout<T> {
  readonly name: string;
  readonly size: number;
  readonly rows: readonly FieldRow[];
  /** Reads the structure at `offset` of `bytes`. @throws VimgError `INVALID_FORMAT` when the bytes end before it */
  decode(bytes: Uint8Array, offset?: number): T;
  /** Writes the structure into `bytes` at `offset`; a new buffer of exactly `size` bytes without one. */
  encode(value: T, bytes?: Uint8Array, offset?: number): Uint8Array;
}

/** Declares a structure. @throws TypeError at import when fields leave a gap, overlap, or pass the size */
export function layout<T extends object>(name: string, size: number, fields: Fields<T>): Layout<T> {
  const entries = Object.entries(fields) as unknown as [keyof T & string, Field<T[keyof T & string]>][];
  const rows: FieldRow[] = entries.map(([field, [offset, type, meaning]]) => ({
    offset,
    size: type.size,
    field,
    type: type.name,
    meaning,
  }));
  checkRows(name, size, rows);
  return {
    name,
    size,
    rows,
    decode(bytes, offset = 0) {
      if (bytes.length < offset + size) {
        throw new VimgError(
          'INVALID_FORMAT',
          `${name} is cut short: ${bytes.length - offset} of ${size} bytes`,
        );
      }
      const view = new DataView(bytes.buffer, bytes.byteOffset + offset, size);
      const value = {} as T;
      for (const [field, [at, type]] of entries) value[field] = type.get(view, at);
      return value;
    },
    encode(value, bytes = new Uint8Array(size), offset = 0) {
      const view = new DataView(bytes.buffer, bytes.byteOffset + offset, size);
      for (const [field, [at, type]] of entries) type.set(view, at, value[field]);
      return bytes;
    },
  };
}

function checkRows(name: string, size: number, rows: readonly FieldRow[]): void {
  let end = 0;
  for (const row of rows) {
    if (row.offset !== end) {
      const what = row.offset > end ? 'gap' : 'overlap';
      throw new TypeError(
        `layout ${name}: ${what} before ${row.field}: it starts at ${row.offset}, not ${end}`,
      );
    }
    end = row.offset + row.size;
  }
  if (end !== size) throw new TypeError(`layout ${name}: fields end at ${end}, the size is ${size}`);
}
