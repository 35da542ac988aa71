/** Raw disks with content of three kinds: random, compressible, scattered. Seeded where the content matters. */
import { randomFillSync } from 'node:crypto';
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { SeededRandom } from '../../src/base/random.ts';
import { KiB, MiB } from '../work.ts';

/** `size` random bytes: nothing compresses, nothing is zero. */
export async function makeRandomDisk(path: string, size: number): Promise<void> {
  const chunk = Buffer.alloc(4 * MiB);
  withFile(path, (fd) => {
    for (let at = 0; at < size; at += chunk.length) {
      randomFillSync(chunk);
      writeSync(fd, chunk, 0, Math.min(chunk.length, size - at), at);
    }
  });
}

/** What compresses about as program files and text do, to a third: prose, records, and some noise. */
export async function makeCompressibleDisk(path: string, size: number): Promise<void> {
  const random = new SeededRandom(1);
  const words = Array.from({ length: 4096 }, () => randomWord(random));
  const piece = Buffer.alloc(64 * KiB);
  withFile(path, (fd) => {
    for (let at = 0; at < size; at += piece.length) {
      fillPiece(piece, random, words);
      writeSync(fd, piece, 0, Math.min(piece.length, size - at), at);
    }
  });
}

function randomWord(random: SeededRandom): string {
  let word = '';
  for (let length = 2 + random.below(8); length > 0; length--) {
    word += String.fromCharCode(97 + random.below(26));
  }
  return word;
}

function fillPiece(piece: Buffer, random: SeededRandom, words: readonly string[]): void {
  const kind = random.below(8);
  if (kind === 0) {
    randomFillSync(piece);
  } else if (kind === 1) {
    const base = random.nextU32();
    for (let at = 0; at + 16 <= piece.length; at += 16) {
      piece.writeUInt32LE((base + at) >>> 0, at);
      piece.writeUInt32LE(random.below(256), at + 4);
      piece.fill(0, at + 8, at + 16);
    }
  } else {
    let text = '';
    while (text.length < piece.length) text += `${words[skewed(random, words.length)]} `;
    piece.write(text, 'latin1');
  }
}

/** Small numbers more often than large ones, as words in prose. */
function skewed(random: SeededRandom, bound: number): number {
  return random.below(1 + random.below(1 + random.below(bound)));
}

/** A sparse disk with `count` extents of `length` random bytes, one in each of `count` equal parts. */
export async function makeScatteredDisk(
  path: string,
  size: number,
  count: number,
  length: number,
): Promise<void> {
  const random = new SeededRandom(2);
  const extent = Buffer.alloc(length);
  const part = Math.floor(size / count);
  withFile(path, (fd) => {
    ftruncateSync(fd, size);
    for (let i = 0; i < count; i++) {
      randomFillSync(extent);
      const within = random.below(Math.floor((part - length) / (4 * KiB))) * 4 * KiB;
      writeSync(fd, extent, 0, length, Math.floor((i * part) / (4 * KiB)) * 4 * KiB + within);
    }
  });
}

function withFile(path: string, write: (fd: number) => void): void {
  const fd = openSync(path, 'wx');
  try {
    write(fd);
  } finally {
    closeSync(fd);
  }
}
