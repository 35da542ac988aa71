/**
 * What a check looks at first: both header copies, the attributes and the journal; and how it sees the rest, which is
 * the file with the last transaction over it when it was not closed.
 */
import { isVimgError, VimgError } from '../../src/base/errors.ts';
import { LIMITS } from '../../src/base/limits.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { readAttributes } from './attributes.ts';
import type { CheckFindings } from './check-findings.ts';
import {
  geometry,
  geometryProblem,
  type HeaderCopy,
  headerText,
  readHeader,
  readHeaderCopies,
} from './header.ts';
import { readSlot, slotOffset, type Transaction, transactionProblem } from './journal.ts';
import { ENTRIES, type Header, STATE_DIRTY } from './layout.ts';
import { TransactionView } from './transaction-view.ts';

export interface ImageUnderCheck {
  /** The file as it is. */
  readonly file: BlockDevice;
  /** The file as the next open sees it. */
  readonly view: BlockDevice;
  readonly header: Header;
  readonly blockSize: number;
  /** Blocks of the disk: entries behind them hold nothing. */
  readonly blocks: number;
  /** Sequence of the last transaction: no page is newer. */
  readonly sequence: number;
  /** The transaction that the next open puts in place. */
  readonly replay: Transaction | undefined;
  /** Transactions of the journal that are whole, last first, whether they are still needed or not. */
  readonly journal: readonly Transaction[];
  /** Which directory pages were written, by the space list; undefined until that was read, or when it is damaged. */
  directoriesWritten: Uint8Array | undefined;
}

/**
 * Looks at header, attributes and journal.
 *
 * @returns undefined when the header is too damaged to find anything by it
 * @throws VimgError `INVALID_FORMAT` for a file that is no VVD image, `UNSUPPORTED` for versions and features
 */
export async function examineImage(
  file: BlockDevice,
  findings: CheckFindings,
): Promise<ImageUnderCheck | undefined> {
  const header = await examineHeader(file, findings);
  if (!header) return undefined;
  examineNames(header, findings);
  await examineAttributes(file, header, findings);
  const whole = await readJournal(file, header, findings);
  const replay = examineJournal(header, whole, findings);
  const journal = whole.filter((transaction) => transactionProblem(header, transaction) === undefined);
  return {
    file,
    view: replay ? new TransactionView(file, replay.images) : file,
    header,
    blockSize: 2 ** header.blockShift,
    blocks: geometry(header.virtualSize, header.blockShift).blocks,
    sequence: Math.max(header.sequence, header.state === STATE_DIRTY ? (whole[0]?.sequence ?? 0) : 0),
    replay,
    journal,
    directoriesWritten: undefined,
  };
}

async function examineHeader(file: BlockDevice, findings: CheckFindings): Promise<Header | undefined> {
  const copies = await readHeaderCopies(file);
  const [newest] = copies
    .flatMap((copy) => copy.header ?? [])
    .sort((a, b) => b.generation - a.generation) as [Header?];
  let refusal: VimgError | undefined;
  try {
    await readHeader(file);
  } catch (error) {
    if (!isVimgError(error, 'CORRUPT')) throw error;
    refusal = error;
  }
  for (const copy of copies) {
    const problem = copyProblem(copy, newest);
    if (problem === undefined) continue;
    findings.corruption('header-copy', `the header copy at ${copy.offset} is damaged: ${problem}`, {
      fileOffset: copy.offset,
    });
  }
  if (!refusal) return newest;
  if (newest && geometryProblem(newest, LIMITS.offset) === undefined) {
    findings.corruption('file-truncated', `${refusal.message}: the file was cut short`, {
      fileOffset: file.size,
      guestRange: { offset: 0, length: newest.virtualSize },
    });
    return newest;
  }
  if (newest) findings.corruption('header-contradiction', refusal.message, { fileOffset: 0 });
  return undefined;
}

/** A copy that is whole may still be another disk's, or one that a write missed. */
function copyProblem(copy: HeaderCopy, newest: Header | undefined): string | undefined {
  const { header } = copy;
  if (!header || !newest) return copy.problem;
  if (header.diskUuid !== newest.diskUuid) return 'it belongs to another disk';
  if (newest.generation - header.generation > 1) return `it is stale: generation ${header.generation}`;
  return undefined;
}

function examineNames(header: Header, findings: CheckFindings): void {
  try {
    headerText(header.parentPath, header.parentPathLength);
    headerText(header.snapshotName, header.snapshotNameLength);
    headerText(header.intentName, header.intentNameLength);
    headerText(header.groupPath, header.groupPathLength);
  } catch (error) {
    if (!isVimgError(error, 'CORRUPT')) throw error;
    findings.corruption('header-text', error.message, { fileOffset: 0 });
  }
}

async function examineAttributes(file: BlockDevice, header: Header, findings: CheckFindings): Promise<void> {
  try {
    await readAttributes(file, header);
  } catch (error) {
    if (!(error instanceof VimgError)) throw error;
    findings.corruption('attributes', error.message, { fileOffset: header.attributesOffset });
  }
}

/** Transactions of the journal that are whole, last first. */
async function readJournal(
  file: BlockDevice,
  header: Header,
  findings: CheckFindings,
): Promise<Transaction[]> {
  const whole: Transaction[] = [];
  for (const slot of [0, 1] as const) {
    try {
      const transaction = await readSlot(file, header, slot);
      if (transaction) whole.push(transaction);
    } catch (error) {
      if (!(error instanceof VimgError)) throw error;
      const fileOffset = slotOffset(header, slot);
      findings.corruption('journal-unreadable', `journal slot ${slot}: ${error.message}`, { fileOffset });
    }
  }
  return whole.sort((a, b) => b.sequence - a.sequence);
}

/** @returns the transaction that the next open puts in place, by the rule of `findTransaction` */
function examineJournal(
  header: Header,
  journal: readonly Transaction[],
  findings: CheckFindings,
): Transaction | undefined {
  const [last] = journal;
  if (!last || last.sequence <= header.sequence) return undefined;
  const fileOffset = slotOffset(header, last.sequence);
  if (header.state !== STATE_DIRTY) {
    const message = `the image was closed at transaction ${header.sequence}, but its journal holds ${last.sequence}`;
    findings.corruption('journal-ahead', message, { fileOffset });
    return undefined;
  }
  const problem = transactionProblem(header, last);
  if (problem === undefined) return last;
  findings.corruption('journal-transaction', `transaction ${last.sequence} cannot be replayed: ${problem}`, {
    fileOffset,
  });
  return undefined;
}

/** The guest bytes of a run of blocks; undefined behind the end of the disk. */
export function guestRange(
  image: ImageUnderCheck,
  block: number,
  count: number,
): { offset: number; length: number } | undefined {
  const offset = block * image.blockSize;
  const length = Math.min(count * image.blockSize, image.header.virtualSize - offset);
  return length > 0 ? { offset, length } : undefined;
}

/** Blocks that a directory page maps. */
export const DIRECTORY_BLOCKS: number = ENTRIES * ENTRIES;
