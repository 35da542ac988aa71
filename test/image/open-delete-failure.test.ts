/** Deleting a snapshot on which others stand, of an open disk: a device that fails in the middle of it, a crash. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { formats } from '../../formats/index.ts';
import { VimgError } from '../../src/base/errors.ts';
import { SeededRandom } from '../../src/base/random.ts';
import { mountFiles } from '../../src/device/mounts.ts';
import { DiskImage } from '../../src/image/disk-image.ts';
import type { DeletePlan } from '../../src/image/lifecycle.ts';
import { deleteOpenSnapshot } from '../../src/image/open-disks.ts';
import { deleteSnapshot } from '../../src/image/snapshot.ts';
import { CrashStates } from '../../src/testing/index.ts';
import { type FileHook, type FileOperation, HookedFiles, type RecordedFile } from './hooked-files.ts';
import { content, DISK, expectSound, type Guest, guestWithSnapshots, reopen } from './snapshot-guest.ts';

let files: HookedFiles;
let unmount: () => void;

beforeEach(() => {
  files = new HookedFiles();
  unmount = mountFiles('place', files);
});
afterEach(() => unmount());

/** Counts the operations of the layer that is written in a deletion, and lets one fail. */
class Failure {
  readonly counts: Record<FileOperation, number> = { read: 0, write: 0, zero: 0, flush: 0 };
  readonly #at: number;
  readonly #operation: FileOperation | undefined;
  readonly #error: VimgError;

  constructor(operation?: FileOperation, at = 0, code: 'IO' | 'NO_SPACE' = 'IO') {
    this.#operation = operation;
    this.#at = at;
    this.#error = new VimgError(code, 'made to fail');
  }

  readonly hook: FileHook = (file, operation) => {
    if (file.name !== 'place:disk@three.vvd' || file.readOnly) return undefined;
    if (++this.counts[operation] === this.#at && operation === this.#operation) throw this.#error;
    return undefined;
  };
}

describe('a failure in the middle of the deletion', () => {
  /** The disk of a seed, opened anew: only the merge has the layer open for writing. */
  async function prepare(seed: number): Promise<Guest> {
    const guest = await guestWithSnapshots(new SeededRandom(seed));
    await guest.disk.close();
    guest.disk = await reopen();
    return guest;
  }

  /** How often the layer is read, written, … when nothing fails. */
  async function count(seed: number): Promise<Failure['counts']> {
    const { counts, hook } = new Failure();
    const guest = await prepare(seed);
    files.hook = hook;
    await guest.delete('two');
    await guest.disk.close();
    return counts;
  }

  async function empty(): Promise<void> {
    files.hook = () => undefined;
    for (const name of await files.list('place:')) await files.remove(`place:${name}`);
  }

  /** @param mayGoOn whether the same process can do it again: it knows what is on disk */
  async function failAt(seed: number, failure: Failure, mayGoOn: boolean): Promise<void> {
    const guest = await prepare(seed);
    files.hook = failure.hook;
    const deleting = deleteOpenSnapshot(guest.disk, 'two', formats);
    await expect(guest.meanwhile(deleting)).rejects.toMatchObject({ message: 'made to fail' });
    files.hook = () => undefined;
    await guest.verify();
    await guest.snapshot('later');
    if (mayGoOn) await guest.meanwhile(guest.delete('two'));
    else await guest.delete('two').catch((error) => expect(error).toMatchObject({ code: 'UNSUPPORTED' }));
    await guest.verify();
    await guest.disk.close();
    guest.disk = await reopen();
    await guest.verify();
    await guest.disk.close();
    if (guest.snapshots.delete('two')) await deleteSnapshot(DISK, 'two', { formats });
    guest.disk = await reopen();
    await guest.verify();
    await guest.disk.close();
    await expectSound(files);
  }

  const cases = [1, 2].flatMap((seed) =>
    (['write', 'zero', 'flush'] as const).map((each) => [seed, each] as const),
  );
  it.each(cases)('harms neither guest nor snapshots (seed %i, %s)', async (seed, operation) => {
    const total = (await count(seed))[operation];
    const random = new SeededRandom(seed);
    const few = Array.from({ length: Math.min(total, 5) }, () => 1 + random.below(total));
    const every = Array.from({ length: total }, (_, index) => index + 1);
    expect(total).toBeGreaterThan(0);
    for (const at of operation === 'flush' ? every : [...few, total]) {
      await empty();
      const failure = new Failure(operation, at, random.pick(['IO', 'NO_SPACE']));
      await failAt(seed, failure, operation !== 'flush' && at < total - 2);
    }
  });

  it('reads of what is merged, too', async () => {
    const guest = await prepare(5);
    let reads = 0;
    files.hook = (file, operation) => {
      if (file.name === 'place:disk@two.vvd' && operation === 'read' && ++reads === 20)
        throw new VimgError('IO', 'made to fail');
      return undefined;
    };
    await expect(guest.delete('two')).rejects.toMatchObject({ message: 'made to fail' });
    await guest.verify();
    await guest.delete('two');
    await guest.verify();
    await guest.disk.close();
    await expectSound(files);
  });

  it('a cancellation leaves it to be done again, open or not', async () => {
    const guest = await prepare(6);
    const controller = new AbortController();
    const cancelled = deleteOpenSnapshot(guest.disk, 'two', formats, {
      signal: controller.signal,
      onProgress: (done, total) => {
        if (done > total / 2) controller.abort();
      },
    });
    await expect(guest.meanwhile(cancelled)).rejects.toMatchObject({ code: 'CANCELLED' });
    await guest.verify();
    await guest.meanwhile(guest.delete('two'));
    await guest.verify();
    await guest.disk.close();
    await expectSound(files);
  });
});

describe('a crash in the middle of the deletion', () => {
  async function deleteInCrashed(): Promise<DeletePlan> {
    await using disk = await DiskImage.open('crashed:disk.vvd', { formats, readOnly: false });
    return await deleteOpenSnapshot(disk, 'two', formats);
  }

  const EACH = 40;
  it.each([1, 2])('changes nothing that is read, and it can be done again (seed %i)', async (seed) => {
    const random = new SeededRandom(seed);
    const guest = await guestWithSnapshots(random);
    await guest.disk.close();
    guest.disk = await reopen();
    const before = new Map<string, Uint8Array>();
    for (const name of await files.list('place:')) before.set(name, await files.bytes(`place:${name}`));
    files.toRecord = 'place:disk@three.vvd';
    await guest.delete('two');
    const { start, device } = files.recorded as RecordedFile;
    const states = new CrashStates(start, device.events);
    const moments = Array.from({ length: EACH }, () => random.below(device.events.length + 1));
    let done = 0;
    for (const position of moments.sort((a, b) => a - b)) {
      const crashed = new HookedFiles();
      const unmountCrashed = mountFiles('crashed', crashed);
      try {
        for (const [name, bytes] of before)
          if (name !== 'disk@three.vvd') await crashed.put(`crashed:${name}`, bytes);
        const medium = states.at(position, random);
        const bytes = new Uint8Array(medium.size);
        medium.pread(bytes, 0);
        await crashed.put('crashed:disk@three.vvd', bytes);
        const verify = async (): Promise<void> => {
          expect((await content('crashed:disk.vvd')).equals(guest.model)).toBe(true);
          for (const [name, expected] of guest.snapshots)
            expect((await content(`crashed:disk@${name}.vvd`)).equals(expected)).toBe(true);
        };
        await verify();
        // nothing writes the layer again where the deletion happened: a torn header copy of it stays so
        const plan = await (random.oneIn(2)
          ? deleteSnapshot('crashed:disk.vvd', 'two', { formats })
          : deleteInCrashed());
        if (plan.way === 'unlink') done++;
        await verify();
        expect(await crashed.list('crashed:')).not.toContain('disk@two.vvd');
        await expectSound(crashed, 'crashed', plan.way === 'unlink' ? 'header-copy' : '');
      } finally {
        unmountCrashed();
      }
    }
    expect(done).toBeLessThan(EACH / 2);
    await guest.disk.close();
  });
});
