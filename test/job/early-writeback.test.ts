import { describe, expect, it } from 'vitest';
import { CountDevice } from '../../src/device/count-device.ts';
import { FaultDevice } from '../../src/device/fault-device.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { EarlyWriteback } from '../../src/job/early-writeback.ts';

const MiB = 1024 * 1024;

describe('EarlyWriteback', () => {
  it('flushes now and then, not at every write', async () => {
    const device = new CountDevice(MemoryDevice.create(MiB));
    const writeback = new EarlyWriteback(device);
    for (let i = 0; i < 512; i++) {
      writeback.wrote(MiB);
      await writeback.settle();
    }
    expect(device.counts.flush.operations).toBe(4);
  });

  it('leaves a failure to the flush at the end', async () => {
    const device = new FaultDevice(MemoryDevice.create(MiB), [{ on: 'flush' }]);
    const writeback = new EarlyWriteback(device);
    writeback.wrote(1024 * MiB);
    await writeback.settle();
    expect(() => device.flush()).toThrow(expect.objectContaining({ code: 'IO' }));
  });
});
