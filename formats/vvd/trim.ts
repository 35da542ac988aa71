/** Clearing what a disk stored past its new end, so that it does not come back when the disk grows again. */
import {
  allocatedOf,
  clearEntry,
  entryAt,
  KIND_COMPRESSED,
  KIND_DATA,
  KIND_UNALLOCATED,
  kindOf,
  placeOf,
  setEntry,
  subBlockMask,
  zeroOf,
} from './entry.ts';
import { ENTRIES } from './layout.ts';
import type { Mapping } from './mapping.ts';
import type { MetadataPage } from './page-cache.ts';

/** Clears the entries of blocks wholly past the end, and the part of the last block that is. */
export async function clearFrom(map: Mapping, size: number, tables: number): Promise<void> {
  const span = ENTRIES * map.blockSize;
  for (let index = Math.floor(size / span); index < tables; index++) {
    const page = await map.metadata.table(index);
    if (!page) {
      index += map.metadata.absentTables(index, tables - index) - 1;
      continue;
    }
    if (!map.hasRoom) await map.metadata.commit();
    for (let slot = 0; slot < ENTRIES; slot++) {
      const block = index * ENTRIES + slot;
      if (block * map.blockSize >= size) clearBlock(map, page, slot);
    }
  }
  await clearTail(map, size);
}

function clearBlock(map: Mapping, page: MetadataPage, slot: number): void {
  const at = entryAt(slot);
  if (kindOf(page.view, at) === KIND_UNALLOCATED) return;
  map.freeBlock(page.view, at);
  clearEntry(page.view, at);
  map.metadata.changed(page);
}

/** What the last block stores past the end of the disk must not come back when the disk grows again. */
async function clearTail(map: Mapping, size: number): Promise<void> {
  const block = Math.floor(size / map.blockSize);
  const within = size - block * map.blockSize;
  if (within === 0) return;
  const page = await map.metadata.table(Math.floor(block / ENTRIES));
  if (!page) return;
  const at = entryAt(block % ENTRIES);
  if (kindOf(page.view, at) === KIND_COMPRESSED) await map.inflate(page, block);
  if (kindOf(page.view, at) !== KIND_DATA) return;
  const first = Math.ceil(within / map.zeroUnit);
  const keep = first === 0 ? 0 : subBlockMask(0, first - 1);
  const allocated = (allocatedOf(page.view, at) & keep) >>> 0;
  setEntry(page.view, at, KIND_DATA, placeOf(page.view, at), allocated, (zeroOf(page.view, at) & keep) >>> 0);
  map.metadata.changed(page);
  const edge = within % map.zeroUnit;
  const last = Math.floor(within / map.zeroUnit);
  if (edge !== 0 && ((allocated >>> last) & 1) === 1) {
    await map.file.pwrite(new Uint8Array(map.zeroUnit - edge), placeOf(page.view, at) + within);
  }
}
