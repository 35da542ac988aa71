/**
 * Repair of hostile VVD images: it ends, touches no file but the image and its undo file, and what it changed is put
 * back exactly by the undo. VIMG_FUZZ_SECONDS and VIMG_FUZZ_SEED as in vvd-random.test.ts.
 */
import { expect, it } from 'vitest';
import { checkVvd } from '../../formats/vvd/check.ts';
import { applyUndo } from '../../formats/vvd/undo-file.ts';
import { isVimgError } from '../../src/base/errors.ts';
import { SeededRandom } from '../../src/base/random.ts';
import type { MemoryDevice } from '../../src/device/memory-device.ts';
import { mountFiles } from '../../src/device/mounts.ts';
import { MemoryFiles } from '../../src/testing/index.ts';
import { hostileImage } from './mutation.ts';
import { randomRecipe } from './random-recipe.ts';
import { countResources } from './resources.ts';

const CASES = 100;
const UNDO = 'undo:image.undo';
const REFUSALS: readonly string[] = ['INVALID_FORMAT', 'CORRUPT', 'UNSUPPORTED', 'LIMIT'];
const seconds = Number(process.env['VIMG_FUZZ_SECONDS'] ?? 0);
const firstSeed = Number(process.env['VIMG_FUZZ_SEED'] ?? (seconds > 0 ? Date.now() % 1_000_000_000 : 1));

function contentOf(image: MemoryDevice): Buffer {
  const bytes = Buffer.alloc(image.size);
  image.pread(bytes, 0);
  return bytes;
}

/** What is wrong with the repair of an image, if anything; and whether it changed the image. */
async function judgeRepair(image: MemoryDevice, repair: 'leaks' | 'all'): Promise<[string, boolean]> {
  const files = new MemoryFiles();
  const unmount = mountFiles('undo', files);
  const before = contentOf(image);
  const tooMuch = countResources();
  try {
    const report = await checkVvd(image, { repair, undoPath: UNDO });
    const [excess] = tooMuch();
    if (excess !== undefined) return [excess, true];
    const made = await files.list('undo:');
    if (made.length === 0) return [contentOf(image).equals(before) ? '' : 'changed without an undo', false];
    if (made.length > 1) return [`it made ${made.join(', ')}`, true];
    const again = await checkVvd(image);
    if (again.corruptions !== report.corruptions) return ['a second check sees other damage', true];
    await applyUndo(image, UNDO);
    return [contentOf(image).equals(before) ? '' : 'the undo did not restore the image', true];
  } catch (error) {
    if (isVimgError(error) && REFUSALS.includes(error.code)) {
      return [contentOf(image).equals(before) ? '' : `refused (${error.message}) after changes`, false];
    }
    return [error instanceof Error ? String(error.stack) : String(error), false];
  } finally {
    unmount();
  }
}

it(
  'never breaks, and its undo restores every byte',
  async () => {
    const end = performance.now() + seconds * 1000;
    const failures: string[] = [];
    let repaired = 0;
    let seed = firstSeed;
    while ((seconds > 0 ? performance.now() < end : seed < firstSeed + CASES) && failures.length < 5) {
      const recipe = await randomRecipe(new SeededRandom(seed));
      for (const repair of ['leaks', 'all'] as const) {
        const [problem, changed] = await judgeRepair(await hostileImage(recipe), repair);
        if (changed) repaired++;
        if (problem !== '')
          failures.push(`VIMG_FUZZ_SEED=${seed} ${repair} ${JSON.stringify(recipe)}\n${problem}`);
      }
      seed++;
    }
    process.stderr.write(
      `${seed - firstSeed} hostile images, seeds from ${firstSeed}; ${repaired} repairs\n`,
    );
    expect(failures.join('\n\n')).toBe('');
    expect(repaired).toBeGreaterThan(0);
  },
  seconds * 1000 + 120_000,
);
