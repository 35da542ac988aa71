/**
 * Servers that take one client: `qemu-nbd` as it is by default ends with its first client, so that a look at the export
 * before the work would leave no server for the work; nbdkit's limit filter turns a second client away.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { withDir } from 'tmp-promise';
import { describe, expect, it } from 'vitest';
import { createImage, readAttributes, sealImage } from '../../src/index.ts';
import { nbdPath } from '../../src/nbd/client/nbd-files.ts';
import { patterned } from '../../src/testing/device-model.ts';
import { requireTool } from '../reference-tools.ts';
import { runVimg } from './tools.ts';

const SIZE = 4 * 1024 * 1024;
const DATA = patterned(SIZE, 3);

interface Place {
  readonly source: string;
  /** The file that the server exports. */
  readonly exported: string;
  readonly uri: string;
}

type StartServer = (socketPath: string, file: string, pidFile: string) => string[];

/** The program goes to the background when it listens; it is ended with the test. */
function withServer(command: StartServer, work: (place: Place) => Promise<void>): Promise<void> {
  return withDir(
    async ({ path }) => {
      const [source, exported, socketPath, pidFile] = ['source.raw', 'export.raw', 'sock', 'pid'].map(
        (name) => join(path, name),
      ) as [string, string, string, string];
      await writeFile(source, DATA);
      await writeFile(exported, '');
      await truncate(exported, SIZE);
      const [program = '', ...args] = command(socketPath, exported, pidFile);
      execFileSync(program, args, { stdio: 'ignore', timeout: 30_000 });
      const pid = await writtenIn(pidFile);
      try {
        await work({ source, exported, uri: `nbd+unix:///?socket=${encodeURIComponent(socketPath)}` });
      } finally {
        await ended(pid);
      }
    },
    { unsafeCleanup: true, prefix: 'vimg-one-client' },
  );
}

/** It is written when the server listens, after the program that was started has ended already. */
async function writtenIn(pidFile: string): Promise<number> {
  for (;;) {
    const text = existsSync(pidFile) ? readFileSync(pidFile, 'utf8') : '';
    if (text.endsWith('\n')) return Number(text);
    await sleep(10);
  }
}

async function ended(pid: number): Promise<void> {
  try {
    process.kill(pid);
  } catch {
    // it ended by itself
  }
  while (existsSync(`/proc/${pid}/exe`)) await sleep(10); // one that nobody waited for has none
}

const qemuNbd: StartServer = (socket, file, pid) => [
  ...['qemu-nbd', '--fork', '--pid-file', pid, '-f', 'raw', '-k', socket, file],
];
const nbdkit: StartServer = (socket, file, pid) => [
  ...['nbdkit', '-P', pid, '-U', socket, '--filter=limit', 'file', file, 'limit=1'],
];

describe.each([
  ['qemu-nbd', qemuNbd],
  ['nbdkit', nbdkit],
])('%s with one client', (tool, command) => {
  const skipped = requireTool(tool);

  it.skipIf(skipped)('is converted into, by one connection', () =>
    withServer(command, async ({ source, exported, uri }) => {
      const said = await runVimg(['convert', '-n', '-f', 'raw', '-O', 'raw', source, uri]);
      expect(said).toEqual({ stdout: '', stderr: '', status: 0 });
      expect(readFileSync(exported).equals(DATA)).toBe(true);
    }),
  );

  it.skipIf(skipped)('is known for a place that is there already', () =>
    withServer(command, async ({ source, exported, uri }) => {
      const said = await runVimg(['convert', '-f', 'raw', '-O', 'raw', source, uri]);
      expect(said).toEqual({ stdout: '', stderr: '', status: 0 });
      expect(readFileSync(exported).equals(DATA)).toBe(true);
    }),
  );

  it.skipIf(skipped)('is refused as the target of itself, under another name of its socket', () =>
    withServer(command, async ({ exported, uri }) => {
      const other = uri.replace(encodeURIComponent('/sock'), encodeURIComponent('/./sock'));
      expect(other).not.toBe(uri);
      const said = await runVimg(['convert', '-n', '-f', 'raw', '-O', 'raw', uri, other]);
      expect(said.status).toBe(1);
      expect(said.stderr).toContain('is also read from');
      expect(readFileSync(exported).equals(Buffer.alloc(SIZE))).toBe(true);
    }),
  );

  it.skipIf(skipped)('is read, by one connection', () =>
    withServer(command, async ({ source, exported, uri }) => {
      const target = `${exported}.copy`;
      await writeFile(exported, DATA);
      const said = await runVimg(['convert', '-f', 'raw', '-O', 'raw', uri, target]);
      expect(said).toEqual({ stdout: '', stderr: '', status: 0 });
      expect(readFileSync(target).equals(readFileSync(source))).toBe(true);
    }),
  );

  it.skipIf(skipped).each([
    ['a raw disk', 'raw', ['-f', 'raw']],
    ['a disk of unknown format', 'raw', []],
    ['a sealed disk', 'vvd', []],
  ] as const)('is the base of a clone, by one connection: %s', (_, format, options) =>
    withServer(command, async ({ source, exported, uri }) => {
      if (format === 'vvd') await sealedIn(exported, source);
      const clone = `${source}.clone.vvd`;
      expect(await runVimg(['clone', '-q', ...options, uri, clone])).toMatchObject({ stdout: '', status: 0 });
      const info = JSON.parse((await runVimg(['info', '--output=json', clone])).stdout) as Record<
        string,
        unknown
      >;
      expect([info['backing-filename'], info['backing-filename-format']]).toEqual([nbdPath(uri), format]);
    }),
  );

  it.skipIf(skipped)('has its attributes changed, by one connection', () =>
    withServer(command, async ({ source, exported, uri }) => {
      await sealedIn(exported, source);
      expect(await runVimg(['attr', uri, 'label=mine'])).toEqual({ stdout: '', stderr: '', status: 0 });
      expect((await readAttributes(exported)).get('label')).toBe('mine');
    }),
  );
});

/** The exported file becomes a sealed disk. */
async function sealedIn(exported: string, beside: string): Promise<void> {
  const disk = `${beside}.vvd`;
  await createImage(disk, { size: SIZE });
  await sealImage(disk);
  await writeFile(exported, readFileSync(disk));
  await truncate(exported, SIZE);
}
