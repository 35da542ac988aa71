/** A real file system that is full, under a disk that is served: a small tmpfs. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { withDir } from 'tmp-promise';
import { describe, expect, it } from 'vitest';
import { createImage, openImage } from '../../src/index.ts';
import { BUILT_TOOL } from '../cli/session.ts';
import { requireMount, requireTool } from '../reference-tools.ts';

const MiB = 1024 * 1024;

describe.skipIf(requireMount() || requireTool('nbdcopy'))('a served disk whose storage is full', () => {
  it('lets its writer wait, and goes on when there is space', async () => {
    await withDir(
      async ({ path }) => {
        execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', path]);
        try {
          await writeWhileFull(path);
        } finally {
          execFileSync('umount', [path]);
        }
      },
      { unsafeCleanup: true },
    );
  });
});

async function writeWhileFull(folder: string): Promise<void> {
  const at = (name: string): string => join(folder, name);
  await createImage(at('disk.vvd'), { size: 16 * MiB });
  writeFileSync(at('filler'), Buffer.alloc(5 * MiB, 1));
  const data = Buffer.alloc(4 * MiB, 'data');
  const serving = spawn(process.execPath, [BUILT_TOOL, 'serve', at('disk.vvd'), '--socket', at('nbd.sock')]);
  const told = { text: '' };
  serving.stderr.on('data', (chunk: Buffer) => {
    told.text += chunk.toString();
  });
  try {
    await once(serving.stdout, 'data');
    const copy = spawn('nbdcopy', ['--flush', '-', `nbd+unix:///?socket=${at('nbd.sock')}`]);
    copy.stdin.end(data);
    const ended = once(copy, 'close');
    while (!told.text.includes('no space')) await once(serving.stderr, 'data');
    expect(copy.exitCode).toBeNull();
    rmSync(at('filler'));
    expect((await ended)[0]).toBe(0);
    expect(told.text).toMatch(/disk\.vvd: goes on/);
  } finally {
    serving.kill('SIGTERM');
    if (serving.exitCode === null) await once(serving, 'exit');
  }
  await using disk = await openImage(at('disk.vvd'));
  const read = Buffer.alloc(data.length);
  await disk.pread(read, 0);
  expect(read.equals(data)).toBe(true);
}
