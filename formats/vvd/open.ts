/**
 * Opening a VVD file: header, what a crash left, attributes, space, and the fixed metadata, all verified before
 * anything is used. Takes time independent of the disk's size.
 */
import { VimgError } from '../../src/base/errors.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { OpenLayerOptions } from '../../src/image/format-driver.ts';
import { readAttributes } from './attributes.ts';
import { BlockChecksums } from './block-checksums.ts';
import { featureNames, isSealed, readHeader, writeHeader } from './header.ts';
import { cutFile, freeHostSpace } from './host-space.ts';
import { findTransaction, type Transaction, transactionProblem } from './journal.ts';
import { VvdLayer } from './layer.ts';
import {
  ENTRIES,
  type Header,
  INTENT_TRIM,
  READ_ONLY_COMPATIBLE_KNOWN,
  STATE_CLEAN,
  STATE_DIRTY,
} from './layout.ts';
import { Metadata, writeImages } from './metadata.ts';
import { getU64, pageIndex, pageType } from './page.ts';
import { directoryEntryAt } from './page-cache.ts';
import { finishTrim } from './resize.ts';
import { loadSpace, readSpaceHead, spaceHeadOf } from './space-list.ts';
import type { SpaceMap } from './space-map.ts';
import { VvdWriter } from './writer.ts';

/** Directory and table pages that an open verifies at once; those of larger disks are verified when first used. */
const EAGER_PAGES = 64;

/** What operations on whole files need besides. */
export interface VvdOpenOptions extends OpenLayerOptions {
  /** Open a sealed layer for writing: its content as seen through its children stays the same. */
  readonly allowSealed?: boolean;
  /** The change does not alter what a guest sees: the content ID stays. */
  readonly keepContentId?: boolean;
}

/**
 * @throws VimgError `INVALID_FORMAT`, `UNSUPPORTED`, `CORRUPT`, `READ_ONLY` for writing a sealed layer
 */
export async function openVvd(file: BlockDevice, options: VvdOpenOptions): Promise<VvdLayer> {
  const writable = !options.readOnly;
  const header = await readHeader(file);
  if (writable) prepareForWriting(file, header, options.allowSealed ?? false);
  let transaction: Transaction | undefined;
  if (header.state === STATE_DIRTY) {
    transaction = await lastTransaction(file, header);
    if (writable) await recover(file, header, transaction);
  }
  const attributes = await readAttributes(file, header);
  const space = writable ? await loadSpace(file, header) : undefined;
  const metadata = new Metadata(
    file,
    header,
    space ?? (await directoriesWritten(file, header, transaction)),
    options.fresh ?? false,
  );
  if (!writable && transaction) overlay(metadata, transaction);
  if (!options.infoOnly) await verifyFixed(metadata, header);
  const writer = space ? new VvdWriter(metadata, space, options) : undefined;
  if (writer && header.intent === INTENT_TRIM) {
    await writer.begin();
    await finishTrim(writer);
  }
  const checksums = header.checksumState === 1 ? new BlockChecksums(file, header, metadata) : undefined;
  return new VvdLayer({ file, header, metadata, writer, attributes, checksums });
}

function prepareForWriting(file: BlockDevice, header: Header, allowSealed: boolean): void {
  const unknown = (header.readOnlyCompatible & ~READ_ONLY_COMPATIBLE_KNOWN) >>> 0;
  if (unknown !== 0) {
    const names = featureNames(header, 1, unknown).join(', ');
    throw new VimgError('UNSUPPORTED', `To write this image a program must know: ${names}`, {
      path: file.name,
      hint: 'it can be opened read-only',
    });
  }
  if (isSealed(header) && !allowSealed) {
    throw new VimgError('READ_ONLY', 'The layer is sealed: other disks may stand on it', {
      op: 'open for writing',
      path: file.name,
      hint: 'make a linked clone and write to that: vimg clone SRC DST; or vimg unseal',
    });
  }
}

async function lastTransaction(file: BlockDevice, header: Header): Promise<Transaction | undefined> {
  const transaction = await findTransaction(file, header);
  const problem = transaction && transactionProblem(header, transaction);
  if (problem !== undefined) {
    throw new VimgError('CORRUPT', `The journal cannot be replayed: ${problem}`, {
      op: 'replay journal',
      path: file.name,
    });
  }
  return transaction;
}

/** Puts the last transaction in place, gives back what no transaction owns, and marks the file clean. */
async function recover(
  file: BlockDevice,
  header: Header,
  transaction: Transaction | undefined,
): Promise<void> {
  if (transaction) {
    await writeImages(file, transaction.images);
    header.sequence = transaction.sequence;
  }
  header.state = STATE_CLEAN;
  await writeHeader(file, header);
  await reclaimLeaks(file, await loadSpace(file, header));
}

/** What was written but never mapped lies past the end in use or in free extents: the host gets it back. */
async function reclaimLeaks(file: BlockDevice, space: SpaceMap): Promise<void> {
  await cutFile(file, space.spaceEnd);
  for (const { place, length } of space.freeExtents) await freeHostSpace(file, place, length);
}

/** Which directory pages were written, as the last transaction says. */
async function directoriesWritten(
  file: BlockDevice,
  header: Header,
  transaction: Transaction | undefined,
): Promise<Uint8Array> {
  const image = transaction?.images.find(({ home }) => home === header.spaceOffset);
  const head = image ? spaceHeadOf(image.page) : await readSpaceHead(file, header);
  return head.directoriesWritten;
}

/** A dirty file that is only read: its last transaction is seen over it, the file stays as it is. */
function overlay(metadata: Metadata, transaction: Transaction): void {
  for (const image of transaction.images)
    metadata.overlay(image, pageType(image.page), pageIndex(image.page));
}

/** Loads, and so verifies, directory and table pages, as long as they are few. */
async function verifyFixed(metadata: Metadata, header: Header): Promise<void> {
  if (header.directoryPages > EAGER_PAGES) return;
  let budget = EAGER_PAGES;
  for (let index = 0; index < header.directoryPages; index++) {
    if (!metadata.isDirectoryWritten(index)) continue;
    const directory = await metadata.directory(index);
    for (let slot = 0; slot < ENTRIES && budget > 0; slot++) {
      if (getU64(directory.view, directoryEntryAt(slot)) === 0) continue;
      await metadata.table(index * ENTRIES + slot);
      budget--;
    }
  }
}
