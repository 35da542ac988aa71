/**
 * A volume beside a model of it: random operations on both, several at the same time where they do not conflict, and
 * the comparison of everything that can be seen.
 */
import { deepEqual, equal, ok } from 'node:assert/strict';
import { isVimgError } from '../../src/base/errors.ts';
import type { SeededRandom } from '../../src/base/random.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { DiskFile } from '../../src/device/file-system.ts';
import { VimsVolume } from '../../src/vims/volume.ts';
import { type ModelFile, ModelNames, type Outcome } from './model-names.ts';

/** Bytes of a model's file at most. */
export const FILE_MAX: number = 6 * 1024 * 1024;

/** A file that is open, under the name that it had then. */
export interface Handle {
  readonly file: ModelFile;
  readonly device: DiskFile;
}

/** A range of a file whose bytes may be as before or as they were going to be. */
interface Uncertain {
  readonly file: ModelFile;
  readonly offset: number;
  readonly bytes: Buffer;
}

export class ModelVolume {
  readonly names: ModelNames = new ModelNames();
  readonly handles: Handle[] = [];
  readonly random: SeededRandom;
  volume!: VimsVolume;
  /** Operations that found no space. */
  full = 0;
  readonly #devices: () => readonly BlockDevice[];
  readonly #uncertain: Uncertain[] = [];

  constructor(random: SeededRandom, devices: () => readonly BlockDevice[]) {
    this.random = random;
    this.#devices = devices;
  }

  async attach(): Promise<void> {
    this.volume = await VimsVolume.attach('ds', this.#devices());
  }

  /** Closes what is open or not, and leaves the volume. */
  async detach(): Promise<void> {
    if (this.random.oneIn(2)) await this.closeAll();
    await this.volume.detach();
    this.handles.length = 0;
  }

  async closeAll(): Promise<void> {
    for (const { device } of this.handles.splice(0)) await device.close();
  }

  /** Does a change of names that comes to an outcome; a volume may be full, and then nothing changed. */
  async name(outcome: Outcome, work: () => Promise<unknown>): Promise<boolean> {
    try {
      await work();
    } catch (error) {
      if (!isVimgError(error)) throw error;
      if (error.code === outcome) return false;
      if (error.code !== 'NO_SPACE' || typeof outcome === 'string') throw error;
      this.full++;
      return false;
    }
    ok(typeof outcome === 'function', `it must fail with ${String(outcome)}`);
    outcome();
    return true;
  }

  /** Puts bytes into a file of the model. */
  put(file: ModelFile, offset: number, bytes: Uint8Array): void {
    this.setSize(file, Math.max(file.size, offset + bytes.length));
    file.content.set(bytes, offset);
  }

  readonly setSize = (file: ModelFile, size: number): void => {
    if (size > file.content.length) {
      const grown = Buffer.alloc(Math.max(size, Math.min(FILE_MAX, file.content.length * 2)));
      file.content.copy(grown);
      file.content = grown;
    }
    if (size < file.size) file.content.fill(0, size, file.size);
    file.size = size;
  };

  /** Changes content: `bytes` from `offset` on. When there is no space, a part of it may have happened. */
  async change(
    { file }: Handle,
    offset: number,
    bytes: Buffer,
    work: () => unknown,
    certain = true,
  ): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!isVimgError(error, 'NO_SPACE')) throw error;
      this.full++;
      this.#uncertain.push({ file, offset, bytes });
      return;
    }
    if (certain) this.put(file, offset, bytes);
    else this.#uncertain.push({ file, offset, bytes });
  }

  /** Looks what became of ranges that may be either. Nothing may be under way. */
  async settle(): Promise<void> {
    for (const { file, offset, bytes } of this.#uncertain.splice(0)) {
      const length = Math.min(bytes.length, file.size - offset);
      const handle = this.handles.find((each) => each.file === file);
      if (length <= 0 || !handle) continue;
      const now = Buffer.alloc(length);
      await handle.device.pread(now, offset);
      for (let i = 0; i < length; i++) {
        const byte = now[i];
        if (byte === bytes[i] || byte === file.content[offset + i]) continue;
        ok(false, `byte ${offset + i} of file ${file.id} is ${byte}, neither old nor new`);
      }
      now.copy(file.content, offset);
    }
  }

  /** Everything that can be seen is as in the model. */
  async verify(): Promise<void> {
    const { files } = this.volume;
    for (const { file, device } of this.handles) await this.#verifyFile(file, device);
    for (const [path, node] of this.names.nodes) {
      const status = await files.status(`ds:${path}`);
      equal(status?.kind, node.kind, `kind of '${path}'`);
      if (node.kind === 'folder') {
        deepEqual(
          (await files.list(`ds:${path}`)).sort(),
          this.names.list(path).sort(),
          `names in '${path}'`,
        );
        continue;
      }
      equal(status?.size, node.size, `size of '${path}'`);
      if (this.handles.some(({ file }) => file === node)) continue;
      const device = await files.open(`ds:${path}`, { readOnly: true });
      await this.#verifyFile(node, device);
      await device.close();
    }
  }

  async #verifyFile(file: ModelFile, device: DiskFile): Promise<void> {
    equal(device.size, file.size, `size of file ${file.id}`);
    const content = Buffer.alloc(file.size, 0xee);
    await device.pread(content, 0);
    const expected = file.content.subarray(0, file.size);
    if (content.equals(expected)) return;
    const at = content.findIndex((byte, i) => byte !== expected[i]);
    ok(false, `file ${file.id} of ${file.size} bytes: byte ${at} is ${content[at]}, not ${expected[at]}`);
  }

  /** Removes every name. */
  async removeAll(): Promise<void> {
    await this.closeAll();
    const paths = [...this.names.nodes.keys()].filter((path) => path !== '');
    for (const path of paths.sort((one, other) => other.length - one.length)) {
      const isFolder = this.names.nodes.get(path)?.kind === 'folder';
      await (isFolder
        ? this.volume.files.removeFolder(`ds:${path}`)
        : this.volume.files.remove(`ds:${path}`));
      this.names.nodes.delete(path);
    }
    await this.volume.files.syncFolder('ds:');
  }
}
