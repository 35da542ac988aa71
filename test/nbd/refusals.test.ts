/** Every way to ask wrongly ("Error values"), and how the limits of ranges are kept. */
import { describe, expect, it } from 'vitest';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import {
  CMD_BLOCK_STATUS,
  CMD_CACHE,
  CMD_FLAG_DF,
  CMD_FLAG_FAST_ZERO,
  CMD_FLAG_NO_HOLE,
  CMD_FLUSH,
  CMD_READ,
  CMD_TRIM,
  CMD_WRITE,
  CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_ENOSPC,
  NBD_ENOTSUP,
  NBD_EOVERFLOW,
  NBD_EPERM,
  REPLY_NONE,
  REPLY_OFFSET_HOLE,
} from '../../src/nbd/protocol.ts';
import { exported, filled, MiB, memory, serving, withServer } from './served-device.ts';

describe('refusals', () => {
  it('a read-only export is not written', () =>
    serving(MemoryDevice.create(MiB, { readOnly: true }), { structured: false }, async (client) => {
      expect(await client.ask({ type: CMD_WRITE, length: 512, data: filled(512, 1) })).toBe(NBD_EPERM);
      expect(await client.ask({ type: CMD_TRIM, length: 512 })).toBe(NBD_EPERM);
      expect(await client.ask({ type: CMD_WRITE_ZEROES, length: 512 })).toBe(NBD_EPERM);
      expect(await client.ask({ type: CMD_FLUSH })).toBe(0);
    }));

  const end = 4 * MiB;
  const most = 0xffff_ffff;
  it.each([
    ['a read beyond the end', { type: CMD_READ, offset: end, length: 1 }, NBD_EINVAL],
    ['a read across the end', { type: CMD_READ, offset: end - 1, length: 2 }, NBD_EINVAL],
    ['a read at 2^64 − 1', { type: CMD_READ, offset: 2n ** 64n - 1n, length: 1 }, NBD_EINVAL],
    ['a read of 4 GiB', { type: CMD_READ, length: most }, NBD_EINVAL],
    ['a write of zeroes beyond the end', { type: CMD_WRITE_ZEROES, length: most }, NBD_ENOSPC],
    ['a trim beyond the end', { type: CMD_TRIM, offset: end, length: 512 }, NBD_EINVAL],
    ['a status beyond the end', { type: CMD_BLOCK_STATUS, offset: end, length: 1 }, NBD_EINVAL],
    ['a status of nothing', { type: CMD_BLOCK_STATUS, length: 0 }, NBD_EINVAL],
    ['a flush with a range', { type: CMD_FLUSH, length: 1 }, NBD_EINVAL],
    ['an unknown command', { type: 8, length: 1 }, NBD_EINVAL],
    ['another unknown command', { type: 0xffff }, NBD_EINVAL],
    ['an unknown flag', { type: CMD_READ, length: 1, flags: 0x40 }, NBD_EINVAL],
    ['the flag of another command', { type: CMD_TRIM, length: 1, flags: CMD_FLAG_NO_HOLE }, NBD_EINVAL],
    ['a cache request with a flag', { type: CMD_CACHE, length: 1, flags: CMD_FLAG_DF }, NBD_EINVAL],
    [
      'fast zeroes that are not aligned',
      { type: CMD_WRITE_ZEROES, offset: 1, length: 512, flags: CMD_FLAG_FAST_ZERO },
      NBD_ENOTSUP,
    ],
    [
      'fast zeroes that keep space',
      { type: CMD_WRITE_ZEROES, length: 4096, flags: CMD_FLAG_FAST_ZERO | CMD_FLAG_NO_HOLE },
      NBD_ENOTSUP,
    ],
    ['fast zeroes', { type: CMD_WRITE_ZEROES, length: 8192, flags: CMD_FLAG_FAST_ZERO }, 0],
    ['fast zeroes at the end', { type: CMD_WRITE_ZEROES, offset: end - 4096, length: 4096, flags: 16 }, 0],
    ['a trim of nothing', { type: CMD_TRIM, offset: end }, 0],
    ['zeroes of nothing', { type: CMD_WRITE_ZEROES }, 0],
    ['a cache request of nothing', { type: CMD_CACHE }, 0],
  ])('%s', (_, request, error) =>
    serving(memory(), { contexts: ['base:allocation'] }, async (client) => {
      if (error === 0) expect(await client.ask(request)).toBe(0);
      else expect(await client.askStructured(request)).toBe(error);
      expect(await client.ask({ type: CMD_FLUSH })).toBe(0);
    }),
  );

  it('reads and writes of nothing', () =>
    serving(memory(), { structured: false }, async (client) => {
      expect(await client.ask({ type: CMD_READ, offset: 512 })).toBe(0);
      expect(await client.ask({ type: CMD_WRITE, offset: 512 })).toBe(0);
      expect(await client.ask({ type: CMD_READ, length: 512, flags: CMD_FLAG_DF })).toBe(NBD_EINVAL);
    }));

  it('a structured read of nothing, and one that is too long', () =>
    serving(MemoryDevice.create(2 ** 40), {}, async (client) => {
      expect((await client.chunks({ type: CMD_READ, offset: 512 })).map(({ type }) => type)).toEqual([
        REPLY_NONE,
      ]);
      expect(await client.askStructured({ type: CMD_READ, length: 33 * MiB })).toBe(NBD_EOVERFLOW);
      const [hole] = await client.chunks({ type: CMD_READ, offset: 2 ** 39, length: 32 * MiB });
      expect(hole?.type).toBe(REPLY_OFFSET_HOLE);
      const [data] = await client.chunks({ type: CMD_READ, length: 32 * MiB, flags: CMD_FLAG_DF });
      expect(data?.payload.length).toBe(32 * MiB + 8);
    }));

  it('a write longer than any that is taken: its data is dropped, and the next request understood', () =>
    serving(MemoryDevice.create(64 * MiB, { growable: false }), { structured: false }, async (client) => {
      const length = 33 * MiB;
      expect(await client.ask({ type: CMD_WRITE, length, data: filled(length, 1) })).toBe(NBD_EINVAL);
      client.sendRequest({ type: CMD_READ, length: 512 });
      expect((await client.simpleReply()).error).toBe(0);
      expect(await client.read(512)).toEqual(Buffer.alloc(512));
    }));

  it('a write of 4 GiB whose client goes while its data is dropped', async () => {
    const device = memory();
    await withServer([exported(device)], async ({ connect, server }) => {
      const client = await connect();
      await client.enter({ structured: false });
      client.sendRequest({ type: CMD_WRITE, length: most, data: filled(8 * MiB, 1) });
      const other = await connect();
      await other.enter({ structured: false });
      expect(await other.ask({ type: CMD_WRITE, length: 512, data: filled(512, 2) })).toBe(0);
      client.close();
      await expect.poll(() => server.clients).toBe(1);
      const found = Buffer.alloc(4 * MiB);
      device.pread(found, 0);
      expect(found.equals(Buffer.concat([filled(512, 2), Buffer.alloc(4 * MiB - 512)]))).toBe(true);
    });
  });

  it('status without a context is refused', () =>
    serving(memory(), {}, async (client) => {
      expect(await client.askStructured({ type: CMD_BLOCK_STATUS, length: 4096 })).toBe(NBD_EINVAL);
    }));
});
