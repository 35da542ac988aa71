/**
 * Fixtures with random bytes changed: whatever is done with them gives data or a VimgError, and ends.
 *
 * `QCOW2_MUTATION_SEED` and `QCOW2_MUTATION_ROUNDS` in the environment repeat a failure or look further.
 */
import { expect, test } from 'vitest';
import { FIXTURES, fixtureBytes } from '../../../fixtures/unpack.ts';
import { qcow2Driver } from '../../../formats/qcow2/driver.ts';
import { isVimgError } from '../../../src/base/errors.ts';
import { SeededRandom } from '../../../src/base/random.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { type Layer, Location } from '../../../src/image/layer.ts';
import { countResources } from '../../fuzz/resources.ts';
import { noGate, readLayer } from './layer-reader.ts';

const SEED = Number(process.env['QCOW2_MUTATION_SEED'] ?? 20_260_730);
const ROUNDS = Number(process.env['QCOW2_MUTATION_ROUNDS'] ?? 24);
const READ_BYTES_MAX = 8 * 1024 * 1024;

const IMAGES = FIXTURES.filter((fixture) => fixture.format === 'qcow2' && fixture.bytes < 700_000);

test.each(IMAGES.map((fixture, index) => [fixture.name, SEED + index] as const))(
  '%s changed, seed %i',
  async (name, seed) => {
    const random = new SeededRandom(seed);
    const whole = fixtureBytes(name);
    let survived = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const bytes = mutate(whole, random);
      const tooMuch = countResources();
      try {
        await useImage(bytes);
        survived++;
      } catch (error) {
        if (!isVimgError(error)) throw new TypeError(`seed ${seed}, round ${round}`, { cause: error });
      }
      expect(tooMuch(), `seed ${seed}, round ${round}`).toEqual([]);
    }
    expect(survived).toBeLessThan(ROUNDS);
  },
  60_000,
);

/** One to eight bytes changed, most of them in metadata: the header, its tables, and the first tables of the file. */
function mutate(whole: Uint8Array, random: SeededRandom): Uint8Array {
  const bytes = Uint8Array.from(whole);
  const view = new DataView(bytes.buffer);
  const starts = [0, 0, ...[40, 48, 64].map((field) => Number(view.getBigUint64(field)))];
  for (let i = 1 + random.below(8); i > 0; i--) {
    const near = random.pick(starts);
    const range = near === 0 ? 128 : random.pick([16, 64, 8192, 32768]);
    const at = random.oneIn(5)
      ? random.below(bytes.length)
      : Math.min(near + random.below(range), bytes.length - 1);
    bytes[at] = random.pick([
      0,
      0xff,
      1,
      0x80,
      random.below(256),
      (bytes[at] as number) ^ (1 << random.below(8)),
    ]);
  }
  return random.oneIn(10) ? bytes.subarray(0, random.below(bytes.length)) : bytes;
}

/** Everything that vimg does with an image; each part is tried, whatever the others say. */
async function useImage(bytes: Uint8Array): Promise<void> {
  const file = MemoryDevice.from(bytes);
  const dataFile = MemoryDevice.create(200_000);
  const gate = (): Promise<MemoryDevice> => Promise.resolve(dataFile);
  const failures: unknown[] = [];
  const attempt = async (work: () => Promise<void>): Promise<void> => {
    await work().catch((error: unknown) => failures.push(error));
  };
  await attempt(async () => {
    await qcow2Driver.check?.(file, {});
  });
  await attempt(async () => {
    for await (const structure of qcow2Driver.inspect?.(file) ?? []) expect(structure.name).not.toBe('');
  });
  await attempt(async () => {
    const info = await qcow2Driver.open(file, { readOnly: true, gate: noGate, infoOnly: true });
    for (const { id } of (await info.info()).snapshots ?? []) {
      await attempt(async () =>
        readAll(await qcow2Driver.open(file, { readOnly: true, gate, snapshot: id })),
      );
    }
  });
  await attempt(async () => readAll(await qcow2Driver.open(file, { readOnly: true, gate })));
  const bug = failures.find((error) => !isVimgError(error));
  if (bug !== undefined || failures.length > 0) throw bug ?? failures[0];
}

/** Reads the disk in pieces, each on its own; of a huge one only some places. */
async function readAll(layer: Layer): Promise<void> {
  const { virtualSize } = layer;
  const step = virtualSize <= READ_BYTES_MAX ? 65536 : Math.ceil(virtualSize / 64);
  const failures: unknown[] = [];
  for (let at = 0; at < virtualSize; at += step) {
    const length = Math.min(65536, virtualSize - at);
    await readLayer(layer, new Uint8Array(length), at).catch((error: unknown) => failures.push(error));
    await checkAnswer(layer, at).catch((error: unknown) => failures.push(error));
  }
  const bug = failures.find((error) => !isVimgError(error));
  if (bug !== undefined || failures.length > 0) throw bug ?? failures[0];
}

/** An answer never reaches out of the question, and DATA never out of its file. */
async function checkAnswer(layer: Layer, at: number): Promise<void> {
  const asked = layer.virtualSize - at;
  const location = new Location();
  await layer.locate(at, asked, location);
  expect(location.length).toBeGreaterThan(0);
  expect(location.length).toBeLessThanOrEqual(asked);
  if (location.kind === 2) {
    expect(location.deviceOffset + location.length).toBeLessThanOrEqual(location.device?.size ?? 0);
  }
}
