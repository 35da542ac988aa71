/** A structure of an image or a volume, for people to read. */
import type { InspectedStructure } from '../../image/format-driver.ts';
import { printable } from './printable.ts';

/** Its name and place, and a line for each field; a blank line ends it. */
export function structureText(structure: InspectedStructure): string {
  const { name, offset, length, state, fields } = structure;
  const rows = Object.entries(fields);
  const width = Math.max(0, ...rows.map(([field]) => field.length));
  const lines = rows.map(([field, value]) => `  ${field.padEnd(width)}  ${fieldText(value)}`);
  const head = `${name} at ${offset} (0x${offset.toString(16)}), ${length} bytes: ${printable(state)}`;
  return `${[head, ...lines].join('\n')}\n\n`;
}

function fieldText(value: unknown): string {
  if (typeof value === 'number' && value > 9) return `${value} (0x${value.toString(16)})`;
  if (value instanceof Uint8Array) return Buffer.from(value.subarray(0, 32)).toString('hex');
  return printable(typeof value === 'object' ? JSON.stringify(value) : String(value));
}
