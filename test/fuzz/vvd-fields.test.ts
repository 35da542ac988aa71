/**
 * Hostile VVD images: each field of each structure zeroed, maximised, flipped and made to point where it must not, with
 * right checksums; each structure in the place of each other one; the file cut behind each.
 */
import { describe, expect, it, vi } from 'vitest';
import { PAGE } from '../../formats/vvd/layout.ts';
import { type BaseName, baseImage } from './base-images.ts';
import { fieldValues, THOROUGH } from './field-values.ts';
import { verdict } from './judge.ts';
import { hostileImage, type Recipe } from './mutation.ts';
import type { Structure, StructureKind } from './structures.ts';

// with every value of every field these take minutes
if (THOROUGH) vi.setConfig({ testTimeout: 1_800_000 });

/** Which structures are worth their cases in which base: the others are the same as in another one. */
const WORKS: readonly (readonly [BaseName, StructureKind])[] = [
  ['closed', 'header'],
  ['closed', 'attributes'],
  ['closed', 'directory'],
  ['closed', 'table'],
  ['closed', 'space'],
  ['crashed', 'journal'],
  ['sealed', 'checksum'],
];

async function judge(recipes: readonly Recipe[]): Promise<void> {
  const failures: string[] = [];
  for (const recipe of recipes) {
    const problem = await verdict(await hostileImage(recipe));
    if (problem !== undefined) failures.push(`${JSON.stringify(recipe)}\n${problem}`);
  }
  expect(failures.slice(0, 5).join('\n\n')).toBe('');
}

async function ofKind(base: BaseName, kind: StructureKind): Promise<Structure[]> {
  const { structures } = await baseImage(base);
  return structures.filter((structure) => structure.kind === kind);
}

describe('intact images', () => {
  it.each(['closed', 'crashed', 'sealed', 'other'] as const)('%s: has nothing wrong', (base) =>
    judge([{ base, mutations: [] }]),
  );
});

describe('a field of a hostile image', () => {
  it.each(WORKS)('in a %s image: %s', async (base, kind) => {
    const { file, structures } = await baseImage(base);
    const recipes: Recipe[] = [];
    const alike = structures.filter((structure) => structure.kind === kind);
    expect(alike.length).toBeGreaterThan(0);
    // one of each kind: header copies one by one are below
    const { nth, fields, places } = alike[0] as Structure;
    for (const { at, size } of fields) {
      for (const hex of fieldValues(file, structures, (places[0] as number) + at, size)) {
        recipes.push({ base, mutations: [{ structure: kind, nth, at, hex }] });
      }
    }
    await judge(recipes);
  });

  it('in one header copy, or in a dirty or a sealed image', async () => {
    const recipes: Recipe[] = [];
    for (const [base, nth] of [
      ['closed', 1],
      ['closed', 2],
      ['crashed', 0],
      ['sealed', 0],
    ] as const) {
      const [header] = await ofKind(base, 'header');
      for (const { at, size } of header?.fields ?? []) {
        recipes.push({ base, mutations: [{ structure: 'header', nth, at, hex: 'ff'.repeat(size) }] });
        if (THOROUGH)
          recipes.push({ base, mutations: [{ structure: 'header', nth, at, hex: '00'.repeat(size) }] });
      }
    }
    await judge(recipes);
  });
});

describe('a structure of a hostile image', () => {
  it('in the place of another, of this disk or of another disk, as it is or relabelled', async () => {
    const recipes: Recipe[] = [];
    const kinds: readonly StructureKind[] = ['header', 'directory', 'table', 'space', 'checksum', 'journal'];
    for (const base of ['crashed', 'sealed'] as const) {
      const { structures } = await baseImage(base);
      for (const structure of structures.filter(({ kind }) => kinds.includes(kind))) {
        for (const kind of kinds) {
          for (const from of THOROUGH ? (['closed', base, 'other'] as const) : (['other'] as const)) {
            const misplaced = {
              structure: structure.kind,
              nth: structure.nth,
              from: { base: from, structure: kind, nth: 1 },
            };
            // relabelled for its place it is believed; as it is only its place is wrong
            for (const relabelled of THOROUGH ? [true, false] : [structure.kind !== kind])
              recipes.push({ base, mutations: [{ ...misplaced, relabelled }] });
          }
        }
      }
    }
    await judge(recipes);
  });

  it('cut off, or cut in two', async () => {
    const recipes: Recipe[] = [0, 1, 511, PAGE - 1].map((truncate) => ({
      base: 'closed',
      mutations: [{ truncate }],
    }));
    for (const base of ['closed', 'crashed', 'sealed'] as const) {
      const { structures } = await baseImage(base);
      for (const { places, length } of structures) {
        for (const at of [places[0] as number, (places[0] as number) + Math.floor(length / 2)]) {
          recipes.push({ base, mutations: [{ truncate: at }] });
        }
      }
    }
    await judge(recipes);
  });
});
