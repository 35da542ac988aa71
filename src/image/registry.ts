/** The drivers that a program knows, by name and by file ending. */
import { VimgError } from '../base/errors.ts';
import type { FormatDriver } from './format-driver.ts';

export class FormatRegistry {
  readonly #drivers: readonly FormatDriver[];

  constructor(drivers: readonly FormatDriver[]) {
    this.#drivers = drivers;
  }

  list(): readonly FormatDriver[] {
    return this.#drivers;
  }

  /** @throws VimgError `USAGE` when no driver has this name */
  get(name: string): FormatDriver {
    const driver = this.#drivers.find((candidate) => candidate.name === name);
    if (!driver) {
      const known = this.#drivers.map((candidate) => candidate.name).join(', ');
      throw new VimgError('USAGE', `Unknown file format '${name}'`, { hint: `known formats: ${known}` });
    }
    return driver;
  }

  /** The driver whose endings fit the path: `.vvd`, `.qcow2`, `.raw`. */
  forEnding(path: string): FormatDriver | undefined {
    const ending = /\.([^./]+)$/.exec(path)?.[1]?.toLowerCase();
    return ending === undefined ? undefined : this.#drivers.find((driver) => driver.endings.includes(ending));
  }
}
