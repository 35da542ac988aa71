/** `qemu-storage-daemon` as the server of a raw and of a qcow2 disk: converted out of and into, and compared. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { open, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { withDir } from 'tmp-promise';
import { describe, expect, it } from 'vitest';
import { SeededRandom } from '../../src/base/random.ts';
import { requireTool } from '../reference-tools.ts';
import { runTool, runVimg } from './tools.ts';

const MiB = 1024 * 1024;
const SIZE = 24 * MiB;
const SAID_NOTHING = { stdout: '', stderr: '', status: 0 };
const IDENTICAL = { stdout: 'Images are identical.\n', stderr: '', status: 0 };

interface Place {
  readonly at: (name: string) => string;
  /** A raw file with data here and there, holes between. */
  readonly source: string;
  readonly uriOf: (name: string) => string;
  /** Ends the daemon; its files are free then. */
  readonly stop: () => Promise<void>;
}

/** Exports `raw` and `qcow2`, written, with one socket for both. */
function withDaemon(writable: boolean, work: (place: Place) => Promise<void>): Promise<void> {
  return withDir(
    async ({ path }) => {
      const at = (name: string): string => join(path, name);
      await writeScattered(at('source.raw'));
      for (const format of ['raw', 'qcow2']) {
        const made = writable
          ? ['create', '-q', '-f', format, at(`disk.${format}`), `${SIZE}`]
          : ['convert', '-f', 'raw', '-O', format, at('source.raw'), at(`disk.${format}`)];
        expect(await runTool('qemu-img', made)).toEqual(SAID_NOTHING);
      }
      const daemon = spawn('qemu-storage-daemon', commandLine(at, writable), { stdio: 'inherit' });
      try {
        await listening(daemon, at('pid'));
        const uriOf = (name: string): string =>
          `nbd+unix:///${name}?socket=${encodeURIComponent(at('nbd.sock'))}`;
        await work({ at, source: at('source.raw'), uriOf, stop: () => stopped(daemon) });
      } finally {
        await stopped(daemon);
      }
    },
    { unsafeCleanup: true, prefix: 'vimg-daemon' },
  );
}

function commandLine(at: (name: string) => string, writable: boolean): string[] {
  const disks = ['raw', 'qcow2'].flatMap((format) => [
    ...['--blockdev', `driver=file,node-name=${format}-file,filename=${at(`disk.${format}`)}`],
    ...['--blockdev', `driver=${format},node-name=${format}-node,file=${format}-file`],
    '--export',
    `type=nbd,id=${format},node-name=${format}-node,name=${format},writable=${writable ? 'on' : 'off'}`,
  ]);
  const server = `addr.type=unix,addr.path=${at('nbd.sock')},max-connections=4`;
  return ['--nbd-server', server, ...disks, '--pidfile', at('pid')];
}

/** The daemon writes its pid when everything is set up. */
async function listening(daemon: ChildProcess, pidFile: string): Promise<void> {
  while (!existsSync(pidFile)) {
    expect(daemon.exitCode, 'the daemon runs').toBe(null);
    await sleep(10);
  }
}

async function stopped(daemon: ChildProcess): Promise<void> {
  if (daemon.exitCode !== null || daemon.signalCode !== null) return;
  daemon.kill();
  await once(daemon, 'exit');
}

async function writeScattered(path: string): Promise<void> {
  const random = new SeededRandom(7);
  await writeFile(path, '');
  await truncate(path, SIZE);
  const file = await open(path, 'r+');
  for (let at = 0; at < SIZE; at += 3 * MiB) {
    await file.write(random.bytes(1 + random.below(MiB)), 0, undefined, at + random.below(MiB));
  }
  await file.close();
}

describe.skipIf(requireTool('qemu-storage-daemon', 'qemu-img'))('qemu-storage-daemon', () => {
  it.each(['raw', 'qcow2'])('has a %s disk that is converted, compared and mapped', (name) =>
    withDaemon(false, async ({ at, source, uriOf, stop }) => {
      const uri = uriOf(name);
      for (const [format, target] of [
        ['vvd', at('out.vvd')],
        ['qcow2', at('out.qcow2')],
        ['raw', at('out.raw')],
      ] as const) {
        const args = ['convert', '-f', 'raw', '-O', format, uri, target];
        expect(await runVimg(args)).toEqual(SAID_NOTHING);
        expect(await runVimg(['compare', '-F', 'raw', target, source])).toEqual(IDENTICAL);
      }
      expect(await runVimg(['compare', '-f', 'raw', '-F', 'raw', uri, source])).toEqual(IDENTICAL);
      expect((await runTool('qemu-img', ['compare', '-q', at('out.qcow2'), source])).status).toBe(0);
      const map = await runVimg(['map', '--output=json', '-f', 'raw', uri]);
      const extents = JSON.parse(map.stdout) as { zero: boolean; length: number }[];
      expect(extents.some(({ zero }) => zero)).toBe(true); // its block status came through
      const refused = await runVimg(['convert', '-n', '-f', 'raw', '-O', 'raw', source, uri]);
      expect(refused).toMatchObject({ status: 1, stderr: expect.stringContaining('only be read') });
      await stop();
    }),
  );

  it.each(['raw', 'qcow2'])('has a %s disk that is converted into', (name) =>
    withDaemon(true, async ({ at, source, uriOf, stop }) => {
      const uri = uriOf(name);
      expect(await runVimg(['convert', '-f', 'raw', source, at('source.vvd')])).toEqual(SAID_NOTHING);
      const into = ['convert', '-n', '-W', '-O', 'raw', at('source.vvd'), uri];
      expect(await runVimg(into)).toEqual(SAID_NOTHING);
      expect(await runVimg(['compare', '-f', 'raw', '-F', 'raw', uri, source])).toEqual(IDENTICAL);
      expect(await runVimg(into)).toEqual(SAID_NOTHING); // over data that is there: zeroes are written too
      await stop();
      const held = ['compare', '-q', '-f', name, '-F', 'raw', at(`disk.${name}`), source];
      expect((await runTool('qemu-img', held)).status).toBe(0);
      if (name === 'qcow2')
        expect((await runTool('qemu-img', ['check', '-q', at('disk.qcow2')])).status).toBe(0);
    }),
  );

  it('lends one disk as the source of another, both behind one socket', () =>
    withDaemon(true, async ({ at, source, uriOf, stop }) => {
      expect(await runVimg(['convert', '-n', '-f', 'raw', '-O', 'raw', source, uriOf('raw')])).toEqual(
        SAID_NOTHING,
      );
      const across = ['convert', '-n', '-f', 'raw', '-O', 'raw', uriOf('raw'), uriOf('qcow2')];
      expect(await runVimg(across)).toEqual(SAID_NOTHING);
      const itself = ['convert', '-n', '-f', 'raw', '-O', 'raw', uriOf('raw'), uriOf('raw')];
      expect(await runVimg(itself)).toMatchObject({
        status: 1,
        stderr: expect.stringContaining('also read from'),
      });
      await stop();
      const held = ['compare', '-q', '-f', 'qcow2', '-F', 'raw', at('disk.qcow2'), source];
      expect((await runTool('qemu-img', held)).status).toBe(0);
    }));
});
