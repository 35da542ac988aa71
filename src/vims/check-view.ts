/**
 * How a check sees the blocks of a volume: as the next attach will leave them, the images of the journal over what is
 * on the devices. What cannot be read is told as a problem, like what does not match its checksum.
 */
import { isVimgError } from '../base/errors.ts';
import { isPromise, type MaybePromise } from '../base/maybe-promise.ts';
import { Block, blockProblem, generationOf, uuidBytes } from './block.ts';
import type { DeviceSet } from './device-set.ts';
import { BLOCK, blockOnDevice, deviceOfBlock } from './geometry.ts';
import type { BlockTypeName } from './layout.ts';

/** A block that is what it must be, or what is wrong with it. */
export type FoundBlock =
  | { readonly block: Block; readonly problem?: undefined }
  | { readonly block?: undefined; readonly problem: string };

/** Blocks that are read at the same time. */
export const READS_AT_ONCE = 32;

export class BlockView {
  readonly devices: DeviceSet;
  readonly volume: string;
  readonly #uuid: Uint8Array;
  /** Images of the journal that are not in their places. */
  overlay: ReadonlyMap<number, Uint8Array> = new Map();
  /** Number of the last transaction: no block is newer. */
  sequence: number = Number.POSITIVE_INFINITY;

  constructor(devices: DeviceSet, volume: string) {
    this.devices = devices;
    this.volume = volume;
    this.#uuid = uuidBytes(volume);
  }

  /** Whether there is such a block on the devices. */
  has(address: number): boolean {
    const device = deviceOfBlock(address);
    if (!Number.isSafeInteger(address) || device >= this.devices.count) return false;
    return (blockOnDevice(address) + 1) * BLOCK <= this.devices.device(device).size;
  }

  /** @param owner whose it must be; not looked at when it is not given */
  find(type: BlockTypeName, address: number, owner?: number): MaybePromise<FoundBlock> {
    if (!this.has(address)) return { problem: 'there is no such block on the devices' };
    const image = this.overlay.get(address);
    if (image) return this.#judged(image.slice(), type, address, owner);
    const bytes = new Uint8Array(BLOCK);
    try {
      const reading = this.devices.readBlock(bytes, address);
      if (!isPromise(reading)) return this.#judged(bytes, type, address, owner);
      return reading.then(() => this.#judged(bytes, type, address, owner), unreadable);
    } catch (error) {
      return unreadable(error);
    }
  }

  /** Several blocks of one kind, read at the same time. */
  findAll(
    type: BlockTypeName,
    addresses: readonly number[],
    owner?: number,
  ): MaybePromise<readonly FoundBlock[]> {
    const found = addresses.map((address) => this.find(type, address, owner));
    return found.some(isPromise) ? Promise.all(found) : (found as FoundBlock[]);
  }

  /** Blocks that follow each other, read at once. */
  async findRun(types: readonly BlockTypeName[], address: number): Promise<FoundBlock[]> {
    const bytes = new Uint8Array(types.length * BLOCK);
    try {
      const reading = this.devices.readBlock(bytes, address);
      if (isPromise(reading)) await reading;
    } catch {
      // one of them may be readable by itself
      return Promise.all(types.map((type, i) => this.find(type, address + i)));
    }
    return types.map((type, i) => {
      const image = this.overlay.get(address + i)?.slice() ?? bytes.slice(i * BLOCK, (i + 1) * BLOCK);
      return this.#judged(image, type, address + i, undefined);
    });
  }

  #judged(bytes: Uint8Array, type: BlockTypeName, address: number, owner: number | undefined): FoundBlock {
    const expected = { type, volume: this.#uuid, address, ...(owner === undefined ? {} : { owner }) };
    const problem = blockProblem(bytes, expected);
    if (problem !== undefined) return { problem };
    // a replay would take it for newer than what the journal has of it
    if (generationOf(bytes) > this.sequence) return { problem: 'it is of a transaction that is yet to come' };
    return { block: new Block(address, bytes) };
  }
}

function unreadable(error: unknown): FoundBlock {
  if (!isVimgError(error) || error.code === 'CANCELLED') throw error;
  return { problem: `it cannot be read: ${error.message}` };
}
