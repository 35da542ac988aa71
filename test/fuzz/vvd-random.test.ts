/**
 * Hostile VVD images from a seed. `npm test` judges a fixed number of them; `npm run test:fuzz` goes on for
 * VIMG_FUZZ_SECONDS from a seed of the clock. VIMG_FUZZ_SEED chooses the seed.
 */
import { expect, it } from 'vitest';
import { SeededRandom } from '../../src/base/random.ts';
import { verdict } from './judge.ts';
import { hostileImage } from './mutation.ts';
import { randomRecipe } from './random-recipe.ts';

const CASES = 120;
const seconds = Number(process.env['VIMG_FUZZ_SECONDS'] ?? 0);
const firstSeed = Number(process.env['VIMG_FUZZ_SEED'] ?? (seconds > 0 ? Date.now() % 1_000_000_000 : 1));

it(
  'random lies with right checksums end in data or in an error',
  async () => {
    const end = performance.now() + seconds * 1000;
    const failures: string[] = [];
    let seed = firstSeed;
    while ((seconds > 0 ? performance.now() < end : seed < firstSeed + CASES) && failures.length < 5) {
      const recipe = await randomRecipe(new SeededRandom(seed));
      const problem = await verdict(await hostileImage(recipe));
      if (problem !== undefined)
        failures.push(`VIMG_FUZZ_SEED=${seed} ${JSON.stringify(recipe)}\n${problem}`);
      seed++;
    }
    process.stderr.write(`${seed - firstSeed} hostile VVD images, seeds from ${firstSeed}\n`);
    expect(failures.join('\n\n')).toBe('');
  },
  seconds * 1000 + 120_000,
);
