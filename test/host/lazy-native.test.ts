/** Start-up time: koffi is loaded by the first call that needs it, and by nothing else. Alone in its file: own process. */
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { dir } from 'tmp-promise';
import { expect, it } from 'vitest';
import { FileDevice } from '../../src/device/index.ts';

function koffiIsLoaded(): boolean {
  const { cache } = createRequire(import.meta.url);
  return Object.keys(cache).some((path) => path.includes('koffi'));
}

it('reads and writes files without loading koffi', async () => {
  const { path, cleanup } = await dir({ prefix: 'vimg-lazy-', unsafeCleanup: true });
  try {
    const device = await FileDevice.open(join(path, 'disk'), { create: 'exclusive' });
    await device.pwrite(Buffer.from('data'), 0);
    await device.pread(Buffer.alloc(4), 0);
    await device.resize(100);
    await device.flush();
    expect(koffiIsLoaded()).toBe(false);
    await device.writeZeroes(0, 100);
    expect(koffiIsLoaded()).toBe(true);
    await device.close();
  } finally {
    await cleanup();
  }
});
