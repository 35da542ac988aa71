/** Convert of a large disk that holds little: what counts is how holes are found, and how scattered writes are mapped. */
import { makeScatteredDisk } from '../images/content.ts';
import {
  type Bout,
  type Contestant,
  type Goal,
  KiB,
  type Size,
  TiB,
  threeSizes,
  type Work,
} from '../work.ts';
import type { Workshop } from '../workshop.ts';
import { convert, nativeDisks } from './convert.ts';

const GOAL: Goal = { kind: 'ratio at most', value: 0.7 };
/** 10,000 of these are 1 GiB. */
const EXTENT = 104 * KiB;
const UNSAFE = ['-t', 'unsafe'];

function scatteredDisk(shop: Workshop, { units }: Size): Promise<string> {
  return shop.stock(`scattered-${units}.raw`, (path) => makeScatteredDisk(path, TiB, 100 * units, EXTENT));
}

const sizes = (): Size[] => threeSizes((units) => `${100 * units} extents`, GOAL);

export const convertSparseWorks: readonly Work[] = [
  {
    name: 'convert-sparse-from-raw',
    title: 'convert a raw disk of 1 TiB with scattered extents of 104 KiB → vvd; peer → qcow2',
    metric: 'ms',
    sizes: sizes(),
    async prepare(shop, size): Promise<Bout> {
      const source = await scatteredDisk(shop, size);
      return {
        ours: convert(shop, 'vimg', ['-f', 'raw', ...UNSAFE, '-O', 'vvd', source], 'out.vvd') as Contestant,
        peer: convert(shop, 'qemu-img', ['-f', 'raw', '-O', 'qcow2', source], 'out.qcow2'),
      };
    },
  },
  {
    name: 'convert-sparse-to-raw',
    title: 'convert a vvd disk of 1 TiB with scattered extents of 104 KiB → raw; peer from qcow2',
    metric: 'ms',
    sizes: sizes(),
    async prepare(shop, size): Promise<Bout> {
      const { ours, peer } = await nativeDisks(shop, await scatteredDisk(shop, size));
      return {
        ours: convert(shop, 'vimg', [...UNSAFE, '-O', 'raw', ours], 'out-ours.raw') as Contestant,
        peer: convert(shop, 'qemu-img', ['-O', 'raw', peer], 'out-peer.raw'),
      };
    },
  },
];
