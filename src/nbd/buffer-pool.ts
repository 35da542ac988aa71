/**
 * Large buffers, used again. Sizes are powers of two with room for headers, so that a read of 1 MiB with its reply
 * header takes a buffer of 1 MiB and 4 KiB, not of 2 MiB. Their content is what the last user left.
 */
const UNIT = 4096;
const KEPT_BYTES_MAX = 32 * 1024 * 1024;

export class BufferPool {
  readonly #free: Buffer[][] = [];
  #keptBytes = 0;

  /** A buffer of `size` bytes or more. */
  take(size: number): Buffer {
    const sizeClass = classOf(size);
    const buffer = this.#free[sizeClass]?.pop();
    if (buffer === undefined) return Buffer.allocUnsafeSlow(capacityOf(sizeClass));
    this.#keptBytes -= buffer.length;
    return buffer;
  }

  /** Takes back a buffer of {@link take} that nobody uses any more. */
  give(buffer: Buffer): void {
    if (this.#keptBytes + buffer.length > KEPT_BYTES_MAX) return;
    this.#keptBytes += buffer.length;
    (this.#free[classOf(buffer.length)] ??= []).push(buffer);
  }
}

function classOf(size: number): number {
  const units = Math.ceil(size / UNIT) - 1;
  return units <= 1 ? 0 : 32 - Math.clz32(units - 1);
}

function capacityOf(sizeClass: number): number {
  return UNIT * (2 ** sizeClass + 1);
}
