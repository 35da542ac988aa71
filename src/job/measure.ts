/** Measure: how large the file of a new image will be, before it is made. */
import { VimgError } from '../base/errors.ts';
import { parseSize, roundDown, roundUp } from '../base/size.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { DiskImage } from '../image/disk-image.ts';
import type { FormatDriver, OptionValues } from '../image/format-driver.ts';
import { RangeWalker } from './device-ranges.ts';
import { type JobOptions, throwIfCancelled } from './job.ts';

export interface Measurement {
  /** Bytes of a file that holds what the source holds now. */
  readonly required: number;
  /** Bytes of a file that holds a disk written full. */
  readonly fullyAllocated: number;
  /** Bytes that the bitmaps of the source would take in it; undefined when the source or the image has none by its kind. */
  readonly bitmaps?: number;
}

const SECTOR = 512;

/**
 * Measures the image that converting `source` (or creating an empty disk of so many bytes) would make.
 *
 * @throws VimgError `UNSUPPORTED` when the format cannot tell
 */
export async function measureImage(
  source: BlockDevice | number,
  driver: FormatDriver,
  values: OptionValues,
  options: JobOptions = {},
): Promise<Measurement> {
  if (!driver.measure) {
    throw new VimgError('UNSUPPORTED', `Block driver '${driver.name}' does not support size measurement`);
  }
  if (typeof source === 'number') return driver.measure(roundUp(source, SECTOR), 0, values);
  const unit = unitOf(driver, values);
  const measured = driver.measure(source.size, await dataInUnits(source, unit, options), values);
  const bitmaps = await bitmapBytes(source, driver, values, unit);
  return bitmaps === undefined ? measured : { ...measured, bitmaps };
}

/** What is told of a qcow2's bitmaps under `format-specific`. */
interface ShownBitmap {
  readonly name: string;
  readonly granularity: number;
}

const BITMAP_DIRECTORY_ENTRY = 24;
const BITMAP_TABLE_ENTRY = 8;

/** qcow2 keeps bitmaps from version 3 on: a bit a granule, a table for each, an entry of the directory for each. */
async function bitmapBytes(
  source: BlockDevice,
  driver: FormatDriver,
  values: OptionValues,
  clusterSize: number,
): Promise<number | undefined> {
  if (driver.name !== 'qcow2' || !(source instanceof DiskImage) || source.format !== 'qcow2')
    return undefined;
  const { specific } = await source.top.info();
  const keepsBitmaps =
    specific?.['compat'] === '1.1' && !['0.10', 'v2'].includes(String(values['compat'] ?? ''));
  if (!keepsBitmaps) return undefined;
  let bytes = 0;
  let directory = 0;
  for (const { name, granularity } of (specific['bitmaps'] ?? []) as readonly ShownBitmap[]) {
    const clusters = Math.ceil(Math.ceil(Math.ceil(source.size / granularity) / 8) / clusterSize);
    bytes += clusters * clusterSize + roundUp(clusters * BITMAP_TABLE_ENTRY, clusterSize);
    directory += roundUp(BITMAP_DIRECTORY_ENTRY + Buffer.byteLength(name), 8);
  }
  return bytes + roundUp(directory, clusterSize);
}

/** The allocation unit that the image would have: data is counted in whole units. */
function unitOf(driver: FormatDriver, values: OptionValues): number {
  for (const name of ['cluster_size', 'block_size']) {
    const given = values[name];
    if (typeof given === 'number') return given;
    const preset = driver.createOptions.find((option) => option.name === name)?.default;
    if (preset !== undefined) return parseSize(preset);
  }
  return 65536;
}

async function dataInUnits(device: BlockDevice, unit: number, options: JobOptions): Promise<number> {
  const walker = new RangeWalker(device, 0, device.size);
  let bytes = 0;
  let counted = 0;
  for (let range = await walker.next(); range !== undefined; range = await walker.next()) {
    throwIfCancelled(options.signal);
    if (range.zero) continue;
    const start = Math.max(counted, roundDown(range.offset, unit));
    const end = roundUp(range.offset + range.length, unit);
    bytes += Math.max(0, end - start);
    counted = Math.max(counted, end);
  }
  return bytes;
}
