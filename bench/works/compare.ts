/** Compare of two equal disks, the whole of which has to be read: a raw disk, and the same in the native format. */
import { type Bout, GiB, sizeLabel, threeSizes, type Work } from '../work.ts';
import { nativeDisks, randomDisk } from './convert.ts';

export const compareWorks: readonly Work[] = [
  {
    name: 'compare',
    title: 'compare a raw disk with the same as vvd, random data; peer with the same as qcow2',
    metric: 'ms',
    sizes: threeSizes((units) => sizeLabel((4 * GiB * units) / 100), { kind: 'ratio at most', value: 0.7 }),
    async prepare(shop, size): Promise<Bout> {
      const raw = await randomDisk(shop, size);
      const { ours, peer } = await nativeDisks(shop, raw);
      return {
        ours: shop.vimg(['compare', '-f', 'raw', '-F', 'vvd', raw, ours]),
        peer: shop.qemuImg(['compare', '-f', 'raw', '-F', 'qcow2', raw, peer]),
      };
    },
  },
];
