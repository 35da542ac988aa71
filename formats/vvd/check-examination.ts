/**
 * One look at a whole VVD file: every structure, and its place in the file.
 *
 * Structures are found by reading, so a damaged image is looked at as far as possible; damage is a finding and never
 * an exception. An image that was not closed is seen as its next open will leave it. Nothing is changed.
 *
 * Memory is bounded whatever the size of the disk: table pages are read in batches and forgotten, and places are
 * kept in a `PlaceMap`.
 */
import { VimgError } from '../../src/base/errors.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { CheckOptions } from '../../src/image/format-driver.ts';
import { ChecksumCheck, checksumCountProblem } from './check-data.ts';
import { EntryCheck } from './check-entries.ts';
import { type CheckCounters, CheckFindings } from './check-findings.ts';
import { examineImage, type ImageUnderCheck } from './check-image.ts';
import { OwnerTrace } from './check-owners.ts';
import {
  examineSpaceList,
  regionsAmongBlocks,
  regionsEnd,
  SpaceAudit,
  type SpaceVerdict,
} from './check-space.ts';
import { TableWalk } from './check-tables.ts';
import type { PageImage } from './journal.ts';
import { CONFLICTS_MAX, PlaceMap } from './place-map.ts';
import type { SpaceList } from './space-list.ts';

/** What a look at the whole image found, and what a repair needs of it. */
export interface Examination {
  readonly findings: CheckFindings;
  readonly counters: CheckCounters;
  /** Undefined when no header is usable. */
  readonly image: ImageUnderCheck | undefined;
  /** All of the allocation table could be read, and makes sense: what it does not map is not used. */
  readonly mapsTrusted: boolean;
  /** The space list as the tables say it should be. */
  readonly rebuiltSpace: SpaceList | undefined;
  /** Pages damaged on disk that the journal holds whole. */
  readonly restorables: readonly PageImage[];
}

export type ExamineOptions = Pick<CheckOptions, 'scrub' | 'signal' | 'onProgress'> & {
  /** Bytes of memory for places in use, for tests. */
  readonly placeMemory?: number;
};

/** Looks at everything. @throws VimgError as `checkVvd` does */
export async function examine(file: BlockDevice, options: ExamineOptions): Promise<Examination> {
  const findings = new CheckFindings();
  const image = await examineImage(file, findings);
  if (!image) return unusable(findings);
  const list = await examineSpaceList(image, findings);
  image.directoriesWritten = list?.directoriesWritten;
  const countProblem = checksumCountProblem(image);
  if (countProblem !== undefined) findings.corruption('checksum-page', countProblem, { fileOffset: 0 });
  const spaceEnd = Math.max(list?.spaceEnd ?? 0, regionsEnd(image));
  const places = new PlaceMap(image.blockSize, options.placeMemory);
  const cancelled = (): void => {
    if (options.signal?.aborted)
      throw new VimgError('CANCELLED', 'Cancelled', { op: 'check', path: file.name });
  };
  const scrub = options.scrub ?? false;
  const sealed = image.header.checksumState === 1;
  const data = scrub || sealed ? new ChecksumCheck(image, findings, scrub, cancelled) : undefined;
  const entries = new EntryCheck(image, findings, places, spaceEnd, data);
  const audit = new SpaceAudit(list, image.header.dataOffset, spaceEnd, spaceVerdict(entries, findings));
  const progress = (fraction: number): void => {
    cancelled();
    if (entries.isFirstPass) options.onProgress?.(fraction);
  };
  const walk = new TableWalk(image, entries, progress);
  for (let more = true; more; ) {
    for (const region of regionsAmongBlocks(image)) places.mark(region.offset, region.length);
    await walk.run();
    entries.endFirstPass();
    more = places.endWindow((from, to) => audit.used(from, to));
  }
  audit.finish();
  await traceConflicts(image, places, findings, cancelled);
  options.onProgress?.(1);
  return {
    findings,
    image,
    counters: counters(image, entries, audit),
    mapsTrusted: entries.complete && places.conflicts.length === 0,
    rebuiltSpace: audit.rebuilt(walk.directoriesFound),
    restorables: entries.restorables,
  };
}

function spaceVerdict(entries: EntryCheck, findings: CheckFindings): SpaceVerdict {
  return {
    usedButFree(place, length) {
      const message = `the space list gives out ${length} bytes at ${place} that are in use`;
      findings.corruption('space-list-used', message, { fileOffset: place });
    },
    leaked(place, length) {
      // what a damaged page mapped looks like a leak, and is none
      if (!entries.complete || findings.has('journal-transaction')) return;
      findings.leak(`${length} bytes at ${place} are neither used nor free`, place);
    },
  };
}

function counters(image: ImageUnderCheck, entries: EntryCheck, audit: SpaceAudit): CheckCounters {
  const { statistics } = entries;
  return {
    imageEndOffset: Math.min(Math.max(audit.usedEnd, regionsEnd(image)), image.view.size),
    totalClusters: image.blocks,
    allocatedClusters: statistics.allocated,
    fragmentedClusters: statistics.fragmented,
    compressedClusters: statistics.compressed,
  };
}

async function traceConflicts(
  image: ImageUnderCheck,
  places: PlaceMap,
  findings: CheckFindings,
  cancelled: () => void,
): Promise<void> {
  if (places.conflicts.length === 0) return;
  const trace = new OwnerTrace(image, places.conflicts);
  for (const region of regionsAmongBlocks(image))
    trace.region(`the ${region.name}`, region.offset, region.length);
  await new TableWalk(image, trace, cancelled).run();
  trace.report(findings);
  if (places.conflictsLeftOut > 0) {
    const message = `${places.conflictsLeftOut} more pages are used twice; the first ${CONFLICTS_MAX} ranges were traced`;
    findings.corruption('block-shared', message);
  }
}

function unusable(findings: CheckFindings): Examination {
  const counters = {
    imageEndOffset: 0,
    totalClusters: 0,
    allocatedClusters: 0,
    fragmentedClusters: 0,
    compressedClusters: 0,
  };
  return {
    findings,
    counters,
    image: undefined,
    mapsTrusted: false,
    rebuiltSpace: undefined,
    restorables: [],
  };
}
