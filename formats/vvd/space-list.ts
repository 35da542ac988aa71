/** Reading the space list: verified page by page, extents in order, inside the file and behind the fixed regions. */
import { VimgError } from '../../src/base/errors.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { fixedRegions } from './header.ts';
import { freeHostSpace } from './host-space.ts';
import {
  FREE_EXTENTS_FIRST,
  FREE_EXTENTS_LIMIT,
  FREE_EXTENTS_MORE,
  type FreeExtent,
  freeExtentLayout,
  type Header,
  PAGE,
  PAGE_HEADER,
  PAGE_SPACE,
  type SpaceHead,
  spaceHeadLayout,
} from './layout.ts';
import { pageProblem } from './page.ts';
import { SpaceMap } from './space-map.ts';

/** Space in use ends here at the latest: what is added to it stays a number that is exact. */
const SPACE_END_MAX = 2 ** 52;

export interface SpaceList extends SpaceHead {
  readonly free: FreeExtent[];
}

/** @throws VimgError `CORRUPT` when a page is damaged or the list contradicts itself */
export async function readSpaceList(file: BlockDevice, header: Header): Promise<SpaceList> {
  const first = await readPage(file, header, 0);
  const head = spaceHeadOf(first);
  if (head.extentCount > FREE_EXTENTS_LIMIT) throw corrupt(file, 'impossible number of free extents');
  const free: FreeExtent[] = [];
  readExtents(
    first,
    PAGE_HEADER + spaceHeadLayout.size,
    Math.min(head.extentCount, FREE_EXTENTS_FIRST),
    free,
  );
  for (let index = 1; free.length < head.extentCount; index++) {
    const page = await readPage(file, header, index);
    readExtents(page, PAGE_HEADER, Math.min(head.extentCount - free.length, FREE_EXTENTS_MORE), free);
  }
  const problem = listProblem(header, head, free);
  if (problem !== undefined) throw corrupt(file, problem);
  return { ...head, free };
}

/** The head in a space page that was verified. */
export function spaceHeadOf(page: Uint8Array): SpaceHead {
  return spaceHeadLayout.decode(page, PAGE_HEADER);
}

/** The head alone, for a layer that is only read. @throws VimgError `CORRUPT` when the page is damaged */
export async function readSpaceHead(file: BlockDevice, header: Header): Promise<SpaceHead> {
  return spaceHeadOf(await readPage(file, header, 0));
}

/**
 * The space map of a layer that is going to be written.
 *
 * A region that the header names (a directory that moved, checksum pages) is in use from the header write on that
 * names it, which is no transaction: the list may still end before it.
 */
export async function loadSpace(file: BlockDevice, header: Header): Promise<SpaceMap> {
  const { free, ...head } = await readSpaceList(file, header);
  const spaceEnd = Math.max(head.spaceEnd, regionsEnd(header));
  return new SpaceMap({ ...head, spaceEnd }, free, 2 ** header.blockShift, (place, length) =>
    freeHostSpace(file, place, length),
  );
}

/** First byte behind all space in use. @throws VimgError `CORRUPT` when the list is damaged */
export async function readSpaceEnd(file: BlockDevice, header: Header): Promise<number> {
  return Math.max((await readSpaceHead(file, header)).spaceEnd, regionsEnd(header));
}

function regionsEnd(header: Header): number {
  return Math.max(...fixedRegions(header).map((region) => region.offset + region.length));
}

async function readPage(file: BlockDevice, header: Header, index: number): Promise<Uint8Array> {
  const place = header.spaceOffset + index * PAGE;
  const page = new Uint8Array(PAGE);
  if (place + PAGE > file.size) throw corrupt(file, 'it passes the end of the file');
  await file.pread(page, place);
  const problem = pageProblem(page, { type: PAGE_SPACE, index, diskUuid: header.diskUuid, place });
  if (problem !== undefined) throw corrupt(file, `page ${index}: ${problem}`);
  return page;
}

function readExtents(page: Uint8Array, from: number, count: number, into: FreeExtent[]): void {
  for (let i = 0; i < count; i++) into.push(freeExtentLayout.decode(page, from + i * freeExtentLayout.size));
}

function listProblem(header: Header, head: SpaceHead, free: readonly FreeExtent[]): string | undefined {
  const { spaceEnd, metadataNext, metadataEnd } = head;
  if (spaceEnd % PAGE !== 0 || spaceEnd < header.dataOffset || spaceEnd > SPACE_END_MAX)
    return 'impossible end of the space in use';
  if (
    metadataNext % PAGE !== 0 ||
    metadataEnd % PAGE !== 0 ||
    metadataNext > metadataEnd ||
    metadataEnd > spaceEnd
  ) {
    return 'impossible block of table pages';
  }
  if (metadataEnd !== 0 && metadataNext < header.dataOffset) return 'impossible block of table pages';
  let end = header.dataOffset;
  for (const { place, length } of free) {
    if (place % PAGE !== 0 || length % PAGE !== 0 || length === 0) return 'a free extent is not aligned';
    if (place < end) return 'free extents overlap';
    end = place + length;
    if (end > spaceEnd) return 'a free extent passes the end of the space in use';
    if (place < metadataEnd && end > metadataNext) return 'a free extent overlaps the block of table pages';
  }
  return undefined;
}

function corrupt(file: BlockDevice, why: string): VimgError {
  return new VimgError('CORRUPT', `The space list is damaged: ${why}`, { path: file.name });
}
