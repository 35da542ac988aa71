/**
 * Tests of everything, against the sources; `test/cli` and `test/library` against what `npm run build` made of them.
 *
 * No test measures time: the limits are there to end what hangs, also on a machine that has much else to do. Slow
 * files are test/crash, test/model, test/e2e and test/cli; nothing runs twice because it failed once.
 */
import { defineConfig, type ViteUserConfig } from 'vitest/config';

const config: ViteUserConfig = defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Booting machines takes more than a minute: `npm run test:guest`.
    exclude: process.env['VIMG_GUEST'] ? [] : ['test/guest/**'],
    testTimeout: 240_000,
    hookTimeout: 240_000,
    pool: 'forks',
    maxWorkers: 2,
  },
});
export default config;
