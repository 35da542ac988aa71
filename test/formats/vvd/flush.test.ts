/** What a flush covers when operations are under way: everything that completed before it was called. */
import { describe, expect, it } from 'vitest';
import { createVvd } from '../../../formats/vvd/create.ts';
import type { VvdLayer } from '../../../formats/vvd/layer.ts';
import { openVvd } from '../../../formats/vvd/open.ts';
import type { BlockDevice } from '../../../src/device/block-device.ts';
import { CountDevice } from '../../../src/device/count-device.ts';
import { DelayDevice } from '../../../src/device/delay-device.ts';
import type { DeviceOperation } from '../../../src/device/forwarding-device.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { type RecordedEvent, RecordingDevice } from '../../../src/device/recording-device.ts';
import { DiskImage } from '../../../src/image/disk-image.ts';
import { closedGate } from '../../../src/image/gate-policies.ts';
import { ManualClock } from '../../../src/testing/index.ts';

const KiB = 1024;
const BLOCK = 64 * KiB;

interface Slow {
  readonly clock: ManualClock;
  readonly file: RecordingDevice;
  readonly disk: DiskImage;
  /** Milliseconds that operations take from now on. */
  delays: Partial<Record<DeviceOperation, number>>;
}

/** A disk of 4 MiB whose first block is written and flushed, on a device that takes as long as the test says. */
async function slowDisk(): Promise<Slow> {
  const memory = MemoryDevice.create(0);
  await createVvd(memory, {
    virtualSize: 4096 * KiB,
    options: { block_size: BLOCK, journal_size: 128 * KiB },
    gate: closedGate,
  });
  const clock = new ManualClock();
  const slow = { clock, delays: {} } as Slow;
  const file = new RecordingDevice(
    new DelayDevice(memory, (operation) => slow.delays[operation] ?? 0, clock),
  );
  const disk = await settle(clock, open(file));
  await settle(clock, disk.pwrite(new Uint8Array(BLOCK).fill(1), 0));
  await settle(clock, disk.flush());
  return Object.assign(slow, { file, disk });
}

async function open(file: BlockDevice): Promise<DiskImage> {
  return new DiskImage('memory', [await openVvd(file, { readOnly: false, gate: closedGate })]);
}

/** Moves the clock until `work` is done. */
async function settle<T>(clock: ManualClock, work: T | Promise<T>): Promise<T> {
  let done = false;
  const result = Promise.resolve(work).finally(() => {
    done = true;
  });
  result.catch(() => undefined); // thrown below
  while (!done) await clock.advance(1);
  return result;
}

function writesOf(file: RecordingDevice): Extract<RecordedEvent, { kind: 'write' }>[] {
  return file.events.filter((event) => event.kind === 'write');
}

describe('a flush of a VVD disk', () => {
  it('covers a write that was under way during an earlier flush', async () => {
    const { clock, file, disk, delays } = await slowDisk();
    delays.write = 50;
    const write = Promise.resolve(disk.pwrite(new Uint8Array(512).fill(2), 0));
    await settle(clock, disk.flush());
    await settle(clock, write);
    await settle(clock, disk.flush());
    expect(writesOf(file).at(-1)?.durableAt).toBeDefined();
  });

  it('is not done before an earlier one that has to cover the same write', async () => {
    const { clock, file, disk, delays } = await slowDisk();
    await settle(clock, disk.pwrite(new Uint8Array(512).fill(2), 0));
    const { length } = file.events;
    delays.flush = 50;
    const first = disk.flush();
    await settle(clock, disk.flush());
    expect(file.events.slice(length).some((event) => event.kind === 'flush')).toBe(true);
    await settle(clock, first);
  });

  it('waits for a transaction that a full journal started', async () => {
    const { clock, file, disk, delays } = await slowDisk();
    await settle(clock, disk.pwrite(new Uint8Array(512).fill(2), BLOCK));
    const { length } = file.events;
    delays.flush = 20;
    const running = (disk.layers[0] as VvdLayer).metadata.commit();
    await clock.advance(1);
    await settle(clock, disk.flush());
    const transaction = file.events.slice(length).find((event) => event.kind === 'write');
    expect(transaction?.bytes.length).toBeGreaterThan(4096);
    expect(transaction?.durableAt).toBeDefined();
    await settle(clock, running);
  });

  it('fails for everyone who waits for it when it fails', async () => {
    const { clock, file, disk, delays } = await slowDisk();
    await settle(clock, disk.pwrite(new Uint8Array(512).fill(2), BLOCK));
    delays.flush = 20;
    const broken = new Error('EIO');
    const flush = file.flush.bind(file);
    file.flush = async () => {
      await flush();
      throw broken;
    };
    const results = await settle(clock, Promise.allSettled([disk.flush(), disk.flush()]));
    expect(results.map((result) => result.status)).toEqual(['rejected', 'rejected']);
    await expect(settle(clock, disk.flush())).rejects.toThrow('EIO');
  });
});

describe('what a flush costs', () => {
  it('is two device flushes, one when no metadata changed, none when nothing was ever written', async () => {
    const memory = MemoryDevice.create(0);
    await createVvd(memory, { virtualSize: 64 * BLOCK, options: { block_size: BLOCK }, gate: closedGate });
    const counts = new CountDevice(memory);
    const disk = await open(counts);
    const cost = async (): Promise<number> => {
      counts.reset();
      await disk.flush();
      return counts.counts.flush.operations;
    };
    expect(await cost()).toBe(0);
    await disk.pwrite(new Uint8Array(512), 0);
    expect(await cost()).toBe(2);
    await disk.pwrite(new Uint8Array(512).fill(1), 0);
    expect(await cost()).toBe(1);
    await disk.writeZeroes(0, 8192);
    expect(await cost()).toBe(2);
    await disk.close();
  });
});

it('writes under way at once start no transaction while the journal holds all there is to change', async () => {
  const memory = MemoryDevice.create(0);
  await createVvd(memory, {
    virtualSize: 512 * 1024 * KiB,
    options: { block_size: BLOCK },
    gate: closedGate,
  });
  const counted = new CountDevice(new DelayDevice(memory, 1));
  const disk = await open(counted);
  await disk.pwrite(new Uint8Array(KiB), 0);
  counted.reset();
  const data = new Uint8Array(2 * KiB).fill(7);
  // 128 places, spread over all of the disk's table pages
  await Promise.all(Array.from({ length: 128 }, (_, i) => disk.pwrite(data, (i + 1) * 63 * BLOCK)));
  expect(counted.counts.flush.operations).toBe(0);
  await disk.flush();
  expect(counted.counts.flush.operations).toBe(2);
  await disk.close();
});
