/** Places of compressed units become other units': what was decompressed from there before is not shown for those. */
import { expect, it } from 'vitest';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { DiskImage } from '../../src/image/disk-image.ts';
import { COMPRESSED, type Layer, type LayerWriter, type Location, ZERO } from '../../src/image/layer.ts';

const UNIT = 4096;

/** Two units, one place: whichever was compressed last lives there. */
class OnePlaceLayer implements Layer, LayerWriter {
  readonly format = 'one-place';
  readonly file = MemoryDevice.create(UNIT);
  readonly virtualSize = 2 * UNIT;
  readonly readOnly = false;
  readonly unit = UNIT;
  readonly zeroUnit = UNIT;
  readonly identity = undefined;
  readonly snapshotName = undefined;
  readonly backing = undefined;
  readonly writer = this;
  beforeMapping: () => Promise<void> = () => Promise.resolve();
  #tenant = -1;
  #content = new Uint8Array(UNIT);

  locate(offset: number, length: number, into: Location): void {
    const unit = Math.floor(offset / UNIT);
    into.kind = unit === this.#tenant ? COMPRESSED : ZERO;
    into.length = Math.min(length, (unit + 1) * UNIT - offset);
    into.deviceOffset = 0;
    into.unitOffset = unit * UNIT;
    into.unitLength = UNIT;
    into.storedLength = 100;
  }

  decompress(): Promise<Uint8Array> {
    return Promise.resolve(this.#content.slice());
  }

  async writeCompressed(offset: number, unit: Uint8Array): Promise<boolean> {
    await this.beforeMapping();
    this.#tenant = offset / UNIT;
    this.#content = unit.slice();
    return true;
  }

  info = () => ({ dirty: false });
  begin(): void {}
  place(): void {}
  placed(): void {}
  abandon(): void {}
  zero(): void {}
  flush(): void {}
  async resize(): Promise<void> {}
  async close(): Promise<void> {}
}

it.each([0, UNIT])('a unit at %i is read fresh after it was compressed again', async (second) => {
  const layer = new OnePlaceLayer();
  const disk = new DiskImage('disk', [layer]);
  await disk.writeCompressed(0, new Uint8Array(UNIT).fill(1));
  const seen = new Uint8Array(UNIT);
  layer.beforeMapping = async () => disk.pread(seen, 0);
  await disk.writeCompressed(second, new Uint8Array(UNIT).fill(2));
  expect(seen[0]).toBe(1);
  await disk.pread(seen, second);
  expect(seen[0]).toBe(2);
});
