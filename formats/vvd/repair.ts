/**
 * The repair of a VVD file: only what can be proven.
 *
 * - A header copy is written again from the other, which is whole.
 * - The last transaction of an image that was not closed is put in place, as the next open would.
 * - A directory or table page that is damaged on disk, and whole in the journal, is taken from there.
 * - The space list is made again from the allocation table, when all of that could be read and makes sense.
 *
 * Nothing else is touched: what a lost page mapped, or which of two blocks owns a place, nobody can know. All that is
 * overwritten is in the undo file first, durably. What guests read does not change, so the content ID stays.
 */
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { CheckFinding } from '../../src/image/check-report.ts';
import type { Examination } from './check-examination.ts';
import type { ImageUnderCheck } from './check-image.ts';
import { writeHeader } from './header.ts';
import type { PageImage } from './journal.ts';
import { HEADER_OFFSETS, PAGE, STATE_CLEAN } from './layout.ts';
import { writeImages } from './metadata.ts';
import { sealPage } from './page.ts';
import type { SpaceList } from './space-list.ts';
import { SpaceMap } from './space-map.ts';
import { UndoFile } from './undo-file.ts';

export interface RepairOptions {
  readonly repair: 'leaks' | 'all';
  readonly undoPath: string;
}

/** What will be written. */
interface RepairPlan {
  readonly pages: readonly PageImage[];
  readonly header: boolean;
}

/**
 * Repairs what `found` proves. Durable when this returns.
 *
 * @returns whether anything was changed; if not, there is no undo file
 * @throws VimgError `EXISTS` for the undo file, `READ_ONLY`, `NO_SPACE`, `IO`
 */
export async function repairVvd(
  file: BlockDevice,
  found: Examination,
  options: RepairOptions,
): Promise<boolean> {
  const { image } = found;
  if (!image) return false;
  const plan = planRepair(image, found, options.repair);
  if (plan.pages.length === 0 && !plan.header) return false;
  const undo = await UndoFile.create(options.undoPath, file, image.header.diskUuid);
  try {
    const ranges = plan.pages.map(({ home }) => ({ offset: home, length: PAGE }));
    if (plan.header) ranges.push(...HEADER_OFFSETS.map((offset) => ({ offset, length: PAGE })));
    await undo.save(ranges);
  } finally {
    await undo.close();
  }
  await writeImages(file, plan.pages);
  await file.flush();
  if (plan.header) {
    const { header } = image;
    if (image.replay) {
      header.state = STATE_CLEAN;
      header.sequence = image.sequence;
    }
    await writeHeader(file, header);
    await file.flush();
  }
  return true;
}

function planRepair(image: ImageUnderCheck, found: Examination, repair: 'leaks' | 'all'): RepairPlan {
  const { findings, restorables, mapsTrusted, rebuiltSpace } = found;
  const all = repair === 'all';
  const listDamaged = ['space-list', 'space-list-used', 'directory-unlisted'].some((kind) =>
    findings.has(kind),
  );
  const space =
    mapsTrusted &&
    !findings.has('journal-transaction') &&
    (all ? listDamaged || findings.leaks > 0 : !listDamaged && findings.leaks > 0)
      ? rebuiltSpace
      : undefined;
  const pages = new Map<number, PageImage>();
  const add = (images: readonly PageImage[]): void => {
    for (const page of images) pages.set(page.home, page);
  };
  if (all) add(restorables);
  const header = all && findings.has('header-copy');
  const replays = image.replay !== undefined && (pages.size > 0 || space !== undefined || header);
  if (image.replay && replays) add(image.replay.images);
  if (space) add(spacePages(image, space));
  return { pages: [...pages.values()], header: header || replays };
}

function spacePages(image: ImageUnderCheck, list: SpaceList): PageImage[] {
  const { header, blockSize, sequence } = image;
  const map = new SpaceMap(list, list.free, blockSize, () => undefined);
  return map.pages(header.diskUuid, header.spaceOffset).map((page, index) => {
    sealPage(page, sequence);
    return { home: header.spaceOffset + index * PAGE, page };
  });
}

const REFUSALS: Readonly<Record<string, string>> = {
  'space-list': 'the allocation table must be whole for that',
  'space-list-used': 'the allocation table must be whole for that',
  'directory-unlisted': 'the allocation table must be whole for that',
  'space-leaked': 'the allocation table must be whole for that',
  'header-copy': 'no copy of the header is whole',
  'block-shared': 'which of them owns the place cannot be known',
  'block-overlaps-metadata': 'which of them owns the place cannot be known',
  'table-page-shared': 'which of them owns the place cannot be known',
};

/** Why a finding stays. */
export function refusal(finding: CheckFinding): string {
  return REFUSALS[finding.kind] ?? 'nothing proves what was there';
}
