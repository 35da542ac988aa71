/** Writes that wait for space. */
import { describe, expect, it } from 'vitest';
import { VimgError } from '../../src/base/errors.ts';
import type { MaybePromise } from '../../src/base/maybe-promise.ts';
import type { DiskFile } from '../../src/device/file-system.ts';
import { fileExists, openFile, waitWhenFull } from '../../src/device/files.ts';
import { ForwardingDevice } from '../../src/device/forwarding-device.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { mountFiles } from '../../src/device/mounts.ts';
import { PatientFile } from '../../src/device/patient-file.ts';
import { ManualClock } from '../../src/testing/manual-clock.ts';
import { MemoryFiles } from '../../src/testing/memory-files.ts';

/** Full until it is told not to be; fails in the same tick, or in a promise. */
class FullFile extends ForwardingDevice implements DiskFile {
  readonly locked = false;
  full = true;
  later = false;
  attempts = 0;

  constructor() {
    super(MemoryDevice.create(1024));
  }

  changeLock(): Promise<void> {
    return Promise.resolve();
  }

  override pwrite(buffer: Uint8Array, offset: number): MaybePromise<void> {
    this.attempts++;
    const error = new VimgError('NO_SPACE', 'full');
    if (this.full && this.later) return Promise.reject(error);
    if (this.full) throw error;
    return super.pwrite(buffer, offset);
  }
}

const DATA = Buffer.from('data');

describe('a patient file', () => {
  it.each([false, true])('tries again until there is space (in a promise: %s)', async (later) => {
    const clock = new ManualClock();
    const file = new FullFile();
    file.later = later;
    const told: boolean[] = [];
    const patient = new PatientFile(file, {
      signal: new AbortController().signal,
      onWait: (_path, waiting) => told.push(waiting),
      clock,
    });
    const writing = Promise.all([patient.pwrite(DATA, 0), patient.pwrite(DATA, 8)]);
    await clock.advance(2000);
    expect(file.attempts).toBeGreaterThan(4);
    expect(told).toEqual([true]);
    const zero = Buffer.alloc(4);
    await patient.pread(zero, 0);
    expect(zero).toEqual(Buffer.alloc(4));
    file.full = false;
    await clock.advance(1000);
    await writing;
    expect(told).toEqual([true, false]);
    const read = Buffer.alloc(4);
    await patient.pread(read, 8);
    expect(read).toEqual(DATA);
    expect(patient.pwrite(DATA, 16)).toBeUndefined(); // in the same tick again
  });

  it('gives up when it is told to, and when it is closed', async () => {
    const aborter = new AbortController();
    const patient = new PatientFile(new FullFile(), { signal: aborter.signal, clock: new ManualClock() });
    const writing = patient.pwrite(DATA, 0);
    aborter.abort();
    await expect(writing).rejects.toMatchObject({ code: 'NO_SPACE' });
    const clock = new ManualClock();
    const closed = new PatientFile(new FullFile(), { signal: new AbortController().signal, clock });
    const waiting = expect(closed.pwrite(DATA, 0)).rejects.toMatchObject({ code: 'NO_SPACE' });
    await closed.close();
    await clock.advance(1000);
    await waiting;
  });

  it('passes every other failure on', async () => {
    const file = new FullFile();
    const patient = new PatientFile(file, { signal: new AbortController().signal, clock: new ManualClock() });
    file.full = false;
    expect(() => patient.pwrite(DATA, 5000)).not.toThrow();
    await expect((async () => patient.pread(DATA, 1e9))()).rejects.toMatchObject({ code: 'OUT_OF_BOUNDS' });
  });

  it('is what a process opens that waits for space', async () => {
    const unmount = mountFiles('ds1', new MemoryFiles());
    waitWhenFull({ signal: new AbortController().signal });
    try {
      const file = await openFile('ds1:x', { create: 'exclusive' });
      expect(file).toBeInstanceOf(PatientFile);
      await file.close();
      const reader = await openFile('ds1:x', { readOnly: true });
      expect(reader).not.toBeInstanceOf(PatientFile);
      await reader.close();
      expect(await fileExists('ds1:x')).toBe(true);
    } finally {
      waitWhenFull(undefined);
      unmount();
    }
  });
});
