/** The table of snapshots, column for column as qemu-img prints it. Times are local, as there. */
import { formatSize } from '../../base/size.ts';
import type { SnapshotEntry } from '../../job/image-info.ts';
import { printable } from './printable.ts';

/** A heading and one line a snapshot. */
export function snapshotTable(snapshots: readonly SnapshotEntry[]): string[] {
  return [
    row('ID', 'TAG', 'VM SIZE', 'DATE', 'VM CLOCK', 'ICOUNT'),
    ...snapshots.map((snapshot) =>
      row(
        printable(snapshot.id),
        printable(snapshot.name),
        formatSize(snapshot['vm-state-size']),
        localTime(snapshot['date-sec']),
        clock(snapshot),
        String(snapshot.icount),
      ),
    ),
  ];
}

function row(id: string, tag: string, size: string, date: string, vmClock: string, icount: string): string {
  return `${id.padEnd(9)} ${tag.padEnd(16)} ${size.padStart(8)}${date.padStart(20)}${vmClock.padStart(13)}${icount.padStart(11)}`;
}

function localTime(seconds: number): string {
  const date = new Date(seconds * 1000);
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** Hours, minutes, seconds and milliseconds of the guest's clock. */
function clock(snapshot: SnapshotEntry): string {
  const seconds = snapshot['vm-clock-sec'];
  const two = (value: number): string => String(Math.floor(value)).padStart(2, '0');
  const ms = String(Math.floor(snapshot['vm-clock-nsec'] / 1_000_000)).padStart(3, '0');
  return `${two(seconds / 3600)}:${two((seconds / 60) % 60)}:${two(seconds % 60)}.${ms}`;
}
