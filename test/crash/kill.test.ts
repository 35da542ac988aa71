/**
 * kill -9 of real processes: what was flushed is there, a verb happened or did not, and the next run succeeds.
 *
 * A verb is killed at a moment spread over the time that it takes when left alone. VIMG_KILL_ROUNDS sets how often each
 * is killed, VIMG_KILL_SEED where.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type DirectoryResult, dir } from 'tmp-promise';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SeededRandom } from '../../src/base/random.ts';
import { checkImage, createImage, createSnapshot, listSnapshots, openImage } from '../../src/index.ts';
import { BUILT_TOOL } from '../cli/session.ts';
import { type Acknowledged, writeUntilKilled } from './killed-writer.ts';

const MiB = 1024 * 1024;
const SIZE = 8 * MiB;
const GROWN = 12 * MiB;
const SHRUNK = 5 * MiB;
const rounds = Number(process.env['VIMG_KILL_ROUNDS'] ?? 8);
const random = new SeededRandom(Number(process.env['VIMG_KILL_SEED'] ?? 1));

let folder: DirectoryResult;
/** A disk with the snapshot `past`, and changes since. */
let made: string;
let past: Uint8Array;
let present: Uint8Array;

beforeAll(async () => {
  folder = await dir({ unsafeCleanup: true, prefix: 'vimg-kill-' });
  made = join(folder.path, 'made');
  mkdirSync(made);
  const disk = join(made, 'disk.vvd');
  await createImage(disk, { format: 'vvd', size: SIZE });
  past = new Uint8Array(SIZE);
  await scribble(disk, past);
  await createSnapshot([disk], 'past');
  present = past.slice();
  await scribble(disk, present);
});
afterAll(() => folder.cleanup());

async function scribble(path: string, model: Uint8Array): Promise<void> {
  await using disk = await openImage(path, { readOnly: false });
  for (let i = 0; i < 30; i++) {
    const data = random.fill(new Uint8Array(1 + random.below(200_000)));
    const offset = random.below(SIZE - data.length);
    await disk.pwrite(data, offset);
    model.set(data, offset);
  }
}

async function content(path: string, snapshot?: string): Promise<Uint8Array> {
  await using disk = await openImage(path, snapshot === undefined ? {} : { snapshot });
  const bytes = new Uint8Array(disk.size);
  await disk.pread(bytes, 0);
  return bytes;
}

/** Opens a disk as the next user of it would: what was interrupted is settled. */
async function settle(path: string): Promise<void> {
  await using disk = await openImage(path, { readOnly: false });
  await disk.flush();
}

async function expectSound(path: string): Promise<void> {
  const { findings } = await checkImage(path);
  expect(findings.filter(({ severity }) => severity === 'corruption')).toEqual([]);
}

function same(found: Uint8Array, expected: Uint8Array): boolean {
  return Buffer.compare(found, expected) === 0;
}

interface Ended {
  readonly status: number | null;
  readonly stderr: string;
}

function start(work: string, args: readonly string[]): { child: ChildProcess; ended: Promise<Ended> } {
  const child = spawn(process.execPath, [BUILT_TOOL, ...args], {
    cwd: work,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const ended = new Promise<Ended>((resolve) => {
    child.once('close', (status) => resolve({ status, stderr }));
  });
  return { child, ended };
}

interface Verb {
  readonly args: readonly string[];
  /** Names in the folder, besides hidden ones, that may be there afterwards. */
  readonly names: readonly string[];
  /** Fails unless the folder is as before or as after the verb; says which. */
  readonly judge: (work: string) => Promise<'before' | 'after'>;
}

function withTail(size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  bytes.set(present.subarray(0, Math.min(size, SIZE)));
  return bytes;
}

async function resized(work: string, size: number): Promise<'before' | 'after'> {
  const found = await content(join(work, 'disk.vvd'));
  expect([SIZE, size]).toContain(found.length);
  expect(same(found, withTail(found.length))).toBe(true);
  return found.length === size ? 'after' : 'before';
}

/** A new file is complete, or it is not there. */
async function copied(work: string, name: string): Promise<'before' | 'after'> {
  expect(same(await content(join(work, 'disk.vvd')), present)).toBe(true);
  if (!existsSync(join(work, name))) return 'before';
  expect(same(await content(join(work, name)), present)).toBe(true);
  await expectSound(join(work, name));
  return 'after';
}

async function snapshots(work: string, created?: string): Promise<'before' | 'after'> {
  const disk = join(work, 'disk.vvd');
  expect(same(await content(disk), present)).toBe(true);
  const names = (await listSnapshots(disk)).map(({ name }) => name);
  if (names.includes('past')) expect(same(await content(disk, 'past'), past)).toBe(true);
  if (created === undefined) return names.includes('past') ? 'before' : 'after';
  expect(names).toContain('past');
  if (!names.includes(created)) return 'before';
  expect(same(await content(disk, created), present)).toBe(true);
  return 'after';
}

const DISK = ['disk.vvd', 'disk@past.vvd'];
const VERBS: Readonly<Record<string, Verb>> = {
  'snapshot -c': {
    args: ['snapshot', '-c', 'new', 'disk.vvd'],
    names: [...DISK, 'disk@new.vvd'],
    judge: (work) => snapshots(work, 'new'),
  },
  'snapshot -d': {
    args: ['snapshot', '-d', 'past', 'disk.vvd'],
    names: DISK,
    judge: (work) => snapshots(work),
  },
  'resize, growing': {
    args: ['resize', 'disk.vvd', String(GROWN)],
    names: DISK,
    judge: (work) => resized(work, GROWN),
  },
  'resize, shrinking': {
    args: ['resize', '--shrink', 'disk.vvd', String(SHRUNK)],
    names: DISK,
    judge: (work) => resized(work, SHRUNK),
  },
  convert: {
    args: ['convert', '-O', 'vvd', 'disk.vvd', 'copy.vvd'],
    names: [...DISK, 'copy.vvd'],
    judge: (work) => copied(work, 'copy.vvd'),
  },
  clone: {
    args: ['clone', 'disk.vvd', 'child.vvd'],
    names: ['child.vvd'],
    judge: (work) => copied(work, 'child.vvd'),
  },
};

/** How long the verb takes when left alone, in milliseconds. */
async function duration(verb: Verb): Promise<number> {
  const work = freshCopy();
  const began = performance.now();
  const { status, stderr } = await start(work, verb.args).ended;
  const took = performance.now() - began;
  expect(stderr).toBe('');
  expect(status).toBe(0);
  expect(await verb.judge(work)).toBe('after');
  rmSync(work, { recursive: true });
  return took;
}

let copies = 0;

function freshCopy(): string {
  const work = join(folder.path, `work-${copies++}`);
  cpSync(made, work, { recursive: true });
  return work;
}

/** Kills the verb after so many milliseconds and judges what is left. */
async function killAndJudge(verb: Verb, afterMs: number): Promise<'before' | 'after'> {
  const work = freshCopy();
  const { child, ended } = start(work, verb.args);
  await Promise.race([delay(afterMs), ended]);
  child.kill('SIGKILL');
  await ended;
  const seen = readdirSync(work).filter((name) => !name.startsWith('.'));
  // a clone of a disk that is written takes a snapshot first, whose name it makes up
  const allowed = verb.names.includes('child.vvd') ? /^(disk|child)(@.*)?\.vvd$/ : undefined;
  expect(seen.filter((name) => !verb.names.includes(name) && !allowed?.test(name))).toEqual([]);
  const state = await verb.judge(work);
  // the next to use the disk is either somebody who writes to it, or the verb itself
  if (random.oneIn(2)) {
    await settle(join(work, 'disk.vvd'));
    await expectSound(join(work, 'disk.vvd'));
    expect(await verb.judge(work)).toBe(state);
  }
  if (state === 'before') {
    expect(await start(work, verb.args).ended).toEqual({ status: 0, stderr: '' });
    expect(await verb.judge(work)).toBe('after');
    await expectSound(join(work, 'disk.vvd'));
  }
  rmSync(work, { recursive: true });
  return state;
}

describe('kill -9 of a verb', () => {
  it.each(Object.entries(VERBS))(
    '%s: before or after, and it can be run again',
    async (_name, verb) => {
      const whole = await duration(verb);
      for (let round = 0; round < rounds; round++) {
        // the first half is the start of the process
        const afterMs = whole * (0.4 + random.below(800) / 1000);
        await killAndJudge(verb, afterMs);
      }
    },
    60_000 + rounds * 20_000,
  );
});

describe('kill -9 of a writer', () => {
  it(
    'every flush that was acknowledged is there, and the image is sound',
    async () => {
      const path = join(folder.path, 'written.vvd');
      await createImage(path, { format: 'vvd', size: SIZE });
      let known: Uint8Array = new Uint8Array(SIZE);
      let flushes = 0;
      for (let round = 0; round < 2 * rounds; round++) {
        const seed = random.nextU32();
        const acknowledged: Acknowledged = await writeUntilKilled(path, seed, random.below(120));
        flushes += acknowledged.flushes;
        const found = await content(path);
        acknowledged.expectWords(found, known);
        await settle(path);
        expect(same(await content(path), found)).toBe(true);
        expect((await checkImage(path)).findings).toEqual([]);
        known = found;
      }
      expect(flushes).toBeGreaterThan(0);
    },
    60_000 + rounds * 20_000,
  );
});
