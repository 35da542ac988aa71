/** A volume of 64 TiB is checked by what is in it, not by its size. */
import { describe, expect, it } from 'vitest';
import { CountDevice } from '../../src/device/count-device.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { checkVolume } from '../../src/vims/check-volume.ts';
import { formatVolume } from '../../src/vims/format-volume.ts';
import { VimsVolume } from '../../src/vims/volume.ts';

const MiB = 1024 * 1024;
const TiB = 1024 * 1024 * MiB;

describe('a volume of 64 TiB', () => {
  it('with a few files is checked in a few hundred reads', async () => {
    const device = new CountDevice(MemoryDevice.create(64 * TiB));
    await formatVolume([device]);
    const volume = await VimsVolume.attach('ds', [device]);
    await volume.files.makeFolder('ds:vm');
    for (let i = 0; i < 5; i++) {
      const file = await volume.files.open(`ds:vm/disk-${i}`, { create: 'exclusive' });
      await file.resize(2 * TiB);
      for (let at = 0; at < 2 * TiB; at += TiB / 8) await file.pwrite(new Uint8Array(4096).fill(1), at);
      await file.close();
    }
    await volume.detach();
    device.reset();
    const fractions: number[] = [];
    const report = await checkVolume([device], { onProgress: (fraction) => fractions.push(fraction) });
    expect(report).toEqual({ findings: [], corruptions: 0, leaks: 0, repaired: 0 });
    expect(device.counts.read.operations).toBeLessThan(600);
    expect(device.counts.read.bytes).toBeLessThan(4 * MiB);
    expect(fractions.at(-1)).toBe(1);
  });

  it('can be given up', async () => {
    const device = MemoryDevice.create(64 * TiB);
    await formatVolume([device]);
    await expect(checkVolume([device], { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'CANCELLED',
    });
  });
});
