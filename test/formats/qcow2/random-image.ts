/** Seeded random images: written through the driver's writer, and what they must hold. */
import { qcow2Driver } from '../../../formats/qcow2/driver.ts';
import { SeededRandom } from '../../../src/base/random.ts';
import type { BlockDevice } from '../../../src/device/block-device.ts';
import type { ImageWriter, OptionValues } from '../../../src/image/format-driver.ts';
import { noGate } from './layer-reader.ts';

export interface RandomImage {
  readonly seed: number;
  readonly virtualSize: number;
  readonly options: OptionValues;
  /** Whole disks only: partly written clusters are tried without a backing file. */
  readonly backing?: { readonly path: string; readonly format: string; readonly content: Uint8Array };
  /** Units are stored compressed, plain, or (the default) either. */
  readonly compress?: boolean;
}

/** Writes an image with random content in random order, several writes at a time. @returns the guest's content */
export async function writeRandomImage(file: BlockDevice, image: RandomImage): Promise<Uint8Array> {
  const random = new SeededRandom(image.seed);
  const content = new Uint8Array(image.virtualSize);
  content.set(image.backing?.content.subarray(0, image.virtualSize) ?? []);
  const writer = (await qcow2Driver.startWriter?.(file, {
    virtualSize: image.virtualSize,
    options: image.options,
    gate: noGate,
    ...(image.backing === undefined
      ? {}
      : { backing: { path: image.backing.path, format: image.backing.format, layer: undefined } }),
  })) as ImageWriter;
  const underWay: Promise<void>[] = [];
  for (const unit of shuffled(Math.ceil(image.virtualSize / writer.unit), random)) {
    underWay.push(...writeUnit(writer, unit, image, content, random));
    if (underWay.length >= 8) await Promise.all(underWay.splice(0));
  }
  await Promise.all(underWay);
  await writer.finish();
  return content;
}

/** One unit: left out, zeroed, compressed, whole, in two parts, or together with the next one. */
function writeUnit(
  writer: ImageWriter,
  unit: number,
  image: RandomImage,
  content: Uint8Array,
  random: SeededRandom,
): Promise<void>[] {
  const start = unit * writer.unit;
  const length = Math.min(writer.unit, content.length - start);
  const target = content.subarray(start, start + length);
  const kind = random.below(6);
  if (kind === 0) return [];
  if (kind === 1) {
    target.fill(0);
    return [writer.writeZeroes(start, length)];
  }
  fillUnit(target, random);
  const data = target.slice();
  if (image.compress ?? random.oneIn(2)) return [writer.writeCompressed?.(start, data) ?? Promise.resolve()];
  if (kind > 2 || image.backing !== undefined || length < 2) return [writer.write(start, data)];
  const middle = 1 + random.below(length - 1);
  return [writer.write(start + middle, data.subarray(middle)), writer.write(start, data.subarray(0, middle))];
}

/** Bytes that compress a little, a lot, or not at all. */
function fillUnit(unit: Uint8Array, random: SeededRandom): void {
  const kind = random.below(3);
  if (kind === 0) unit.fill(1 + random.below(255));
  else random.fill(unit);
  if (kind === 1) unit.fill(7, Math.floor(unit.length / 3));
}

function shuffled(count: number, random: SeededRandom): number[] {
  const order = Array.from({ length: count }, (_, index) => index);
  for (let i = count - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [order[i], order[j]] = [order[j] as number, order[i] as number];
  }
  return order;
}
