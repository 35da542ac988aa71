/** `info` for people, in the words and order of qemu-img. */
import { formatSize } from '../../base/size.ts';
import type { ImageInfo } from '../../job/image-info.ts';
import { printable } from './printable.ts';
import { snapshotTable } from './snapshot-text.ts';

export function infoText(info: ImageInfo): string {
  const lines = [
    `image: ${printable(info.filename)}`,
    `file format: ${info.format}`,
    `virtual size: ${formatSize(info['virtual-size'])} (${info['virtual-size']} bytes)`,
    `disk size: ${info['actual-size'] === undefined ? 'unavailable' : formatSize(info['actual-size'])}`,
  ];
  if (info.encrypted) lines.push('encrypted: yes');
  if (info['cluster-size'] !== undefined) lines.push(`cluster_size: ${info['cluster-size']}`);
  if (info['dirty-flag']) lines.push('cleanly shut down: no');
  lines.push(...backingLines(info));
  if (info.snapshots !== undefined && info.snapshots.length > 0) {
    lines.push('Snapshot list:', ...snapshotTable(info.snapshots));
  }
  if (info['format-specific'] !== undefined) {
    lines.push('Format specific information:', ...tree(info['format-specific'].data, 1));
  }
  return `${lines.join('\n')}\n`;
}

function backingLines(info: ImageInfo): string[] {
  const stored = info['backing-filename'];
  if (stored === undefined) return [];
  const full = info['full-backing-filename'];
  const actual = full === undefined || full === stored ? '' : ` (actual path: ${printable(full)})`;
  const format = info['backing-filename-format'];
  return [
    `backing file: ${printable(stored)}${actual}`,
    ...(format === undefined ? [] : [`backing file format: ${printable(format)}`]),
  ];
}

/** Nested values, four spaces a level; dashes of keys are spaces. */
function tree(value: Readonly<Record<string, unknown>> | readonly unknown[], level: number): string[] {
  const indent = '    '.repeat(level);
  const lines: string[] = [];
  for (const [key, item] of Object.entries(value)) {
    const name = Array.isArray(value) ? `[${key}]` : key.replaceAll('-', ' ');
    if (item !== null && typeof item === 'object') {
      lines.push(`${indent}${name}:`, ...tree(item as Record<string, unknown>, level + 1));
    } else {
      lines.push(`${indent}${name}: ${printable(String(item))}`);
    }
  }
  return lines;
}
