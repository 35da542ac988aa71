/** Signals, pipes and full disks around the real process: nothing half-made, no noise, the right exit status. */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  closeSync,
  openSync,
  readdirSync,
  readFileSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { type DirectoryResult, dir } from 'tmp-promise';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { requireMount, requireTool } from '../reference-tools.ts';
import { BUILT_TOOL, type Outcome, runShell, sessionEnvironment } from './session.ts';

let folder: DirectoryResult;
let work: string;
let environment: NodeJS.ProcessEnv;

beforeEach(async () => {
  folder = await dir({ unsafeCleanup: true, prefix: 'vimg-signals' });
  environment = sessionEnvironment(folder.path);
  work = join(folder.path, 'work');
  await shell(`mkdir ${work}`, folder.path);
  writeFileSync(join(work, 'source.raw'), Buffer.alloc(24 * 1024 * 1024, 'data'));
});

afterEach(() => folder.cleanup());

function shell(command: string, cwd: string = work): Promise<Outcome> {
  return runShell(command, cwd, environment);
}

interface Ended {
  readonly status: number | null;
  readonly signal: string | null;
  readonly stderr: string;
}

/** Starts a slow convert and calls `act` once it has begun to copy. */
async function interrupted(args: readonly string[], act: (child: ChildProcess) => void): Promise<Ended> {
  const child = spawn(process.execPath, [BUILT_TOOL, 'convert', '--progress=jsonl', '-r', '4M', ...args], {
    cwd: work,
    env: environment,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let stderr = '';
  let acted = false;
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
    if (acted || !stderr.includes('"phase":"copying"')) return;
    acted = true;
    act(child);
  });
  return new Promise((resolve) => {
    child.once('close', (status, signal) => resolve({ status, signal, stderr }));
  });
}

function withoutProgress(stderr: string): string {
  return stderr.replace(/^\{"phase".*\n/gm, '');
}

describe('signals', () => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    for (const format of ['raw', 'vvd', 'qcow2']) {
      it(`${signal} during convert to ${format} leaves nothing, and an older file as it was`, async () => {
        writeFileSync(join(work, 'target'), 'old');
        const ended = await interrupted(['source.raw', '-O', format, 'target'], (child) =>
          child.kill(signal),
        );
        expect(withoutProgress(ended.stderr)).toBe('vimg: Interrupted\n');
        expect(ended.status).toBe(130);
        expect(readdirSync(work).sort()).toEqual(['source.raw', 'target']);
        expect(readFileSync(join(work, 'target'), 'utf8')).toBe('old');
      });
    }
  }

  it('more SIGINTs, until the process is gone, change neither the status nor what is left', async () => {
    const ended = await interrupted(['source.raw', 'target.vvd'], (child) => {
      const again = setInterval(() => child.kill('SIGINT'), 1);
      child.once('exit', () => clearInterval(again));
    });
    expect(ended.status).toBe(130);
    expect(readdirSync(work)).toEqual(['source.raw']);
  });

  it('a signal while the tool starts ends it as a shell expects, and leaves nothing', async () => {
    for (const delayMs of [0, 20, 40, 60, 80, 120]) {
      const child = spawn(process.execPath, [BUILT_TOOL, 'convert', '-r', '4M', 'source.raw', 'target.vvd'], {
        cwd: work,
        env: environment,
        stdio: 'ignore',
      });
      const ended = new Promise<number>((resolve) =>
        child.once('close', (status, signal) =>
          resolve(status ?? 128 + constants.signals[signal ?? 'SIGHUP']),
        ),
      );
      setTimeout(() => child.kill('SIGINT'), delayMs);
      expect(await ended).toBe(130);
      expect(readdirSync(work)).toEqual(['source.raw']);
    }
  });

  it.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('no %s is lost while a server starts', async (signal) => {
    expect((await shell('vimg create -q served.vvd 1M')).status).toBe(0);
    for (let delayMs = 0; delayMs <= 240; delayMs += 20) {
      const child = spawn(process.execPath, [BUILT_TOOL, 'serve', 'served.vvd', '--socket', 'nbd.sock'], {
        cwd: work,
        env: environment,
        stdio: 'ignore',
      });
      const ended = new Promise<number>((resolve) =>
        child.once('close', (status, by) => resolve(status ?? 128 + constants.signals[by ?? 'SIGKILL'])),
      );
      setTimeout(() => child.kill(signal), delayMs);
      // it had begun to serve, and stopped; it was opening the disk; or it had not begun
      expect([0, 130, 128 + constants.signals[signal]]).toContain(await ended);
    }
    expect((await shell('vimg check -q served.vvd')).status).toBe(0);
  });

  it('work that has no place to stop at ends with the second SIGINT, and leaves nothing', async () => {
    const child = spawn(
      process.execPath,
      [BUILT_TOOL, 'create', '-o', 'preallocation=full', 'full.raw', '1G'],
      {
        cwd: work,
        env: environment,
        stdio: 'ignore',
      },
    );
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
    while (readdirSync(work).length === 1) await new Promise((resolve) => setTimeout(resolve, 5));
    child.kill('SIGINT');
    await new Promise((resolve) => setTimeout(resolve, 20));
    child.kill('SIGINT');
    expect(await ended).toBe(130);
    expect(readdirSync(work)).toEqual(['source.raw']);
  });

  it('kill -9 leaves the old file as it was, and never half a new one under its name', async () => {
    writeFileSync(join(work, 'target.vvd'), 'old');
    const ended = await interrupted(['source.raw', 'target.vvd'], (child) => child.kill('SIGKILL'));
    expect(ended.signal).toBe('SIGKILL');
    expect(readFileSync(join(work, 'target.vvd'), 'utf8')).toBe('old');
  });
});

describe('pipes', () => {
  it('a reader that leaves ends the tool quietly', async () => {
    const many = openSync(join(work, 'many.raw'), 'w'); // its map is longer than a pipe holds
    for (let i = 0; i < 4000; i++) writeSync(many, 'x', i * 16384);
    closeSync(many);
    const ended = await shell('set -o pipefail; vimg map --output=json many.raw | head -1');
    expect(ended.stdout).toMatch(/^\[\{ "start": 0.*\n$/);
    expect(ended.stderr).toBe('');
    expect(ended.status).toBe(141);
  });

  it('output that does not fit is an error', async () => {
    const ended = await shell('vimg info source.raw > /dev/full');
    expect(ended.status).toBe(1);
    expect(ended.stderr).toMatch(/^vimg: Could not write the output/);
  });

  it('closed output is no crash', async () => {
    const ended = await shell('vimg info source.raw >&- 2>&-');
    expect(ended.stderr).toBe('');
    expect(ended.status).toBeLessThan(2);
  });

  it('no escape code goes into a pipe', async () => {
    const ended = await shell(
      'vimg convert -p source.raw target.vvd && vimg compare -p source.raw target.vvd',
    );
    expect(ended.status).toBe(0);
    expect(ended.stdout).toBe('Images are identical.\n');
    expect(ended.stderr).not.toContain('\u001b');
    expect(ended.stderr).not.toContain('\r');
    expect(ended.stderr).toMatch(/^100% done /m);
  });

  it('progress for programs is one JSON object a line', async () => {
    const ended = await shell('vimg convert --progress=jsonl source.raw target.vvd');
    const reports = ended.stderr
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { phase: string; fraction: number });
    expect(reports.at(0)?.phase).toBe('mapping');
    expect(reports.at(-1)).toMatchObject({ phase: 'done', fraction: 1 });
  });

  it.skipIf(requireTool('script'))('a bar appears on a terminal, and goes again', async () => {
    truncateSync(join(work, 'source.raw'), 8 * 1024 * 1024);
    const ended = await shell(
      "script -qec 'vimg convert -r 4M source.raw target.vvd' /dev/null | cat -v && vimg compare source.raw target.vvd",
    );
    expect(ended.stdout).toMatch(/\^\[.*copying .* of 8 MiB/s);
    expect(ended.stdout).toContain('virtual 8 MiB');
    expect(ended.stdout).toContain('Images are identical.');
  });
});

describe('the environment', () => {
  it('a folder that cannot be written', async () => {
    const ended = await shell('vimg create /proc/x.vvd 1M; vimg convert source.raw /proc/x.raw');
    expect(ended.status).toBe(1);
    expect(ended.stderr.split('\n').filter((line) => line.startsWith('vimg: Could not create'))).toHaveLength(
      2,
    );
  });

  it.skipIf(requireMount())('a full disk: an error that says so, and nothing left', async () => {
    expect((await shell('mkdir full && mount -t tmpfs -o size=8m tmpfs full')).status).toBe(0);
    try {
      writeFileSync(join(work, 'full', 'old'), 'old');
      for (const format of ['raw', 'vvd', 'qcow2']) {
        const ended = await shell(`vimg convert -O ${format} source.raw full/old`);
        expect(ended.status).toBe(1);
        expect(ended.stderr).toMatch(/^vimg: .*No space left on device.*\nhint: free some space/);
        expect(ended.stderr).not.toContain('.tmp');
      }
      const created = await shell('vimg create -q -o preallocation=full full/new.raw 24M');
      expect(created.stderr).toMatch(/^vimg: .*No space left on device/);
      expect(readdirSync(join(work, 'full'))).toEqual(['old']);
      expect(readFileSync(join(work, 'full', 'old'), 'utf8')).toBe('old');
    } finally {
      await shell('umount full');
    }
  });

  it('two tools at one disk: the second is refused, and told who holds it', async () => {
    expect((await shell('vimg create -q target.vvd 24M')).status).toBe(0);
    let refusal: Promise<Outcome> | undefined;
    const ended = await interrupted(['-n', 'source.raw', 'target.vvd'], (child) => {
      refusal = shell('vimg resize target.vvd 48M').then((outcome) => {
        child.kill('SIGINT');
        return outcome;
      });
    });
    const outcome = await refusal;
    expect(outcome?.status).toBe(1);
    expect(outcome?.stderr).toMatch(/in use by process [0-9]+ \(/);
    expect(ended.status).toBe(130);
  });
});
