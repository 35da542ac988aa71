/** fio's verify jobs over several connections, and nbd-client's list: clients that are no library of ours. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { withDir } from 'tmp-promise';
import { describe, expect, it } from 'vitest';
import { formats } from '../../formats/index.ts';
import { createImage } from '../../src/image/create-image.ts';
import { DiskImage } from '../../src/image/disk-image.ts';
import { exportDisk } from '../../src/nbd/export.ts';
import { NbdServer } from '../../src/nbd/server.ts';
import { requireTool } from '../reference-tools.ts';
import { exported, MiB, memory } from './served-device.ts';

const execute = promisify(execFile);
const JOBS = 3;

describe.skipIf(requireTool('fio'))('fio', () => {
  it.each(['vvd', 'raw'])('verifies what it wrote at random, %s, several connections', (format) =>
    withDir(
      async ({ path: folder }) => {
        const path = join(folder, `disk.${format}`);
        await createImage(path, { formats, format, size: JOBS * 8 * MiB });
        const disk = await DiskImage.open(path, { formats, format, readOnly: false, blocking: false });
        const address = { socketPath: join(folder, 'nbd.sock') };
        const server = await NbdServer.listen(address, { exports: [exportDisk(disk, '')] });
        try {
          await execute(
            'fio',
            [
              ...['--name=verified', '--ioengine=nbd', `--uri=${server.uri('')}`, '--rw=randwrite'],
              ...['--bsrange=512-64k', '--iodepth=32', '--verify=crc32c', '--do_verify=1'],
              ...['--verify_fatal=1', '--randseed=7', '--fsync=64'],
              ...[`--numjobs=${JOBS}`, '--size=8m', '--offset_increment=8m', '--group_reporting'],
            ],
            { cwd: folder },
          );
        } finally {
          await server.close();
          await disk.close();
        }
      },
      { unsafeCleanup: true, prefix: 'vimg-fio' },
    ),
  );
});

describe.skipIf(requireTool('nbd-client'))('nbd-client', () => {
  it('lists the exports', async () => {
    const exports = [exported(memory(), 'one'), exported(memory(), 'a two')];
    const server = await NbdServer.listen({ host: '127.0.0.1', port: 0 }, { exports });
    try {
      const { port } = server.address as { port: number };
      const env = { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` };
      const { stdout } = await execute('nbd-client', ['-l', '127.0.0.1', String(port)], { env });
      expect(stdout).toContain('one');
      expect(stdout).toContain('a two');
    } finally {
      await server.close();
    }
  });
});
