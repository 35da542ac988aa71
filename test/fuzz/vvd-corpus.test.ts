/** Hostile images that once broke something: fixtures/corpus/vvd.json, replayed always. */
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { verdict } from './judge.ts';
import { hostileImage, type Recipe } from './mutation.ts';

interface KeptCase extends Recipe {
  /** What it did before it was mended. */
  readonly broke: string;
}

const cases = JSON.parse(
  readFileSync(new URL('../../fixtures/corpus/vvd.json', import.meta.url), 'utf8'),
) as readonly KeptCase[];

it.each(cases)('$broke', async (kept) => {
  expect(await verdict(await hostileImage(kept))).toBeUndefined();
});
