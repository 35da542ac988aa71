/** A chain never becomes deeper than what can be opened. With a lower limit: 256 snapshots take their time. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { formats } from '../../formats/index.ts';
import { LIMITS } from '../../src/base/limits.ts';
import { mountFiles } from '../../src/device/mounts.ts';
import { linkedClone } from '../../src/image/clone.ts';
import { createImage } from '../../src/image/create-image.ts';
import { DiskImage } from '../../src/image/disk-image.ts';
import { createSnapshot, deleteSnapshot } from '../../src/image/snapshot.ts';
import { convertDisk } from '../../src/job/convert.ts';
import { MemoryFiles } from '../../src/testing/memory-files.ts';

const context = { formats };
const limits = LIMITS as Record<string, number>;
const { chainDepth } = LIMITS;
let unmount: () => void;

beforeEach(() => {
  limits['chainDepth'] = 10;
  unmount = mountFiles('memory', new MemoryFiles());
});
afterEach(() => {
  limits['chainDepth'] = chainDepth;
  unmount();
});

describe('the deepest chain', () => {
  it('takes no layer more, and can be opened', async () => {
    const disk = 'memory:disk.vvd';
    await createImage(disk, { formats, format: 'vvd', size: 1024 * 1024 });
    for (let layers = 1; layers < LIMITS.chainDepth; layers++) {
      await createSnapshot([disk], `s${layers}`, context);
    }
    const refused = { code: 'LIMIT', hint: expect.stringContaining('delete') };
    await expect(createSnapshot([disk], 'more', context)).rejects.toMatchObject(refused);
    await expect(linkedClone(disk, 'memory:clone.vvd', context)).rejects.toMatchObject(refused);
    const backing = { path: 'disk.vvd' };
    await expect(createImage('memory:on.qcow2', { formats, format: 'qcow2', backing })).rejects.toMatchObject(
      refused,
    );
    const opened = await DiskImage.open(disk, { formats });
    expect(opened.layers.length).toBe(LIMITS.chainDepth);
    await expect(
      convertDisk(opened, { path: 'memory:copy.vvd', format: 'vvd', backing }, { formats }),
    ).rejects.toMatchObject(refused);
    await opened.close();
    await deleteSnapshot(disk, 's4', context);
    await createSnapshot([disk], 'more', context);
  });
});
