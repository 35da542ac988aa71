/** Files that share clusters: what one of them does never shows in another, whenever the power fails. */
import { describe, expect, it } from 'vitest';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { formatVolume } from '../../src/vims/format-volume.ts';
import { VimsVolume } from '../../src/vims/volume.ts';

const MiB = 1024 * 1024;

/** `disk` and its copy, both of ones, durable. */
async function makeCopies(): Promise<{ memory: MemoryDevice; volume: VimsVolume }> {
  const memory = MemoryDevice.create(32 * MiB);
  await formatVolume([memory]);
  const volume = await VimsVolume.attach('ds', [memory]);
  const file = await volume.files.open('ds:disk', { create: 'exclusive' });
  await file.pwrite(Buffer.alloc(MiB, 1), 0);
  await volume.files.copy('ds:disk', 'ds:copy');
  await file.flush();
  await file.close();
  return { memory, volume };
}

async function write(volume: VimsVolume, name: string, value: number, offset: number): Promise<void> {
  const file = await volume.files.open(name, {});
  await file.pwrite(Buffer.alloc(512, value), offset);
  await file.close();
}

/** The values of bytes that a file has somewhere in its first MiB. */
async function valuesOf(volume: VimsVolume, name: string): Promise<Set<number>> {
  const file = await volume.files.open(name, { readOnly: true });
  const content = Buffer.alloc(MiB);
  await file.pread(content, 0);
  await file.close();
  return new Set(content);
}

describe('files that share clusters', () => {
  it('are apart also when a file had left the cluster and comes back with the crash', async () => {
    const { memory, volume } = await makeCopies();
    await write(volume, 'ds:disk', 2, 0);
    await write(volume, 'ds:copy', 3, 4096);
    const after = await VimsVolume.attach('ds', [memory.fork()]);
    expect(await valuesOf(after, 'ds:disk')).not.toContain(3);
    expect(await valuesOf(after, 'ds:copy')).not.toContain(2);
    await after.detach();
    await volume.detach();
  });

  it('are apart also when a file that was removed comes back with the crash', async () => {
    const { memory, volume } = await makeCopies();
    await volume.files.remove('ds:disk');
    await write(volume, 'ds:copy', 3, 4096);
    const after = await VimsVolume.attach('ds', [memory.fork()]);
    if (await after.files.status('ds:disk')) expect(await valuesOf(after, 'ds:disk')).not.toContain(3);
    await after.detach();
    await volume.detach();
  });
});
