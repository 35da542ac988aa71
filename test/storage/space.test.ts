/** Space of a datastore: promises of thin disks, and alarms that do not flutter. */

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { withDir } from 'tmp-promise';
import { describe, expect, it } from 'vitest';
import { formats } from '../../formats/index.ts';
import { createImage } from '../../src/image/create-image.ts';
import { createSnapshot } from '../../src/image/snapshot.ts';
import { createDirectoryDatastore } from '../../src/storage/datastore.ts';
import { MountedDatastores } from '../../src/storage/mounted-datastores.ts';
import { datastoreSpace, nextAlarm } from '../../src/storage/space.ts';

const GiB = 1024 ** 3;

describe('space', () => {
  it('counts what disks may become: sealed layers stay what they are', async () => {
    await withDir(
      async ({ path }) => {
        const environment = { VIMG_CONFIG: join(path, 'config') };
        mkdirSync(join(path, 'disks'));
        await createDirectoryDatastore('ds1', join(path, 'disks'), environment);
        const mounted = await MountedDatastores.mount(environment);
        try {
          await createImage('ds1:a.vvd', { formats, format: 'vvd', size: 3 * GiB });
          await createImage('ds1:b.qcow2', { formats, format: 'qcow2', size: GiB });
          await createSnapshot(['ds1:a.vvd'], 'one', { formats });
          const space = await datastoreSpace(await mounted.open('ds1'), formats);
          expect(space.promised).toBeGreaterThan(4 * GiB);
          expect(space.promised).toBeLessThan(4 * GiB + 1024 ** 2);
          expect(space.files).toBeLessThan(1024 ** 2);
          expect(space.ratio).toBeCloseTo(space.promised / space.capacity);
          expect(space.used + space.free).toBe(space.capacity);
        } finally {
          await mounted.close();
        }
      },
      { unsafeCleanup: true },
    );
  });

  it('raises an alarm at its threshold, and lets it go below the recovery offset', () => {
    const thresholds = { warning: 80, critical: 95, recovery: 5 };
    const uses = [79, 80, 79, 76, 75, 79, 96, 94, 91, 90, 85, 75.5, 75, 96, 70];
    let alarm = nextAlarm('normal', 0, thresholds);
    const alarms = uses.map((use) => {
      alarm = nextAlarm(alarm, use, thresholds);
      return alarm[0];
    });
    expect(alarms.join('')).toBe('nwwwnncccwwwncn');
  });
});
