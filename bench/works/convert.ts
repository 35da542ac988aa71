/** Convert between raw and the native format of each side: vvd here, qcow2 there. Random data: every byte moves. */
import { makeRandomDisk } from '../images/content.ts';
import {
  type Bout,
  type Contestant,
  GiB,
  MiB,
  type Size,
  sizeLabel,
  threeSizes,
  type Work,
} from '../work.ts';
import type { Workshop } from '../workshop.ts';

interface Mode {
  readonly name: string;
  readonly text: string;
  readonly ours: readonly string[];
  readonly peer: readonly string[];
}

/** vimg flushes a new disk to the medium unless told not to; qemu-img flushes only when told to. */
const MODES: readonly Mode[] = [
  { name: '', text: 'neither flushes: -t unsafe', ours: ['-t', 'unsafe'], peer: ['-t', 'unsafe'] },
  {
    name: '-flushed',
    text: 'both flush: -t writeback',
    ours: ['-t', 'writeback'],
    peer: ['-t', 'writeback'],
  },
  { name: '-default', text: 'defaults: vimg flushes, qemu-img does not', ours: [], peer: [] },
];

export const convertWorks: readonly Work[] = MODES.flatMap((mode) => [toNative(mode), toRaw(mode)]);

function toNative(mode: Mode): Work {
  return {
    name: `convert-from-raw${mode.name}`,
    title: `convert raw → vvd, random data (${mode.text}); peer raw → qcow2`,
    metric: 'ms',
    sizes: convertSizes(),
    async prepare(shop, size): Promise<Bout> {
      const source = await randomDisk(shop, size);
      return {
        ours: convert(
          shop,
          'vimg',
          ['-f', 'raw', ...mode.ours, '-O', 'vvd', source],
          'out.vvd',
        ) as Contestant,
        peer: convert(shop, 'qemu-img', ['-f', 'raw', ...mode.peer, '-O', 'qcow2', source], 'out.qcow2'),
      };
    },
  };
}

function toRaw(mode: Mode): Work {
  return {
    name: `convert-to-raw${mode.name}`,
    title: `convert vvd → raw, random data (${mode.text}); peer qcow2 → raw`,
    metric: 'ms',
    sizes: convertSizes(),
    async prepare(shop, size): Promise<Bout> {
      const { ours, peer } = await nativeDisks(shop, await randomDisk(shop, size));
      const toRawFrom = (source: string): string[] => ['-O', 'raw', source];
      return {
        ours: convert(shop, 'vimg', [...mode.ours, ...toRawFrom(ours)], 'out-ours.raw') as Contestant,
        peer: convert(shop, 'qemu-img', [...mode.peer, ...toRawFrom(peer)], 'out-peer.raw'),
      };
    },
  };
}

function convertSizes(): Size[] {
  return threeSizes((units) => sizeLabel(bytesOf(units)), { kind: 'ratio at most', value: 1 });
}

function bytesOf(units: number): number {
  return Math.round((4 * GiB * units) / 100 / MiB) * MiB;
}

/** A raw disk of random data: 100 units are 4 GiB. */
export function randomDisk(shop: Workshop, { units }: Size): Promise<string> {
  return shop.stock(`random-${units}.raw`, (path) => makeRandomDisk(path, bytesOf(units)));
}

/** The same content in the native formats. The peer's path is a name without a file where there is no peer. */
export async function nativeDisks(shop: Workshop, raw: string): Promise<{ ours: string; peer: string }> {
  const name = raw.slice(raw.lastIndexOf('/') + 1, -'.raw'.length);
  const ours = await shop.stock(`${name}.vvd`, (path) =>
    shop.runVimg('convert', '-t', 'unsafe', '-f', 'raw', '-O', 'vvd', raw, path),
  );
  const peer = await shop.stock(`${name}.qcow2`, (path) =>
    shop.runPeer('convert', '-f', 'raw', '-O', 'qcow2', raw, path),
  );
  return { ours, peer };
}

/** A run of convert into a new file. */
export function convert(
  shop: Workshop,
  tool: 'vimg' | 'qemu-img',
  args: readonly string[],
  target: string,
): Contestant | undefined {
  const path = shop.path(target);
  const line = ['convert', ...args, path];
  return tool === 'vimg' ? shop.vimg(line, shop.fresh(path)) : shop.qemuImg(line, shop.fresh(path));
}
