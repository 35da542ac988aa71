/** Chains of VVD layers, each with something of its own, and the model of what the top reads. */
import { createVvd } from '../../formats/vvd/create.ts';
import { openVvd } from '../../formats/vvd/open.ts';
import { SeededRandom } from '../../src/base/random.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { DiskImage } from '../../src/image/disk-image.ts';
import { closedGate } from '../../src/image/gate-policies.ts';
import type { Layer } from '../../src/image/layer.ts';
import { ModelDisk } from '../../src/testing/index.ts';
import { type ChainFile, type ChainPlace, IN_MEMORY } from './chain-place.ts';

const SUB_BLOCKS = 32;

export interface ChainShape {
  readonly seed: number;
  /** Virtual size of each layer, base first. */
  readonly sizes: readonly number[];
  readonly blockSize: number;
  readonly options?: Readonly<Record<string, string | number>>;
  /** Random writes into each layer but the top. Default 12. */
  readonly writes?: number;
}

export interface VvdChain {
  /** Files, top first. */
  readonly files: readonly ChainFile[];
  readonly model: ModelDisk;
}

/** Makes the layers; the top is empty. Memory that one layer needs is shared by nobody. */
export async function makeChain(shape: ChainShape, place: ChainPlace = IN_MEMORY): Promise<VvdChain> {
  const random = new SeededRandom(shape.seed);
  const { blockSize, sizes } = shape;
  const files: ChainFile[] = [];
  let model = new ModelDisk(sizes[0] ?? 0, { discardUnit: blockSize / SUB_BLOCKS });
  for (const [depth, size] of sizes.entries()) {
    const file = await place.make(`layer-${depth}`);
    await createLayer(file, files[0], size, shape);
    files.unshift(file);
    model = new ModelDisk(size, { content: model.content, discardUnit: blockSize / SUB_BLOCKS });
    if (depth === sizes.length - 1) break;
    const disk = await openChain(files);
    for (let i = 0; i < (shape.writes ?? 12); i++) await randomChange(disk, model, random);
    await disk.close();
  }
  return { files, model };
}

async function createLayer(
  file: ChainFile,
  parent: ChainFile | undefined,
  virtualSize: number,
  shape: ChainShape,
): Promise<void> {
  const layer = parent && (await openVvd(await parent.open(true), { readOnly: true, gate: closedGate }));
  const device = await file.open(false);
  await createVvd(device, {
    virtualSize,
    options: { block_size: shape.blockSize, ...shape.options },
    gate: closedGate,
    ...(layer ? { backing: { path: layer.file.name, format: 'vvd', layer } } : {}),
  });
  await device.close();
  await layer?.close();
}

async function randomChange(disk: DiskImage, model: ModelDisk, random: SeededRandom): Promise<void> {
  const offset = random.below(model.size);
  const length = Math.min(model.size - offset, 1 + random.below(random.oneIn(4) ? 300_000 : 9_000));
  if (random.oneIn(4)) {
    await disk.writeZeroes(offset, length);
    model.zero(offset, length);
  } else {
    const data = random.fill(new Uint8Array(length));
    await disk.pwrite(data, offset);
    model.write(offset, data);
  }
}

/** Opens a chain by hand, the top for writing. `around` wraps each file. */
export async function openChain(
  files: readonly ChainFile[],
  around: (file: BlockDevice) => BlockDevice = (file) => file,
): Promise<DiskImage> {
  const layers: Layer[] = [];
  for (const [depth, file] of files.entries()) {
    const readOnly = depth > 0;
    layers.push(await openVvd(around(await file.open(readOnly)), { readOnly, gate: closedGate }));
  }
  return new DiskImage('memory', layers);
}

/** Removes the files of a chain that nobody has open. */
export async function removeChain(files: readonly ChainFile[]): Promise<void> {
  for (const file of files) await file.remove();
}
