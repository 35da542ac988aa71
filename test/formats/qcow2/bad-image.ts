/** Spoilt images: sound fixtures with some bytes changed, and what is expected of each. */
import { expect, test } from 'vitest';
import { fixtureBytes } from '../../../fixtures/unpack.ts';
import { qcow2Driver } from '../../../formats/qcow2/driver.ts';
import { isVimgError, type VimgError } from '../../../src/base/errors.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { countResources } from '../../fuzz/resources.ts';
import { noGate, readWhole } from './layer-reader.ts';

/** One image: changed by `change`, refused with `code` by `by`; the message says `says`. */
export interface BadImage {
  readonly name: string;
  readonly base?: string;
  /** Changes the image in place, or returns another one. */
  readonly change: (image: Patch) => unknown;
  readonly code: string | readonly string[];
  readonly by?: 'open' | 'read' | 'info' | 'check';
  readonly says?: RegExp;
}

/** An image that is being spoilt. The fixtures of 4 KiB clusters all have L1 at 12288 and their first L2 at 16384. */
export class Patch {
  readonly bytes: Uint8Array;
  readonly view: DataView;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer);
  }

  u32(offset: number, value: number): void {
    this.view.setUint32(offset, value);
  }

  u64(offset: number, value: bigint): void {
    this.view.setBigUint64(offset, value);
  }

  get l1Offset(): number {
    return Number(this.view.getBigUint64(40));
  }

  get l2Offset(): number {
    return Number(this.view.getBigUint64(this.l1Offset) & 0x00ff_ffff_ffff_fe00n);
  }
}

/** A sound image of 4 KiB clusters. */
export const PLAIN = 'lazy-refcounts.qcow2';
export const COPIED: bigint = 1n << 63n;
export const FORMAT = 'INVALID_FORMAT';

/** Each image is refused with its code; whatever else is done with it ends, too. */
export function testBadImages(cases: readonly BadImage[]): void {
  test.each(cases.map((c) => [c.name, c] as const))(
    '%s',
    async (_, { base, change, code, by = 'open', says }) => {
      const image = new Patch(Uint8Array.from(fixtureBytes(base ?? PLAIN)));
      const changed = change(image);
      const bytes = changed instanceof Uint8Array ? changed : image.bytes;
      const tooMuch = countResources();
      const error = await refusal(bytes, by);
      expect(Array.isArray(code) ? code : [code]).toContain(error.code);
      if (says !== undefined) expect(error.message).toMatch(says);
      await expectNoCrash(bytes);
      expect(tooMuch()).toEqual([]);
    },
    10_000,
  );
}

/** The error that an image gives; the image must be sound up to there. */
export async function refusal(bytes: Uint8Array, by: NonNullable<BadImage['by']>): Promise<VimgError> {
  const opening = qcow2Driver.open(MemoryDevice.from(bytes), { readOnly: true, gate: noGate });
  const work =
    by === 'open'
      ? opening
      : opening.then((layer) => (by === 'info' ? (layer.info() as Promise<unknown>) : readWhole(layer)));
  try {
    await work;
  } catch (error) {
    if (!isVimgError(error)) throw error;
    return error;
  }
  throw new TypeError('the image was accepted');
}

/** Whatever is wrong: check and inspect end with a report or a VimgError, too. */
async function expectNoCrash(bytes: Uint8Array): Promise<void> {
  const file = MemoryDevice.from(bytes);
  await qcow2Driver.check?.(file, {}).catch((error: unknown) => {
    if (!isVimgError(error)) throw error;
  });
  const structures: string[] = [];
  for await (const structure of qcow2Driver.inspect?.(file) ?? []) structures.push(structure.name);
  expect(structures).toContain('header');
}
