/**
 * Damaged images: our check counts what `qemu-img check` counts.
 *
 * Left out are three kinds of damage where vimg says more than qemu-img on purpose (the zero bit in version 2 and in
 * extended entries, an L2 table off its boundary, whose content qemu-img takes from the wrong place).
 */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { dir } from 'tmp-promise';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FIXTURES, fixtureBytes, unpackFixtures } from '../../../fixtures/unpack.ts';
import { qcow2Driver } from '../../../formats/qcow2/driver.ts';
import { type Qcow2Header, readHeader } from '../../../formats/qcow2/header.ts';
import { SeededRandom } from '../../../src/base/random.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { requireTool } from '../../reference-tools.ts';

const ROUNDS = 6;
let folder = '';
let cleanup = async (): Promise<void> => undefined;

beforeAll(async () => {
  const made = await dir({ prefix: 'vimg-qcow2-check-', unsafeCleanup: true });
  folder = made.path;
  cleanup = made.cleanup;
  await unpackFixtures(folder);
});
afterAll(() => cleanup());

const IMAGES = FIXTURES.filter(
  (fixture) => fixture.format === 'qcow2' && fixture.unreadable === undefined && fixture.bytes < 700_000,
);

describe.skipIf(requireTool('qemu-img'))('check agrees with qemu-img', () => {
  test.each(IMAGES.map((fixture, index) => [fixture.name, index + 1] as const))(
    '%s damaged, seed %i',
    async (name, seed) => {
      const random = new SeededRandom(seed);
      for (let round = 0; round < ROUNDS; round++) {
        const bytes = Uint8Array.from(fixtureBytes(name));
        const { word, bit } = random.pick(await damageable(bytes, random));
        const at = word + 7 - (bit >>> 3);
        bytes[at] = (bytes[at] as number) ^ (1 << (bit & 7));
        const where = `seed ${seed}, round ${round}: bit ${bit} of the entry at ${word}`;
        expect(await ourCheck(bytes), where).toEqual(theirCheck(bytes));
      }
    },
  );

  test('files cut short', async () => {
    for (const name of [
      'v2-plain.qcow2',
      'zero-clusters.qcow2',
      'compressed-zstd.qcow2',
      'lazy-refcounts.qcow2',
    ]) {
      const whole = fixtureBytes(name);
      const { clusterSize } = await readHeader(MemoryDevice.from(whole));
      for (const cut of [1, clusterSize, clusterSize + 512, 3 * clusterSize]) {
        const bytes = whole.subarray(0, whole.length - cut);
        expect(await ourCheck(bytes), `${name} without its last ${cut} bytes`).toEqual(theirCheck(bytes));
      }
    }
  });
});

function theirCheck(bytes: Uint8Array): Record<string, number> {
  writeFileSync(join(folder, 'damaged.qcow2'), bytes);
  const args = ['check', '--output=json', '-f', 'qcow2', 'damaged.qcow2'];
  const { stdout } = spawnSync('qemu-img', args, { cwd: folder, encoding: 'utf8' });
  const { filename: _, format: __, ...counts } = JSON.parse(stdout) as Record<string, number>;
  return {
    corruptions: 0,
    leaks: 0,
    'allocated-clusters': 0,
    'fragmented-clusters': 0,
    'compressed-clusters': 0,
    ...counts,
  };
}

async function ourCheck(bytes: Uint8Array): Promise<Record<string, number | undefined>> {
  const report = await qcow2Driver.check?.(MemoryDevice.from(bytes), {});
  return {
    corruptions: report?.corruptions,
    leaks: report?.leaks,
    'check-errors': report?.checkErrors,
    'image-end-offset': report?.imageEndOffset,
    'total-clusters': report?.totalClusters,
    'allocated-clusters': report?.allocatedClusters,
    'fragmented-clusters': report?.fragmentedClusters,
    'compressed-clusters': report?.compressedClusters,
  };
}

interface Damage {
  /** Offset of a table entry of 8 bytes. */
  readonly word: number;
  readonly bit: number;
}

/** One bit to flip in each entry in use of the L1, L2 and refcount tables. */
async function damageable(bytes: Uint8Array, random: SeededRandom): Promise<Damage[]> {
  const header = await readHeader(MemoryDevice.from(bytes));
  const view = new DataView(bytes.buffer);
  const damages: Damage[] = [];
  for (let index = 0; index < header.l1Size; index++) {
    const word = header.l1TableOffset + index * 8;
    const table = Number(view.getBigUint64(word) & 0x00ff_ffff_ffff_fe00n);
    if (table === 0) continue;
    const bit = random.pick([63, ...range(header.clusterBits, 56)]);
    if (table !== 2 ** bit) damages.push({ word, bit });
    damages.push(...damageableEntries(view, table, header, random));
  }
  const block = Number(view.getBigUint64(header.refcountTableOffset));
  damages.push({ word: header.refcountTableOffset, bit: random.below(64) });
  for (let word = block; word < block + header.clusterSize; word += 8) {
    if (view.getBigUint64(word) !== 0n) damages.push({ word, bit: random.below(64) });
  }
  return damages;
}

function damageableEntries(
  view: DataView,
  table: number,
  header: Qcow2Header,
  random: SeededRandom,
): Damage[] {
  const strict = header.version === 2 || header.extendedL2;
  const damages: Damage[] = [];
  for (let word = table; word < table + header.clusterSize; word += 8) {
    if (view.getBigUint64(word) === 0n) continue;
    const bits = strict ? [63, ...range(1, 62)] : range(0, 64);
    damages.push({ word, bit: random.pick(bits) });
  }
  return damages;
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, index) => from + index);
}
