/**
 * Eight processes on one volume, killed at random: no cluster is lost or given away twice, and what was flushed is there.
 *
 * VIMG_KILL_SECONDS sets for how long (default 30), VIMG_KILL_SEED which.
 */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type DirectoryResult, dir } from 'tmp-promise';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SeededRandom } from '../../src/base/random.ts';
import { fileStatus, listFolder, makeFolder, openFile } from '../../src/device/files.ts';
import { checkImage, createImage, listSnapshots, openImage } from '../../src/index.ts';
import { findDatastore } from '../../src/storage/datastore.ts';
import { MountedDatastores } from '../../src/storage/mounted-datastores.ts';
import { vimsDriver } from '../../src/storage/vims-driver.ts';
import { checkVolume } from '../../src/storage/volume-check.ts';
import { createVolumeDatastore } from '../../src/storage/volume-datastore.ts';
import { makeLunFile } from '../../src/storage/volume-devices.ts';
import { readLog, SLOT, SLOTS, startWorker, type Worker } from './volume-worker.ts';

const MiB = 1024 * 1024;
const PROCESSES = 8;
const seconds = Number(process.env['VIMG_KILL_SECONDS'] ?? 30);
const seed = Number(process.env['VIMG_KILL_SEED'] ?? 1);
const access = { driver: vimsDriver };

let folder: DirectoryResult;
let config: string;
const workers: Worker[] = [];

beforeEach(async () => {
  folder = await dir({ unsafeCleanup: true, prefix: 'vimg-eight-' });
  config = join(folder.path, 'config');
});
afterEach(async () => {
  for (const { child } of workers) child.kill('SIGKILL');
  await folder.cleanup();
});

async function withVolume<T>(work: () => Promise<T>): Promise<T> {
  const mounted = await MountedDatastores.mount({ VIMG_CONFIG: config }, access);
  try {
    return await work();
  } finally {
    await mounted.close();
  }
}

async function kill({ child }: Worker): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((done) => child.once('exit', done));
  child.kill('SIGKILL');
  await ended;
}

describe('eight processes on one volume', () => {
  it(`are killed at random for ${seconds} s, and nothing is lost (seed ${seed})`, async () => {
    const built = join(resolve(import.meta.dirname, '../..'), 'dist/src/index.js');
    expect(existsSync(built), 'npm run build comes first').toBe(true);
    const lun = join(folder.path, 'lun');
    await makeLunFile(lun, 1024 * MiB);
    await createVolumeDatastore('ds1', [lun], access, { VIMG_CONFIG: config }, false);
    await withVolume(async () => {
      await makeFolder('ds1:shared');
      for (let i = 0; i < PROCESSES; i++) {
        await makeFolder(`ds1:w${i}`);
        await createImage(`ds1:w${i}/disk.vvd`, { format: 'vvd', size: SLOT * SLOTS });
      }
    });
    const kills = await killAtRandom();
    await judge(kills);
  }, 600_000);
});

async function killAtRandom(): Promise<number> {
  const random = new SeededRandom(seed);
  let lives = seed * 1000;
  const start = (i: number): Worker => startWorker(`w${i}`, join(folder.path, `w${i}.log`), ++lives, config);
  for (let i = 0; i < PROCESSES; i++) workers.push(start(i));
  const end = performance.now() + seconds * 1000;
  let kills = 0;
  while (performance.now() < end) {
    await delay(200 + random.below(1200));
    const i = random.below(PROCESSES);
    await kill(workers[i] as Worker);
    kills++;
    workers[i] = start(i);
  }
  await Promise.all(workers.map(kill));
  return kills;
}

async function judge(kills: number): Promise<void> {
  const entry = await findDatastore('ds1', { VIMG_CONFIG: config });
  const { findings } = await checkVolume(entry, access, { signal: new AbortController().signal });
  expect(findings.filter(({ message }) => !message.includes('without a name'))).toEqual([]);
  let writes = 0;
  await withVolume(async () => {
    for (const { name, log } of workers) {
      const said = readLog(log);
      expect(said.wrong, name).toEqual([]);
      writes += said.writes;
      await judgeDisk(`ds1:${name}`, said);
    }
    for (const name of await listFolder('ds1:shared'))
      await openFile(`ds1:shared/${name}`).then((file) => file.close());
  });
  const after = await checkVolume(entry, access, { signal: new AbortController().signal });
  expect(after.findings).toEqual([]);
  process.stdout.write(`eight processes: ${writes} flushed writes, ${kills} kills\n`);
  expect(writes).toBeGreaterThan(0);
}

async function judgeDisk(
  home: string,
  { slots, snapshots, note }: ReturnType<typeof readLog>,
): Promise<void> {
  const disk = `${home}/disk.vvd`;
  {
    await using opened = await openImage(disk, { readOnly: false }); // settles what was interrupted
    const bytes = new Uint8Array(SLOT * SLOTS);
    await opened.pread(bytes, 0);
    const words = new Uint32Array(bytes.buffer);
    for (let at = 0; at < words.length; at++) {
      const slot = slots.get(Math.floor(at / (SLOT / 4))) ?? { certain: 0, possible: [] };
      if (words[at] === slot.certain || slot.possible.includes(words[at] as number)) continue;
      throw new Error(`${disk}: word at ${at * 4} is ${words[at]}, not ${slot.certain} or ${slot.possible}`);
    }
  }
  const names = (await listSnapshots(disk)).map(({ name }) => name);
  for (const name of snapshots) expect(names, disk).toContain(name);
  expect((await checkImage(disk)).findings.filter(({ severity }) => severity === 'corruption')).toEqual([]);
  if (note > 0) expect(await fileStatus(`${home}/note`)).toMatchObject({ kind: 'file' });
}
