import * as fc from 'fast-check';
import { describe, it } from 'vitest';
import { formats } from '../../formats/index.ts';
import type { OptionValues } from '../../src/image/format-driver.ts';
import { driverConformance, type TestApi } from '../../src/testing/index.ts';

const api: TestApi = { describe, it, fc };
/** Options under which a format works in another way, besides its defaults. */
const VARIANTS: Readonly<Record<string, readonly OptionValues[]>> = {
  vvd: [
    {},
    { block_size: 65536, provisioning: 'lazy' },
    { block_size: 4 * 1024 * 1024, compression: 'none' },
  ],
  qcow2: [{}, { cluster_size: 512 }, { extended_l2: true }],
};

for (const driver of formats.list()) {
  for (const options of VARIANTS[driver.name] ?? [{}]) {
    describe(`with ${JSON.stringify(options)}`, () => driverConformance(api, driver, options));
  }
}
