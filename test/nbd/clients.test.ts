/** Real clients: libnbd's nbdinfo, nbdcopy and nbdsh, and QEMU's qemu-img and qemu-io, against disks of every format. */
import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { withDir } from 'tmp-promise';
import { describe, expect, it } from 'vitest';
import { formats } from '../../formats/index.ts';
import { SeededRandom } from '../../src/base/random.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { createImage } from '../../src/image/create-image.ts';
import { DiskImage } from '../../src/image/disk-image.ts';
import { exportDisk } from '../../src/nbd/export.ts';
import { CMD_TRIM, CMD_WRITE, CMD_WRITE_ZEROES } from '../../src/nbd/protocol.ts';
import { NbdServer } from '../../src/nbd/server.ts';
import { requireTool } from '../reference-tools.ts';
import { RawClient } from './raw-client.ts';
import { exported, MiB, withServer } from './served-device.ts';

const execute = promisify(execFile);

async function run(program: string, ...args: string[]): Promise<string> {
  return (await execute(program, args, { maxBuffer: 64 * MiB })).stdout;
}

interface ServedDisk {
  readonly disk: DiskImage;
  readonly uri: string;
  readonly folder: string;
  /** What the guest reads. */
  readonly content: () => Promise<Buffer>;
}

const SIZE = 8 * MiB;

/** Serves a clone whose base holds data in places; the clone holds some of its own. */
async function withDisk(work: (served: ServedDisk) => Promise<void>): Promise<void> {
  await withDir(
    async ({ path: folder }) => {
      const base = join(folder, 'base.vvd');
      const top = join(folder, 'top.vvd');
      await createImage(base, { formats, format: 'vvd', size: SIZE });
      await fill(base, [MiB, 5 * MiB], 1);
      await createImage(top, { formats, format: 'vvd', backing: { path: 'base.vvd', format: 'vvd' } });
      await fill(top, [5 * MiB + 65_536, 7 * MiB], 2);
      const disk = await DiskImage.open(top, { formats, readOnly: false, blocking: false });
      const address = { socketPath: join(folder, 'nbd.sock') };
      const server = await NbdServer.listen(address, { exports: [exportDisk(disk, '', 'a clone')] });
      const content = async (): Promise<Buffer> => {
        const bytes = Buffer.alloc(disk.size);
        await disk.pread(bytes, 0);
        return bytes;
      };
      try {
        await work({ disk, uri: server.uri(''), folder, content });
      } finally {
        await server.close();
        await disk.close();
      }
    },
    { unsafeCleanup: true, prefix: 'vimg-nbd' },
  );
}

async function fill(path: string, places: readonly number[], seed: number): Promise<void> {
  const random = new SeededRandom(seed);
  const disk = await DiskImage.open(path, { formats, readOnly: false });
  for (const place of places) await disk.pwrite(random.bytes(300 * 1024), place);
  await disk.close();
}

/** Data in two places, zeroes elsewhere: what is copied into a disk. */
function otherContent(): Buffer {
  const bytes = Buffer.alloc(SIZE);
  const random = new SeededRandom(3);
  random.fill(bytes.subarray(2 * MiB, 2 * MiB + 500_000));
  random.fill(bytes.subarray(6 * MiB, 6 * MiB + 4096));
  return bytes;
}

describe.skipIf(requireTool('nbdinfo', 'nbdcopy'))('libnbd', () => {
  it('nbdinfo sees all of the export', () =>
    withDisk(async ({ uri }) => {
      const info = JSON.parse(await run('nbdinfo', '--json', uri)) as Record<string, unknown>;
      expect(info).toMatchObject({ protocol: 'newstyle-fixed', TLS: false, structured: true });
      expect(info['exports']).toEqual([
        {
          'export-name': '',
          description: 'a clone',
          contexts: ['base:allocation', 'qemu:allocation-depth'],
          is_rotational: false,
          is_read_only: false,
          can_cache: true,
          can_df: true,
          can_fast_zero: true,
          can_flush: true,
          can_fua: true,
          can_multi_conn: true,
          can_trim: true,
          can_zero: true,
          block_size_minimum: 1,
          block_size_preferred: 4096,
          block_size_maximum: 32 * MiB,
          content: 'data',
          uri,
          'export-size': SIZE,
          'export-size-str': '8M',
        },
      ]);
      expect(await run('nbdinfo', '--list', uri)).toContain('export=""');
      const depths = JSON.parse(await run('nbdinfo', '--json', '--map=qemu:allocation-depth', uri)) as {
        offset: number;
        type: number;
      }[];
      const depthAt = (place: number): number | undefined =>
        depths.findLast(({ offset }) => offset <= place)?.type;
      expect([0, MiB, 5 * MiB, 5 * MiB + 65_536, 7 * MiB].map(depthAt)).toEqual([0, 2, 2, 1, 1]);
    }));

  it('nbdinfo sees which of several exports can only be read', async () => {
    const devices = [
      MemoryDevice.create(MiB, { growable: false }),
      MemoryDevice.create(2 * MiB, { readOnly: true }),
    ];
    const exports = devices.map((device, index) => exported(device, `disk ${index}`));
    await withServer(exports, async ({ server }) => {
      const { exports: listed } = JSON.parse(await run('nbdinfo', '--json', '--list', server.uri('')));
      expect(listed).toMatchObject([
        { 'export-name': 'disk 0', 'export-size': MiB, is_read_only: false, can_trim: true, can_zero: true },
        { 'export-name': 'disk 1', 'export-size': 2 * MiB, is_read_only: true },
      ]);
    });
  });

  it.each([
    [['--allocated']],
    [['--no-extents']],
    [['--connections=4', '--requests=16', '--request-size=65536']],
  ])('nbdcopy %j, out and in', (options) =>
    withDisk(async ({ uri, folder, content }) => {
      const out = join(folder, 'out.raw');
      await run('nbdcopy', ...options, uri, out);
      expect(readFileSync(out).equals(await content())).toBe(true);
      const source = join(folder, 'in.raw');
      writeFileSync(source, otherContent());
      await run('nbdcopy', ...options, '--flush', source, uri);
      expect((await content()).equals(otherContent())).toBe(true);
    }),
  );
});

const EVERY_COMMAND = `
import nbd, errno
h.set_strict_mode(0)
def fails(number, call):
    try:
        call()
    except nbd.Error as error:
        assert error.errnum == number, error
    else:
        assert False, "it must fail"
size = h.get_size()
h.pwrite(b"a" * 70000, 1000, nbd.CMD_FLAG_FUA)
assert h.pread(70002, 999) == b"\\0" + b"a" * 70000 + b"\\0"
h.pwrite(b"", 0)
h.zero(4096, 4096)
h.zero(4096, 8192, nbd.CMD_FLAG_NO_HOLE)
h.zero(4096, 12288, nbd.CMD_FLAG_FAST_ZERO)
h.zero(4096, 16384, nbd.CMD_FLAG_FUA)
fails(errno.ENOTSUP, lambda: h.zero(512, 1, nbd.CMD_FLAG_FAST_ZERO))
assert h.pread(16384, 4096) == b"\\0" * 16384
h.trim(4096, 24576)
h.trim(4096, 28672, nbd.CMD_FLAG_FUA)
h.cache(65536, 0)
h.flush()
chunks = []
def chunk(data, offset, status, error):
    chunks.append((offset, status, len(data)))
h.pread_structured(1 << 20, 0, chunk)
assert {status for _, status, _ in chunks} == {nbd.READ_DATA, nbd.READ_HOLE}, chunks
chunks.clear()
h.pread_structured(1 << 20, 0, chunk, nbd.CMD_FLAG_DF)
assert chunks == [(0, nbd.READ_DATA, 1 << 20)], chunks
seen = {}
def extents(context, offset, entries, error):
    seen[context] = entries
h.block_status(size, 0, extents)
assert set(seen) == {"base:allocation", "qemu:allocation-depth"}, seen
assert all(sum(entries[::2]) == size for entries in seen.values()), seen
h.block_status(size, 0, extents, nbd.CMD_FLAG_REQ_ONE)
assert all(len(entries) == 2 for entries in seen.values()), seen
fails(errno.EINVAL, lambda: h.pread(512, size))
fails(errno.ENOSPC, lambda: h.pwrite(b"x" * 512, size))
fails(errno.ENOSPC, lambda: h.zero(512, size))
fails(errno.EINVAL, lambda: h.trim(512, size - 1))
fails(errno.EINVAL, lambda: h.flush(nbd.CMD_FLAG_DF))
assert h.pread(512, 0) == b"\\0" * 512
`;

/** What nbdsh starts, with the Python that Debian's python3-libnbd is for. */
const NBDSH = ['/usr/bin/python3', '-m', 'nbd'] as const;

describe.skipIf(requireTool('nbdsh'))('nbdsh', () => {
  it('every command and flag', () =>
    withDisk(async ({ uri }) => {
      const open = ['--base-allocation', '-c', 'h.add_meta_context("qemu:allocation-depth")'];
      await run(...NBDSH, ...open, '-c', `h.connect_uri(${JSON.stringify(uri)})`, '-c', EVERY_COMMAND);
    }));

  it('several connections see what each other flushed', () =>
    withDisk(async ({ uri }) => {
      const script = `
other = nbd.NBD()
other.connect_uri(${JSON.stringify(uri)})
for i in range(100):
    h.pwrite(bytes([i]) * 512, i * 512)
    other.flush()
    assert other.pread(512, i * 512) == bytes([i]) * 512
`;
      await run(...NBDSH, '-u', uri, '-c', 'import nbd', '-c', script);
    }));
});

describe.skipIf(requireTool('qemu-img', 'qemu-io'))('QEMU', () => {
  it('qemu-img info, convert out, compare', () =>
    withDisk(async ({ uri, folder, content }) => {
      const info = JSON.parse(await run('qemu-img', 'info', '--output=json', uri)) as Record<string, unknown>;
      expect(info['virtual-size']).toBe(SIZE);
      const out = join(folder, 'out.raw');
      await run('qemu-img', 'convert', '-f', 'raw', '-O', 'raw', uri, out);
      expect(readFileSync(out).equals(await content())).toBe(true);
      expect(await run('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', uri, out)).toContain('identical');
    }));

  it('qemu-img map says what the disk says', () =>
    withDisk(async ({ uri, disk }) => {
      const map = JSON.parse(await run('qemu-img', 'map', '--output=json', '-f', 'raw', uri)) as {
        start: number;
        length: number;
        zero: boolean;
        data: boolean;
      }[];
      for (const { start, length, zero, data } of map) {
        for (let at = start; at < start + length; ) {
          const extent = await disk.status(at, start + length - at);
          expect([at, extent.zero, extent.allocated]).toEqual([at, zero, data]);
          at += extent.length;
        }
      }
      expect(map.reduce((sum, { length }) => sum + length, 0)).toBe(SIZE);
    }));

  it('qemu-img convert into the export', () =>
    withDisk(async ({ uri, folder, content }) => {
      const source = join(folder, 'in.raw');
      writeFileSync(source, otherContent());
      await run('qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'raw', source, uri);
      expect((await content()).equals(otherContent())).toBe(true);
    }));

  it('qemu-io: patterns, zeroes, discard, flush', () =>
    withDisk(async ({ uri, content }) => {
      const commands = [
        'write -P 0x11 0 64k',
        'write -f -P 0x22 100k 3k',
        'write -z 32k 8k',
        'write -z -u 48k 8k',
        'discard 1M 64k',
        'flush',
        'read -P 0x11 0 32k',
        'read -P 0 32k 8k',
        'read -P 0x22 100k 3k',
        'aio_write -P 0x33 2M 1M',
        'aio_read 0 1M',
        'aio_flush',
      ];
      const output = await run('qemu-io', '-f', 'raw', ...commands.flatMap((each) => ['-c', each]), uri);
      expect(output).not.toContain('failed');
      const bytes = await content();
      expect([bytes[0], bytes[33_000], bytes[102_400], bytes[2 * MiB + 5]]).toEqual([0x11, 0, 0x22, 0x33]);
    }));
});

describe('formats', () => {
  it.each(['vvd', 'raw'])('a %s disk keeps what was written, after it is closed', (format) =>
    withDir(
      async ({ path }) => {
        const file = join(path, `disk.${format}`);
        await createImage(file, { formats, format, size: SIZE });
        const disk = await DiskImage.open(file, { formats, format, readOnly: false, blocking: false });
        const server = await NbdServer.listen(
          { host: '127.0.0.1', port: 0 },
          { exports: [exportDisk(disk, 'd')] },
        );
        const client = await RawClient.connect(server.address);
        await client.enter({ name: 'd', structured: false });
        const data = Buffer.from(new SeededRandom(9).bytes(300_000));
        expect(await client.ask({ type: CMD_WRITE, offset: 12_345, length: data.length, data })).toBe(0);
        expect(await client.ask({ type: CMD_WRITE_ZEROES, offset: 65_536, length: 65_536, flags: 2 })).toBe(
          0,
        );
        expect(await client.ask({ type: CMD_TRIM, offset: 196_608, length: 65_536 })).toBe(0);
        client.close();
        await server.close();
        await disk.close();
        const expected = Buffer.alloc(SIZE);
        data.copy(expected, 12_345);
        expected.fill(0, 65_536, 131_072).fill(0, 196_608, 262_144);
        const again = await DiskImage.open(file, { formats, format });
        const found = Buffer.alloc(SIZE);
        await again.pread(found, 0);
        await again.close();
        expect(found.equals(expected)).toBe(true);
      },
      { unsafeCleanup: true },
    ),
  );
});
