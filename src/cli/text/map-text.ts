/** `map`, in the two forms of qemu-img. Entries are printed as they are found: a map can be long. */
import type { MapExtent } from '../../image/disk-image.ts';
import { printable } from './printable.ts';

export const MAP_HEADING: string = `${'Offset'.padEnd(16)}${'Length'.padEnd(16)}${'Mapped to'.padEnd(16)}File`;

/** A line for people: where data is stored. Call it only for extents of data that are stored one to one. */
export function mapLine(extent: MapExtent, fileName: string): string {
  const place = hex(extent.fileOffset ?? 0);
  const file = printable(fileName);
  return `${hex(extent.offset).padEnd(16)}${hex(extent.length).padEnd(16)}${place.padEnd(16)}${file}`;
}

/** An entry of the JSON array, on one line. */
export function mapJson(extent: MapExtent): string {
  const { offset, length, depth, present, zero, data, compressed, fileOffset } = extent;
  const place = fileOffset === undefined ? '' : `, "offset": ${fileOffset}`;
  return (
    `{ "start": ${offset}, "length": ${length}, "depth": ${depth}, "present": ${present}, ` +
    `"zero": ${zero}, "data": ${data}, "compressed": ${compressed}${place}}`
  );
}

function hex(value: number): string {
  return value === 0 ? '0' : `0x${value.toString(16)}`;
}
