/**
 * The rules of format-driver.ts as tests: what every format keeps, whatever else it can. Each rule is asked of a driver
 * as far as the driver says that it can.
 */
import { deepStrictEqual, ok, strictEqual } from 'node:assert/strict';
import { isVimgError } from '../base/errors.ts';
import { SeededRandom } from '../base/random.ts';
import { MemoryDevice } from '../device/memory-device.ts';
import { DiskImage } from '../image/disk-image.ts';
import type { CreateLayerOptions, FormatDriver, OptionValues } from '../image/format-driver.ts';
import { closedGate } from '../image/gate-policies.ts';
import { sameBytes } from './device-model.ts';
import type { TestApi } from './test-api.ts';

const KiB = 1024;
const MiB = KiB * KiB;
const SIZE = 3 * MiB + 1536;
/** What is written: across units of every size, at the start, and up to the end. */
const RANGES: readonly (readonly [number, number])[] = [
  [0, 700],
  [64 * KiB - 3, 9],
  [MiB - 5000, 140_000],
  [SIZE - 513, 513],
];

/** Defines the suite. @param options `create -o` options to make images with */
export function driverConformance(api: TestApi, driver: FormatDriver, options: OptionValues = {}): void {
  const { can } = driver;
  api.describe(`${driver.name} keeps the rules of a format driver`, () => {
    if (can.create) {
      api.it('knows its own images, and takes no others for certain', () => probes(driver, options));
      api.it('creates a disk of the size asked for, which reads as zeroes', () =>
        createsZeroes(driver, options),
      );
      api.it('opened for reading only, changes nothing', () => readsOnly(driver, options));
    }
    if (can.write) api.it('keeps what was written and flushed', () => keepsWrites(driver, options));
    if (can.write) api.it('reads zeroes where it was zeroed or discarded', () => zeroes(driver, options));
    if (can.write && can.resize)
      api.it('grows with zeroes, and forgets what was cut off', () => resizes(driver, options));
    if (driver.startWriter) api.it('writes a whole image in one go', () => writesWhole(driver, options));
    if (can.check) api.it('finds nothing wrong with what it made', () => checksSound(driver, options));
    api.it('ends in data or in an error of its own when an image is cut short', () =>
      survivesCuts(driver, options),
    );
  });
}

function creation(options: OptionValues): CreateLayerOptions {
  return { virtualSize: SIZE, options, gate: closedGate };
}

async function created(driver: FormatDriver, options: OptionValues): Promise<MemoryDevice> {
  const file = MemoryDevice.create(0, { name: 'image' });
  await driver.create?.(file, creation(options));
  return file;
}

/** An image with data in RANGES, by whichever way the driver writes. */
async function filled(driver: FormatDriver, options: OptionValues): Promise<MemoryDevice> {
  if (driver.startWriter) return written(driver, options);
  const file = await created(driver, options);
  if (!driver.can.write) return file;
  const disk = await opened(driver, file, false);
  for (const [offset, length] of RANGES)
    await disk.pwrite(content().subarray(offset, offset + length), offset);
  await disk.close();
  return file;
}

async function written(driver: FormatDriver, options: OptionValues): Promise<MemoryDevice> {
  const file = MemoryDevice.create(0, { name: 'image' });
  const writer = await driver.startWriter?.(file, creation(options));
  ok(writer);
  const { unit } = writer;
  for (let offset = 0; offset < SIZE; offset += unit) {
    const part = content().subarray(offset, Math.min(SIZE, offset + unit));
    if (part.some((byte) => byte !== 0)) await writer.write(offset, part);
  }
  await writer.finish();
  return file;
}

async function opened(driver: FormatDriver, file: MemoryDevice, readOnly = true): Promise<DiskImage> {
  return new DiskImage('image', [await driver.open(file, { readOnly, gate: closedGate })]);
}

let bytes: Uint8Array | undefined;

/** Zeroes, and noise in RANGES. */
function content(): Uint8Array {
  if (bytes) return bytes;
  bytes = new Uint8Array(SIZE);
  const random = new SeededRandom(11);
  for (const [offset, length] of RANGES) bytes.set(random.fill(new Uint8Array(length)), offset);
  return bytes;
}

async function everything(disk: DiskImage): Promise<Uint8Array> {
  const read = new Uint8Array(disk.size);
  await disk.pread(read, 0);
  return read;
}

async function probes(driver: FormatDriver, options: OptionValues): Promise<void> {
  const file = await created(driver, options);
  const head = new Uint8Array(Math.min(file.size, Math.max(driver.probeLength, 8192)));
  file.pread(head, 0);
  ok(driver.probe(head, file.size) !== 'no', 'its own image');
  const noise = new SeededRandom(5).fill(new Uint8Array(8192));
  for (const other of [noise, new Uint8Array(8192), new Uint8Array(0), head.subarray(0, 3)]) {
    ok(driver.probe(other, other.length) !== 'yes', `${other.length} bytes of something else`);
  }
}

async function createsZeroes(driver: FormatDriver, options: OptionValues): Promise<void> {
  const disk = await opened(driver, await created(driver, options));
  strictEqual(disk.size, SIZE);
  ok((await everything(disk)).every((byte) => byte === 0));
  await disk.close();
}

async function readsOnly(driver: FormatDriver, options: OptionValues): Promise<void> {
  const file = await filled(driver, options);
  const before = file.snapshot();
  const disk = await opened(driver, file);
  await everything(disk);
  await disk.top.info();
  await disk.close();
  sameBytes(file.snapshot(), before, 'the file');
}

async function keepsWrites(driver: FormatDriver, options: OptionValues): Promise<void> {
  const file = await created(driver, options);
  const disk = await opened(driver, file, false);
  for (const [offset, length] of RANGES)
    await disk.pwrite(content().subarray(offset, offset + length), offset);
  sameBytes(await everything(disk), content(), 'as it is open');
  await disk.flush();
  const other = await opened(driver, file.fork({ readOnly: true }));
  sameBytes(await everything(other), content(), 'what a power cut would leave');
  await other.close();
  await disk.close();
}

async function zeroes(driver: FormatDriver, options: OptionValues): Promise<void> {
  const file = await filled(driver, options);
  const disk = await opened(driver, file, false);
  const expected = content().slice();
  await disk.writeZeroes(100, 300);
  await disk.writeZeroes(MiB - 70_000, 150_000);
  expected.fill(0, 100, 400).fill(0, MiB - 70_000, MiB + 80_000);
  await disk.discard(2 * MiB, 512 * KiB); // nothing is there: it stays zeroes
  sameBytes(await everything(disk), expected, 'as it is open');
  await disk.close();
  const again = await opened(driver, file);
  sameBytes(await everything(again), expected, 'opened again');
  await again.close();
}

async function resizes(driver: FormatDriver, options: OptionValues): Promise<void> {
  const file = await filled(driver, options);
  const disk = await opened(driver, file, false);
  await disk.resize(MiB);
  await disk.resize(SIZE);
  const expected = content().slice().fill(0, MiB);
  sameBytes(await everything(disk), expected, 'as it is open');
  await disk.close();
  const again = await opened(driver, file);
  strictEqual(again.size, SIZE);
  sameBytes(await everything(again), expected, 'opened again');
  await again.close();
}

async function writesWhole(driver: FormatDriver, options: OptionValues): Promise<void> {
  const disk = await opened(driver, await written(driver, options));
  sameBytes(await everything(disk), content(), 'what was written');
  await disk.close();
}

async function checksSound(driver: FormatDriver, options: OptionValues): Promise<void> {
  for (const file of [await created(driver, options), await filled(driver, options)]) {
    const report = await driver.check?.(file.fork({ readOnly: true }), { scrub: true });
    deepStrictEqual(report?.findings, []);
  }
}

async function survivesCuts(driver: FormatDriver, options: OptionValues): Promise<void> {
  const whole = await filled(driver, options);
  for (const size of [0, 1, 511, 512, 4095, 4096, whole.size >> 1, whole.size - 1]) {
    const file = whole.fork();
    file.resize(size);
    try {
      const disk = await opened(driver, file);
      await everything(disk).finally(() => disk.close());
    } catch (error) {
      ok(isVimgError(error), `cut to ${size} bytes: ${error}`);
    }
  }
}
