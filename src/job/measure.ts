/** Measure: how large the file of a new image will be, before it is made. */
import { VimgError } from '../base/errors.ts';
import { parseSize, roundDown, roundUp } from '../base/size.ts';
import type { BlockDevice } from '../device/block-device.ts';
import type { FormatDriver, OptionValues } from '../image/format-driver.ts';
import { RangeWalker } from './device-ranges.ts';
import { type JobOptions, throwIfCancelled } from './job.ts';

export interface Measurement {
  /** Bytes of a file that holds what the source holds now. */
  readonly required: number;
  /** Bytes of a file that holds a disk written full. */
  readonly fullyAllocated: number;
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
  const dataBytes = await dataInUnits(source, unitOf(driver, values), options);
  return driver.measure(source.size, dataBytes, values);
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
