/**
 * Serving over NBD: IOPS by fio's nbd engine at a Unix socket, cached; against qemu-nbd with qcow2, and nbdkit with raw.
 *
 * Each run starts its server, fills the caches, and loads it for a few seconds; the rate counts, with percentiles of the
 * latency and the server's peak memory beside it.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { makeRandomDisk } from '../images/content.ts';
import { type Bout, type Contestant, type Goal, MiB, type Size, type Work } from '../work.ts';
import type { Workshop } from '../workshop.ts';

const IMAGE = 512 * MiB;
/** More than is written in a run, so that to its end nearly every write allocates. */
const THIN_IMAGE = 8 * 1024 * MiB;
const SECONDS = 4;
/** Not counted: caches fill, and Node compiles what is hot, which takes longer where processors are scarce. */
const WARM_UP_SECONDS = 3;

/** What serves: a program with its arguments, and the image in its format. */
interface Served {
  readonly label: string;
  readonly program: string;
  readonly args: (image: string) => readonly string[];
  readonly format: 'vvd' | 'qcow2' | 'raw';
}

const QEMU_NBD: Served = {
  label: 'qemu-nbd',
  program: 'qemu-nbd',
  args: (image) => ['-t', '-e', '8', '-k', '$socket', '-f', 'qcow2', image],
  format: 'qcow2',
};

const NBDKIT: Served = {
  label: 'nbdkit',
  program: 'nbdkit',
  args: (image) => ['-f', '-U', '$socket', 'file', image],
  format: 'raw',
};

function vimg(shop: Workshop, format: 'vvd' | 'raw'): Served {
  const { program, args } = shop.vimg(['serve', '-s', '$socket', '-f', format]).command;
  return { label: `vimg, ${format}`, program, args: (image) => [...args, image], format };
}

interface Load {
  readonly rw: 'randread' | 'randwrite' | 'read' | 'write';
  readonly depth: number;
  readonly block?: string;
  readonly connections?: number;
  /** Bytes of the disk. */
  readonly size?: number;
}

function fioArguments({ rw, depth, block = '4k', connections = 1, size = IMAGE }: Load): string[] {
  return [
    ...[`--rw=${rw}`, `--bs=${block}`, `--iodepth=${depth}`, `--numjobs=${connections}`],
    ...[
      `--size=${size}`,
      '--time_based',
      `--runtime=${SECONDS}`,
      `--ramp_time=${WARM_UP_SECONDS}`,
      '--randrepeat=0',
    ],
  ];
}

function contestant(shop: Workshop, served: Served, image: string, load: Load): Contestant {
  const { program, args, label } = served;
  const spec = { program, args: args(image), image, fio: fioArguments(load) };
  return shop.program('serve-load', [JSON.stringify(spec)], {
    label,
    readRate: (stdout) => (JSON.parse(stdout) as { iops: number }).iops,
    readDetails: (stdout) => {
      const { iops: _, ...details } = JSON.parse(stdout) as Record<string, number>;
      return details;
    },
  });
}

/** An image full of random data, shared by all works that read it or write over it. */
async function filled(shop: Workshop, format: Served['format']): Promise<string> {
  const raw = await shop.stock('served.raw', (path) => makeRandomDisk(path, IMAGE));
  if (format === 'raw') return raw;
  if (format === 'qcow2') {
    return shop.stock('served.qcow2', (path) =>
      shop.runPeer('convert', '-f', 'raw', '-O', 'qcow2', raw, path),
    );
  }
  return shop.stock('served.vvd', (path) => shop.runVimg('convert', '-f', 'raw', '-O', 'vvd', raw, path));
}

/** The same load on two servers of full images. */
async function filledBout(shop: Workshop, ours: Served, peer: Served, load: Load): Promise<Bout | undefined> {
  if (!shop.hasPeer) return undefined;
  return {
    ours: contestant(shop, ours, await filled(shop, ours.format), load),
    peer: contestant(shop, peer, await filled(shop, peer.format), load),
  };
}

/** Both write into new thin disks, made before each run. */
function allocatingBout(shop: Workshop, load: Load): Bout | undefined {
  if (!shop.hasPeer) return undefined;
  const side = (served: Served, make: (path: string) => Promise<unknown>): Contestant => {
    const path = join(shop.folder, `thin.${served.format}`);
    const prepare = async (): Promise<void> => {
      await rm(path, { force: true });
      await make(path);
    };
    return { ...contestant(shop, served, path, load), prepare, cleanUp: () => rm(path, { force: true }) };
  };
  return {
    ours: side(vimg(shop, 'vvd'), (path) =>
      shop.runVimg('create', '-q', '-f', 'vvd', path, String(THIN_IMAGE)),
    ),
    peer: side(QEMU_NBD, (path) => shop.runPeer('create', '-q', '-f', 'qcow2', path, String(THIN_IMAGE))),
  };
}

const atLeast = (value: number): Goal => ({ kind: 'ratio at least', value });

/** Depths from one request at a time to more than the server lets in at once. */
function depths(goals: Readonly<Record<number, number>>): Size[] {
  return [1, 8, 32, 128].map((depth) => {
    const goal = goals[depth];
    return { units: depth, label: `depth ${depth}`, goal: goal === undefined ? undefined : atLeast(goal) };
  });
}

function single(label: string, goal: number): Size[] {
  return [{ units: 1, label, goal: atLeast(goal) }];
}

export const serveWorks: readonly Work[] = [
  {
    name: 'serve-random-read',
    title: 'serve 4 KiB random reads, cached: vvd, against qcow2 by qemu-nbd',
    metric: '/s',
    sizes: depths({ 1: 1, 32: 3 }),
    prepare: (shop, { units: depth }) =>
      filledBout(shop, vimg(shop, 'vvd'), QEMU_NBD, { rw: 'randread', depth }),
  },
  {
    name: 'serve-random-read-raw',
    title: 'serve 4 KiB random reads, cached: raw, against raw by nbdkit',
    metric: '/s',
    sizes: depths({ 32: 1.5 }),
    prepare: (shop, { units: depth }) =>
      filledBout(shop, vimg(shop, 'raw'), NBDKIT, { rw: 'randread', depth }),
  },
  {
    name: 'serve-random-write',
    title: 'serve 4 KiB random writes to allocated blocks: vvd, against qcow2 by qemu-nbd',
    metric: '/s',
    sizes: depths({ 32: 1.5 }),
    prepare: (shop, { units: depth }) =>
      filledBout(shop, vimg(shop, 'vvd'), QEMU_NBD, { rw: 'randwrite', depth }),
  },
  {
    name: 'serve-allocate',
    title: 'serve 4 KiB random writes into a new thin disk: vvd, against qcow2 by qemu-nbd',
    metric: '/s',
    sizes: depths({ 32: 2 }),
    prepare: (shop, { units: depth }) =>
      Promise.resolve(allocatingBout(shop, { rw: 'randwrite', depth, size: THIN_IMAGE })),
  },
  {
    name: 'serve-sequential-read',
    title: 'serve 1 MiB sequential reads, cached: vvd, against qcow2 by qemu-nbd',
    metric: '/s',
    sizes: single('depth 8', 1.5),
    prepare: (shop) => filledBout(shop, vimg(shop, 'vvd'), QEMU_NBD, { rw: 'read', depth: 8, block: '1m' }),
  },
  {
    name: 'serve-sequential-write',
    title: 'serve 1 MiB sequential writes to allocated blocks: vvd, against qcow2 by qemu-nbd',
    metric: '/s',
    sizes: single('depth 8', 1.2),
    prepare: (shop) => filledBout(shop, vimg(shop, 'vvd'), QEMU_NBD, { rw: 'write', depth: 8, block: '1m' }),
  },
  {
    name: 'serve-read-connections',
    title:
      'serve 4 KiB random reads, cached, at depth 32 over several connections: vvd, against qcow2 by qemu-nbd',
    metric: '/s',
    sizes: [1, 2, 4].map((units) => ({
      units,
      label: units === 1 ? '1 connection' : `${units} connections`,
    })),
    prepare: (shop, { units: connections }) =>
      filledBout(shop, vimg(shop, 'vvd'), QEMU_NBD, { rw: 'randread', depth: 32, connections }),
  },
  {
    name: 'serve-connections',
    title:
      'serve 4 KiB random reads at depth 32 over several connections: vvd, against one connection of our own',
    metric: '/s',
    sizes: [2, 4].map((units) => ({
      units,
      label: `${units} connections`,
      goal: units === 4 ? atLeast(1.5) : undefined,
    })),
    async prepare(shop, { units: connections }): Promise<Bout> {
      const image = await filled(shop, 'vvd');
      const load: Load = { rw: 'randread', depth: 32 };
      return {
        ours: contestant(shop, vimg(shop, 'vvd'), image, { ...load, connections }),
        peer: { ...contestant(shop, vimg(shop, 'vvd'), image, load), label: 'one connection' },
      };
    },
  },
];
