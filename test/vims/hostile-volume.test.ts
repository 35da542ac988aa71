/** Hostile volumes: each field of each structure flipped, zeroed and maximised, with right checksums. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { SeededRandom } from '../../src/base/random.ts';
import type { MemoryDevice } from '../../src/device/memory-device.ts';
import type { BlockTypeName } from '../../src/vims/layout.ts';
import { VimsVolume } from '../../src/vims/volume.ts';
import { THOROUGH } from '../fuzz/field-values.ts';
import { verdict } from './judge-volume.ts';
import { contentOf, readBlock, type SampleKind, sample } from './sample-volume.ts';
import { put, putCopy, type Structure, structuresOf, valuesFor } from './volume-structures.ts';

// every value of every field takes minutes
if (THOROUGH) vi.setConfig({ testTimeout: 3_600_000 });

/** One case in so many is tried when there is little time. */
const SHARE = THOROUGH ? 1 : Number(process.env['VIMG_SHARE'] ?? 40);
const SEED = Number(process.env['VIMG_FUZZ_SEED'] ?? 1);
/** Fields that say themselves what is right: no check can know what was there. */
const FREE = /^(inode\.(size|birth|modifiedNs)|(inode|tree|directory)\[\d+\]|superblock\.createdMs)$/;

const TYPES: readonly BlockTypeName[] = [
  'superblock',
  'deviceRecord',
  'slot',
  'group',
  'counts',
  'metadataCluster',
  'inode',
  'tree',
  'directory',
  'journalHeader',
  'journalDescriptor',
];

let folder: string;
let undoFiles = 0;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vims-hostile-'));
});
afterAll(() => rm(folder, { recursive: true }));

interface Case {
  readonly what: string;
  readonly harm: (devices: readonly MemoryDevice[]) => void;
  readonly free: boolean;
}

async function judge(kind: SampleKind, cases: readonly Case[]): Promise<void> {
  const { devices } = await sample(kind);
  const volume = await VimsVolume.attach(
    'ds',
    devices.map((device) => device.fork({ readOnly: true })),
  );
  const content = await contentOf(volume);
  const failures: string[] = [];
  for (const { what, harm, free } of cases) {
    const hostile = devices.map((device) => device.fork());
    harm(hostile);
    const problem = await verdict(hostile, join(folder, `${undoFiles++}.undo`), free ? undefined : content);
    if (problem !== undefined) failures.push(`${kind} ${what}\n${problem}`);
  }
  expect(failures.slice(0, 8).join('\n\n')).toBe('');
}

function casesOf(
  devices: readonly MemoryDevice[],
  structures: readonly Structure[],
  random: SeededRandom,
): Case[] {
  const cases: Case[] = [];
  for (const { address, type, fields } of structures) {
    const { bytes } = readBlock(devices, address);
    for (const { name, at, size } of fields) {
      const now = bytes.slice(at, at + size);
      for (const value of valuesFor(now, random.below(size * 8))) {
        if (!random.oneIn(SHARE)) continue;
        cases.push({
          what: `${type} ${address}: ${name} = ${Buffer.from(value).toString('hex')} (seed ${SEED})`,
          harm: (hostile) => put(hostile, address, at, value),
          // a record that is not whole ends the journal: then the volume is as it was before it
          free: FREE.test(name) || type.startsWith('journal'),
        });
      }
    }
  }
  return cases;
}

describe('a hostile volume', () => {
  it.each(['plain', 'small', 'crashed'] as const)('has nothing wrong before (%s)', (kind) =>
    judge(kind, [{ what: 'as it is', harm: () => undefined, free: false }]),
  );

  it.each(TYPES)('with a wrong field in a block of type %s', async (type) => {
    const random = new SeededRandom(SEED + TYPES.indexOf(type));
    const { devices } = await sample('small');
    const structures = structuresOf(devices).filter((structure) => structure.type === type);
    expect(structures.length).toBeGreaterThan(type === 'metadataCluster' ? -1 : 0);
    await judge('small', casesOf(devices, structures, random));
  });

  it.each(['slot', 'journalHeader', 'journalDescriptor', 'group', 'inode'] as const)(
    'that was not left in order, with a wrong field in a block of type %s',
    async (type) => {
      const random = new SeededRandom(SEED + 100 + TYPES.indexOf(type));
      const { devices } = await sample('crashed');
      const structures = structuresOf(devices).filter((structure) => structure.type === type);
      await judge('crashed', casesOf(devices, structures.slice(0, 3), random));
    },
  );

  it('with one block in the place of another', async () => {
    const random = new SeededRandom(SEED + 1000);
    const { devices } = await sample('small');
    const structures = structuresOf(devices);
    const cases: Case[] = [];
    for (const { address: from, type: one } of structures) {
      for (const { address: to, type: other } of structures) {
        if (from === to || !random.oneIn(SHARE)) continue;
        const what = `${one} ${from} in the place of ${other} ${to} (seed ${SEED})`;
        cases.push({ what, harm: (hostile) => putCopy(hostile, from, to), free: false });
      }
    }
    await judge('small', cases);
  });
});
