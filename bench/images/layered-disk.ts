/** One content as a chain of layers, each block in a layer of its own choosing; ours through the library, and qcow2. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { formats } from '../../formats/index.ts';
import { SeededRandom } from '../../src/base/random.ts';
import { createImage, DiskImage } from '../../src/image/index.ts';
import { runQuietly } from '../process-run.ts';
import { KiB, MiB } from '../work.ts';

export const LAYERED_SIZE: number = 256 * MiB;
const BLOCK = 128 * KiB;

/** The bottom layer holds every block; each block is written again in one layer above. The top is `top.vvd`. */
export async function makeVvdLayers(folder: string, layers: number): Promise<void> {
  const data = new SeededRandom(3).fill(Buffer.alloc(BLOCK));
  mkdirSync(folder);
  for (const { path, behind, blocks } of plan(folder, layers, 'vvd')) {
    const backing = behind === undefined ? {} : { backing: { path: behind, format: 'vvd' } };
    await createImage(path, { formats, format: 'vvd', size: LAYERED_SIZE, ...backing });
    const disk = await DiskImage.open(path, { formats, readOnly: false });
    for (const block of blocks) await disk.pwrite(data, block * BLOCK);
    await disk.close();
  }
}

/** The same; the top is `top.qcow2`. */
export async function makeQcow2Layers(folder: string, layers: number): Promise<void> {
  mkdirSync(folder);
  for (const { path, behind, blocks } of plan(folder, layers, 'qcow2')) {
    const backing = behind === undefined ? [] : ['-b', behind, '-F', 'qcow2'];
    await runQuietly('qemu-img', 'create', '-q', '-f', 'qcow2', ...backing, path, String(LAYERED_SIZE));
    const writes = blocks.flatMap((block) => ['-c', `write -q -P 165 ${block * BLOCK} ${BLOCK}`]);
    if (writes.length > 0) await runQuietly('qemu-io', '-f', 'qcow2', ...writes, path);
  }
}

interface PlannedLayer {
  readonly path: string;
  readonly behind: string | undefined;
  readonly blocks: readonly number[];
}

function plan(folder: string, layers: number, ending: string): PlannedLayer[] {
  const name = (depth: number): string =>
    join(folder, depth === layers - 1 ? `top.${ending}` : `layer-${depth}.${ending}`);
  return blocksOfLayers(layers).map((blocks, depth) => ({
    path: name(depth),
    behind: depth === 0 ? undefined : name(depth - 1),
    blocks,
  }));
}

function blocksOfLayers(layers: number): number[][] {
  const random = new SeededRandom(4);
  const all = Array.from({ length: LAYERED_SIZE / BLOCK }, (_, block) => block);
  const held: number[][] = Array.from({ length: layers }, (_, depth) => (depth === 0 ? all : []));
  for (const block of all) {
    const depth = random.below(layers);
    if (depth > 0) held[depth]?.push(block);
  }
  return held;
}
