/**
 * Peak resident memory of convert and check of a disk all of which is mapped, up to 16 TiB.
 *
 * For check, every block is data. For convert, every block is mapped as reserved space: the whole map is walked on
 * the way, without 16 TiB of bytes to move.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { canHold, makeMappedDisk } from '../images/mapped-disk.ts';
import { type Bout, type Goal, type Size, sizeLabel, TiB, threeSizes, type Work } from '../work.ts';
import type { Workshop } from '../workshop.ts';

const FULL = 16 * TiB;

function virtualSize(units: number): number {
  return Math.round((FULL * units) / 100 / 2 ** 30) * 2 ** 30;
}

const sizes = (goal: Goal): Size[] => threeSizes((units) => sizeLabel(virtualSize(units)), goal);

/** Where files larger than the disk can be: on memory, when the file system of the bench's folder refuses them. */
async function roomyFolder(shop: Workshop, size: number): Promise<string> {
  const probe = shop.path('probe');
  const holds = await canHold(probe, size + size / 64);
  await shop.clear('probe');
  return holds ? shop.folder : shop.memoryFolder();
}

async function fullyMapped(shop: Workshop, { units }: Size, as: 'data' | 'reserved'): Promise<string> {
  const size = virtualSize(units);
  const path = join(await roomyFolder(shop, size), `mapped-${as}-${units}.vvd`);
  await makeMappedDisk(path, { virtualSize: size, mapped: size, as });
  return path;
}

export const memoryWorks: readonly Work[] = [
  {
    name: 'memory-check',
    title: 'peak memory: check of a vvd disk, all of it mapped',
    metric: 'MiB',
    sizes: sizes({ kind: 'MiB at most', value: 400 }),
    pairs: 'once',
    async prepare(shop, size): Promise<Bout> {
      const path = await fullyMapped(shop, size, 'data');
      return { ours: shop.vimg(['check', '-q', '-f', 'vvd', path]), finish: () => rm(path) };
    },
  },
  {
    name: 'memory-convert',
    title: 'peak memory: convert a vvd disk, all of it mapped → vvd',
    metric: 'MiB',
    sizes: sizes({ kind: 'MiB at most', value: 200 }),
    pairs: 'once',
    async prepare(shop, size): Promise<Bout> {
      const path = await fullyMapped(shop, size, 'reserved');
      const target = `${path}-out`;
      const args = ['convert', '-t', 'unsafe', '-f', 'vvd', '-O', 'vvd', path, target];
      return {
        ours: shop.vimg(args, shop.fresh(target)),
        finish: () => rm(path),
      };
    },
  },
];
