/**
 * Locks on the files of a volume, kept by the process that has it attached: every use of a file goes through that one.
 *
 * EX is a writer, alone with the file; PR a reader, who keeps writers out. A lock belongs to an open file and goes with
 * it; those of a process that ended go with its connection.
 */
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { VimgError } from '../base/errors.ts';
import type { LockMode } from '../host/file-lock.ts';

/** Who holds a lock, or asks for one. */
export interface LockOwner {
  readonly host: string;
  readonly pid: number;
  readonly program: string;
  readonly command: string;
}

/** A lock that is held, or asked for. */
export interface TableLock {
  readonly owner: LockOwner;
  /** As of now; `none` holds nothing. */
  readonly mode: LockMode;
  /** Milliseconds since 1970. */
  readonly sinceMs: number;
}

interface Entry extends TableLock {
  mode: LockMode;
  sinceMs: number;
  path: string;
}

/** Who is refused tries again for so long: some locks are held for moments. */
const ATTEMPTS = 5;
const PAUSE_MS = 15;

export class LockTable {
  /** By the identity of the file. */
  readonly #entries = new Map<string, Set<Entry>>();

  /**
   * Takes a lock.
   *
   * @param path for messages
   * @throws VimgError `LOCKED` naming the holder
   */
  async take(identity: string, path: string, mode: LockMode, owner: LockOwner): Promise<HeldFileLock> {
    const entry: Entry = { owner, mode: 'none', sinceMs: Date.now(), path };
    const held = new HeldFileLock(this, identity, entry);
    await held.change(mode);
    return held;
  }

  /** @throws VimgError `LOCKED` naming the holder, when nobody else could take such a lock now */
  refuse(identity: string, path: string, mode: LockMode): void {
    const holders = this.#conflicts(identity, undefined, mode);
    if (holders.length > 0) throw refusal(path, mode, holders);
  }

  /** Process IDs of those on this host that hold a lock. */
  holders(identity: string): number[] {
    const here = [...(this.#entries.get(identity) ?? [])].filter(({ owner }) => owner.host === hostname());
    return [...new Set(here.map(({ owner }) => owner.pid))];
  }

  /** Every lock that is held. */
  list(): { readonly path: string; readonly lock: TableLock }[] {
    return [...this.#entries.values()].flatMap((entries) =>
      [...entries].map((entry) => ({ path: entry.path, lock: entry })),
    );
  }

  /** Changes the mode of an entry, or leaves it as it is. */
  async change(identity: string, entry: Entry, mode: LockMode): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      const holders = this.#conflicts(identity, entry, mode);
      if (holders.length === 0) break;
      if (attempt === ATTEMPTS) throw refusal(entry.path, mode, holders);
      await sleep(PAUSE_MS * (0.5 + Math.random()));
    }
    if (mode !== entry.mode) entry.sinceMs = Date.now();
    entry.mode = mode;
    const entries = this.#entries.get(identity) ?? new Set();
    if (mode === 'none') entries.delete(entry);
    else entries.add(entry);
    if (entries.size === 0) this.#entries.delete(identity);
    else this.#entries.set(identity, entries);
  }

  #conflicts(identity: string, own: Entry | undefined, mode: LockMode): Entry[] {
    if (mode === 'none') return [];
    return [...(this.#entries.get(identity) ?? [])].filter(
      (other) => other !== own && (mode === 'write' || other.mode === 'write'),
    );
  }
}

export class HeldFileLock {
  readonly #table: LockTable;
  readonly #identity: string;
  readonly #entry: Entry;

  constructor(table: LockTable, identity: string, entry: Entry) {
    this.#table = table;
    this.#identity = identity;
    this.#entry = entry;
  }

  get mode(): LockMode {
    return this.#entry.mode;
  }

  /** The file is shown under another name. */
  rename(path: string): void {
    this.#entry.path = path;
  }

  /** @throws VimgError `LOCKED` naming the holder; the lock held stays */
  change(mode: LockMode): Promise<void> {
    return this.#table.change(this.#identity, this.#entry, mode);
  }

  release(): Promise<void> {
    return this.change('none');
  }
}

function refusal(path: string, mode: LockMode, holders: readonly TableLock[]): VimgError {
  const use = mode === 'write' ? 'is in use by' : 'is being written by';
  const names = holders.map(({ owner, mode: held, sinceMs }) => {
    const kind = held === 'write' ? 'EX' : 'PR';
    const since = new Date(sinceMs).toISOString().replace(/\.\d+Z$/, 'Z');
    return `process ${owner.pid} (${owner.program}) of ${owner.host}, ${kind} since ${since}`;
  });
  const step = mode === 'write' ? 'stop it, or work on a clone' : 'stop it, or read a snapshot';
  const [first] = holders;
  return new VimgError('LOCKED', `the image ${use} ${names.join('; ')}`, {
    op: 'lock',
    path,
    hint: first?.owner.command ? `${step}; it was started as: ${first.owner.command}` : step,
  });
}
