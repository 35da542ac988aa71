/** Each command and flag in the transmission phase, and each way to ask wrongly ("Request types", "Error values"). */
import { describe, expect, it } from 'vitest';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { DelayDevice } from '../../src/device/delay-device.ts';
import { FaultDevice } from '../../src/device/fault-device.ts';
import {
  CMD_BLOCK_STATUS,
  CMD_CACHE,
  CMD_DISC,
  CMD_FLAG_DF,
  CMD_FLAG_FUA,
  CMD_FLAG_NO_HOLE,
  CMD_FLAG_REQ_ONE,
  CMD_FLUSH,
  CMD_READ,
  CMD_TRIM,
  CMD_WRITE,
  CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_ENOSPC,
  REPLY_BLOCK_STATUS,
  REPLY_FLAG_DONE,
  REPLY_OFFSET_DATA,
  REPLY_OFFSET_HOLE,
  REQUEST,
  REQUEST_MAGIC,
  SIMPLE_REPLY_MAGIC,
  STATE_HOLE,
  STATE_ZERO,
} from '../../src/nbd/protocol.ts';
import type { Chunk } from './raw-client.ts';
import { exported, filled, MiB, memory, serving, withServer } from './served-device.ts';

const EIO = 5;

/** What the chunks of a READ say, as bytes. */
function assembled(chunks: readonly Chunk[], offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length, 0xee);
  for (const { type, payload } of chunks) {
    const at = Number(payload.readBigUInt64BE(0)) - offset;
    if (type === REPLY_OFFSET_HOLE) bytes.fill(0, at, at + payload.readUInt32BE(8));
    else payload.copy(bytes, at, 8);
  }
  return bytes;
}

describe.each([
  ['in the same tick', () => memory()],
  ['later', () => new DelayDevice(memory(), 1)],
])('a device that answers %s', (_, make) => {
  it('reads what was written, with simple replies', () =>
    serving(make(), { structured: false }, async (client) => {
      const data = filled(10_000, 7);
      expect(await client.ask({ type: CMD_WRITE, offset: 5000, length: 10_000, data })).toBe(0);
      client.sendRequest({ type: CMD_READ, offset: 4999, length: 10_002, cookie: 0xfedc_ba98_7654_3210n });
      expect(await client.simpleReply()).toEqual({
        magic: SIMPLE_REPLY_MAGIC,
        error: 0,
        cookie: 0xfedc_ba98_7654_3210n,
      });
      expect(await client.read(10_002)).toEqual(Buffer.concat([Buffer.alloc(1), data, Buffer.alloc(1)]));
    }));

  it('reads holes as chunks, unless told not to', () =>
    serving(make(), {}, async (client) => {
      const data = filled(65_536, 9);
      await client.ask({ type: CMD_WRITE, offset: MiB, length: data.length, data });
      const request = { type: CMD_READ, offset: MiB - 100_000, length: 300_000 };
      const chunks = await client.chunks(request);
      expect(chunks.map(({ type }) => type)).toEqual([
        REPLY_OFFSET_HOLE,
        REPLY_OFFSET_DATA,
        REPLY_OFFSET_HOLE,
      ]);
      const expected = Buffer.concat([Buffer.alloc(100_000), data, Buffer.alloc(134_464)]);
      expect(assembled(chunks, request.offset, request.length).equals(expected)).toBe(true);
      const whole = await client.chunks({ ...request, flags: CMD_FLAG_DF });
      expect(whole.map(({ type }) => type)).toEqual([REPLY_OFFSET_DATA]);
      expect(whole[0]?.payload.subarray(8).equals(expected)).toBe(true);
      const short = await client.chunks({ type: CMD_READ, offset: MiB, length: 4096 });
      expect(short.map(({ type }) => type)).toEqual([REPLY_OFFSET_DATA]);
      const data16 = await client.chunks({ type: CMD_READ, offset: MiB, length: 65_536 });
      expect(data16.map(({ type }) => type)).toEqual([REPLY_OFFSET_DATA]);
    }));

  it('does every command that changes something', () =>
    serving(make(), { contexts: ['base:allocation'] }, async (client) => {
      const data = filled(128 * 1024, 3);
      const range = { offset: 0, length: data.length };
      const read = async (offset: number): Promise<number> =>
        (await client.chunks({ type: CMD_READ, offset, length: 1 }))[0]?.payload[8] ?? -1;
      expect(await client.ask({ type: CMD_WRITE, ...range, data, flags: CMD_FLAG_FUA })).toBe(0);
      expect(await read(0)).toBe(3);
      expect(await client.ask({ type: CMD_WRITE_ZEROES, offset: 0, length: 32_768 })).toBe(0);
      expect(
        await client.ask({ type: CMD_WRITE_ZEROES, offset: 32_768, length: 1, flags: CMD_FLAG_NO_HOLE }),
      ).toBe(0);
      expect(await client.ask({ type: CMD_TRIM, offset: 65_536, length: 65_536, flags: CMD_FLAG_FUA })).toBe(
        0,
      );
      expect([await read(0), await read(32_767), await read(32_768), await read(32_769)]).toEqual([
        0, 0, 0, 3,
      ]);
      expect(await client.ask({ type: CMD_CACHE, offset: 0, length: 4 * MiB })).toBe(0);
      expect(await client.ask({ type: CMD_FLUSH })).toBe(0);
      expect(await client.ask({ type: CMD_FLUSH, flags: CMD_FLAG_FUA })).toBe(0);
    }));

  it('tells what lies where', () =>
    serving(make(), { contexts: ['base:allocation'] }, async (client) => {
      const data = filled(65_536, 3);
      await client.ask({ type: CMD_WRITE, offset: 65_536, length: data.length, data });
      const status = async (flags: number, offset: number, length: number): Promise<number[][]> => {
        const [chunk, ...more] = await client.chunks({ type: CMD_BLOCK_STATUS, flags, offset, length });
        expect(more).toEqual([]);
        expect([chunk?.type, chunk?.flags, chunk?.payload.readUInt32BE(0)]).toEqual([
          REPLY_BLOCK_STATUS,
          REPLY_FLAG_DONE,
          1,
        ]);
        const { payload } = chunk as Chunk;
        const extents: number[][] = [];
        for (let at = 4; at < payload.length; at += 8) {
          extents.push([payload.readUInt32BE(at), payload.readUInt32BE(at + 4)]);
        }
        return extents;
      };
      const hole = STATE_HOLE | STATE_ZERO;
      expect(await status(0, 0, 4 * MiB)).toEqual([
        [65_536, hole],
        [65_536, 0],
        [4 * MiB - 131_072, hole],
      ]);
      expect(await status(CMD_FLAG_REQ_ONE, 0, 4 * MiB)).toEqual([[65_536, hole]]);
      expect(await status(CMD_FLAG_REQ_ONE, 1000, 512)).toEqual([[512, hole]]);
      expect(await status(0, 100_000, 512)).toEqual([[512, 0]]);
    }));
});

describe('transmission', () => {
  it('answers many requests sent at once, each once', () =>
    serving(new DelayDevice(memory(), () => Math.random() * 3), { structured: false }, async (client) => {
      const count = 500;
      for (let i = 0; i < count; i++) {
        const data = filled(512, i & 0xff);
        client.sendRequest({ type: CMD_WRITE, offset: i * 512, length: 512, data, cookie: BigInt(i) });
      }
      const cookies = new Set<bigint>();
      for (let i = 0; i < count; i++) {
        const { error, cookie } = await client.simpleReply();
        expect(error).toBe(0);
        cookies.add(cookie);
      }
      expect(cookies.size).toBe(count);
      client.sendRequest({ type: CMD_READ, length: count * 512 });
      await client.simpleReply();
      const bytes = await client.read(count * 512);
      for (let i = 0; i < count; i++) expect(bytes[i * 512]).toBe(i & 0xff);
    }));

  it('understands requests cut anywhere', () =>
    serving(memory(), { structured: false }, async (client) => {
      client.socket.setNoDelay(true);
      const head = { magic: REQUEST_MAGIC, flags: 0, cookie: 1n };
      const bytes = Buffer.concat([
        REQUEST.encode({ ...head, type: CMD_WRITE, offset: 0n, length: 100 }),
        filled(100, 5),
        REQUEST.encode({ ...head, type: CMD_READ, offset: 50n, length: 10 }),
      ]);
      for (let step = 1; step < 60; step += 7) {
        for (let at = 0; at < bytes.length; at += step) {
          client.send(bytes.subarray(at, at + step));
          await new Promise((resolve) => setImmediate(resolve));
        }
        expect((await client.simpleReply()).error).toBe(0);
        expect((await client.simpleReply()).error).toBe(0);
        expect(await client.read(10)).toEqual(filled(10, 5));
      }
    }));

  it('FUA flushes before it answers', async () => {
    const device = new FaultDevice(memory());
    await serving(device, { structured: false }, async (client) => {
      const write = { type: CMD_WRITE, length: 512, data: filled(512, 1) };
      expect(await client.ask({ ...write, flags: CMD_FLAG_FUA })).toBe(0);
      device.add({ on: 'flush', sticky: true });
      expect(await client.ask(write)).toBe(0);
      expect(await client.ask({ ...write, flags: CMD_FLAG_FUA })).toBe(EIO);
      expect(await client.ask({ type: CMD_FLUSH })).toBe(EIO);
      client.sendRequest({ type: CMD_READ, flags: CMD_FLAG_FUA, length: 512 });
      expect((await client.simpleReply()).error).toBe(0);
    });
  });

  it.each([
    ['in the same tick', (device: BlockDevice) => device],
    ['later', (device: BlockDevice) => new DelayDevice(device, 1)],
  ])('errors of the device that come %s are answered, and the connection goes on', async (_, wrap) => {
    const faults = new FaultDevice(memory());
    const device = wrap(faults);
    await serving(device, {}, async (client) => {
      faults.add({ on: 'read' });
      expect(await client.askStructured({ type: CMD_READ, length: 4096 })).toBe(EIO);
      faults.add({ on: 'read' });
      expect(await client.askStructured({ type: CMD_READ, length: 100_000 })).toBe(0);
      expect(await client.askStructured({ type: CMD_READ, length: 100_000, flags: CMD_FLAG_DF })).toBe(EIO);
      faults.add({ on: 'write', error: 'ENOSPC' });
      const write = { type: CMD_WRITE, length: 512, data: filled(512, 1) };
      expect(await client.askStructured(write)).toBe(NBD_ENOSPC);
      faults.add({ on: 'zero' });
      expect(await client.askStructured({ type: CMD_WRITE_ZEROES, length: 4096 })).toBe(EIO);
      faults.add({ on: 'status' });
      expect(await client.askStructured({ type: CMD_READ, length: 100_000 })).toBe(EIO);
      const [chunk] = await client.chunks({ type: CMD_READ, length: 4096 });
      expect(chunk?.payload.length).toBe(8 + 4096);
    });
  });

  it('a refused write drops its data', () =>
    serving(memory(), { structured: false }, async (client) => {
      const length = MiB;
      const write = { type: CMD_WRITE, offset: 4 * MiB - 512, length, data: filled(length, 0x25) };
      expect(await client.ask(write)).toBe(NBD_ENOSPC);
      expect(await client.ask({ ...write, offset: 0, flags: 0x8000 })).toBe(NBD_EINVAL);
      client.sendRequest({ type: CMD_READ, length: 512 });
      expect((await client.simpleReply()).error).toBe(0);
      expect(await client.read(512)).toEqual(Buffer.alloc(512));
    }));

  it('a request that does not begin as one closes the connection', () =>
    serving(memory(), {}, async (client) => {
      client.send(Buffer.alloc(28, 0x41));
      await client.closed;
    }));

  it('DISC answers what is in flight, then closes', () =>
    serving(new DelayDevice(memory(), 20), { structured: false }, async (client) => {
      client.sendRequest({ type: CMD_WRITE, length: 512, data: filled(512, 1) });
      client.sendRequest({ type: CMD_DISC });
      client.sendRequest({ type: CMD_FLUSH });
      expect((await client.simpleReply()).error).toBe(0);
      await client.closed;
      await expect(client.read(1)).rejects.toThrow('closed');
    }));

  it('a flush covers writes of other connections', async () => {
    const device = memory();
    await withServer([exported(device)], async ({ connect }) => {
      const [one, other] = [await connect(), await connect()];
      await one.enter({ structured: false });
      await other.enter({ structured: false });
      expect(await one.ask({ type: CMD_WRITE, length: 512, data: filled(512, 1) })).toBe(0);
      expect(await other.ask({ type: CMD_FLUSH })).toBe(0);
      other.sendRequest({ type: CMD_READ, length: 512 });
      await other.simpleReply();
      expect(await other.read(512)).toEqual(filled(512, 1));
    });
  });
});
