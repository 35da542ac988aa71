/** Files that are open: by several at once, while others close them, and more than one transaction could describe. */
import { describe, expect, it } from 'vitest';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { formatVolume } from '../../src/vims/format-volume.ts';
import { VimsVolume } from '../../src/vims/volume.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

async function fresh(size: number): Promise<{ memory: MemoryDevice; volume: VimsVolume }> {
  const memory = MemoryDevice.create(size);
  await formatVolume([memory]);
  return { memory, volume: await VimsVolume.attach('ds', [memory]) };
}

describe('open files', () => {
  it('are made durable by a flush however many they are', async () => {
    const { memory, volume } = await fresh(64 * MiB);
    const files = [];
    for (let i = 0; i < 1500; i++) files.push(await volume.files.open(`ds:f${i}`, { create: 'exclusive' }));
    await volume.files.syncFolder('ds:');
    for (const [i, file] of files.entries()) await file.resize(i + 1);
    await volume.files.syncFolder('ds:');
    const after = await VimsVolume.attach('ds', [memory.fork()]);
    for (const i of files.keys()) expect((await after.files.status(`ds:f${i}`))?.size).toBe(i + 1);
    await after.detach();
    for (const file of files) await file.close();
    await volume.detach();
  });

  it('have one size, also for who opens one while the last who had it open closes it', async () => {
    const { volume } = await fresh(64 * MiB);
    // so much was changed that a close has to wait for a commit
    for (let i = 0; i < 400; i++)
      await (await volume.files.open(`ds:x${i}`, { create: 'exclusive' })).close();
    for (let i = 0; i < 300; i++) {
      const name = `ds:f${i}`;
      const first = await volume.files.open(name, { create: 'exclusive' });
      await first.resize(4 * KiB);
      const [second] = await Promise.all([volume.files.open(name, {}), first.close()]);
      expect(second.size, name).toBe(4 * KiB);
      await second.resize(8 * KiB);
      const [status] = await Promise.all([volume.files.status(name), second.close()]);
      expect(status?.size, name).toBe(8 * KiB);
    }
    await volume.detach();
  });

  it('have an identity that no other file gets', async () => {
    const { volume } = await fresh(64 * MiB);
    const seen = new Set<string>();
    for (let i = 0; i < 100; i++) {
      await (await volume.files.open('ds:f', { create: 'exclusive' })).close();
      seen.add((await volume.files.status('ds:f'))?.identity ?? '');
      await volume.files.remove('ds:f');
    }
    expect(seen.size).toBe(100);
    await volume.detach();
  });

  it('that are folders are no files, and stay as they are', async () => {
    const { memory, volume } = await fresh(64 * MiB);
    await volume.files.makeFolder('ds:d');
    const opening = volume.files.open('ds:d', {}).then(
      () => 'opened',
      (error) => error.code,
    );
    const names = Array.from({ length: 200 }, (_, i) => `ds:d/${'n'.repeat(40)}${i}`);
    await Promise.all(
      names.map(async (name) => (await volume.files.open(name, { create: 'exclusive' })).close()),
    );
    expect(await opening).toBe('USAGE');
    expect(volume.files.openFiles).toBe(0);
    await volume.detach();
    const again = await VimsVolume.attach('ds', [memory]);
    expect((await again.files.list('ds:d')).length).toBe(200);
    await again.detach();
  });
});
