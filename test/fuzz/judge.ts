/**
 * The judge of a hostile image: everything that a user can do with it ends in data or in a `VimgError`, within 2 s of
 * CPU time and 1 GiB of memory. The image is in memory and its gate is closed: no file can be touched.
 */
import { checkVvd } from '../../formats/vvd/check.ts';
import { vvdDriver } from '../../formats/vvd/driver.ts';
import { openVvd } from '../../formats/vvd/open.ts';
import { type ErrorCode, VimgError } from '../../src/base/errors.ts';
import type { MaybePromise } from '../../src/base/maybe-promise.ts';
import { SeededRandom } from '../../src/base/random.ts';
import type { MemoryDevice } from '../../src/device/memory-device.ts';
import { DiskImage } from '../../src/image/disk-image.ts';
import { closedGate } from '../../src/image/gate-policies.ts';
import { mapDisk } from '../../src/job/disk-map.ts';
import { countResources } from './resources.ts';

/** How bad input is refused; everything else would be a fault of ours. */
const BAD_INPUT: readonly ErrorCode[] = ['INVALID_FORMAT', 'CORRUPT', 'UNSUPPORTED', 'LIMIT', 'READ_ONLY'];

const KiB = 1024;
const MiB = 1024 * KiB;
const READ_MAX = 64 * MiB;
const UNIT = 64 * KiB;
const noise = new SeededRandom(99).fill(new Uint8Array(200 * KiB));
const chunk = new Uint8Array(MiB);

/** What went wrong with an image, or undefined. */
export async function verdict(image: MemoryDevice): Promise<string | undefined> {
  const tooMuch = countResources();
  const problems: string[] = [];
  const attempt = async (what: string, work: () => MaybePromise<unknown>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      if (error instanceof VimgError && BAD_INPUT.includes(error.code) && !isBug(error.cause)) return;
      problems.push(`${what}: ${error instanceof Error ? error.stack : String(error)}`);
    }
  };
  await attempt('info', () => describe(image.fork()));
  await attempt('inspect', () => inspect(image.fork()));
  await attempt('check', () => checkVvd(image.fork(), { scrub: true }));
  await attempt('reading', () => readEverything(image.fork(), attempt));
  for (const allowSealed of [false, true]) {
    const written = image.fork();
    await attempt('writing', () => writeHereAndThere(written, allowSealed, attempt));
    await attempt('check after writing', () => checkVvd(written));
    if (!allowSealed && !(await sealed(image))) break;
  }
  problems.push(...tooMuch());
  return problems.length === 0 ? undefined : problems.join('\n');
}

/** A failed assertion that was taken for a failure of the device is still a failed assertion. */
function isBug(cause: unknown): boolean {
  if (cause instanceof VimgError) return isBug(cause.cause);
  return cause instanceof Error && !('errno' in cause) && cause.constructor !== Error;
}

type Attempt = (what: string, work: () => MaybePromise<unknown>) => Promise<void>;

async function sealed(image: MemoryDevice): Promise<boolean> {
  try {
    await openVvd(image.fork(), { readOnly: false, gate: closedGate });
    return false;
  } catch (error) {
    return error instanceof VimgError && error.code === 'READ_ONLY';
  }
}

async function describe(image: MemoryDevice): Promise<void> {
  const layer = await openVvd(image, { readOnly: true, gate: closedGate, infoOnly: true });
  layer.info();
  await layer.close();
}

async function inspect(image: MemoryDevice): Promise<void> {
  const structures = vvdDriver.inspect?.(image) ?? [];
  for await (const structure of structures) JSON.stringify(structure);
}

async function readEverything(image: MemoryDevice, attempt: Attempt): Promise<void> {
  const disk = new DiskImage('memory', [await openVvd(image, { readOnly: true, gate: closedGate })]);
  await attempt('map', async () => {
    for await (const extent of mapDisk(disk)) if (extent.offset > 2 ** 50) return;
  });
  const end = Math.min(disk.size, READ_MAX);
  for (let at = 0; at < end; at += chunk.length) {
    await attempt(`read at ${at}`, () => disk.pread(chunk.subarray(0, Math.min(chunk.length, end - at)), at));
  }
  const last = Math.min(disk.size, UNIT);
  await attempt('read of the end', () => disk.pread(chunk.subarray(0, last), disk.size - last));
  await attempt('close', () => disk.close());
}

async function writeHereAndThere(image: MemoryDevice, allowSealed: boolean, attempt: Attempt): Promise<void> {
  const layer = await openVvd(image, { readOnly: false, gate: closedGate, allowSealed });
  const disk = new DiskImage('memory', [layer]);
  const { size } = disk;
  const at = (fraction: number, length: number): number =>
    Math.max(0, Math.min(Math.floor(size * fraction), size - length));
  const write = (where: number, length: number): Promise<void> =>
    attempt('write', () =>
      disk.pwrite(noise.subarray(0, Math.max(0, Math.min(length, disk.size - where))), where),
    );
  if (size === 0) return disk.close();
  await write(0, 10_000);
  await write(at(0.3, noise.length) + 100, noise.length - 200);
  await attempt('write zeroes', () => disk.writeZeroes(at(0.5, MiB), Math.min(size, MiB)));
  await attempt('reserve', () =>
    disk.writeZeroes(at(0.6, UNIT), Math.min(size, UNIT), { keepAllocated: true }),
  );
  await attempt('discard', () => disk.discard(at(0.1, MiB), Math.min(size, MiB)));
  await attempt('flush', () => disk.flush());
  const unit = Math.floor(at(0.8, UNIT) / layer.unit) * layer.unit;
  await attempt('write compressed', () =>
    disk.writeCompressed(unit, new Uint8Array(Math.min(layer.unit, Math.max(0, size - unit)))),
  );
  for (const step of [0, 0.05, 0.2, 0.45, 0.7, 0.9]) await write(at(step, 40_000), 40_000);
  await attempt('flush', () => disk.flush());
  await write(at(1, 5000), 5000);
  await attempt('grow', () => disk.resize(size + 20 * MiB));
  await attempt('write of the new end', () => disk.pwrite(noise.subarray(0, 5000), disk.size - 5000));
  await attempt('shrink', () => disk.resize(Math.floor(size / 2 / 512) * 512));
  await attempt('read', () => disk.pread(chunk.subarray(0, Math.min(chunk.length, disk.size)), 0));
  await attempt('close', () => disk.close());
}
