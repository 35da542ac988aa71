/** The names in a folder: each in the bucket where it is looked for, with its hash, once. */
import { isVimgError } from '../base/errors.ts';
import type { Block } from './block.ts';
import { getU64 } from './block.ts';
import { type FieldFix, shownBlock, shownPath, type VolumeFindings } from './check-findings.ts';
import type { TreeWalk } from './check-tree.ts';
import type { Owner, Usage } from './check-usage.ts';
import { type BlockView, type FoundBlock, READS_AT_ONCE } from './check-view.ts';
import { areaOf, hashOf, inlineAreaOf, nameBytes, slotOf } from './directory.ts';
import { type EntryArea, type RawEntry, rawEntriesIn } from './directory-entries.ts';
import { CONTENT, DIRECTORY_AT, INODE_AT, KIND } from './layout.ts';

/** Buckets of a folder: the numbers that lead to each. */
interface Table {
  readonly slots: number[];
  readonly addresses: number[];
}

interface Bucket {
  readonly bits: number;
  readonly pattern: number;
}

export class FolderCheck {
  readonly #view: BlockView;
  readonly #tree: TreeWalk;
  readonly #usage: Usage;
  readonly #findings: VolumeFindings;
  /** Everything in the folder could be read. */
  whole = true;

  constructor(view: BlockView, tree: TreeWalk, usage: Usage, findings: VolumeFindings) {
    this.#view = view;
    this.#tree = tree;
    this.#usage = usage;
    this.#findings = findings;
  }

  /** All names that can be read, bucket after bucket. */
  async *names(inode: Block, owner: Owner): AsyncGenerator<readonly RawEntry[]> {
    if (inode.view.getUint8(INODE_AT.content) === CONTENT.inline) {
      yield this.#entries(inode, owner, inlineAreaOf(inode));
      return;
    }
    const bits = inode.view.getUint8(INODE_AT.hashBits);
    const table = await this.#table(inode, owner, bits);
    const buckets = new Map<number, Bucket>();
    const firsts = firstsOf(table);
    for (let at = 0; at < firsts.length; at += READS_AT_ONCE) {
      const part = firsts.slice(at, at + READS_AT_ONCE);
      const addresses = part.map((i) => table.addresses[i] as number);
      const found = await this.#view.findAll('directory', addresses, inode.address);
      for (const [k, each] of found.entries()) {
        const slot = table.slots[part[k] as number] as number;
        const bucket = this.#bucket(each, addresses[k] as number, slot, bits, owner);
        if (!bucket) continue;
        buckets.set(bucket.address, bucketOf(bucket));
        yield this.#entries(inode, owner, areaOf(bucket), bucketOf(bucket));
      }
    }
    this.#checkTable(table, buckets, bits, owner);
  }

  async #table(inode: Block, owner: Owner, bits: number): Promise<Table> {
    const table: Table = { slots: [], addresses: [] };
    const whole = await this.#tree.run(inode, owner, (block, offset, first, count) => {
      for (let i = 0; i < count; i++) {
        const address = getU64(block.view, offset + i * 8);
        if (address === 0) continue;
        table.slots.push(first + i);
        table.addresses.push(address);
      }
    });
    if (!whole) {
      this.whole = false;
      return table;
    }
    const missing = 2 ** bits - table.slots.filter((slot) => slot < 2 ** bits).length;
    if (missing > 0) {
      this.whole = false;
      this.#findings.lost(`the folder ${shownPath(owner.path)} lacks ${missing} of its ${2 ** bits} buckets`);
    }
    return table;
  }

  #bucket(
    { block, problem }: FoundBlock,
    address: number,
    slot: number,
    bits: number,
    owner: Owner,
  ): Block | undefined {
    const taken = block && this.#usage.block(address, owner, 0, 0);
    const wrong = problem ?? (typeof taken === 'object' ? taken.problem : undefined);
    if (wrong !== undefined || !block || taken === 'again') {
      this.whole = false;
      this.#findings.lost(
        `the folder ${shownPath(owner.path)}: bucket ${slot} (${shownBlock(address)}): ${wrong ?? 'it is used a second time'}; names in it are lost`,
      );
      return undefined;
    }
    const found = bucketOf(block);
    if (found.bits > bits || found.pattern !== slot) {
      this.#findings.unproven(
        `the folder ${shownPath(owner.path)}: bucket ${slot} (${shownBlock(address)}) is another one: names in it are not found`,
      );
    }
    return block;
  }

  /** Each bucket is led to by all numbers that end in its pattern, and by no other. */
  #checkTable(
    { slots, addresses }: Table,
    buckets: ReadonlyMap<number, Bucket>,
    bits: number,
    owner: Owner,
  ): void {
    const led = new Map<number, number>();
    let wrong = 0;
    for (const [i, slot] of slots.entries()) {
      const address = addresses[i] as number;
      const bucket = buckets.get(address);
      if (!bucket) continue;
      led.set(address, (led.get(address) ?? 0) + 1);
      if (slotOf(slot, Math.min(bucket.bits, 31)) !== bucket.pattern) wrong++;
    }
    for (const [address, count] of led) {
      if (this.whole && count !== 2 ** (bits - (buckets.get(address)?.bits ?? 0))) wrong++;
    }
    if (wrong === 0) return;
    const message = `the folder ${shownPath(owner.path)}: its table and ${wrong} of its buckets contradict each other: names in them are not found`;
    this.#findings.unproven(message);
  }

  #entries(inode: Block, owner: Owner, area: EntryArea, bucket?: Bucket): readonly RawEntry[] {
    let entries: RawEntry[];
    try {
      entries = rawEntriesIn(area);
    } catch (error) {
      if (!isVimgError(error)) throw error;
      this.whole = false;
      const where = shownBlock(area.block.address);
      this.#findings.lost(
        `the folder ${shownPath(owner.path)} (${where}): ${error.message}; names in it are lost`,
      );
      return [];
    }
    const seen = new Set<string>();
    for (const entry of entries) {
      const problem = seen.has(entry.name) ? 'is there twice' : entryProblem(inode, entry, bucket);
      seen.add(entry.name);
      if (problem)
        this.#findings.unproven(`${shownPath(childPath(owner.path, entry.name))}: the name ${problem}`);
    }
    if (bucket) this.#checkCount(area.block, owner, entries.length);
    return entries;
  }

  #checkCount(bucket: Block, owner: Owner, names: number): void {
    const stored = bucket.view.getUint32(DIRECTORY_AT.entries, true);
    if (stored === names) return;
    const fix: FieldFix = {
      type: 'directory',
      address: bucket.address,
      offset: DIRECTORY_AT.entries,
      size: 4,
      value: names,
    };
    const message = `the folder ${shownPath(owner.path)}: a bucket (${shownBlock(bucket.address)}) claims ${stored} names and has ${names}`;
    this.#findings.mendable('corruption', message, fix);
  }
}

function bucketOf({ view }: Block): Bucket {
  return {
    bits: view.getUint32(DIRECTORY_AT.bits, true),
    pattern: view.getUint32(DIRECTORY_AT.pattern, true),
  };
}

/** Of the numbers that lead to one bucket, the first. */
function firstsOf({ addresses }: Table): number[] {
  const seen = new Set<number>();
  const firsts: number[] = [];
  for (const [i, address] of addresses.entries()) {
    if (seen.has(address)) continue;
    seen.add(address);
    firsts.push(i);
  }
  return firsts;
}

function entryProblem(inode: Block, entry: RawEntry, bucket: Bucket | undefined): string | undefined {
  if (entry.kindNumber !== KIND.file && entry.kindNumber !== KIND.folder)
    return `has the kind ${entry.kindNumber}`;
  if (!isName(entry)) return 'can be none';
  if (hashOf(inode, entry.nameBytes) !== entry.hash) return 'has a wrong hash, and is not found by it';
  if (bucket && bucket.bits <= 31 && slotOf(entry.hash, bucket.bits) !== bucket.pattern) {
    return 'is in the wrong bucket, and is not found there';
  }
  return undefined;
}

function isName({ name, nameBytes: stored }: RawEntry): boolean {
  try {
    return Buffer.compare(nameBytes(name, ''), stored) === 0;
  } catch {
    return false;
  }
}

export function childPath(folder: string, name: string): string {
  return folder === '' ? name : `${folder}/${name}`;
}
