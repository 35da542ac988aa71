/** A device that cannot be added leaves the volume as it was. */
import { expect, it } from 'vitest';
import { FaultDevice } from '../../src/device/fault-device.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { checkVolume } from '../../src/vims/check-volume.ts';
import { formatVolume } from '../../src/vims/format-volume.ts';
import { readSuperblock } from '../../src/vims/superblock.ts';
import { VimsVolume } from '../../src/vims/volume.ts';

const MiB = 1024 * 1024;

it('a device that fails while it is added is not waited for afterwards', async () => {
  for (let at = 1; ; at++) {
    const memory = MemoryDevice.create(32 * MiB);
    await formatVolume([memory]);
    const volume = await VimsVolume.attach('ds', [memory]);
    const { capacity } = await volume.capacity();
    const broken = new FaultDevice(MemoryDevice.create(32 * MiB), [{ on: 'write', at, sticky: true }]);
    const failed = await volume.addDevice(broken).then(
      () => false,
      () => true,
    );
    if (!failed) {
      expect(at).toBeGreaterThan(5);
      return;
    }
    expect((await volume.capacity()).capacity).toBe(capacity);
    await volume.files.replace('ds:note', 'still here');
    const good = MemoryDevice.create(32 * MiB);
    await volume.addDevice(good);
    await volume.detach();
    const again = await VimsVolume.attach('ds', [memory, good]);
    expect(await again.files.list('ds:')).toEqual(['note']);
    await again.detach();
    expect((await checkVolume([memory, good])).findings).toEqual([]);
  }
});

it('superblocks that a crash left behind are completed by the next attach', async () => {
  const memory = MemoryDevice.create(32 * MiB);
  await formatVolume([memory]);
  const volume = await VimsVolume.attach('ds', [memory]);
  const before = memory.fork();
  const second = MemoryDevice.create(32 * MiB);
  await volume.addDevice(second);
  await volume.detach();
  // the crash came when only the new device said that there are two
  const again = await VimsVolume.attach('ds', [before, second]);
  await again.detach();
  expect((await readSuperblock(before))?.devices.length).toBe(2);
});
