/** Deleting snapshots on which others stand, of a disk that is open and written meanwhile. */
import { createHash } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { formats } from '../../formats/index.ts';
import { vvdLifecycle } from '../../formats/vvd/lifecycle.ts';
import { SeededRandom } from '../../src/base/random.ts';
import { mountFiles } from '../../src/device/mounts.ts';
import { linkedClone } from '../../src/image/clone.ts';
import { DiskImage } from '../../src/image/disk-image.ts';
import { type FileHook, HookedFiles } from './hooked-files.ts';
import { content, DISK, expectSound, guestWithSnapshots, NAMES, reopen } from './snapshot-guest.ts';

let files: HookedFiles;
let unmount: () => void;

beforeEach(() => {
  files = new HookedFiles();
  unmount = mountFiles('place', files);
});
afterEach(() => unmount());

/** Operations take turns of the event loop: whoever may come in between, does. */
function late(random: SeededRandom): FileHook {
  return async () => {
    for (let turns = random.below(4); turns > 0; turns--) await new Promise(setImmediate);
  };
}

describe('deleting snapshots of an open disk, in any order', () => {
  it.each([1, 2, 3, 4, 5, 6, 7, 8])(
    'the guest and the other snapshots notice nothing (seed %i)',
    async (seed) => {
      const random = new SeededRandom(seed);
      const guest = await guestWithSnapshots(random);
      if (random.oneIn(2)) {
        await guest.disk.close(); // else the layers are those that were written here
        guest.disk = await reopen();
      }
      files.hook = late(random);
      const left = [...NAMES];
      while (left.length > 0) {
        const [name] = left.splice(random.below(left.length), 1) as [string];
        const before = guest.requests;
        await guest.meanwhile(guest.delete(name));
        expect(guest.requests).toBeGreaterThan(before);
        expect(guest.disk.layers).toHaveLength(left.length + 1);
        await guest.verify();
      }
      await guest.snapshot('later'); // the disk is one as every other
      await guest.verify();
      await guest.disk.close();
      guest.disk = await reopen();
      await guest.verify();
      await guest.disk.close();
      expect((await files.list('place:')).sort()).toEqual(['disk.vvd', 'disk@later.vvd']);
      await expectSound(files);
    },
  );
});

describe('refused, with nothing touched', () => {
  async function untouched(work: () => Promise<unknown>): Promise<unknown> {
    const all = async (): Promise<string[]> => {
      const found: string[] = [];
      for (const name of await files.list('place:'))
        found.push(
          `${name} ${createHash('sha256')
            .update(await files.bytes(`place:${name}`))
            .digest('hex')}`,
        );
      return found;
    };
    const before = await all();
    const failure = await work().then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(await all()).toEqual(before);
    return failure;
  }

  it('while others read the snapshot, or the one above it', async () => {
    const guest = await guestWithSnapshots(new SeededRandom(1));
    for (const name of ['two', 'three']) {
      const reader = await DiskImage.open(`place:disk@${name}.vvd`, { formats, backing: false });
      expect(await untouched(() => guest.delete('two'))).toMatchObject({
        code: 'LOCKED',
        message: expect.stringContaining(`'disk@${name}.vvd' is read by others`),
        hint: expect.stringContaining('end what reads it'),
      });
      await reader.close();
    }
    await guest.delete('two');
    await guest.verify();
    await guest.disk.close();
  });

  it('while a clone stands on it; one on the snapshot above goes on reading what it read', async () => {
    const guest = await guestWithSnapshots(new SeededRandom(2));
    await linkedClone(DISK, 'place:clone.vvd', { formats, snapshot: 'two' });
    expect(await untouched(() => guest.delete('two'))).toMatchObject({ code: 'LOCKED' });
    await guest.delete('one');
    expect((await content('place:clone.vvd')).equals(guest.snapshots.get('two') as Buffer)).toBe(true);
    await guest.verify();
    await guest.disk.close();
    await expectSound(files);
  });

  it('when another snapshot stands on it, and the disk went back before both', async () => {
    const guest = await guestWithSnapshots(new SeededRandom(3));
    await guest.disk.close();
    await vvdLifecycle.revertSnapshot(DISK, 'one');
    guest.disk = await reopen();
    expect(await untouched(() => guest.delete('two'))).toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('and the disk does not'),
    });
    await guest.disk.close();
  });
});
