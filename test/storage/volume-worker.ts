/**
 * A process that works on a volume as users do, until it is killed: it writes to its disk and flushes, takes and deletes
 * snapshots, copies, renames and removes files. What it says it did, it says after it is durable.
 *
 * Each write fills one slot with its number, so every word that is read tells which write it is from. The lines that a
 * worker writes: `try SLOT N` before a write, `done SLOT N` once it was flushed; `snap NAME` and `gone NAME`.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { appendFileSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const DIST = pathToFileURL(join(resolve(import.meta.dirname, '../..'), 'dist/src')).href;

export const SLOT = 20_000;
export const SLOTS = 100;

const WORK = `
  const [dist, name, log, seed, slotSize, slots] = process.argv.slice(1);
  const library = await import(dist + '/index.js');
  const files = await import(dist + '/device/files.js');
  const { copyFile } = await import(dist + '/job/copy-file.js');
  const { formats } = await import(dist.replace(/src$/, 'formats') + '/index.js');
  const { SeededRandom } = await import(dist + '/base/random.js');
  const { appendFileSync } = await import('node:fs');
  const say = (line) => appendFileSync(log, line + '\\n');
  const random = new SeededRandom(Number(seed));
  await library.mountDatastores();
  const folder = 'ds1:' + name;
  const disk = folder + '/disk.vvd';
  let number = Number(seed) * 100000;
  const refused = new Set(['LOCKED', 'IO', 'NOT_FOUND', 'EXISTS', 'NO_SPACE', 'CANCELLED', 'STALE_PARENT']);
  const attempt = async (work) => {
    try { await work(); } catch (error) {
      if (!refused.has(error.code)) { say('wrong ' + error.code + ' ' + error.message); throw error; }
      await new Promise((done) => setTimeout(done, 20));
    }
  };
  const write = async () => {
    const opened = await library.openImage(disk, { readOnly: false });
    try {
      for (let round = 0; round < 6; round++) {
        const written = [];
        for (let i = 0; i < 3; i++) {
          const slot = random.below(Number(slots));
          number++;
          say('try ' + slot + ' ' + number);
          written.push([slot, number]);
          await opened.pwrite(new Uint8Array(new Uint32Array(slotSize / 4).fill(number).buffer), slot * slotSize);
        }
        await opened.flush();
        for (const [slot, n] of written) say('done ' + slot + ' ' + n);
      }
    } finally { await opened.close().catch(() => undefined); }
  };
  const snapshot = async () => {
    const there = await library.listSnapshots(disk);
    if (there.length > 2) {
      const oldest = there[0].name;
      say('going ' + oldest);
      await library.deleteSnapshot(disk, oldest);
      say('gone ' + oldest);
    } else {
      const made = 's' + ++number;
      await library.createSnapshot([disk], made);
      say('snap ' + made);
    }
  };
  const copy = async () => {
    const to = 'ds1:shared/' + name + '-' + ++number;
    await copyFile(disk, to, { formats });
    await files.renameFile(to, to + '.copy');
    await files.syncFolder('ds1:shared');
    await library.compareImages(disk, to + '.copy', { sourceFormat: 'vvd', targetFormat: 'vvd' }).catch((error) => {
      if (!refused.has(error.code)) throw error;
    });
    await files.removeFile(to + '.copy');
  };
  const replace = async () => {
    const text = 'note ' + ++number;
    await files.replaceFile(folder + '/note', text);
    say('note ' + number);
  };
  for (;;) await attempt(random.pick([write, write, write, snapshot, copy, replace]));
`;

export interface Worker {
  readonly name: string;
  readonly log: string;
  child: ChildProcess;
}

/** Starts a worker, or the next life of one: it goes on with its disk. */
export function startWorker(name: string, log: string, seed: number, config: string): Worker {
  appendFileSync(log, '');
  const args = [DIST, name, log, seed, SLOT, SLOTS].map(String);
  const child = spawn(process.execPath, ['--input-type=module', '-e', WORK, ...args], {
    env: { ...process.env, VIMG_CONFIG: config },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return { name, log, child };
}

/** What a worker said, over all its lives. */
export interface Said {
  /** For each slot the last number that was durable for certain, and those that may have come since. */
  readonly slots: ReadonlyMap<number, { certain: number; possible: number[] }>;
  readonly snapshots: ReadonlySet<string>;
  readonly note: number;
  readonly wrong: readonly string[];
  readonly writes: number;
}

export function readLog(log: string): Said {
  const slots = new Map<number, { certain: number; possible: number[] }>();
  const snapshots = new Set<string>();
  const wrong: string[] = [];
  let note = 0;
  let writes = 0;
  for (const line of readFileSync(log, 'utf8').split('\n')) {
    const [word, first = '', second = ''] = line.split(' ');
    const slot = slots.get(Number(first)) ?? { certain: 0, possible: [] };
    if (word === 'try') slots.set(Number(first), { ...slot, possible: [...slot.possible, Number(second)] });
    if (word === 'done') {
      const certain = Number(second);
      slots.set(Number(first), { certain, possible: slot.possible.filter((n) => n > certain) });
      writes++;
    }
    if (word === 'snap') snapshots.add(first);
    if (word === 'going') snapshots.delete(first);
    if (word === 'note') note = Number(first);
    if (word === 'wrong') wrong.push(line);
  }
  return { slots, snapshots, note, wrong, writes };
}
