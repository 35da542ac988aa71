/** A second walk, when something is wrong with blocks or clusters: whose they are. */
import type { Block } from './block.ts';
import type { FieldFix, Suspect, VolumeFindings } from './check-findings.ts';
import { type Owner, shownRange, type Usage } from './check-usage.ts';
import { BLOCKS_PER_CLUSTER, blockOnDevice, clusterOfBlock } from './geometry.ts';
import { BLOCK_TYPES } from './layout.ts';

/** Files that are told of one suspect. */
const OWNERS_MAX = 4;

/** Entries of one file that lead to a suspect. */
interface Share {
  readonly owner: Owner;
  first: number;
  count: number;
}

interface Traced {
  readonly suspect: Suspect;
  /** Where this one and all that begin before it end. */
  end: number;
  readonly shares: Share[];
  more: number;
}

export class Trace implements Usage {
  readonly #findings: VolumeFindings;
  readonly #clusters: readonly Traced[];
  readonly #blocks: readonly Traced[];
  readonly #seen = new Map<number, Uint8Array>();

  /** @param findings whose suspects are traced */
  constructor(findings: VolumeFindings) {
    this.#findings = findings;
    const traced = findings.suspects.map((suspect): Traced => ({ suspect, end: 0, shares: [], more: 0 }));
    this.#clusters = sorted(traced, 'cluster');
    this.#blocks = sorted(traced, 'block');
  }

  block(address: number, owner: Owner, first: number, count: number): 'new' | 'again' {
    if (!this.#isNew(address)) return 'again';
    for (const traced of suspectsOf(this.#blocks, address)) note(traced, owner, first, count);
    return 'new';
  }

  #isNew(address: number): boolean {
    const cluster = clusterOfBlock(address);
    let bits = this.#seen.get(cluster);
    if (!bits) this.#seen.set(cluster, (bits = new Uint8Array(BLOCKS_PER_CLUSTER / 8)));
    const bit = blockOnDevice(address) % BLOCKS_PER_CLUSTER;
    const mask = 1 << (bit & 7);
    if (((bits[bit >> 3] as number) & mask) !== 0) return false;
    bits[bit >> 3] = (bits[bit >> 3] as number) | mask;
    return true;
  }

  cluster(
    cluster: number,
    shared: boolean,
    owner: Owner,
    index: number,
    block: Block,
    offset: number,
  ): undefined {
    for (const traced of suspectsOf(this.#clusters, cluster)) {
      note(traced, owner, index, 1);
      if (traced.suspect.share && !shared) this.#findings.fix(sharedFix(block, offset));
    }
  }

  /** Tells of every suspect. */
  report(): void {
    for (const { suspect, shares, more } of [...this.#clusters, ...this.#blocks]) {
      const owners = shares.map(({ owner, first, count }) => shownRange(owner, first, count));
      if (more > 0) owners.push('and more');
      suspect.tell(owners.length > 0 ? owners.join('; ') : 'no file');
    }
  }
}

function sorted(all: readonly Traced[], kind: Suspect['kind']): Traced[] {
  const list = all
    .filter(({ suspect }) => suspect.kind === kind)
    .sort((one, other) => one.suspect.first - other.suspect.first);
  let end = 0;
  for (const traced of list) {
    end = Math.max(end, traced.suspect.first + traced.suspect.count);
    traced.end = end;
  }
  return list;
}

/** The suspects that an address belongs to. */
function* suspectsOf(list: readonly Traced[], address: number): Generator<Traced> {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((list[middle] as Traced).suspect.first <= address) low = middle + 1;
    else high = middle;
  }
  for (let i = low - 1; i >= 0 && (list[i] as Traced).end > address; i--) {
    const traced = list[i] as Traced;
    if (address < traced.suspect.first + traced.suspect.count) yield traced;
  }
}

function note(traced: Traced, owner: Owner, first: number, count: number): void {
  const last = traced.shares.at(-1);
  if (last?.owner === owner && last.first + last.count === first) {
    last.count += count;
  } else if (traced.shares.length < OWNERS_MAX) {
    traced.shares.push({ owner, first, count });
  } else {
    traced.more++;
  }
}

/** The field of an entry that says whether others may have its cluster, saying that they may. */
function sharedFix(block: Block, offset: number): FieldFix {
  return {
    type: block.type === BLOCK_TYPES.inode ? 'inode' : 'tree',
    address: block.address,
    offset: offset + 4,
    size: 2,
    value: block.view.getUint16(offset + 4, true) | 0x8000,
  };
}
