/** What is done to a disk of 1 TiB as a whole, with 1, 10 and 100 GiB of it allocated: check, snapshot, clone, resize. */
import { join } from 'node:path';
import { makeMappedDisk } from '../images/mapped-disk.ts';
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

const CONSTANT: Goal = { kind: 'ms beyond start', value: 30 };

function oursAllocated(shop: Workshop, { units }: Size): Promise<string> {
  return shop.stock(`allocated-${units}.vvd`, (path) =>
    makeMappedDisk(path, { virtualSize: TiB, mapped: units * GiB, as: 'data' }),
  );
}

/** Every cluster of the first `units` GiB is mapped, then the disk is made larger. */
function peerAllocated(shop: Workshop, { units }: Size): Promise<string> {
  return shop.stock(`allocated-${units}.qcow2`, async (path) => {
    const options = ['-f', 'qcow2', '-o', 'preallocation=metadata'];
    await shop.runPeer('create', '-q', ...options, path, String(units * GiB));
    await shop.runPeer('resize', '-q', '-f', 'qcow2', path, String(TiB));
  });
}

const label = (units: number): string => `${units} GiB of 1 TiB`;

const check: Work = {
  name: 'check',
  title: 'check of a vvd disk of 1 TiB with that much allocated; peer qcow2',
  metric: 'ms',
  sizes: [
    ...threeSizes(label, { kind: 'ratio at most', value: 0.5 }),
    { units: 1024, label: 'all of 1 TiB' }, // where the start of Node no longer counts
  ],
  async prepare(shop, size): Promise<Bout> {
    return {
      ours: shop.vimg(['check', '-q', '-f', 'vvd', await oursAllocated(shop, size)]),
      peer: shop.qemuImg(['check', '-q', '-f', 'qcow2', await peerAllocated(shop, size)]),
    };
  },
};

/** Each run works on a fresh copy, in a folder of its own. */
function onCopy(
  shop: Workshop,
  source: string,
  folder: string,
  run: (disk: string) => Contestant | undefined,
): Contestant | undefined {
  const disk = join(shop.path(folder), 'disk');
  const contestant = run(disk);
  return (
    contestant && {
      ...contestant,
      prepare: async () => {
        await shop.emptyFolder(folder);
        await shop.copy(source, disk);
      },
      cleanUp: () => shop.clear(folder),
    }
  );
}

function constantTime(
  name: string,
  title: string,
  ours: (shop: Workshop, disk: string) => Contestant,
  peer: (shop: Workshop, disk: string) => Contestant | undefined,
): Work {
  return {
    name,
    title,
    metric: 'ms',
    pairs: 3,
    sizes: threeSizes(label, CONSTANT, 'all'),
    async prepare(shop, size): Promise<Bout> {
      const [oursSource, peerSource] = [await oursAllocated(shop, size), await peerAllocated(shop, size)];
      return {
        ours: onCopy(shop, oursSource, 'ours', (disk) => ours(shop, disk)) as Contestant,
        peer: onCopy(shop, peerSource, 'peer', (disk) => peer(shop, disk)),
      };
    },
  };
}

export const largeDiskWorks: readonly Work[] = [
  check,
  constantTime(
    'snapshot',
    'snapshot of such a disk; peer: an internal snapshot of qcow2',
    (shop, disk) => shop.vimg(['snapshot', '-c', 'before', disk]),
    (shop, disk) => shop.qemuImg(['snapshot', '-c', 'before', disk]),
  ),
  constantTime(
    'clone',
    'linked clone of such a disk; peer: create with a backing file',
    (shop, disk) => shop.vimg(['clone', disk, `${disk}-clone.vvd`]),
    (shop, disk) =>
      shop.qemuImg(['create', '-q', '-f', 'qcow2', '-b', disk, '-F', 'qcow2', `${disk}-clone.qcow2`]),
  ),
  constantTime(
    'resize',
    'resize of such a disk to 2 TiB; peer qcow2',
    (shop, disk) => shop.vimg(['resize', '-q', '-f', 'vvd', disk, '2T']),
    (shop, disk) => shop.qemuImg(['resize', '-q', '-f', 'qcow2', disk, '2T']),
  ),
  {
    name: 'info',
    title: 'info of such a disk; peer qcow2',
    metric: 'ms',
    pairs: 3,
    sizes: threeSizes(label, { kind: 'times the start', value: 1.3 }, 'all'),
    async prepare(shop, size): Promise<Bout> {
      return {
        ours: shop.vimg(['info', await oursAllocated(shop, size)]),
        peer: shop.qemuImg(['info', await peerAllocated(shop, size)]),
      };
    },
  },
];
