/** Random reads through a chain, against the same content in one layer; and how the peer's own rate falls. */
import { join } from 'node:path';
import { LAYERED_SIZE, makeQcow2Layers, makeVvdLayers } from '../images/layered-disk.ts';
import { type Bout, KiB, type Size, type Work } from '../work.ts';
import type { Workshop } from '../workshop.ts';

const OUR_READS = 400_000;
const PEER_READS = 100_000;
/** Takes the peer's reads, which go in steps, all over the disk: odd in units of 4 KiB. */
const PEER_STEP = 4 * KiB * 30_011;

function layersOf(units: number): number {
  return units === 1 ? 4 : units === 10 ? 32 : 128;
}

function chainSizes(ratio: number | undefined): Size[] {
  return [1, 10, 100].map((units) => ({
    units,
    label: `${layersOf(units)} layers`,
    goal: ratio !== undefined && units === 10 ? { kind: 'ratio at least', value: ratio } : undefined,
  }));
}

/** The top of a chain of `count` layers. */
async function chain(shop: Workshop, count: number, kind: 'vvd' | 'qcow2'): Promise<string> {
  const make = kind === 'vvd' ? makeVvdLayers : makeQcow2Layers;
  const folder = await shop.stock(`${kind}-layers-${count}`, (path) => make(path, count));
  return join(folder, `top.${kind}`);
}

export const chainReadWorks: readonly Work[] = [
  {
    name: 'chain-reads',
    title: 'random 4 KiB reads by the library through a chain of vvd layers; compared with one layer',
    metric: '/s',
    sizes: chainSizes(0.8),
    async prepare(shop, { units }): Promise<Bout> {
      const reads = async (count: number, label: string): Promise<Bout['ours']> =>
        shop.program('random-reads', [await chain(shop, count, 'vvd'), String(OUR_READS)], {
          label,
          readRate: (stdout) => (JSON.parse(stdout) as { readsPerSecond: number }).readsPerSecond,
        });
      return { ours: await reads(layersOf(units), 'chain'), peer: await reads(1, 'one layer') };
    },
  },
  {
    name: 'chain-reads-peer',
    title: 'the same by qemu-img bench on qcow2, for comparison; through a chain and through one layer',
    metric: '/s',
    sizes: chainSizes(undefined),
    async prepare(shop, { units }): Promise<Bout | undefined> {
      const reads = async (count: number, label: string): Promise<Bout['peer']> =>
        shop.qemuImg(
          [
            ...['bench', '-f', 'qcow2', '-d', '1', '-c', String(PEER_READS)],
            ...['-s', '4096', '-S', String(PEER_STEP % LAYERED_SIZE)],
            await chain(shop, count, 'qcow2'),
          ],
          {
            label,
            readRate: (stdout) => PEER_READS / Number(/in ([\d.]+) seconds/.exec(stdout)?.[1]),
          },
        );
      const through = await reads(layersOf(units), 'chain');
      return through && { ours: through, peer: await reads(1, 'one layer') };
    },
  },
];
