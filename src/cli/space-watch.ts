/** What a serving process does about space: writers wait while storage is full, and alarms are told. */
import { isVimgError } from '../base/errors.ts';
import { waitWhenFull } from '../device/files.ts';
import { placeOf } from '../device/mounts.ts';
import type { Alarm } from '../storage/configuration-schema.ts';
import { DEFAULT_THRESHOLDS, nextAlarm, rememberAlarm } from '../storage/space.ts';
import { usage } from './command-line.ts';
import { datastore } from './datastores.ts';
import { printable } from './text/printable.ts';
import type { Context } from './verb.ts';

export interface SpaceWatch {
  close(): Promise<void>;
}

const LOOK_EVERY_MS = 10_000;

/**
 * Watches for the disks that are served.
 *
 * @param onFull `pause` (default) or `error`
 * @throws VimgError `USAGE` for anything else
 */
export function watchSpace(context: Context, disks: readonly string[], onFull = 'pause'): SpaceWatch {
  if (onFull !== 'pause' && onFull !== 'error') {
    throw usage(`'${onFull}' is no way to treat full storage`, 'it is pause or error');
  }
  const { terminal, program, signal } = context;
  if (onFull === 'pause') {
    waitWhenFull({
      signal,
      onWait: (path, waiting) => {
        const what = waiting ? 'no space: who writes it waits until there is some' : 'goes on';
        terminal.note(`${program}: ${printable(path)}: ${what}`);
      },
    });
  }
  const names = new Set(disks.flatMap((disk) => placeOf(disk) ?? []));
  const alarms = new AlarmWatch(context, [...names]);
  const timer = names.size === 0 ? undefined : setInterval(() => alarms.look(), LOOK_EVERY_MS);
  timer?.unref();
  if (names.size > 0) alarms.look();
  return {
    close: async () => {
      clearInterval(timer);
      await alarms.done();
      waitWhenFull(undefined);
    },
  };
}

class AlarmWatch {
  readonly #context: Context;
  readonly #names: readonly string[];
  readonly #alarms = new Map<string, Alarm>();
  #looking: Promise<void> | undefined;

  constructor(context: Context, names: readonly string[]) {
    this.#context = context;
    this.#names = names;
  }

  /** Looks now, unless the last look is still under way. */
  look(): void {
    this.#looking ??= this.#lookAtAll().finally(() => {
      this.#looking = undefined;
    });
  }

  async done(): Promise<void> {
    await this.#looking;
  }

  async #lookAtAll(): Promise<void> {
    for (const name of this.#names) {
      try {
        await this.#lookAt(name);
      } catch (error) {
        // a datastore that does not answer is told of by whoever reads or writes a disk in it
        if (!isVimgError(error)) throw error;
      }
    }
  }

  async #lookAt(name: string): Promise<void> {
    const { entry, capacity } = await datastore(name);
    const { capacity: all, used } = await capacity();
    const percent = all === 0 ? 0 : (used / all) * 100;
    const before = this.#alarms.get(name) ?? entry.alarm ?? 'normal';
    const now = nextAlarm(before, percent, entry.thresholds ?? DEFAULT_THRESHOLDS);
    this.#alarms.set(name, now);
    if (now === before) return;
    const { terminal, program, environment } = this.#context;
    terminal.note(`${program}: datastore ${name}: ${now}: ${percent.toFixed(1)} % are used`);
    await rememberAlarm(name, now, environment);
  }
}
