/** Opening a disk for writing after a power cut: the journal is read, verified and put in place. */
import { makeCrashedDisk } from '../images/crashed-disk.ts';
import { type Bout, TiB, threeSizes, type Work } from '../work.ts';

/** More than a journal holds: 100 units fill it. */
const TABLES_A_UNIT = 25;

export const crashOpenWorks: readonly Work[] = [
  {
    name: 'crash-open',
    title: 'open a vvd disk of 1 TiB for writing after a power cut, with that much of its journal in use',
    metric: 'ms',
    pairs: 3,
    sizes: threeSizes((units) => `${units} %`, { kind: 'ms beyond start', value: 300 }, 'all'),
    async prepare(shop, { units }): Promise<Bout> {
      const source = await shop.stock(`crashed-${units}.vvd`, (path) =>
        makeCrashedDisk(path, TiB, units * TABLES_A_UNIT),
      );
      const disk = shop.path('crashed-copy.vvd');
      return {
        ours: shop.program('open-for-writing', [disk], {
          prepare: () => shop.copy(source, disk),
          cleanUp: () => shop.clear('crashed-copy.vvd'),
        }),
      };
    },
  },
];
