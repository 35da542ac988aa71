/** Random requests are each answered once; mutated conversations harm nobody. Each seed is one case that can be rerun. */
import { expect, it } from 'vitest';
import { SeededRandom } from '../../src/base/random.ts';
import { DelayDevice } from '../../src/device/delay-device.ts';
import {
  CMD_BLOCK_STATUS,
  CMD_DISC,
  CMD_FLAG_PAYLOAD_LEN,
  CMD_FLUSH,
  CMD_READ,
  CMD_WRITE,
  EXTENDED_REQUEST,
  EXTENDED_REQUEST_MAGIC,
  OPT_EXTENDED_HEADERS,
  OPT_GO,
  OPT_LIST,
  OPT_SET_META_CONTEXT,
  OPT_STRUCTURED_REPLY,
  OPTION_HEADER,
  OPTION_MAGIC,
  REPLY_FLAG_DONE,
  REQUEST,
  REQUEST_MAGIC,
  SIMPLE_REPLY_MAGIC,
} from '../../src/nbd/protocol.ts';
import { contextData, infoData, type RawClient, u32 } from './raw-client.ts';
import { exported, MiB, memory, withServer } from './served-device.ts';

const REQUESTS = 150n;
const SIZE = 4 * MiB;

/** A request of any kind, most of them possible: a command, flags, a range that may pass the end. */
function sendRandomRequest(client: RawClient, random: SeededRandom, cookie: bigint): void {
  const type = random.oneIn(10) ? random.below(65_536) : random.below(8);
  const any = random.oneIn(2) ? 0 : random.oneIn(4) ? random.below(65_536) : 1 << random.below(6);
  const flags = any & ~CMD_FLAG_PAYLOAD_LEN; // set where there is a payload: else what follows is taken for one
  const offset = random.oneIn(20) ? random.below(2 ** 53) : random.below(SIZE);
  const length = random.oneIn(3) ? random.below(300_000) : random.below(10_000);
  const payload = client.extended && random.oneIn(10) ? random.bytes(random.below(40)) : undefined;
  if (payload && type !== CMD_DISC)
    client.sendRequest({ type, flags, offset, length: payload.length, cookie, data: payload });
  else if (type === CMD_DISC) client.sendRequest({ type: CMD_FLUSH, cookie });
  else if (type === CMD_WRITE) {
    client.sendRequest({ type, flags, offset, length, cookie, data: random.bytes(length) });
  } else if (client.extended && random.oneIn(10)) {
    client.sendRequest({ type, flags, offset, length: BigInt(random.below(2 ** 53)) * 2048n, cookie });
  } else client.sendRequest({ type, flags, offset, length, cookie });
}

/** The cookie of the next reply that ends a request; data is looked at by length only. */
async function nextAnswered(client: RawClient): Promise<bigint> {
  for (;;) {
    if (client.extended) {
      const { cookie, flags, payload } = await client.chunk();
      expect(payload.length).toBeLessThanOrEqual(32 * MiB + 8);
      if ((flags & REPLY_FLAG_DONE) !== 0) return cookie;
      continue;
    }
    const head = await client.read(16);
    const cookie = head.readBigUInt64BE(8);
    if (head.readUInt32BE(0) === SIMPLE_REPLY_MAGIC) return cookie;
    expect(head.readUInt32BE(0)).toBe(0x668e_33ef);
    const length = (await client.read(4)).readUInt32BE(0);
    expect(length).toBeLessThanOrEqual(32 * MiB + 8);
    await client.read(length);
    if ((head.readUInt16BE(4) & REPLY_FLAG_DONE) !== 0) return cookie;
  }
}

it.each(Array.from({ length: 12 }, (_, seed) => seed))('random requests, seed %i', (seed) => {
  const random = new SeededRandom(seed);
  const device = seed % 2 === 0 ? memory() : new DelayDevice(memory(), () => random.below(3));
  const limits = { requests: 1 + random.below(40), bufferedBytes: 1 + random.below(MiB) };
  return withServer(
    [exported(device)],
    async ({ connect }) => {
      const client = await connect();
      await client.enter({ contexts: ['base:allocation'], extended: seed % 3 === 0 });
      const waiting = new Set<bigint>();
      for (let i = 0n; i < REQUESTS; i++) {
        waiting.add(i);
        sendRandomRequest(client, random, i);
      }
      while (waiting.size > 0) expect(waiting.delete(await nextAnswered(client))).toBe(true);
      client.sendRequest({ type: CMD_FLUSH, cookie: REQUESTS });
      expect(await nextAnswered(client)).toBe(REQUESTS);
    },
    { limits },
  );
});

function option(number: number, data: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = OPTION_HEADER.encode({ magic: OPTION_MAGIC, option: number, length: data.length });
  return Buffer.concat([head, data]);
}

function request(type: number, offset: bigint, length: number): Uint8Array {
  return REQUEST.encode({ magic: REQUEST_MAGIC, flags: 0, type, cookie: 7n, offset, length });
}

/** A whole conversation, as a client would send it. */
const CONVERSATION = Buffer.concat([
  u32(3),
  option(OPT_LIST),
  option(OPT_STRUCTURED_REPLY),
  option(OPT_SET_META_CONTEXT, contextData('', ['base:allocation'])),
  option(OPT_GO, infoData('', [0, 3])),
  request(CMD_READ, 0n, 100_000),
  request(CMD_WRITE, 4096n, 600),
  Buffer.alloc(600, 1),
  request(CMD_BLOCK_STATUS, 0n, SIZE),
  request(CMD_FLUSH, 0n, 0),
]);

function extendedRequest(type: number, flags: number, length: bigint): Uint8Array {
  const magic = EXTENDED_REQUEST_MAGIC;
  return EXTENDED_REQUEST.encode({ magic, flags, type, cookie: 7n, offset: 4096n, length });
}

const EXTENDED_CONVERSATION = Buffer.concat([
  u32(3),
  option(OPT_EXTENDED_HEADERS),
  option(OPT_SET_META_CONTEXT, contextData('', ['base:allocation'])),
  option(OPT_GO, infoData('', [0, 3])),
  extendedRequest(CMD_READ, 0, 100_000n),
  extendedRequest(CMD_WRITE, CMD_FLAG_PAYLOAD_LEN, 600n),
  Buffer.alloc(600, 1),
  extendedRequest(CMD_BLOCK_STATUS, CMD_FLAG_PAYLOAD_LEN, 12n),
  Buffer.from([0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]),
  extendedRequest(CMD_FLUSH, 0, 0n),
]);

it.each([
  ['compact', CONVERSATION],
  ['extended', EXTENDED_CONVERSATION],
])('mutated conversations, %s', (_, conversation) =>
  withServer(
    [exported(memory())],
    async ({ connect, server }) => {
      for (let seed = 0; seed < 300; seed++) {
        const random = new SeededRandom(seed);
        const bytes = Buffer.from(conversation);
        for (let i = random.below(6); i >= 0; i--) bytes[random.below(bytes.length)] = random.below(256);
        const cut = random.below(bytes.length);
        const client = await connect();
        client.send(bytes.subarray(0, cut));
        client.send(bytes.subarray(cut, random.oneIn(3) ? cut + random.below(200) : bytes.length));
        client.socket.end();
        await client.closed;
      }
      expect(server.clients).toBeLessThanOrEqual(1);
      const last = await connect();
      await last.enter({ structured: false });
      expect(await last.ask({ type: CMD_FLUSH })).toBe(0);
    },
    { limits: { handshakeMs: 2000, shutdownMs: 2000 } },
  ),
);
