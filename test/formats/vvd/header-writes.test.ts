/** Header writes: at every instant one of the two copies is whole, whatever is torn. */
import { describe, expect, it } from 'vitest';
import { createVvd } from '../../../formats/vvd/create.ts';
import { encodeHeader, readHeader, writeHeader } from '../../../formats/vvd/header.ts';
import { HEADER_OFFSETS, PAGE } from '../../../formats/vvd/layout.ts';
import { FaultDevice } from '../../../src/device/fault-device.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { applyChange, RecordingDevice } from '../../../src/device/recording-device.ts';
import { closedGate } from '../../../src/image/gate-policies.ts';

async function newImage(): Promise<MemoryDevice> {
  const file = MemoryDevice.create(0);
  await createVvd(file, { virtualSize: 1 << 20, options: {}, gate: closedGate });
  return file;
}

/** A page of which only the first half reached the medium. */
function tear(file: MemoryDevice, offset: number): void {
  file.pwrite(new Uint8Array(PAGE / 2).fill(0xee), offset + PAGE / 2);
}

describe('writing the header', () => {
  it('leaves a whole copy in every crash, also in several header writes in a row', async () => {
    const start = await newImage();
    const file = new RecordingDevice(start.fork());
    const header = await readHeader(file);
    for (let i = 0; i < 5; i++) await writeHeader(file, header);
    for (let length = 0; length <= file.events.length; length++) {
      const crashed = start.fork();
      const torn = new Set<number>();
      for (const event of file.events.slice(0, length)) {
        if (event.kind === 'flush') continue;
        await applyChange(event, crashed);
        if (event.durableAt !== undefined && event.durableAt < length) continue;
        if (event.kind === 'write') torn.add(event.offset);
      }
      for (const offset of torn) tear(crashed, offset);
      await expect(readHeader(crashed), `crash after ${length} events`).resolves.toBeDefined();
    }
  });

  it.each([1, 2])('goes on in the copy whose write %i failed', async (at) => {
    const memory = await newImage();
    const file = new FaultDevice(memory);
    const header = await readHeader(file);
    file.add({ on: 'write', at, partialBytes: PAGE / 2 });
    await expect(writeHeader(file, header)).rejects.toThrow('Input/output error');
    const whole = await Promise.all(HEADER_OFFSETS.map((offset) => isWhole(memory, offset)));
    expect(whole.filter(Boolean)).toHaveLength(1);
    // the copy that is damaged is the next to be written: the whole one stays until then
    const recording = new RecordingDevice(memory);
    await writeHeader(recording, header);
    const first = recording.events.find((event) => event.kind === 'write');
    expect(first?.offset).toBe(HEADER_OFFSETS[whole.indexOf(false)]);
  });
});

async function isWhole(file: MemoryDevice, offset: number): Promise<boolean> {
  const page = new Uint8Array(PAGE);
  file.pread(page, offset);
  const header = await readHeader(file);
  const same = encodeHeader({ ...header, generation: new DataView(page.buffer).getUint32(16, true) });
  return Buffer.compare(page, same) === 0;
}
