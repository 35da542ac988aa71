/**
 * Whole transfers at a position: short reads and writes are continued until the buffer is done or the file ends.
 *
 * The synchronous functions answer in the same tick (1 to 4 µs when the page is cached); the others use Node's
 * thread pool through callbacks, which costs a quarter of what `FileHandle` does.
 */
import { read, readSync, write, writeSync } from 'node:fs';

/** Linux transfers at most 0x7ffff000 bytes in one call (read(2), "Notes"). */
const MAX_TRANSFER = 1 << 30;

/** Reads until the buffer is full or the file ends. Returns the bytes read. */
export function readAt(fd: number, buffer: Uint8Array, position: number): number {
  let done = 0;
  while (done < buffer.length) {
    const count = readSync(fd, buffer, done, Math.min(buffer.length - done, MAX_TRANSFER), position + done);
    if (count === 0) break;
    done += count;
  }
  return done;
}

/** Writes the whole buffer. */
export function writeAt(fd: number, buffer: Uint8Array, position: number): void {
  let done = 0;
  while (done < buffer.length) {
    done += writeSync(fd, buffer, done, Math.min(buffer.length - done, MAX_TRANSFER), position + done);
  }
}

/** {@link readAt} in the thread pool, from byte `done` of the buffer on. Resolves to the bytes now in the buffer. */
export function readAtAsync(fd: number, buffer: Uint8Array, position: number, done = 0): Promise<number> {
  return new Promise((resolve, reject) => {
    const step = (): void => {
      const length = Math.min(buffer.length - done, MAX_TRANSFER);
      read(fd, buffer, done, length, position + done, (error, count) => {
        if (error) return reject(error);
        done += count;
        if (count === 0 || done === buffer.length) return resolve(done);
        step();
      });
    };
    step();
  });
}

/** {@link writeAt} in the thread pool. */
export function writeAtAsync(fd: number, buffer: Uint8Array, position: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let done = 0;
    const step = (): void => {
      const length = Math.min(buffer.length - done, MAX_TRANSFER);
      write(fd, buffer, done, length, position + done, (error, count) => {
        if (error) return reject(error);
        done += count;
        if (done === buffer.length) return resolve();
        step();
      });
    };
    step();
  });
}
