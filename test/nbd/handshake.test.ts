/** The handshake phase, right and wrong (the protocol document, "Newstyle negotiation" and "Option types"). */
import { describe, expect, it } from 'vitest';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import {
  FLAG_NO_ZEROES,
  INFO_BLOCK_SIZE,
  INFO_DESCRIPTION,
  INFO_EXPORT,
  INFO_NAME,
  OPT_ABORT,
  OPT_EXPORT_NAME,
  OPT_GO,
  OPT_INFO,
  OPT_LIST,
  OPT_LIST_META_CONTEXT,
  OPT_SET_META_CONTEXT,
  OPT_STARTTLS,
  OPT_STRUCTURED_REPLY,
  REP_ACK,
  REP_ERR_INVALID,
  REP_ERR_TOO_BIG,
  REP_ERR_UNKNOWN,
  REP_ERR_UNSUP,
  REP_INFO,
  REP_META_CONTEXT,
  REP_SERVER,
} from '../../src/nbd/protocol.ts';
import { contextData, infoData, type RawClient, u16, u32 } from './raw-client.ts';
import { exported, MiB, withServer } from './served-device.ts';

const exports = [
  exported(MemoryDevice.create(MiB, { growable: false })),
  { ...exported(MemoryDevice.create(2 * MiB, { readOnly: true }), 'größe/b'), description: 'the second' },
];

/** Runs `work` with a client that has greeted. */
function greeted(work: (client: RawClient) => Promise<void>): Promise<void> {
  return withServer(exports, async ({ connect }) => {
    const client = await connect();
    await client.greet();
    await work(client);
  });
}

const typesOf = (replies: readonly { type: number }[]): number[] => replies.map(({ type }) => type);

describe('handshake', () => {
  it('greets as fixed newstyle', () =>
    withServer(exports, async ({ connect }) => {
      const client = await connect();
      expect(await client.greet()).toEqual({ magic: 'NBDMAGIC', optionMagic: 'IHAVEOPT', flags: 3 });
    }));

  it('lists the exports', () =>
    greeted(async (client) => {
      const replies = await client.option(OPT_LIST);
      expect(typesOf(replies)).toEqual([REP_SERVER, REP_SERVER, REP_ACK]);
      expect(replies[0]?.data).toEqual(u32(0));
      const name = Buffer.from('größe/b');
      expect(replies[1]?.data).toEqual(Buffer.concat([u32(name.length), name, Buffer.from('the second')]));
      expect(typesOf(await client.option(OPT_LIST, Buffer.from('x')))).toEqual([REP_ERR_INVALID]);
    }));

  it('informs about an export, as far as asked', () =>
    greeted(async (client) => {
      const [info, ...rest] = await client.option(OPT_INFO, infoData('größe/b'));
      expect(typesOf(rest)).toEqual([REP_ACK]);
      expect(info?.data.readUInt16BE(0)).toBe(INFO_EXPORT);
      expect(info?.data.readBigUInt64BE(2)).toBe(BigInt(2 * MiB));
      // has flags, read-only, flush, FUA, multi-conn, cache
      expect(info?.data.readUInt16BE(10)).toBe(0b101_0000_1111);
      const wanted = [INFO_NAME, INFO_BLOCK_SIZE, INFO_DESCRIPTION, 77, INFO_NAME];
      const replies = await client.option(OPT_INFO, infoData('größe/b', wanted));
      expect(typesOf(replies)).toEqual([REP_INFO, REP_INFO, REP_INFO, REP_INFO, REP_ACK]);
      expect(replies[2]?.data).toEqual(
        Buffer.concat([u16(INFO_BLOCK_SIZE), u32(1), u32(4096), u32(32 * MiB)]),
      );
      expect(replies[3]?.data.toString('utf8', 2)).toBe('the second');
    }));

  it('says DF only once structured replies are agreed on', () =>
    greeted(async (client) => {
      const flags = async (): Promise<number> =>
        (await client.option(OPT_INFO, infoData('')))[0]?.data.readUInt16BE(10) ?? 0;
      expect(await flags()).toBe(0b1101_0110_1101);
      expect(typesOf(await client.option(OPT_STRUCTURED_REPLY, u32(1)))).toEqual([REP_ERR_INVALID]);
      expect(await flags()).toBe(0b1101_0110_1101);
      await client.option(OPT_STRUCTURED_REPLY);
      expect(await flags()).toBe(0b1101_1110_1101);
    }));

  it('refuses what it does not know and goes on', () =>
    greeted(async (client) => {
      expect(typesOf(await client.option(OPT_INFO, infoData('none')))).toEqual([REP_ERR_UNKNOWN]);
      expect(typesOf(await client.option(OPT_GO, infoData('none')))).toEqual([REP_ERR_UNKNOWN]);
      expect(typesOf(await client.option(OPT_STARTTLS))).toEqual([REP_ERR_UNSUP]);
      expect(typesOf(await client.option(99))).toEqual([REP_ERR_UNSUP]);
      expect(typesOf(await client.option(0xffff_ffff, Buffer.alloc(60_000)))).toEqual([REP_ERR_UNSUP]);
      expect(typesOf(await client.option(OPT_ABORT, Buffer.from('bye')))).toEqual([REP_ACK]);
      await client.closed;
    }));

  it.each([
    ['nothing', Buffer.alloc(0)],
    ['half a length', Buffer.alloc(3)],
    ['a name past the end', Buffer.concat([u32(100), Buffer.alloc(10)])],
    ['a name of 4 GiB', Buffer.concat([u32(0xffff_ffff), Buffer.alloc(10)])],
    ['a name of 5000 bytes', infoData('x'.repeat(5000))],
    ['more requests than data', Buffer.concat([u32(0), u16(3), u16(0)])],
    ['bytes behind the end', Buffer.concat([infoData(''), Buffer.alloc(1)])],
  ])('GO with %s is invalid', (_, data) =>
    greeted(async (client) => {
      expect(typesOf(await client.option(OPT_GO, data))).toEqual([REP_ERR_INVALID]);
      expect(typesOf(await client.option(OPT_GO, infoData('')))).toEqual([REP_INFO, REP_ACK]);
    }),
  );

  it('EXPORT_NAME enters with zeroes, or without', async () => {
    for (const [flags, padding] of [
      [3, 0],
      [1, 124],
      [0, 124],
    ] as const) {
      await withServer(exports, async ({ connect }) => {
        const client = await connect();
        await client.greet(flags);
        client.sendOption(OPT_EXPORT_NAME);
        const reply = await client.read(10 + padding);
        expect(reply.readBigUInt64BE(0)).toBe(BigInt(MiB));
        expect(reply.subarray(10).every((byte) => byte === 0)).toBe(true);
        expect(await client.ask({ type: 3 })).toBe(0);
      });
    }
  });

  it('EXPORT_NAME of an unknown export closes', () =>
    greeted(async (client) => {
      client.sendOption(OPT_EXPORT_NAME, Buffer.from('none'));
      await client.closed;
    }));

  it('metadata contexts: lists and wildcards, chosen by exact name', () =>
    greeted(async (client) => {
      const names = async (option: number, queries: string[]): Promise<string[]> =>
        (await client.option(option, contextData('', queries)))
          .filter(({ type }) => type === REP_META_CONTEXT)
          .map(({ data }) => `${data.readUInt32BE(0)} ${data.toString('utf8', 4)}`);
      expect(await names(OPT_LIST_META_CONTEXT, [])).toEqual(['0 base:allocation']);
      expect(await names(OPT_LIST_META_CONTEXT, ['base:'])).toEqual(['0 base:allocation']);
      expect(await names(OPT_LIST_META_CONTEXT, ['qemu:', 'x-y:z', 'base:alloc', 'nonsense'])).toEqual([]);
      const [early] = await client.option(OPT_SET_META_CONTEXT, contextData('', ['base:allocation']));
      expect(early?.type).toBe(REP_ERR_INVALID);
      await client.option(OPT_STRUCTURED_REPLY);
      expect(await names(OPT_SET_META_CONTEXT, ['base:', 'base:none'])).toEqual([]);
      expect(await names(OPT_SET_META_CONTEXT, [])).toEqual([]);
      expect(await names(OPT_SET_META_CONTEXT, ['base:allocation', 'base:allocation'])).toEqual([
        '1 base:allocation',
      ]);
      expect(typesOf(await client.option(OPT_SET_META_CONTEXT, contextData('none', ['base:'])))).toEqual([
        REP_ERR_UNKNOWN,
      ]);
    }));

  it('contexts of another export, or of a choice that failed, are none', async () => {
    const second: [number, Buffer][] = [
      [OPT_SET_META_CONTEXT, contextData('größe/b', ['base:allocation'])],
      [OPT_SET_META_CONTEXT, Buffer.from('garbage')],
      [OPT_SET_META_CONTEXT, Buffer.alloc(70_000)],
    ];
    for (const [option, data] of second) {
      await greeted(async (client) => {
        await client.option(OPT_STRUCTURED_REPLY);
        await client.option(OPT_SET_META_CONTEXT, contextData('', ['base:allocation']));
        await client.option(option, data);
        await client.option(OPT_GO, infoData(''));
        expect(await client.askStructured({ type: 7, length: 4096 })).toBe(22);
      });
    }
  });

  it('a query that ends past the data, or a count without queries, is invalid', () =>
    greeted(async (client) => {
      await client.option(OPT_STRUCTURED_REPLY);
      for (const data of [
        Buffer.concat([u32(0), u32(0xffff_ffff)]),
        Buffer.concat([u32(0), u32(1), u32(200), Buffer.alloc(5)]),
        Buffer.concat([contextData('', ['base:']), Buffer.alloc(2)]),
        Buffer.alloc(2),
      ]) {
        expect(typesOf(await client.option(OPT_LIST_META_CONTEXT, data))).toEqual([REP_ERR_INVALID]);
      }
    }));
});

describe('handshake, garbage', () => {
  it.each([
    ['unknown client flags', u32(0xffff_ffff)],
    ['bytes that are no option', Buffer.concat([u32(3), Buffer.from('GET / HTTP/1.1\r\n\r\n')])],
    ['an option without fixed newstyle', Buffer.concat([u32(FLAG_NO_ZEROES), optionHead(OPT_LIST, 0)])],
    ['a name of 4 GiB', Buffer.concat([u32(3), optionHead(OPT_EXPORT_NAME, 0xffff_ffff)])],
  ])('%s: closes', (_, bytes) =>
    withServer(exports, async ({ connect }) => {
      const client = await connect();
      client.send(bytes);
      await client.closed;
    }),
  );

  it('an option of 4 GiB is refused at once, and its data dropped', () =>
    greeted(async (client) => {
      client.sendOption(OPT_INFO, Buffer.alloc(0), 0xffff_ffff);
      expect((await client.optionReply()).type).toBe(REP_ERR_TOO_BIG);
      client.send(Buffer.alloc(8 * MiB));
    }));

  it('an option that is too big is dropped to its last byte', () =>
    greeted(async (client) => {
      expect(typesOf(await client.option(OPT_INFO, Buffer.alloc(MiB)))).toEqual([REP_ERR_TOO_BIG]);
      expect(typesOf(await client.option(OPT_INFO, infoData('')))).toEqual([REP_INFO, REP_ACK]);
    }));

  it('bytes that come one by one are understood', () =>
    withServer(exports, async ({ connect }) => {
      const client = await connect();
      client.socket.setNoDelay(true);
      const data = infoData('', [INFO_NAME]);
      for (const byte of Buffer.concat([u32(3), optionHead(OPT_GO, data.length), data])) {
        client.send(Buffer.of(byte));
        await new Promise((resolve) => setImmediate(resolve));
      }
      await client.read(18);
      expect((await client.optionReply()).type).toBe(REP_INFO);
    }));

  it('a client that says nothing is sent away', () =>
    withServer(
      exports,
      async ({ connect, server }) => {
        const silent = await connect();
        const slow = await connect();
        await slow.greet();
        await Promise.all([silent.closed, slow.closed]);
        await server.close();
        expect(server.clients).toBe(0);
      },
      { limits: { handshakeMs: 50 } },
    ));

  it('a client that asks and asks and takes no answer is not read any more', () =>
    withServer(exports, async ({ connect }) => {
      const client = await connect();
      await client.greet();
      client.socket.pause();
      const question = Buffer.concat(Array.from({ length: 2000 }, () => optionHead(OPT_LIST, 0)));
      for (let i = 0; i < 200; i++) client.send(question);
      await new Promise((resolve) => setTimeout(resolve, 100));
      // The system's buffers are full: what the server did not read stays with the client.
      expect(client.socket.writableLength).toBeGreaterThan(MiB);
    }));
});

function optionHead(option: number, length: number): Buffer {
  return Buffer.concat([Buffer.from('IHAVEOPT'), u32(option), u32(length)]);
}
