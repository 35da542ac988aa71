/**
 * One volume and several processes: who attaches it, what the others see, and what each may believe when the one that
 * had it ends, in order or by kill -9. A folder stands for the volume.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import * as fc from 'fast-check';
import { type DirectoryResult, dir } from 'tmp-promise';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { DiskFile } from '../../src/device/file-system.ts';
import { DirectoryFiles } from '../../src/storage/directory-files.ts';
import { encodeFrame, FrameReader } from '../../src/storage/frame.ts';
import { VolumePlace } from '../../src/storage/volume-place.ts';
import { deviceConformance, type MadeDevice } from '../../src/testing/device-conformance.ts';
import type { TestApi } from '../../src/testing/test-api.ts';

let folder: DirectoryResult;
let places: VolumePlace[];
let children: ChildProcess[];
let attached: number;

beforeEach(async () => {
  folder = await dir({ unsafeCleanup: true, prefix: 'vimg-place-' });
  places = [];
  children = [];
  attached = 0;
});
afterEach(async () => {
  for (const place of places.reverse()) await place.close();
  for (const child of children) child.kill('SIGKILL');
  await folder.cleanup();
});

function place(): VolumePlace {
  const made = new VolumePlace({
    lockPath: join(folder.path, '.lock'),
    socketPath: join(folder.path, '.sock'),
    async attach(locks) {
      attached++;
      return {
        files: await DirectoryFiles.open('ds1', folder.path),
        ask: (question) =>
          Promise.resolve(question === 'locks' ? locks.list().map((each) => each.path) : question),
        detach: () => Promise.resolve(),
      };
    },
  });
  places.push(made);
  return made;
}

const DIST = resolve(import.meta.dirname, '../../dist/src');
const CHILD = `
  const [dist, folder, path] = process.argv.slice(1);
  const { VolumePlace } = await import(dist + '/storage/volume-place.js');
  const { DirectoryFiles } = await import(dist + '/storage/directory-files.js');
  const place = new VolumePlace({
    lockPath: folder + '/.lock', socketPath: folder + '/.sock',
    attach: async () => ({ files: await DirectoryFiles.open('ds1', folder), ask: async () => 0, detach: async () => {} }),
  });
  if (path) await place.open(path, { lock: 'write' }); else await place.access();
  process.stdout.write('ready');
  setInterval(() => {}, 1000);
`;

/** A process that uses the volume: has it attached when it is the first, and holds a lock on `path`. */
async function otherProcess(path = ''): Promise<ChildProcess> {
  const args = ['--input-type=module', '-e', CHILD, pathToFileURL(DIST).href, folder.path, path];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  await once(child.stdout, 'data');
  return child;
}

async function killed(child: ChildProcess): Promise<void> {
  child.kill('SIGKILL');
  await once(child, 'exit');
}

async function textOf(file: DiskFile, length: number): Promise<string> {
  const bytes = Buffer.alloc(length);
  await file.pread(bytes, 0);
  return bytes.toString();
}

describe('a shared volume', () => {
  it('is attached by one of those that race for it, and used by all', async () => {
    const racing = [place(), place(), place(), place()];
    await Promise.all(racing.map((each) => each.list('ds1:')));
    expect(attached).toBe(1);
    const [first, second] = racing as [VolumePlace, VolumePlace];
    await first.makeFolder('ds1:vm1');
    const file = await second.open('ds1:vm1/a', { create: 'exclusive' });
    await file.pwrite(Buffer.from('hello'), 0);
    await file.flush();
    await file.close();
    await first.rename('ds1:vm1/a', 'ds1:vm1/b');
    expect(await second.list('ds1:vm1')).toEqual(['b']);
    expect(await second.realPath('ds1:vm1/b')).toBe('ds1:vm1/b');
    const status = await second.status('ds1:vm1/b');
    expect(status).toEqual(await first.status('ds1:vm1/b'));
    expect(await second.status('ds1:none')).toBeUndefined();
    await expect(second.open('ds1:none', {})).rejects.toMatchObject({ code: 'NOT_FOUND', path: 'ds1:none' });
    expect(await second.ask('how')).toBe('how');
  });

  it('has one writer of a file or many readers, and says who', async () => {
    const [first, second] = [place(), place()];
    await first.access();
    writeFileSync(join(folder.path, 'a'), 'hello');
    const reader = await second.open('ds1:a', { lock: 'read', readOnly: true });
    const another = await first.open('ds1:a', { lock: 'read', readOnly: true });
    const refusal = {
      code: 'LOCKED',
      message: expect.stringMatching(/process \d+ \(.*\) of .*, PR since \d{4}-/),
    };
    await expect(second.open('ds1:a', { lock: 'write' })).rejects.toMatchObject(refusal);
    await expect(another.changeLock('write')).rejects.toMatchObject({ code: 'LOCKED' });
    await reader.close();
    await another.changeLock('write');
    expect(another.locked).toBe(true);
    expect(await second.ask('locks')).toEqual(['ds1:a']);
    await expect(second.open('ds1:a', { lock: 'read' })).rejects.toMatchObject({ code: 'LOCKED' });
    await (await second.open('ds1:a', { lock: 'none' })).close();
    await another.close();
    await (await second.open('ds1:a', { lock: 'write' })).close();
  });

  it('goes on when the one that had it leaves: nothing is lost, locks stay', async () => {
    const [first, second, third] = [place(), place(), place()];
    await first.access();
    writeFileSync(join(folder.path, 'a'), '');
    const file = await second.open('ds1:a', { lock: 'write' });
    await third.access();
    await file.pwrite(Buffer.from('not flushed'), 0);
    await Promise.all([first.close(), file.pwrite(Buffer.from('NOT'), 0), third.list('ds1:')]);
    expect(await textOf(file, 11)).toBe('NOT flushed');
    await file.pwrite(Buffer.from('and on'), 11);
    await file.flush();
    expect(attached).toBe(2);
    await expect(third.open('ds1:a', { lock: 'read' })).rejects.toMatchObject({ code: 'LOCKED' });
    await file.close();
    await (await third.open('ds1:a', { lock: 'read' })).close();
  });

  it('goes on when the one that had it is killed', async () => {
    const child = await otherProcess();
    const user = place();
    writeFileSync(join(folder.path, 'a'), '');
    const file = await user.open('ds1:a', { lock: 'write' });
    await file.pwrite(Buffer.from('safe'), 0);
    expect(attached).toBe(0);
    await killed(child);
    expect(await textOf(file, 4)).toBe('safe');
    await file.pwrite(Buffer.from('more'), 0);
    await file.flush();
    expect(attached).toBe(1);
    expect(await user.ask('locks')).toEqual(['ds1:a']);
    await file.close();
  });

  it('keeps the lock of a file whose user has not come back yet, and says who that is', async () => {
    writeFileSync(join(folder.path, 'a'), '');
    const child = await otherProcess();
    const holder = place();
    const file = await holder.open('ds1:a', { lock: 'write' });
    const another = await otherProcess();
    await killed(child);
    // the lock of who is away is not free, whoever is first at the place where the volume is now
    const rival = place();
    const refusal = { code: 'LOCKED', message: expect.stringContaining(`process ${process.pid} `) };
    await expect(rival.open('ds1:a', { lock: 'write' })).rejects.toMatchObject(refusal);
    await expect(rival.open('ds1:a', { lock: 'read' })).rejects.toMatchObject(refusal);
    await (await rival.open('ds1:a', { lock: 'none' })).close();
    await file.changeLock('read');
    await (await rival.open('ds1:a', { lock: 'read' })).close();
    await file.close();
    await (await rival.open('ds1:a', { lock: 'write' })).close();
    await killed(another);
  });

  it('frees what a killed process held', async () => {
    const owner = place();
    await owner.access();
    writeFileSync(join(folder.path, 'a'), '');
    const child = await otherProcess('ds1:a');
    await expect(owner.open('ds1:a', { lock: 'read' })).rejects.toMatchObject({
      code: 'LOCKED',
      message: expect.stringContaining(`process ${child.pid} `),
    });
    await killed(child);
    for (let tries = 0; ((await owner.ask('locks')) as string[]).length > 0 && tries < 100; tries++)
      await sleep(10);
    await (await owner.open('ds1:a', { lock: 'write' })).close();
  });

  it('refuses what is no client of its own', async () => {
    const owner = place();
    await owner.access();
    for (const bytes of [
      Buffer.from('GET / HTTP/1.1\r\n\r\n'),
      Buffer.alloc(64, 0xff),
      encodeFrame({ id: 1 }),
    ]) {
      const socket = connect(join(folder.path, '.sock'));
      socket.write(bytes);
      const [chunk] = (await Promise.race([once(socket, 'data'), once(socket, 'close')])) as [
        Buffer | boolean,
      ];
      if (chunk instanceof Buffer) {
        expect(new FrameReader().push(chunk)[0]?.head['error']).toMatchObject({ code: 'USAGE' });
      }
      socket.destroy();
    }
    expect(await owner.list('ds1:')).toEqual(expect.arrayContaining(['.lock']));
  });
});

const api: TestApi = { describe, it, fc };
const CONFORMANCE_SIZE = 200_003;

async function madeFile(throughAnother: boolean): Promise<MadeDevice> {
  const [first, second] = [place(), place()];
  await first.access();
  const user = throughAnother ? second : first;
  const path = `ds1:${places.length}`;
  const device = await user.open(path, { create: 'exclusive', lock: 'write' });
  await device.resize(CONFORMANCE_SIZE);
  return { device, reopenReadOnly: () => user.open(path, { readOnly: true, lock: 'read' }) };
}

deviceConformance(api, 'a file of a volume that is attached here', () => madeFile(false), { runs: 4 });
deviceConformance(api, 'a file of a volume that another process has', () => madeFile(true), { runs: 4 });

describe('frames', () => {
  it('are put together from any pieces', () => {
    const whole = Buffer.concat([
      encodeFrame({ a: 1 }, 3),
      Buffer.from('xyz'),
      encodeFrame({ b: 'ä' }),
      encodeFrame({}, 1),
      Buffer.from('!'),
    ]);
    for (const step of [1, 2, 7, 11, whole.length]) {
      const reader = new FrameReader();
      const found: string[] = [];
      for (let at = 0; at < whole.length; at += step) {
        for (const { head, body } of reader.push(whole.subarray(at, at + step))) {
          found.push(`${JSON.stringify(head)}${body.toString()}`);
        }
      }
      expect(found).toEqual(['{"a":1}xyz', '{"b":"ä"}', '{}!']);
    }
  });
});
