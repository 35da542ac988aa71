/** A volume that is full, under a disk that is served from it. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SeededRandom } from '../../src/base/random.ts';
import { requireTool } from '../reference-tools.ts';
import { type ServedDisk, VolumePrograms } from './volume-programs.ts';

const MiB = 1024 * 1024;
/** More than the volume holds. */
const DATA = 30 * MiB;

let programs: VolumePrograms;
let data: Buffer;

beforeEach(async () => {
  programs = await VolumePrograms.make('32M');
  data = Buffer.from(new SeededRandom(7).fill(new Uint8Array(DATA)));
  writeFileSync(programs.at('data.raw'), data);
  await programs.vimg('create', '-q', 'ds1:disk.vvd', String(DATA));
});
afterEach(() => programs.close());

/** The disk's content, as a client reads it and as it is in the file. */
async function expectData(served: ServedDisk): Promise<void> {
  const { status, stdout } = spawnSync('nbdcopy', [served.uri, '-'], { maxBuffer: 2 * DATA });
  expect([status, stdout.length]).toEqual([0, DATA]);
  expect(data.findIndex((byte, at) => byte !== stdout[at])).toBe(-1);
  expect(await served.end()).toBe(0);
  expect(await programs.vimg('compare', programs.at('data.raw'), 'ds1:disk.vvd')).toMatch(/identical/);
  expect(await programs.vimg('datastore', 'check', 'ds1')).toContain('ds1: sound\nds1:disk.vvd: sound\n');
}

/** Starts to write what the volume does not hold; resolves when that waits. */
async function writesUntilFull(served: ServedDisk): Promise<{ readonly ended: Promise<unknown[]> }> {
  const copy = spawn('nbdcopy', ['--flush', programs.at('data.raw'), served.uri], { stdio: 'inherit' });
  const ended = once(copy, 'close');
  await served.tells('ds1:disk.vvd: no space: who writes it waits');
  expect(copy.exitCode).toBeNull();
  return { ended };
}

async function extend(): Promise<void> {
  await programs.vimg('datastore', 'extend', 'ds1', '--size', '32M', programs.at('more'));
}

describe.skipIf(requireTool('nbdcopy'))('a disk that is served from a full volume', () => {
  it('lets its writer wait until another process extends the volume', async () => {
    const served = await programs.serve('ds1:disk.vvd');
    const { ended } = await writesUntilFull(served);
    await extend();
    expect((await ended)[0]).toBe(0);
    await served.tells('ds1:disk.vvd: goes on');
    await expectData(served);
  });

  it('waits on when the process that has the volume attached ends', async () => {
    await programs.vimg('create', '-q', 'ds1:other.vvd', '1M');
    const holder = await programs.serve('ds1:other.vvd');
    const served = await programs.serve('ds1:disk.vvd');
    const { ended } = await writesUntilFull(served);
    expect(await holder.end()).toBe(0);
    await extend();
    expect((await ended)[0]).toBe(0);
    await programs.vimg('rm', 'ds1:other.vvd');
    await expectData(served);
  });

  it('fails the write with ENOSPC where that is asked for, and takes it once there is space', async () => {
    await programs.vimg('create', '-q', 'ds1:other.vvd', '1M');
    const holder = await programs.serve('ds1:other.vvd'); // what it says of space reaches the other one
    const served = await programs.serve('ds1:disk.vvd', '--on-full', 'error');
    const failed = spawnSync('nbdcopy', [programs.at('data.raw'), served.uri], { encoding: 'utf8' });
    expect(failed.status).not.toBe(0);
    expect(failed.stderr).toMatch(/No space left on device/);
    await extend();
    expect(spawnSync('nbdcopy', ['--flush', programs.at('data.raw'), served.uri]).status).toBe(0);
    expect(await holder.end()).toBe(0);
    await programs.vimg('rm', 'ds1:other.vvd');
    await expectData(served);
  });
});
