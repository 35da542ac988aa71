/**
 * How long writers wait while a snapshot of their disk is taken. Beside `npm run bench`, which builds it:
 * `node dist-bench/bench/programs/snapshot-pause.js PATH [WRITERS] [SNAPSHOTS]` makes a disk
 * of 1 TiB, lets writers put 4 KiB blocks at random places all over it, each one after the other, and takes snapshots
 * meanwhile. Prints milliseconds: how long the disk stood still for each of them, and the longest write between them.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { formats } from '../../formats/index.ts';
import { SeededRandom } from '../../src/base/random.ts';
import { createImage } from '../../src/image/create-image.ts';
import { DiskImage } from '../../src/image/index.ts';
import { snapshotOpenDisks } from '../../src/image/open-disks.ts';
import { TiB } from '../work.ts';

const BLOCK = 4096;
const BETWEEN_MS = 1500;
const [path = '', writers = '8', snapshots = '9'] = process.argv.slice(2);

let longestMs = 0;
let stopped = false;

await createImage(path, { formats, format: 'vvd', size: TiB });
const disk = await DiskImage.open(path, { formats, readOnly: false, blocking: false });
const random = new SeededRandom(11);
const running = Array.from({ length: Number(writers) }, () => write());
const still: number[] = [];
const between: number[] = [];
for (let i = 0; i < Number(snapshots); i++) {
  longestMs = 0;
  await sleep(BETWEEN_MS);
  between.push(longestMs);
  still.push(await snapshotOpenDisks([disk], [], `s${i}`, formats));
}
stopped = true;
await Promise.all(running);
await disk.close();
process.stdout.write(
  `${JSON.stringify({ stillMs: summaryOf(still), longestWriteBetweenMs: summaryOf(between) })}\n`,
);

async function write(): Promise<void> {
  const data = Buffer.alloc(BLOCK, 'data');
  while (!stopped) {
    const began = performance.now();
    await disk.pwrite(data, random.below(TiB / BLOCK) * BLOCK);
    longestMs = Math.max(longestMs, performance.now() - began);
    await new Promise(setImmediate); // as a server's event loop, which turns once for what arrived
  }
}

function summaryOf(values: readonly number[]): object {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (part: number): number => Math.round(sorted[Math.floor((sorted.length - 1) * part)] ?? 0);
  return { min: at(0), median: at(0.5), max: at(1) };
}
