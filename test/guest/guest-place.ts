/** Where the disks of a guest are: in a folder, or in a datastore on a volume, whose device is a file that stands for a LUN. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BUILT_TOOL } from '../cli/session.ts';

const DATASTORE = 'ds1';

export class GuestPlace {
  /** On the host, for everything that is no disk. */
  readonly folder: string;
  readonly environment: NodeJS.ProcessEnv;
  readonly #disks: (name: string) => string;

  private constructor(folder: string, disks: (name: string) => string) {
    this.folder = folder;
    this.environment = { ...process.env, VIMG_CONFIG: join(folder, 'config'), VIMG_ALLOW: '' };
    this.#disks = disks;
  }

  static inFolder(): GuestPlace {
    const folder = mkdtempSync(join(tmpdir(), 'vimg-guest-'));
    return new GuestPlace(folder, (name) => join(folder, name));
  }

  static onLun(): GuestPlace {
    const folder = mkdtempSync(join(tmpdir(), 'vimg-guest-'));
    const place = new GuestPlace(folder, (name) => `${DATASTORE}:${name}`);
    place.vimg('datastore', 'create', DATASTORE, '--size', '2G', place.at('lun'));
    return place;
  }

  /** A file of the host. */
  at(name: string): string {
    return join(this.folder, name);
  }

  /** A disk, as vimg takes it. */
  disk(name: string): string {
    return this.#disks(name);
  }

  /** Runs a command in a process of its own. @returns what it printed. @throws Error when it failed */
  vimg(...args: string[]): string {
    return execFileSync(process.execPath, [BUILT_TOOL, ...args], { encoding: 'utf8', env: this.environment });
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
