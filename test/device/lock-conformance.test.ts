import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { dir } from 'tmp-promise';
import { describe, it } from 'vitest';
import { hostFiles } from '../../src/device/host-files.ts';
import { lockConformance } from '../../src/testing/index.ts';

lockConformance({ describe, it, fc }, 'the host', async () => {
  const folder = await dir({ unsafeCleanup: true, prefix: 'vimg-locks' });
  const path = join(folder.path, 'disk.raw');
  writeFileSync(path, Buffer.alloc(4096));
  return { files: hostFiles, path, cleanup: () => folder.cleanup() };
});
