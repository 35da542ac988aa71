/**
 * Loads a file of a volume, or the bare device: `volume-load volume|device WORK PATH`, and prints the rate as JSON.
 *
 * Works: `fill` and `rewrite` (1 MiB, in order, flushed), `read` (1 MiB, in order), `random-write`, `random-read` (4 KiB).
 * PATH is a file that stands for a LUN, with its space taken already: what is compared is the way to it.
 */
import { performance } from 'node:perf_hooks';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { FileDevice } from '../../src/device/file-device.ts';
import { formatVolume } from '../../src/vims/format-volume.ts';
import { VimsVolume } from '../../src/vims/volume.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const SIZE = 1024 * MiB;
const RANDOM_TRANSFERS = 200_000;

type Load = (target: BlockDevice) => Promise<number>;

async function inOrder(
  transfer: (offset: number) => Promise<void> | void,
  flush: () => unknown,
): Promise<number> {
  const started = performance.now();
  for (let offset = 0; offset < SIZE; offset += MiB) await transfer(offset);
  await flush();
  return SIZE / MiB / ((performance.now() - started) / 1000);
}

async function atRandom(transfer: (offset: number) => Promise<void> | void): Promise<number> {
  const started = performance.now();
  const places = SIZE / (4 * KiB);
  for (let i = 0; i < RANDOM_TRANSFERS; i++) {
    const working = transfer(((i * 7919) % places) * 4 * KiB);
    if (working !== undefined) await working;
  }
  return RANDOM_TRANSFERS / ((performance.now() - started) / 1000);
}

const large = Buffer.alloc(MiB, 7);
const small = Buffer.alloc(4 * KiB, 3);
const fill: Load = (target) =>
  inOrder(
    (offset) => target.pwrite(large, offset),
    () => target.flush(),
  );
const filledFirst =
  (load: Load): Load =>
  async (target) => {
    await fill(target);
    return load(target);
  };

const LOADS: Readonly<Record<string, Load>> = {
  fill,
  rewrite: filledFirst(fill),
  read: filledFirst((target) =>
    inOrder(
      (offset) => target.pread(large, offset),
      () => undefined,
    ),
  ),
  'random-write': filledFirst((target) => atRandom((offset) => target.pwrite(small, offset))),
  'random-read': filledFirst((target) => atRandom((offset) => target.pread(small, offset))),
};

const [where = '', work = '', path = ''] = process.argv.slice(2);
const load = LOADS[work] as Load;
const device = await FileDevice.open(path, { lock: 'write', blocking: false });
let rate: number;
if (where === 'volume') {
  await formatVolume([device]);
  const volume = await VimsVolume.attach('bench', [device]);
  const file = await volume.files.open('bench:disk', { create: 'exclusive' });
  rate = await load(file);
  await file.close();
  await volume.detach();
} else rate = await load(device);
await device.close();
process.stdout.write(`${JSON.stringify({ rate })}\n`);
