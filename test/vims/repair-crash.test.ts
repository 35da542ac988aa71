/** A repair that is cut off at any of its writes: it can be repeated, it can be undone, and no file is worse for it. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FaultDevice } from '../../src/device/fault-device.ts';
import type { MemoryDevice } from '../../src/device/memory-device.ts';
import { checkVolume } from '../../src/vims/check-volume.ts';
import { undoRepair } from '../../src/vims/undo-file.ts';
import { VimsVolume } from '../../src/vims/volume.ts';
import { DAMAGES } from './damages.ts';
import { blocksOf, contentOf, type SampleKind, sample } from './sample-volume.ts';

let folder: string;
let undoFiles = 0;
const undoFile = (): string => join(folder, `${undoFiles++}.undo`);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vims-repair-crash-'));
});
afterAll(() => rm(folder, { recursive: true }));

const NAMES = [
  'superblock copy in block 2',
  'device record that claims too few',
  'count too low',
  'links too high',
  'parent',
  'clusters',
  'shared cluster that one file may write to',
];

/** A volume with much that a repair mends. */
async function damaged(kind: SampleKind): Promise<readonly MemoryDevice[]> {
  const volume = await sample(kind);
  const chosen = DAMAGES.filter(({ name }) => NAMES.includes(name));
  expect(chosen.map(({ name }) => name).sort()).toEqual([...NAMES].sort());
  for (const { harm } of chosen) harm(volume);
  return volume.devices;
}

async function contentNow(devices: readonly MemoryDevice[]): Promise<Map<string, string>> {
  const forks = devices.map((device) => device.fork({ readOnly: true }));
  return contentOf(await VimsVolume.attach('ds', forks));
}

/** Repairs until the n-th write or the n-th flush fails, and all after it. @returns whether it failed at all */
async function repairUntil(
  devices: readonly MemoryDevice[],
  undoPath: string,
  on: 'write' | 'flush',
  n: number,
): Promise<boolean> {
  const first = new FaultDevice(devices[0] as MemoryDevice);
  if (on === 'write') first.add({ on, at: n, partialBytes: 512 });
  else first.add({ on, at: n });
  first.add({ on: 'write', at: on === 'write' ? n : 1_000_000, sticky: true });
  try {
    await checkVolume([first, ...devices.slice(1)], { undoPath });
    return false;
  } catch (error) {
    expect(error).toMatchObject({ code: 'IO' });
    return true;
  }
}

describe('a repair that is cut off', () => {
  it.each([
    ['small', 'write'],
    ['small', 'flush'],
    ['crashed', 'write'],
  ] as const)('of a volume (%s) at a %s', async (kind, on) => {
    const original = await damaged(kind);
    const before = await contentNow(original);
    const bytes = blocksOf(original);
    let failures = 0;
    // a replay has many writes, one as good as the other
    for (let n = 1; ; n += kind === 'crashed' ? 5 : 1) {
      const devices = original.map((device) => device.fork());
      const undoPath = undoFile();
      if (!(await repairUntil(devices, undoPath, on, n))) break;
      failures++;
      const again = devices.map((device) => device.fork());
      expect(await contentNow(again), `${on} ${n}`).toEqual(before);
      await checkVolume(again, { undoPath: undoFile() });
      expect((await checkVolume(again)).findings, `${on} ${n}`).toEqual([]);
      expect(await contentNow(again), `${on} ${n}`).toEqual(before);
      await undoRepair(devices, undoPath);
      expect(blocksOf(devices), `${on} ${n}`).toEqual(bytes);
    }
    expect(failures).toBeGreaterThan(5);
  });
});
