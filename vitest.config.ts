/**
 * Tests of everything, against the sources; `test/cli` and `test/library` against what `npm run build` made of them.
 *
 * No test measures time: the limits are there to end what hangs, also on a machine that has much else to do. Slow
 * files are begun first, so that no worker is left with one at the end; nothing runs twice because it failed once.
 */
import { defineConfig, type ViteUserConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** The files that take longest, the longest first. */
const SLOW: readonly string[] = [
  'test/crash/enumeration.test.ts',
  'test/vims/crash.test.ts',
  'test/cli/sessions.test.ts',
  'test/e2e/compare-200.test.ts',
  'test/fuzz/vvd-fields.test.ts',
  'test/model/snapshots.test.ts',
  'test/crash/kill.test.ts',
];

class SlowFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification): number => {
      const index = SLOW.findIndex((file) => moduleId.endsWith(file));
      return index < 0 ? SLOW.length : index;
    };
    const sorted = await super.sort(files);
    return sorted.sort((one, other) => rank(one) - rank(other));
  }
}

const config: ViteUserConfig = defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Booting machines takes a minute: `npm run test:guest`.
    exclude: process.env['VIMG_GUEST'] ? [] : ['test/guest/**'],
    // What the user's host knows of datastores is not for tests.
    env: { VIMG_CONFIG: '/nonexistent/vimg-tests' },
    sequence: { sequencer: SlowFirst },
    testTimeout: 240_000,
    hookTimeout: 240_000,
    pool: 'forks',
    maxWorkers: 2,
  },
});
export default config;
