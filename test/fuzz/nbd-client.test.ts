/**
 * NBD servers that lie, from a seed, against the client: every request ends with the right data or with a VimgError, the
 * device can always be closed, and memory stays bounded. `npm run test:fuzz` goes on for VIMG_FUZZ_SECONDS from a seed of
 * the clock; VIMG_FUZZ_SEED chooses the seed.
 */
import { join } from 'node:path';
import { withDir } from 'tmp-promise';
import { expect, it } from 'vitest';
import { isVimgError } from '../../src/base/errors.ts';
import { SeededRandom } from '../../src/base/random.ts';
import { NbdDevice } from '../../src/nbd/client/nbd-device.ts';
import { CMD_TRIM, CMD_WRITE, CMD_WRITE_ZEROES, SEND_MULTI_CONN } from '../../src/nbd/protocol.ts';
import {
  type Asked,
  type Replies,
  type SmallServerOptions,
  smallServer,
} from '../nbd/client/small-server.ts';
import { randomLie, rightAnswer } from './lying-answers.ts';
import { countResources } from './resources.ts';

const SIZE = 256 * 1024;
const OPERATIONS = 40;
const LIMITS = { silenceMs: 80, replyMs: 250, reconnectMs: 200, handshakeMs: 400, requests: 3 };
/** Far more than all waiting of a case together: who is not done by then hangs. */
const HANG_MS = 30_000;

const seconds = Number(process.env['VIMG_FUZZ_SECONDS'] ?? 0);
const firstSeed = Number(process.env['VIMG_FUZZ_SEED'] ?? (seconds > 0 ? Date.now() % 1_000_000_000 : 1));

/** Read, and compared: a test that could judge nothing would find nothing. */
let judgedBytes = 0;

/** A server that tells the truth most of the time, and what it knows. */
class Liar {
  readonly content: Buffer = Buffer.alloc(SIZE);
  /** Bytes that a refused or unanswered change may have reached, or not. */
  readonly doubtful: Uint8Array = new Uint8Array(SIZE);
  readonly told: string[] = [];
  hasDeceived = false;
  /** In half of the cases nothing changes, so that all data can be judged. */
  readonly isOnlyRead: boolean;
  readonly #random: SeededRandom;
  readonly #replies: Replies;
  readonly #honesty: number;
  readonly #isTransparent: boolean;
  readonly #cookies: bigint[] = [1n];

  constructor(random: SeededRandom, replies: Replies) {
    this.#random = random;
    this.#replies = replies;
    this.#honesty = random.pick([3, 10, 40]);
    this.#isTransparent = random.oneIn(2);
    this.isOnlyRead = random.oneIn(2);
    for (let at = 0; at < SIZE; at += 8192) random.fill(this.content.subarray(at, at + 4096));
  }

  readonly onRequest: SmallServerOptions['onRequest'] = (asked, socket) => {
    const random = this.#random;
    this.#apply(asked);
    this.#cookies.push(asked.cookie);
    const chunks = rightAnswer(this.#replies, asked, this.content, random);
    if (!random.oneIn(this.#honesty)) {
      for (const chunk of chunks) socket.write(chunk);
      return;
    }
    const cookies = this.#cookies.slice(-8);
    const lie = randomLie({ replies: this.#replies, asked, chunks, random, cookies }, this.#isTransparent);
    this.told.push(`${lie.name} to ${asked.type}`);
    this.hasDeceived ||= lie.deceives;
    if (lie.ends) socket.end(lie.bytes);
    else socket.write(lie.bytes);
  };

  #apply({ type, offset, length, data }: Asked): void {
    if (type === CMD_WRITE) data.copy(this.content, offset);
    if (type === CMD_WRITE_ZEROES || type === CMD_TRIM) this.content.fill(0, offset, offset + length);
  }
}

async function operate(device: NbdDevice, liar: Liar, random: SeededRandom): Promise<void> {
  const offset = random.below(SIZE);
  const length = Math.min(SIZE - offset, 1 + random.below(random.oneIn(4) ? SIZE : 5000));
  const kind = random.below(liar.isOnlyRead ? 7 : 10);
  if (kind < 5) {
    const found = new Uint8Array(length).fill(0xdd);
    await device.pread(found, offset);
    checkRead(liar, offset, found);
  } else if (kind === 5) {
    const extent = await device.status(offset, length);
    expect(extent.length).toBeGreaterThan(0);
    expect(extent.length).toBeLessThanOrEqual(length);
  } else if (kind === 6) await device.flush();
  else {
    liar.doubtful.fill(1, offset, offset + length); // reads are under way beside it
    if (kind === 7) await device.writeZeroes(offset, length);
    else if (kind === 8) await device.discard(offset, length);
    else await device.pwrite(random.bytes(length), offset);
  }
}

function checkRead(liar: Liar, offset: number, found: Uint8Array): void {
  if (liar.hasDeceived) return;
  judgedBytes += found.length;
  for (const [index, byte] of found.entries()) {
    const at = offset + index;
    if (liar.doubtful[at] === 0 && byte !== liar.content[at]) throw new TypeError(`wrong data at ${at}`);
  }
}

/** @returns what is wrong, if anything */
async function tryServer(seed: number): Promise<string | undefined> {
  const random = new SeededRandom(seed);
  const replies = random.pick<Replies>(['simple', 'structured', 'extended']);
  const liar = new Liar(random, replies);
  const spent = countResources();
  const problems: string[] = [];
  const garbles = random.oneIn(4);
  await withDir(
    async ({ path }) => {
      const socketPath = join(path, 's');
      const server = await smallServer(socketPath, {
        replies,
        size: SIZE,
        flags: random.oneIn(2) ? SEND_MULTI_CONN : 0,
        onRequest: liar.onRequest,
        ...(garbles ? { garble: (answer: Buffer) => garbled(answer, random) } : {}),
      });
      if (garbles) liar.hasDeceived = true;
      for (let opened = 0; opened < 3; opened++) {
        problems.push(...(await tryDevice(`nbd+unix:///?socket=${socketPath}`, liar, random)));
      }
      await server.close();
    },
    { unsafeCleanup: true, prefix: 'vimg-liar' },
  );
  problems.push(...spent());
  return problems.length === 0
    ? undefined
    : `${replies}: ${problems.join('\n')}\nlies: ${liar.told.join(', ')}`;
}

async function tryDevice(uri: string, liar: Liar, random: SeededRandom): Promise<string[]> {
  const problems: string[] = [];
  const note = (error: unknown): void => {
    if (!isVimgError(error)) problems.push(error instanceof Error ? String(error.stack) : String(error));
  };
  const device = await NbdDevice.open(uri, { limits: LIMITS }).catch(note);
  if (!device) return problems;
  const underWay = Array.from({ length: OPERATIONS }, async () => {
    if (device.size !== SIZE || device.readOnly) await device.pread(new Uint8Array(1), 0);
    else await operate(device, liar, random);
  }).map((work) => work.catch(note));
  await Promise.all(underWay);
  await device.close().catch(note);
  return problems;
}

function garbled(answer: Buffer, random: SeededRandom): Buffer {
  if (!random.oneIn(4)) return answer;
  const at = random.below(answer.length);
  if (random.oneIn(4)) return answer.subarray(0, at);
  const bytes = Buffer.from(answer);
  if (random.oneIn(3)) bytes.fill(0xff, at, Math.min(at + 8, bytes.length));
  else bytes[at] = (bytes[at] as number) ^ (1 << random.below(8));
  return random.oneIn(8) ? Buffer.concat([bytes, bytes]) : bytes;
}

async function unlessItHangs(work: Promise<string | undefined>): Promise<string | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const hang = new Promise<string>((resolve) => {
    timer = setTimeout(() => resolve('it hangs'), HANG_MS);
  });
  try {
    return await Promise.race([work, hang]);
  } finally {
    clearTimeout(timer);
  }
}

const CASES = 100;

it(
  'whatever a server says, requests end in data or in an error',
  async () => {
    const end = performance.now() + seconds * 1000;
    const failures: string[] = [];
    let seed = firstSeed;
    while ((seconds > 0 ? performance.now() < end : seed < firstSeed + CASES) && failures.length < 3) {
      const problem = await unlessItHangs(tryServer(seed));
      if (problem !== undefined) failures.push(`VIMG_FUZZ_SEED=${seed}\n${problem}`);
      seed++;
    }
    process.stderr.write(`${seed - firstSeed} lying NBD servers, seeds from ${firstSeed}\n`);
    expect(failures.join('\n\n')).toBe('');
    if (seconds === 0) expect(judgedBytes).toBeGreaterThan(SIZE);
  },
  seconds * 1000 + 10 * HANG_MS,
);
