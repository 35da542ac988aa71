/**
 * Sealing: a layer becomes read-only for good, with a checksum for each block it stores, so that a flipped bit in its
 * data is an error and never wrong bytes. Takes time proportional to the data.
 *
 * Checksum pages are written and flushed before the header names them.
 */
import { VimgError } from '../../src/base/errors.ts';
import { crc32cBulk } from '../../src/binary/crc32c.ts';
import { nameOf } from '../../src/device/file-path.ts';
import type { LongOperation } from '../../src/image/lifecycle.ts';
import { checksumPageCount, readStored } from './block-checksums.ts';
import { type OpenVvdFile, openForChange, realDisk } from './disk-file.ts';
import { allocatedOf, entryAt, KIND_DATA, kindOf, placeOf } from './entry.ts';
import { CLONES_ATTRIBUTE, childrenOf, refuseWithChildren } from './family.ts';
import { geometry, isSealed, setHeaderText, writeHeader } from './header.ts';
import {
  CHECKSUMS,
  ENTRIES,
  INCOMPATIBLE_SEALED,
  INTENT_NONE,
  PAGE,
  PAGE_CHECKSUM,
  PAGE_HEADER,
} from './layout.ts';
import { newPage, sealPage } from './page.ts';
import { readSpaceEnd } from './space-list.ts';

/** @throws VimgError `LOCKED`, `NO_SPACE`, `CANCELLED`; the layer is then as it was */
export async function sealVvd(path: string, operation: LongOperation): Promise<void> {
  const disk = await openForChange(await realDisk(path), { allowSealed: true, keepContentId: true });
  try {
    const { header } = disk.layer;
    if (header.checksumState === 1) return;
    if (header.intent !== INTENT_NONE) {
      throw new VimgError('UNSUPPORTED', 'The layer takes part in an interrupted deletion', { path });
    }
    await disk.layer.vvdWriter?.close();
    const { tables } = geometry(header.virtualSize, header.blockShift);
    const offset = await readSpaceEnd(disk.file, header);
    const pages = checksumPageCount(tables);
    await writeChecksums(disk, offset, pages, operation);
    if (disk.file.limits.growable) await disk.file.resize(offset + pages * PAGE);
    await disk.file.flush();
    header.checksumOffset = offset;
    header.checksumPages = pages;
    header.checksumState = 1;
    if (!isSealed(header)) header.sealedMs = Date.now();
    header.incompatible |= INCOMPATIBLE_SEALED;
    await writeHeader(disk.file, header);
  } finally {
    await disk.file.close();
  }
}

async function writeChecksums(
  disk: OpenVvdFile,
  offset: number,
  pages: number,
  operation: LongOperation,
): Promise<void> {
  const { layer, file } = disk;
  const { header } = layer;
  for (let index = 0; index < pages; index++) {
    if (operation.signal?.aborted) throw new VimgError('CANCELLED', 'Cancelled', { path: disk.path });
    const place = offset + index * PAGE;
    const page = newPage(PAGE_CHECKSUM, index, header.diskUuid, place);
    if (await fillChecksums(disk, index, page)) {
      sealPage(page, header.sequence);
      await file.pwrite(page, place);
    }
    operation.onProgress?.(index + 1, pages);
  }
}

/** @returns whether any block of the page is stored */
async function fillChecksums(disk: OpenVvdFile, index: number, page: Uint8Array): Promise<boolean> {
  const { layer, file } = disk;
  const blockSize = layer.unit;
  const view = new DataView(page.buffer);
  let any = false;
  for (let i = 0; i < CHECKSUMS; i++) {
    const block = index * CHECKSUMS + i;
    const table = await layer.metadata.table(Math.floor(block / ENTRIES));
    if (!table) {
      i += ENTRIES - (block % ENTRIES) - 1;
      continue;
    }
    const at = entryAt(block % ENTRIES);
    if (kindOf(table.view, at) !== KIND_DATA || allocatedOf(table.view, at) === 0) continue;
    const data = await readStored(file, placeOf(table.view, at), allocatedOf(table.view, at), blockSize);
    view.setUint32(PAGE_HEADER + i * 4, crc32cBulk(data), true);
    any = true;
  }
  return any;
}

/**
 * Makes a sealed layer writable again.
 *
 * @param force also while disks are known to stand on it: they will refuse it once it was written
 * @throws VimgError `LOCKED` naming those that stand on it
 */
export async function unsealVvd(path: string, force: boolean): Promise<void> {
  const real = await realDisk(path);
  const disk = await openForChange(real, { allowSealed: true, keepContentId: true });
  try {
    const { header, attributes } = disk.layer;
    if (!isSealed(header)) return;
    if (!force) {
      const clones = String(attributes.get(CLONES_ATTRIBUTE) ?? '');
      refuseWithChildren(nameOf(real), await childrenOf(real, header, clones), 'unseal');
    }
    header.incompatible &= ~INCOMPATIBLE_SEALED;
    header.sealedMs = 0;
    header.checksumState = 0;
    header.checksumOffset = 0;
    header.checksumPages = 0;
    header.snapshotNameLength = setHeaderText(header.snapshotName, '', 'The name');
    await writeHeader(disk.file, header);
  } finally {
    await disk.file.close();
  }
}
