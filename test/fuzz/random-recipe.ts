/** Recipes of hostile images from a seed: several lies at once, about fields and about any other bytes. */
import type { SeededRandom } from '../../src/base/random.ts';
import { type BaseName, baseImage } from './base-images.ts';
import { wrongPlaces } from './field-values.ts';
import type { Mutation, Recipe } from './mutation.ts';
import type { Structure } from './structures.ts';

const BASES: readonly BaseName[] = ['closed', 'crashed', 'sealed', 'other'];
const LIES_MAX = 4;
const ENTRY = 16;

export async function randomRecipe(random: SeededRandom): Promise<Recipe> {
  const base = random.pick(BASES);
  const { file, structures } = await baseImage(base);
  const places = wrongPlaces(file, structures);
  const mutations: Mutation[] = [];
  for (let left = 1 + random.below(LIES_MAX); left > 0; left--) {
    const target = random.pick(structures);
    mutations.push(randomMutation(random, target, places, structures, file.size));
  }
  return { base, mutations };
}

function randomMutation(
  random: SeededRandom,
  target: Structure,
  places: readonly bigint[],
  structures: readonly Structure[],
  size: number,
): Mutation {
  const { kind: structure, nth, length, fields } = target;
  const overwrite = (at: number, bytes: Uint8Array): Mutation => ({
    structure,
    nth,
    at,
    hex: Buffer.from(bytes).toString('hex'),
  });
  switch (random.below(8)) {
    case 0: {
      const { kind, nth: which } = random.pick(structures);
      const from = { base: random.pick(BASES), structure: kind, nth: which };
      return { structure, nth, from, relabelled: random.oneIn(2) };
    }
    case 1:
      return random.oneIn(4)
        ? { truncate: random.below(size) }
        : overwrite(random.below(length), byte(random));
    case 2:
    case 3: {
      // a whole entry, or something that looks like one: kind and a place that is near others
      const entry = new DataView(new ArrayBuffer(ENTRY));
      const place = random.oneIn(3)
        ? random.pick(places)
        : BigInt(Math.floor(random.below(size) / 4096) * 4096);
      entry.setBigUint64(0, place | BigInt(random.below(5)), true);
      entry.setUint32(8, random.oneIn(2) ? 0xffff_ffff : random.nextU32(), true);
      entry.setUint32(12, random.oneIn(2) ? 0 : random.nextU32(), true);
      return overwrite(
        64 + ENTRY * random.below(Math.max(1, Math.floor((length - 64) / ENTRY))),
        new Uint8Array(entry.buffer),
      );
    }
    default: {
      const field = random.pick(fields);
      const bytes = new Uint8Array(field.size);
      if (field.size === 8 && random.oneIn(2))
        new DataView(bytes.buffer).setBigUint64(0, random.pick(places), true);
      else if (random.oneIn(3)) bytes[0] = random.below(256);
      else if (random.oneIn(2)) random.fill(bytes);
      else bytes.fill(0xff);
      return overwrite(field.at, bytes);
    }
  }
}

function byte(random: SeededRandom): Uint8Array {
  return random.fill(new Uint8Array(1));
}
