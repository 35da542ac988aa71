/**
 * A process of its own that writes and flushes in a loop, acknowledges each flush, and is killed; and what must be
 * read afterwards.
 *
 * Write n of a seed fills one slot with the number n, or with zeroes; where is said by `slotOf`. So each word that is
 * read tells which write it is from.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { expect } from 'vitest';

const LIBRARY = join(resolve(import.meta.dirname, '../..'), 'dist/src/index.js');
/** Not aligned to anything: neighbours share sub-blocks. */
const SLOT = 10_000;
const SLOTS = 800;
const WRITES_PER_FLUSH = 3;

/** The slot of write `n`, and whether it zeroes. Also run in the child. */
function slotOf(seed: number, n: number, slots: number): { slot: number; zero: boolean } {
  const mixed = Math.imul((seed + Math.imul(n, 0x9e3779b1)) ^ (n << 7), 0x85ebca6b) >>> 0;
  return { slot: mixed % slots, zero: n % 6 === 0 };
}

const CHILD = `
  const [library, path, seed, slot, slots, perFlush] = process.argv.slice(1);
  const { openImage } = await import(library);
  const { writeSync } = await import('node:fs');
  const slotOf = ${slotOf.toString()};
  const disk = await openImage(path, { readOnly: false });
  writeSync(1, 'open\\n');
  for (let n = 1; ; n++) {
    const where = slotOf(Number(seed), n, Number(slots));
    const offset = where.slot * Number(slot);
    if (where.zero) await disk.writeZeroes(offset, Number(slot));
    else await disk.pwrite(new Uint8Array(new Uint32Array(Number(slot) / 4).fill(n).buffer), offset);
    if (n % Number(perFlush) === 0) {
      await disk.flush();
      writeSync(1, n + '\\n');
    }
  }
`;

export interface Acknowledged {
  readonly flushes: number;
  /** Fails unless each word is from the last write to it that was flushed, or from one after that. */
  expectWords(found: Uint8Array, before: Uint8Array): void;
}

/** Lets a process write until it is killed, `afterMs` after it has opened the disk. */
export async function writeUntilKilled(path: string, seed: number, afterMs: number): Promise<Acknowledged> {
  if (!existsSync(LIBRARY)) throw new Error(`${LIBRARY} is missing: run \`npm run build\` first`);
  const parameters = [pathToFileURL(LIBRARY).href, path, seed, SLOT, SLOTS, WRITES_PER_FLUSH].map(String);
  const child = spawn(process.execPath, ['--input-type=module', '-e', CHILD, ...parameters], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  let complaint = '';
  const ended = new Promise<void>((done) => child.once('close', () => done()));
  const opened = new Promise<void>((done) => {
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString();
      done();
    });
  });
  child.stderr.on('data', (chunk: Buffer) => {
    complaint += chunk.toString();
  });
  await Promise.race([opened, ended]);
  await delay(afterMs);
  child.kill('SIGKILL');
  await ended;
  expect(complaint).toBe('');
  const lines = output.split('\n').filter((line) => /^[0-9]+$/.test(line));
  const flushed = Number(lines.at(-1) ?? 0);
  return {
    flushes: lines.length,
    expectWords: (found, before) => expectWords(seed, flushed, found, before),
  };
}

/** Writes that may have begun behind the last acknowledged flush: its successors up to the next two flushes. */
const AHEAD = 2 * WRITES_PER_FLUSH;

function expectWords(seed: number, flushed: number, found: Uint8Array, before: Uint8Array): void {
  const certain = new Map<number, number>();
  const possible = new Map<number, number[]>();
  for (let n = 1; n <= flushed + AHEAD; n++) {
    const { slot, zero } = slotOf(seed, n, SLOTS);
    const word = zero ? 0 : n;
    if (n <= flushed) certain.set(slot, word);
    else possible.set(slot, [...(possible.get(slot) ?? []), word]);
  }
  const words = new Uint32Array(found.buffer);
  const earlier = new Uint32Array(before.buffer);
  for (let at = 0; at < words.length; at++) {
    const word = words[at] as number;
    const slot = Math.floor(at / (SLOT / 4));
    if (word === (certain.get(slot) ?? earlier[at])) continue;
    if (possible.get(slot)?.includes(word)) continue;
    const wanted = [certain.get(slot) ?? earlier[at], ...(possible.get(slot) ?? [])];
    throw new Error(
      `word at ${at * 4} is from write ${word}, not ${wanted} (seed ${seed}, flushed ${flushed})`,
    );
  }
}
