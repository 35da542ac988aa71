/**
 * Extended headers: 64-bit lengths, the payload form of BLOCK_STATUS, and each way to use them wrongly. Debian 12's
 * clients do not know this option yet, so the tests' own client speaks here.
 */
import { describe, expect, it } from 'vitest';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import {
  CMD_BLOCK_STATUS,
  CMD_FLAG_DF,
  CMD_FLAG_PAYLOAD_LEN,
  CMD_FLAG_REQ_ONE,
  CMD_FLUSH,
  CMD_READ,
  CMD_TRIM,
  CMD_WRITE,
  CMD_WRITE_ZEROES,
  EXTENDED_REPLY_MAGIC,
  FLAG_FIXED_NEWSTYLE,
  NBD_EINVAL,
  NBD_EOVERFLOW,
  OPT_EXPORT_NAME,
  OPT_EXTENDED_HEADERS,
  OPT_GO,
  OPT_SET_META_CONTEXT,
  OPT_STRUCTURED_REPLY,
  REP_ACK,
  REP_ERR_EXT_HEADER_REQD,
  REP_ERR_INVALID,
  REP_INFO,
  REPLY_BLOCK_STATUS_EXT,
  REPLY_FLAG_DONE,
  REPLY_NONE,
  REPLY_OFFSET_DATA,
  REPLY_OFFSET_HOLE,
  SEND_BLOCK_STATUS_PAYLOAD,
  SEND_DF,
  STATE_HOLE,
  STATE_ZERO,
} from '../../src/nbd/protocol.ts';
import { type Chunk, contextData, infoData, type RawClient, u32 } from './raw-client.ts';
import { exported, filled, MiB, memory, serving, withServer } from './served-device.ts';

const GiB = 2 ** 30;
const EXTENDED = { extended: true, contexts: ['base:allocation'] };

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

/** Length and flags of each extent of a BLOCK_STATUS_EXT chunk. */
function extentsOf({ type, payload }: Chunk): number[] {
  expect(type).toBe(REPLY_BLOCK_STATUS_EXT);
  const count = payload.readUInt32BE(4);
  expect(payload.length).toBe(8 + 16 * count);
  return Array.from({ length: 2 * count }, (_, index) => Number(payload.readBigUInt64BE(8 + 8 * index)));
}

async function typesOf(client: RawClient, option: number, data?: Uint8Array): Promise<number[]> {
  return (await client.option(option, data)).map(({ type }) => type);
}

describe('negotiation', () => {
  it('takes precedence over structured replies, in either order', () =>
    withServer([exported(memory())], async ({ connect }) => {
      const client = await connect();
      await client.greet();
      expect(await typesOf(client, OPT_STRUCTURED_REPLY)).toEqual([REP_ACK]);
      expect(await typesOf(client, OPT_EXTENDED_HEADERS, u32(0))).toEqual([REP_ERR_INVALID]);
      expect(await typesOf(client, OPT_EXTENDED_HEADERS)).toEqual([REP_ACK]);
      expect(await typesOf(client, OPT_EXTENDED_HEADERS)).toEqual([REP_ACK]);
      expect(await typesOf(client, OPT_STRUCTURED_REPLY)).toEqual([REP_ERR_EXT_HEADER_REQD]);
      const flags = async (): Promise<number> => {
        const [info] = await client.option(OPT_GO - 1, infoData(''));
        expect(info?.type).toBe(REP_INFO);
        return info?.data.readUInt16BE(10) ?? 0;
      };
      expect((await flags()) & (SEND_DF | SEND_BLOCK_STATUS_PAYLOAD)).toBe(SEND_DF);
      await client.option(OPT_SET_META_CONTEXT, contextData('', ['base:allocation']));
      expect((await flags()) & SEND_BLOCK_STATUS_PAYLOAD).toBe(SEND_BLOCK_STATUS_PAYLOAD);
    }));

  it('EXPORT_NAME afterwards closes', () =>
    withServer([exported(memory())], async ({ connect }) => {
      const client = await connect();
      await client.greet(FLAG_FIXED_NEWSTYLE);
      await client.option(OPT_EXTENDED_HEADERS);
      client.sendOption(OPT_EXPORT_NAME);
      await client.closed;
    }));
});

describe('transmission', () => {
  it('every reply is an extended chunk, with the offset and the cookie that were sent', () =>
    serving(memory(), EXTENDED, async (client) => {
      const data = filled(70_000, 7);
      const cookie = 0xfedc_ba98_7654_3210n;
      expect(
        await client.chunks({ type: CMD_WRITE, offset: 5000, length: data.length, data, cookie }),
      ).toMatchObject([
        {
          magic: EXTENDED_REPLY_MAGIC,
          type: REPLY_NONE,
          flags: REPLY_FLAG_DONE,
          cookie,
          offset: 5000n,
          length: 0,
        },
      ]);
      const [whole] = await client.chunks({
        type: CMD_READ,
        flags: CMD_FLAG_DF,
        offset: 5000,
        length: data.length,
      });
      expect(whole).toMatchObject({ type: REPLY_OFFSET_DATA, offset: 5000n });
      expect(whole?.payload.equals(Buffer.concat([u64(5000), data]))).toBe(true);
      const pieces = await client.chunks({ type: CMD_READ, offset: 5000, length: MiB });
      expect(pieces.map(({ type, offset }) => [type, offset])).toEqual([
        [REPLY_OFFSET_DATA, 5000n],
        [REPLY_OFFSET_HOLE, 5000n],
      ]);
      expect(await client.askStructured({ type: CMD_FLUSH })).toBe(0);
      const beyond = 2n ** 64n - 1n;
      expect(await client.chunks({ type: CMD_READ, offset: beyond, length: 1 })).toMatchObject([
        { type: 0x8001, offset: beyond },
      ]);
    }));

  it('lengths have 64 bits', () =>
    serving(MemoryDevice.create(8 * GiB, { growable: false }), EXTENDED, async (client) => {
      const data = filled(65_536, 3);
      await client.chunks({ type: CMD_WRITE, offset: 6 * GiB, length: data.length, data });
      const status = async (offset: number, length: number, flags = 0): Promise<number[]> =>
        extentsOf((await client.chunks({ type: CMD_BLOCK_STATUS, offset, length, flags }))[0] as Chunk);
      const hole = STATE_HOLE | STATE_ZERO;
      expect(await status(0, 8 * GiB, CMD_FLAG_REQ_ONE)).toEqual([6 * GiB, hole]);
      expect(await status(6 * GiB, 2 * GiB)).toEqual([65_536, 0, 2 * GiB - 65_536, hole]);
      expect(await client.askStructured({ type: CMD_WRITE_ZEROES, offset: 0, length: 7 * GiB })).toBe(0);
      expect(await status(0, 8 * GiB)).toEqual([8 * GiB, hole]);
      expect(await client.askStructured({ type: CMD_TRIM, offset: GiB, length: 7 * GiB })).toBe(0);
      expect(await client.askStructured({ type: CMD_TRIM, offset: GiB, length: 7 * GiB + 1 })).toBe(
        NBD_EINVAL,
      );
      expect(await client.askStructured({ type: CMD_READ, length: 5 * GiB })).toBe(NBD_EOVERFLOW);
      expect(await client.askStructured({ type: CMD_TRIM, length: 2n ** 64n - 1n })).toBe(NBD_EINVAL);
    }));

  it('BLOCK_STATUS with a payload answers for the contexts it names', () =>
    withServer(
      [
        {
          ...exported(memory()),
          moreContexts: () => [{ name: 'qemu:allocation-depth', at: (_, length) => ({ length, flags: 1 }) }],
        },
      ],
      async ({ connect }) => {
        const client = await connect();
        await client.enter({ extended: true, contexts: ['base:allocation', 'qemu:allocation-depth'] });
        const ask = (effect: number, ...ids: number[]): Promise<Chunk[]> => {
          const data = Buffer.concat([u64(effect), ...ids.map(u32)]);
          return client.chunks({ type: CMD_BLOCK_STATUS, offset: MiB, length: data.length, data });
        };
        const all = await client.chunks({ type: CMD_BLOCK_STATUS, offset: MiB, length: MiB });
        expect(all.map(({ payload }) => payload.readUInt32BE(0))).toEqual([1, 2]);
        const [depth, ...more] = await ask(65_536, 2);
        expect(more).toEqual([]);
        expect(extentsOf(depth as Chunk)).toEqual([65_536, 1]);
        expect((await ask(512, 2, 1)).map(({ payload }) => payload.readUInt32BE(0))).toEqual([2, 1]);
        const refused = async (effect: number, ...ids: number[]): Promise<number> =>
          (await ask(effect, ...ids))[0]?.payload.readUInt32BE(0) ?? 0;
        expect(await refused(512)).toBe(NBD_EINVAL);
        expect(await refused(512, 1, 1)).toBe(NBD_EINVAL);
        expect(await refused(512, 3)).toBe(NBD_EINVAL);
        expect(await refused(512, 1, 2, 1)).toBe(NBD_EINVAL);
        expect(await refused(0, 1)).toBe(NBD_EINVAL);
        expect(await refused(4 * MiB, 1)).toBe(NBD_EINVAL);
        const odd = Buffer.alloc(9);
        expect(await client.askStructured({ type: CMD_BLOCK_STATUS, length: 9, data: odd })).toBe(NBD_EINVAL);
        expect(await client.askStructured({ type: CMD_FLUSH })).toBe(0);
      },
    ));

  it('a payload where none belongs is dropped; where one must be it is missed', () =>
    serving(memory(), EXTENDED, async (client) => {
      const data = filled(100_000, 1);
      for (const type of [CMD_READ, CMD_FLUSH, CMD_TRIM, CMD_WRITE_ZEROES, 99])
        expect(await client.askStructured({ type, length: data.length, data })).toBe(NBD_EINVAL);
      expect(await client.askStructured({ type: CMD_WRITE, length: 4096 })).toBe(NBD_EINVAL);
      const [zeroes] = await client.chunks({ type: CMD_READ, flags: CMD_FLAG_DF, length: data.length });
      expect(zeroes?.payload.subarray(8).equals(Buffer.alloc(data.length))).toBe(true);
    }));

  it('without extended headers the flag is unknown', () =>
    serving(memory(), {}, async (client) => {
      expect(
        await client.askStructured({
          type: CMD_BLOCK_STATUS,
          length: 12,
          flags: CMD_FLAG_PAYLOAD_LEN,
        }),
      ).toBe(NBD_EINVAL);
      expect(await client.ask({ type: CMD_FLUSH })).toBe(0);
    }));

  it.each([
    ['a payload longer than any that is taken', { length: 2n ** 32n, flags: CMD_FLAG_PAYLOAD_LEN }],
    ['one of 64 bits', { length: 2n ** 64n - 1n, flags: CMD_FLAG_PAYLOAD_LEN }],
  ])('%s closes', (_, request) =>
    serving(memory(), EXTENDED, async (client) => {
      client.sendRequest({ type: CMD_WRITE, ...request });
      await client.closed;
    }),
  );

  it('a compact request closes', () =>
    serving(memory(), EXTENDED, async (client) => {
      client.send(Buffer.concat([u32(0x2560_9513), Buffer.alloc(28)]));
      await client.closed;
    }));
});
