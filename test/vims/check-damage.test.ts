/** Every structure, damaged: the check finds it, and names the file that it touches; a repair mends it, or says why not. */
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { MemoryDevice } from '../../src/device/memory-device.ts';
import { checkVolume } from '../../src/vims/check-volume.ts';
import { undoRepair } from '../../src/vims/undo-file.ts';
import { VimsVolume } from '../../src/vims/volume.ts';
import { DAMAGES } from './damages.ts';
import { blocksOf, contentOf, sample } from './sample-volume.ts';

let folder: string;
let undoFiles = 0;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vims-repair-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** What is in the files of a fork. */
async function contentNow(devices: readonly MemoryDevice[]): Promise<Map<string, string>> {
  const forks = devices.map((device) => device.fork());
  const volume = await VimsVolume.attach('ds', forks);
  const content = await contentOf(volume);
  await volume.detach();
  return content;
}

describe('the check of a volume', () => {
  it.each(DAMAGES)('finds damage: $name', async ({ harm, says }) => {
    const volume = await sample();
    expect((await checkVolume(volume.devices)).findings).toEqual([]);
    harm(volume);
    const before = blocksOf(volume.devices);
    const { findings } = await checkVolume(volume.devices);
    expect(findings.map(({ message }) => message).join('\n')).toMatch(says);
    expect(findings.length).toBeLessThan(600);
    expect(blocksOf(volume.devices)).toEqual(before);
  });
});

describe('the repair of a volume', () => {
  it.each(DAMAGES.filter(({ mends }) => mends))('mends: $name', async ({ harm }) => {
    const { devices, inodes } = await sample();
    const content = await contentNow(devices);
    harm({ devices, inodes });
    const damaged = blocksOf(devices);
    const undoPath = join(folder, `${undoFiles++}.undo`);
    const report = await checkVolume(devices, { undoPath });
    expect(report.findings).toEqual([]);
    expect(report.repaired).toBeGreaterThan(0);
    expect((await checkVolume(devices)).findings).toEqual([]);
    expect(await contentNow(devices)).toEqual(content);
    await undoRepair(devices, undoPath);
    expect(blocksOf(devices)).toEqual(damaged);
    await undoRepair(devices, undoPath);
    expect(blocksOf(devices)).toEqual(damaged);
  });

  it.each(DAMAGES.filter(({ mends }) => !mends))(
    'says why not, and frees nothing: $name',
    async ({ harm, says, leaves = says }) => {
      const { devices, inodes } = await sample();
      harm({ devices, inodes });
      const damaged = blocksOf(devices);
      const undoPath = join(folder, `${undoFiles++}.undo`);
      const report = await checkVolume(devices, { undoPath });
      expect(report.findings.map(({ message }) => message).join('\n')).toMatch(leaves);
      for (const { message } of report.findings) expect(message).toMatch(/\(not repaired: .*\)$/);
      const changed = await stat(undoPath).catch(() => undefined);
      if (!changed) expect(blocksOf(devices)).toEqual(damaged);
      else {
        await undoRepair(devices, undoPath);
        expect(blocksOf(devices)).toEqual(damaged);
      }
    },
  );
});
