/** What a check of a volume finds: counted without end, listed up to a bound, so that memory stays bounded too. */
import { blockOnDevice, deviceOfBlock } from './geometry.ts';
import type { BlockTypeName } from './layout.ts';

export interface VolumeFinding {
  /** `corruption`: data is lost or at risk. `leak`: space is wasted, nothing more. */
  readonly severity: 'corruption' | 'leak';
  readonly message: string;
  /** Why no repair can mend it. */
  readonly refusal?: string;
}

/** Findings listed one by one; the rest is only counted. */
const LISTED_MAX = 10_000;
/** Fields that one repair sets: what is left is found by the next. */
const FIXES_MAX = 100_000;
/** Characters of a path that a message tells. */
const PATH_MAX = 300;
const UNPROVEN = 'nothing proves what was there';

export class VolumeFindings {
  readonly listed: VolumeFinding[] = [];
  corruptions = 0;
  leaks = 0;
  /** Something could not be read that may lead to more: what nothing leads to may still be somebody's. */
  contentLost = false;
  /** Something leads elsewhere than it did: what nothing leads to may be what it led to. */
  doubtful = false;
  readonly fixes: FieldFix[] = [];
  /** What is told when it is known whose it is. */
  readonly suspects: Suspect[] = [];

  /** Data is lost or at risk. @param refusal why a repair leaves it, when it does */
  corruption(message: string, refusal?: string): void {
    this.corruptions++;
    if (this.hasRoom) {
      this.listed.push({ severity: 'corruption', message, ...(refusal === undefined ? {} : { refusal }) });
    }
  }

  /** Something is wrong, and what would be right is known. */
  mendable(severity: 'corruption' | 'leak', message: string, ...fixes: FieldFix[]): void {
    if (severity === 'leak') this.leak(message);
    else this.corruption(message);
    for (const fix of fixes) this.fix(fix);
  }

  fix(fix: FieldFix): void {
    if (this.fixes.length < FIXES_MAX) this.fixes.push(fix);
  }

  /** Something is wrong with what files have: it is told when a second walk has found which files. */
  suspect(suspect: Suspect): void {
    if (this.suspects.length < LISTED_MAX) this.suspects.push(suspect);
    else suspect.tell('');
  }

  /** Content is lost, and with it what it led to. */
  lost(message: string): void {
    this.contentLost = true;
    this.corruption(message, UNPROVEN);
  }

  /** Something is wrong, and it cannot be known what would be right. Nothing else is lost by it. */
  unproven(message: string): void {
    this.corruption(message, UNPROVEN);
  }

  /** Space that is taken and used by nothing. */
  leak(message: string): void {
    this.leaks++;
    if (this.hasRoom) this.listed.push({ severity: 'leak', message });
  }

  /** Whether the next finding will be listed; if not, its message need not be made. */
  get hasRoom(): boolean {
    return this.listed.length < LISTED_MAX;
  }

  /** Whether what nothing leads to is surely free. */
  get provesFree(): boolean {
    return !this.contentLost && !(this.doubtful && this.leaks > 0);
  }
}

/** A path from a volume, safe to print: control characters escaped, the middle left out when it is long. */
export function shownPath(path: string): string {
  if (path === '') return 'the root folder';
  const text =
    path.length <= PATH_MAX ? path : `${path.slice(0, PATH_MAX / 2)} … ${path.slice(-PATH_MAX / 2)}`;
  return `'${text.replace(/[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, escaped)}'`;
}

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

/** Where a block is, in words. */
export function shownBlock(address: number): string {
  const device = deviceOfBlock(address);
  return device === 0 ? `block ${address}` : `block ${blockOnDevice(address)} of device ${device}`;
}

/** Blocks or clusters that something is wrong with. */
export interface Suspect {
  readonly kind: 'block' | 'cluster';
  /** Addresses. */
  readonly first: number;
  readonly count: number;
  /** Entries that lead to it are to be marked as shared. */
  readonly share: boolean;
  /** @param owners whose it is, in words */
  readonly tell: (owners: string) => void;
}

/** A field that a repair may set, since what it must be is known. */
export interface FieldFix {
  readonly type: BlockTypeName;
  readonly address: number;
  /** Bytes from the start of the block. */
  readonly offset: number;
  readonly size: 2 | 4 | 8;
  readonly value: number;
  /** It is evidence that something is missing, as long as there is space that nobody has. */
  readonly unlessLeaks?: boolean;
}
