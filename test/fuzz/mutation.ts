/** Lies told to an image, as data: what a kept corpus replays. */
import { HEADER_OFFSETS, headerLayout, PAGE, PAGE_HEADER } from '../../formats/vvd/layout.ts';
import { crc32c } from '../../src/binary/crc32c.ts';
import type { MemoryDevice } from '../../src/device/memory-device.ts';
import { type BaseName, baseImage } from './base-images.ts';
import { correctChecksums, type Structure, type StructureKind } from './structures.ts';

/** Bytes of one structure, written over what is at `at` in it. */
export interface Overwrite {
  readonly structure: StructureKind;
  readonly nth: number;
  readonly at: number;
  readonly hex: string;
}

/** A structure that stands where another one of its size belongs; `relabelled`: with the head of the one it replaces. */
export interface Misplacement {
  readonly structure: StructureKind;
  readonly nth: number;
  readonly from: { readonly base: BaseName; readonly structure: StructureKind; readonly nth: number };
  readonly relabelled: boolean;
}

/** The file ends here. */
export interface Truncation {
  readonly truncate: number;
}

export type Mutation = Overwrite | Misplacement | Truncation;

/** An image made from a base by lies: everything a failure needs to be seen again. */
export interface Recipe {
  readonly base: BaseName;
  readonly mutations: readonly Mutation[];
}

const ATTRIBUTES_CRC = headerLayout.rows.find(({ field }) => field === 'attributesCrc')?.offset ?? 0;

/** The hostile image of a recipe. */
export async function hostileImage(recipe: Recipe): Promise<MemoryDevice> {
  const { file, structures } = await baseImage(recipe.base);
  const image = file.fork();
  for (const mutation of recipe.mutations) {
    if ('truncate' in mutation) {
      if (mutation.truncate < image.size) image.resize(mutation.truncate);
      continue;
    }
    const target = find(structures, mutation.structure, mutation.nth);
    if (!target) continue;
    for (const place of target.places) {
      if (place + target.length > image.size) continue;
      const bytes = new Uint8Array(target.length);
      image.pread(bytes, place);
      if ('hex' in mutation) overwrite(bytes, mutation);
      else await misplace(bytes, mutation);
      correctChecksums(target.kind, bytes);
      image.pwrite(bytes, place);
      if (target.kind === 'attributes') correctAttributes(image, bytes);
    }
  }
  return image;
}

/** The header carries the checksum of the attributes; one that lies about their length keeps its lie. */
function correctAttributes(image: MemoryDevice, attributes: Uint8Array): void {
  for (const offset of HEADER_OFFSETS) {
    const page = new Uint8Array(PAGE);
    image.pread(page, offset);
    new DataView(page.buffer).setUint32(ATTRIBUTES_CRC, crc32c(attributes), true);
    correctChecksums('header', page);
    image.pwrite(page, offset);
  }
}

function overwrite(bytes: Uint8Array, { at, hex }: Overwrite): void {
  const room = Math.max(0, bytes.length - at);
  bytes.set(Buffer.from(hex, 'hex').subarray(0, room), Math.min(at, bytes.length));
}

async function misplace(bytes: Uint8Array, { from, relabelled }: Misplacement): Promise<void> {
  const { file, structures } = await baseImage(from.base);
  const source = find(structures, from.structure, from.nth);
  if (!source) return;
  const other = new Uint8Array(Math.min(bytes.length, source.length));
  file.pread(other, source.places[0] as number);
  if (relabelled && other.length >= PAGE) other.set(bytes.subarray(0, PAGE_HEADER));
  bytes.set(other.subarray(0, bytes.length));
}

function find(structures: readonly Structure[], kind: StructureKind, nth: number): Structure | undefined {
  const alike = structures.filter((structure) => structure.kind === kind);
  return alike[nth % Math.max(1, alike.length)];
}
