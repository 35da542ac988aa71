/**
 * The folder that a benchmark works in: source images that several works share, and what each run writes.
 *
 * Everything is removed when the bench ends, also by Ctrl-C.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runQuietly } from './process-run.ts';
import type { Command, Contestant } from './work.ts';

/** From dist-bench/bench: the bench is compiled apart from the tool, which runs as it is published. */
const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export interface WorkshopOptions {
  /** Where the bench's own folder is made. */
  readonly parent: string;
  readonly hasPeer: boolean;
  readonly say: (text: string) => void;
}

export class Workshop {
  readonly folder: string;
  readonly hasPeer: boolean;
  readonly #vimg = builtTool();
  readonly #say: (text: string) => void;
  readonly #stock = new Set<string>();
  /** Folders elsewhere, for files that the file system of `folder` cannot hold. */
  readonly #others: string[] = [];

  constructor(options: WorkshopOptions) {
    this.folder = mkdtempSync(join(options.parent, 'vimg-bench-'));
    this.hasPeer = options.hasPeer;
    this.#say = options.say;
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  /** A folder on memory, for sparse files larger than the file system of `folder` can hold. */
  memoryFolder(): string {
    const folder = mkdtempSync('/dev/shm/vimg-bench-');
    this.#others.push(folder);
    return folder;
  }

  /** The path of a shared source image; `make` writes it when it is wanted for the first time. */
  async stock(name: string, make: (path: string) => Promise<void>): Promise<string> {
    const path = this.path(name);
    if (this.#stock.has(name)) return path;
    this.#say(`making ${name}`);
    await make(path);
    this.#stock.add(name);
    return path;
  }

  /** A contestant that runs vimg as it was built. */
  vimg(args: readonly string[], more: Partial<Contestant> = {}): Contestant {
    return { label: 'vimg', command: this.#vimgCommand(args), ...more };
  }

  /** A contestant that runs a program of ours by itself: for what no verb does. */
  program(name: string, args: readonly string[], more: Partial<Contestant> = {}): Contestant {
    const path = fileURLToPath(new URL(`programs/${name}.js`, import.meta.url));
    return { label: name, command: { program: process.execPath, args: [path, ...args] }, ...more };
  }

  /** A contestant that runs qemu-img, where it is installed. */
  qemuImg(args: readonly string[], more: Partial<Contestant> = {}): Contestant | undefined {
    if (!this.hasPeer) return undefined;
    return { label: 'qemu-img', command: { program: 'qemu-img', args }, ...more };
  }

  async runVimg(...args: readonly string[]): Promise<void> {
    const { program, args: all } = this.#vimgCommand(args);
    await runQuietly(program, ...all);
  }

  /** Makes a source with qemu-img; does nothing where it is not installed. */
  async runPeer(...args: readonly string[]): Promise<void> {
    if (this.hasPeer) await runQuietly('qemu-img', ...args);
  }

  #vimgCommand(args: readonly string[]): Command {
    return { program: process.execPath, args: [this.#vimg, ...args] };
  }

  /** Nothing of earlier runs is written back while the next one is timed. */
  async settle(): Promise<void> {
    await runQuietly('sync', '--file-system', this.folder);
  }

  /** A copy that keeps holes. */
  async copy(source: string, target: string): Promise<void> {
    await rm(target, { force: true });
    await runQuietly('cp', '--sparse=always', '--reflink=never', source, target);
  }

  /** A pair of `prepare` and `cleanUp` for a run that writes these new files. */
  fresh(...paths: readonly string[]): Required<Pick<Contestant, 'prepare' | 'cleanUp'>> {
    const remove = async (): Promise<void> => {
      for (const path of paths) await rm(path, { force: true });
    };
    return { prepare: remove, cleanUp: remove };
  }

  /** A folder with nothing in it. */
  async emptyFolder(name: string): Promise<void> {
    await this.clear(name);
    await mkdir(this.path(name));
  }

  /** Removes files and folders; a source image among them is made again when it is wanted again. */
  async clear(...names: readonly string[]): Promise<void> {
    for (const name of names) {
      this.#stock.delete(name);
      await rm(this.path(name), { force: true, recursive: true });
    }
  }

  /** Removes everything, in one tick: also called when the process is about to end. */
  remove(): void {
    for (const folder of [this.folder, ...this.#others]) rmSync(folder, { recursive: true, force: true });
  }
}

/** What package.json names as the command. */
function builtTool(): string {
  const text = readFileSync(join(ROOT, 'package.json'), 'utf8');
  return join(ROOT, (JSON.parse(text) as { bin: { vimg: string } }).bin.vimg);
}
