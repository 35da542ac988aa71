/** The built tool on a volume of its own: commands, and disks that are served by processes that can be ended. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type DirectoryResult, dir } from 'tmp-promise';
import { BUILT_TOOL } from '../cli/session.ts';

const run = promisify(execFile);

/** `vimg serve`, from when it listens. */
export class ServedDisk {
  readonly uri: string;
  readonly child: ChildProcess;
  #told = '';
  #wake: () => void = () => undefined;

  constructor(child: ChildProcess, socket: string) {
    this.child = child;
    this.uri = `nbd+unix:///?socket=${socket}`;
    child.stderr?.on('data', (chunk: Buffer) => {
      this.#told += chunk.toString();
      this.#wake();
    });
    child.once('exit', () => this.#wake());
  }

  /** What it printed to stderr. */
  get told(): string {
    return this.#told;
  }

  /** Waits until it has told this. @throws Error when it ends before */
  async tells(text: string): Promise<void> {
    while (!this.#told.includes(text)) {
      if (this.hasEnded) throw new Error(`the server ended without a word of '${text}': ${this.#told}`);
      await new Promise<void>((done) => {
        this.#wake = done;
      });
    }
  }

  get hasEnded(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  /** @returns the exit status, or the signal that ended it */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | string | null> {
    if (!this.hasEnded) {
      const ended = once(this.child, 'exit');
      this.child.kill(signal);
      await ended;
    }
    return this.child.exitCode ?? this.child.signalCode;
  }
}

/** A folder with a configuration that has one datastore, `ds1`, on a file that stands for a LUN. */
export class VolumePrograms {
  readonly #folder: DirectoryResult;
  readonly #served: ServedDisk[] = [];

  private constructor(folder: DirectoryResult) {
    this.#folder = folder;
  }

  /** @param size of the LUN, as the command line takes it */
  static async make(size: string): Promise<VolumePrograms> {
    const programs = new VolumePrograms(await dir({ unsafeCleanup: true, prefix: 'vimg-volume-' }));
    await programs.vimg('datastore', 'create', 'ds1', '--size', size, programs.at('lun'));
    return programs;
  }

  at(name: string): string {
    return join(this.#folder.path, name);
  }

  get environment(): NodeJS.ProcessEnv {
    return { ...process.env, VIMG_CONFIG: this.at('config'), VIMG_ALLOW: '' };
  }

  /** Runs a command. @returns what it printed. @throws Error with what it said, when it failed */
  async vimg(...args: string[]): Promise<string> {
    const { stdout } = await run(process.execPath, [BUILT_TOOL, ...args], { env: this.environment });
    return stdout;
  }

  /** Serves a disk, and waits until it listens. */
  async serve(disk: string, ...options: string[]): Promise<ServedDisk> {
    const socket = this.at(`nbd-${this.#served.length}.sock`);
    const child = spawn(process.execPath, [BUILT_TOOL, 'serve', disk, '--socket', socket, ...options], {
      env: this.environment,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const served = new ServedDisk(child, socket);
    this.#served.push(served);
    await Promise.race([once(child.stdout as NodeJS.ReadableStream, 'data'), once(child, 'exit')]);
    if (served.hasEnded) throw new Error(`could not serve ${disk}: ${served.told}`);
    return served;
  }

  /** Ends what still runs, in any order, and removes everything. */
  async close(): Promise<void> {
    for (const served of this.#served) await served.end('SIGKILL');
    await this.#folder.cleanup();
  }
}
