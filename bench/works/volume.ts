/** A file of a volume against the bare device below it; many files; the check of a large volume. */
import { rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeUsedVolume } from '../images/used-volume.ts';
import { runQuietly } from '../process-run.ts';
import {
  type Bout,
  type Contestant,
  GiB,
  type Goal,
  type Size,
  TiB,
  threeSizes,
  type Work,
} from '../work.ts';
import type { Workshop } from '../workshop.ts';

const LUN_SIZE = 2 * GiB;

/** A LUN whose space is taken: neither side pays for the file system below. */
function lun(shop: Workshop): Promise<string> {
  return shop.stock('lun', async (path) => {
    await runQuietly('dd', 'if=/dev/zero', `of=${path}`, 'bs=1M', `count=${LUN_SIZE / 2 ** 20}`);
  });
}

function loadWork(name: string, title: string, load: string, goal: Goal | undefined): Work {
  return {
    name,
    title,
    metric: '/s',
    sizes: [{ units: 1, label: '1 GiB', goal }],
    async prepare(shop): Promise<Bout> {
      const path = await lun(shop);
      const side = (where: string): Contestant => ({
        ...shop.program('volume-load', [where, load, path]),
        label: where,
        readRate: (stdout) => (JSON.parse(stdout) as { rate: number }).rate,
      });
      return { ours: side('volume'), peer: side('device') };
    },
  };
}

const atLeast = (value: number): Goal => ({ kind: 'ratio at least', value });

/** Of 64 TiB, a hundredth of it is taken: a volume of that size that is in use. */
const CHECKED = 64 * TiB;
const DISK = (640 * GiB) / 100;

export const volumeWorks: readonly Work[] = [
  loadWork(
    'volume-write',
    'volume: 1 MiB writes in order into a new file, over the device',
    'fill',
    atLeast(0.9),
  ),
  loadWork('volume-rewrite', 'volume: the same over what is there', 'rewrite', atLeast(0.9)),
  loadWork('volume-read', 'volume: 1 MiB reads in order', 'read', undefined),
  loadWork('volume-random-write', 'volume: 4 KiB writes at random', 'random-write', undefined),
  loadWork('volume-random-read', 'volume: 4 KiB reads at random', 'random-read', undefined),
  {
    name: 'volume-names',
    title: 'volume: make files, durable at the end',
    metric: 'ms',
    sizes: threeSizes((units) => `${units * 100} files`, { kind: 'ms beyond start', value: 10_000 }),
    async prepare(shop, { units }): Promise<Bout> {
      const path = await lun(shop);
      return { ours: shop.program('volume-names', [String(units * 100), path]) };
    },
  },
  {
    name: 'volume-check',
    title: 'volume: check of one of 64 TiB on a sparse device, a hundredth of it taken',
    metric: 'ms',
    sizes: threeSizes((units) => `${units} disks`, { kind: 'ms beyond start', value: 60_000 }),
    prepare: prepareCheck,
  },
];

async function prepareCheck(shop: Workshop, { units }: Size): Promise<Bout | undefined> {
  for (const folder of [shop.folder, shop.memoryFolder()]) {
    const path = join(folder, `volume-${units}`);
    try {
      await writeFile(path, '');
      await truncate(path, CHECKED);
    } catch {
      await rm(path, { force: true }); // this file system has no files of that size
      continue;
    }
    await makeUsedVolume(path, CHECKED, units, Math.round(DISK / 2 ** 20) * 2 ** 20);
    return { ours: shop.program('volume-check', [path]), finish: () => rm(path) };
  }
  return undefined;
}
