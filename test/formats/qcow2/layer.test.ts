/** How the layer answers: in the same tick, in long runs, once per table; and what it opens. */
import { describe, expect, test } from 'vitest';
import { fixtureBytes } from '../../../fixtures/unpack.ts';
import { qcow2Driver } from '../../../formats/qcow2/driver.ts';
import { CountDevice } from '../../../src/device/count-device.ts';
import { ForwardingDevice } from '../../../src/device/forwarding-device.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import type { FileReference } from '../../../src/image/gate.ts';
import { BEHIND, COMPRESSED, DATA, type Layer, Location, ZERO } from '../../../src/image/layer.ts';
import { noGate, readWhole } from './layer-reader.ts';

const K = 1024;

function open(name: string, options: { snapshot?: string; infoOnly?: boolean } = {}): Promise<Layer> {
  return qcow2Driver.open(MemoryDevice.from(fixtureBytes(name), { name }), {
    readOnly: true,
    gate: noGate,
    ...options,
  });
}

/** A device that answers reads in a later tick. */
class LateDevice extends ForwardingDevice {
  override async pread(buffer: Uint8Array, offset: number): Promise<void> {
    await Promise.resolve();
    await super.pread(buffer, offset);
  }
}

/** An image with one cluster of data at each of these guest offsets. */
async function sparseImage(
  virtualSize: number,
  clusterSize: number,
  offsets: readonly number[],
): Promise<MemoryDevice> {
  const file = MemoryDevice.create(0);
  const options = { cluster_size: clusterSize };
  const writer = await qcow2Driver.startWriter?.(file, { virtualSize, options, gate: noGate });
  for (const offset of offsets) await writer?.write(offset, new Uint8Array(512).fill(offset / clusterSize));
  await writer?.finish();
  return file;
}

describe('locate', () => {
  test('answers in the same tick when the file does', async () => {
    const layer = await open('v3-default.qcow2');
    const location = new Location();
    expect(layer.locate(0, 4 * K, location)).toBeUndefined();
    expect(location).toMatchObject({ kind: DATA, length: 4 * K });
  });

  test('answers in the same tick when the table is cached, and reads a table once', async () => {
    const counter = new CountDevice(new LateDevice(await sparseImage(2 ** 30, 65536, [0, 2 ** 29])));
    const layer = await qcow2Driver.open(counter, { readOnly: true, gate: noGate });
    const before = counter.counts.read.operations;
    const locations = [new Location(), new Location(), new Location()];
    await Promise.all(locations.map((location, index) => layer.locate(index * 65536, 512, location)));
    expect(counter.counts.read.operations - before).toBe(1);
    expect(locations.map((location) => location.kind)).toEqual([DATA, BEHIND, BEHIND]);
    expect(layer.locate(0, 512, new Location())).toBeUndefined();
    expect(layer.locate(2 ** 29, 512, new Location())).toBeInstanceOf(Promise);
  });

  test('a table that cannot be read is an error each time, and none for ever', async () => {
    let failing = true;
    class FailingDevice extends ForwardingDevice {
      override async pread(buffer: Uint8Array, offset: number): Promise<void> {
        await Promise.resolve();
        if (failing && buffer.length === 65536) throw new TypeError('broken');
        await super.pread(buffer, offset);
      }
    }
    const device = new FailingDevice(await sparseImage(2 ** 30, 65536, [0]));
    const layer = await qcow2Driver.open(device, { readOnly: true, gate: noGate });
    const location = new Location();
    await expect(layer.locate(0, 512, location)).rejects.toThrow('broken');
    failing = false;
    await layer.locate(0, 512, location);
    expect(location.kind).toBe(DATA);
  });

  test('an empty disk of 1 TiB is one answer', async () => {
    const layer = await qcow2Driver.open(await sparseImage(2 ** 40, 65536, []), {
      readOnly: true,
      gate: noGate,
    });
    const location = new Location();
    await layer.locate(0, 2 ** 40, location);
    expect(location).toMatchObject({ kind: BEHIND, length: 2 ** 40 });
  });

  test('nothing is merged over the end of a hole', async () => {
    const file = await sparseImage(2 ** 40, 65536, [2 ** 39]);
    const layer = await qcow2Driver.open(file, { readOnly: true, gate: noGate });
    const location = new Location();
    await layer.locate(512, 2 ** 40 - 512, location);
    expect(location.length).toBe(2 ** 39 - 512);
    await layer.locate(2 ** 39 + 65536, 2 ** 39 - 65536, location);
    expect(location.length).toBe(2 ** 39 - 65536);
  });

  test('clusters in a row are one answer', async () => {
    const layer = await open('bases/base.qcow2');
    const location = new Location();
    await layer.locate(100, 200_000, location);
    expect(location).toMatchObject({ kind: DATA, length: 200_000 });
  });

  test('a zero cluster with a place says so', async () => {
    const layer = await open('zero-clusters.qcow2');
    const location = new Location();
    await layer.locate(8 * K, 64 * K, location);
    expect(location).toMatchObject({ kind: ZERO, length: 8 * K, reserved: true });
    await layer.locate(24 * K, 64 * K, location);
    expect(location).toMatchObject({ kind: ZERO, length: 8 * K, reserved: false });
  });

  test('a compressed cluster names its unit', async () => {
    const layer = await open('compressed-zlib.qcow2');
    const location = new Location();
    await layer.locate(65536 + 1000, 200_000, location);
    expect(location).toMatchObject({
      kind: COMPRESSED,
      length: 64_536,
      unitOffset: 65536,
      unitLength: 65536,
    });
    const decompressing = layer.decompress(location);
    location.unitOffset = 0;
    location.deviceOffset = 0;
    expect((await decompressing).length).toBe(65536);
  });

  test('the unit at the end of the disk ends with it', async () => {
    const layer = await open('compressed-zstd-2m.qcow2');
    const location = new Location();
    await layer.locate(0, layer.virtualSize, location);
    expect(location).toMatchObject({ kind: COMPRESSED, unitLength: 655_360, length: 655_360 });
    expect((await layer.decompress(location)).length).toBe(655_360);
  });

  test('a range outside the disk is OUT_OF_BOUNDS', async () => {
    const layer = await open('v3-default.qcow2');
    for (const [offset, length] of [
      [0, 0],
      [-1, 1],
      [0, layer.virtualSize + 1],
      [layer.virtualSize, 1],
      [Number.NaN, 1],
    ] as const) {
      expect(() => layer.locate(offset, length, new Location())).toThrow(
        expect.objectContaining({ code: 'OUT_OF_BOUNDS' }),
      );
    }
  });

  test('tables in memory are bounded, the ones used last stay', async () => {
    const span = 2 ** 39; // guest bytes of one L2 table with clusters of 2 MiB; sixteen tables fit the cache
    const offsets = Array.from({ length: 18 }, (_, index) => index * span);
    const file = await sparseImage(18 * span, 2048 * K, offsets);
    const counter = new CountDevice(file);
    const layer = await qcow2Driver.open(counter, { readOnly: true, gate: noGate });
    const location = new Location();
    const ask = (index: number): number => {
      const before = counter.counts.read.operations;
      expect(layer.locate(index * span, 512, location)).toBeUndefined();
      expect(location.kind).toBe(DATA);
      return counter.counts.read.operations - before;
    };
    for (let index = 0; index < 16; index++) expect(ask(index)).toBe(1);
    expect(ask(0)).toBe(0);
    expect(ask(16)).toBe(1);
    expect(ask(0)).toBe(0);
    expect(ask(1)).toBe(1);
  });
});

describe('other files', () => {
  test('the data file is asked of the gate, as stored', async () => {
    const asked: FileReference[] = [];
    const file = MemoryDevice.from(fixtureBytes('external-data.qcow2'), {
      name: '/folder/external-data.qcow2',
    });
    const data = MemoryDevice.from(fixtureBytes('external-data.raw'));
    const layer = await qcow2Driver.open(file, {
      readOnly: true,
      gate: (reference) => {
        asked.push(reference);
        return Promise.resolve(data);
      },
    });
    expect(asked).toEqual([
      {
        role: 'data-file',
        stored: 'external-data.raw',
        from: '/folder/external-data.qcow2',
        readOnly: true,
        byIdentity: false,
      },
    ]);
    expect((await layer.info()).dataFile).toBe('external-data.raw');
    const location = new Location();
    await layer.locate(0, 4096, location);
    expect(location.device).toBe(data);
  });

  test('a data file that the gate refuses is not opened, and neither is the image', async () => {
    const file = MemoryDevice.from(fixtureBytes('external-data.qcow2'));
    await expect(qcow2Driver.open(file, { readOnly: true, gate: noGate })).rejects.toThrow(
      'nothing may be opened',
    );
  });

  test('info opens no other file, also of what cannot be read', async () => {
    for (const [name, key] of [
      ['external-data.qcow2', 'data-file'],
      ['backing-relative.qcow2', 'compat'],
      ['encrypted-aes.qcow2', 'encrypt'],
    ] as const) {
      const info = await (await open(name, { infoOnly: true })).info();
      expect(info.specific).toHaveProperty(key);
    }
  });

  test('a data file that is too short is damage, not zeroes', async () => {
    const file = MemoryDevice.from(fixtureBytes('external-data.qcow2'));
    const short = MemoryDevice.from(fixtureBytes('external-data.raw').subarray(0, 40 * K));
    const layer = await qcow2Driver.open(file, { readOnly: true, gate: () => Promise.resolve(short) });
    await expect(readWhole(layer)).rejects.toMatchObject({ code: 'CORRUPT' });
  });

  test('closing closes both files, once', async () => {
    const closed: string[] = [];
    class ClosingDevice extends ForwardingDevice {
      override async close(): Promise<void> {
        closed.push(this.name);
      }
    }
    const file = new ClosingDevice(MemoryDevice.from(fixtureBytes('external-data.qcow2'), { name: 'image' }));
    const data = new ClosingDevice(MemoryDevice.from(fixtureBytes('external-data.raw'), { name: 'data' }));
    const layer = await qcow2Driver.open(file, { readOnly: true, gate: () => Promise.resolve(data) });
    await Promise.all([layer.close(), layer.close()]);
    expect(closed).toEqual(['data', 'image']);
  });
});

describe('snapshots', () => {
  test('are found by ID and by name', async () => {
    const byId = await open('snapshots.qcow2', { snapshot: '2' });
    const byName = await open('snapshots.qcow2', { snapshot: 'second with a longer name' });
    expect(byId.virtualSize).toBe(128 * K);
    expect(Buffer.compare(await readWhole(byId), await readWhole(byName))).toBe(0);
  });

  test('that are not there are NOT_FOUND, with the names that are', async () => {
    await expect(open('snapshots.qcow2', { snapshot: 'none' })).rejects.toMatchObject({
      code: 'NOT_FOUND',
      hint: 'snapshots: first, second with a longer name, third',
    });
  });
});

test('the driver knows its files by the magic alone', () => {
  expect(qcow2Driver.probe(fixtureBytes('v3-default.qcow2').subarray(0, 4), 1)).toBe('yes');
  expect(qcow2Driver.probe(new Uint8Array([0x51, 0x46, 0x49]), 3)).toBe('no');
  expect(qcow2Driver.probe(new Uint8Array(512), 512)).toBe('no');
});
