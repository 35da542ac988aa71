/**
 * The check of a volume, and its repair. It works on devices that nobody has attached, and sees them as the next attach
 * will leave them: with the journal replayed, in memory. Nothing is changed unless a repair is asked for; then only what
 * can be proven is, and what is overwritten is saved first.
 *
 * Everything that has a name is walked through once; what was found in use is then held against the counts and bitmaps.
 * When those disagree, a second walk finds out which files are touched.
 */
import { VimgError } from '../base/errors.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { CountCheck } from './check-counts.ts';
import { type VolumeFinding, VolumeFindings } from './check-findings.ts';
import type { GroupUnderCheck } from './check-group.ts';
import { examineNodes, type NodesFound } from './check-nodes.ts';
import { SpaceUnderCheck } from './check-space.ts';
import { examineSuperblocks, reportSuperblocks, type SuperblocksFound } from './check-superblocks.ts';
import { Trace } from './check-trace.ts';
import { SpaceUsage } from './check-usage.ts';
import { BlockView } from './check-view.ts';
import { Walk } from './check-walk.ts';
import { DeviceSet } from './device-set.ts';
import { refusalOf, repairVolume } from './repair-volume.ts';

export interface CheckVolumeOptions {
  /** Repair what can be proven, saving what is overwritten in a new file of this name. */
  readonly undoPath?: string;
  readonly signal?: AbortSignal;
  /** @param fraction of the work that is done, from 0 to 1 */
  readonly onProgress?: (fraction: number) => void;
}

export interface VolumeCheckReport {
  readonly findings: readonly Omit<VolumeFinding, 'refusal'>[];
  /** Findings in all; the first ones are listed. */
  readonly corruptions: number;
  readonly leaks: number;
  readonly repaired: number;
}

/** What a look at the whole volume found, and what a repair needs of it. */
export interface VolumeExamination {
  readonly findings: VolumeFindings;
  readonly superblocks: SuperblocksFound | undefined;
  readonly nodes: NodesFound | undefined;
  readonly space: SpaceUnderCheck | undefined;
  /** Groups whose blocks are not what they must be. */
  readonly wrongGroups: readonly GroupUnderCheck[];
  /** Devices whose record is wrong. */
  readonly wrongRecords: readonly number[];
}

/**
 * Checks a volume that nobody has attached, and repairs it if asked to. Findings that a repair mended are only counted;
 * `undoRepair` takes it back.
 *
 * @param devices all of the volume, in their order
 * @throws VimgError `NOT_FOUND` for devices that are not those of one volume; `UNSUPPORTED` for features of a later
 *   version; `CANCELLED`; from a repair also `EXISTS` for the undo file, `READ_ONLY`, `NO_SPACE`, `IO`
 */
export async function checkVolume(
  devices: readonly BlockDevice[],
  options: CheckVolumeOptions = {},
): Promise<VolumeCheckReport> {
  const { undoPath } = options;
  const readOnly = devices.find((device) => device.readOnly);
  if (undoPath !== undefined && readOnly) {
    throw new VimgError('READ_ONLY', 'A repair needs devices that can be written', { path: readOnly.name });
  }
  const before = await examineVolume(devices, options);
  const { corruptions, leaks } = before.findings;
  if (undoPath === undefined || corruptions + leaks === 0) return report(before);
  const changed = await repairVolume(devices, before, undoPath);
  const after = changed ? await examineVolume(devices, options) : before;
  const left = after.findings.corruptions + after.findings.leaks;
  return {
    ...report(after),
    findings: after.findings.listed.map((finding) => ({
      severity: finding.severity,
      message: `${finding.message} (not repaired: ${refusalOf(finding, before)})`,
    })),
    repaired: Math.max(0, corruptions + leaks - left),
  };
}

function report({ findings }: VolumeExamination): VolumeCheckReport {
  return {
    findings: findings.listed.map(({ severity, message }) => ({ severity, message })),
    corruptions: findings.corruptions,
    leaks: findings.leaks,
    repaired: 0,
  };
}

/** Looks at everything. @throws VimgError as `checkVolume` does */
async function examineVolume(
  devices: readonly BlockDevice[],
  options: CheckVolumeOptions,
): Promise<VolumeExamination> {
  const findings = new VolumeFindings();
  const superblocks = await examineSuperblocks(devices, findings);
  if (!superblocks) {
    return { findings, superblocks, nodes: undefined, space: undefined, wrongGroups: [], wrongRecords: [] };
  }
  const cancelled = (): void => {
    if (options.signal?.aborted) throw new VimgError('CANCELLED', 'Cancelled', { op: 'check' });
  };
  const { description } = superblocks;
  const view = new BlockView(new DeviceSet(devices), description.uuid);
  const nodes = await examineNodes(view, description.slots, findings);
  reportSuperblocks(superblocks, nodes.leftInOrder, devices, findings);
  const space = await SpaceUnderCheck.examine(view, description, nodes, cancelled);
  const marked = space.markedBlocks;
  let walked = 0;
  const step = (): void => {
    cancelled();
    if (++walked % 256 === 0) options.onProgress?.(Math.min(0.9, (0.9 * walked) / marked));
  };
  await new Walk(view, new SpaceUsage(space, step), findings, cancelled).run(description.root, nodes.orphans);
  const wrongRecords = space.settleRecords(findings);
  const counts = new CountCheck(space, findings);
  await counts.run(cancelled);
  await trace(view, superblocks, nodes, findings, cancelled);
  options.onProgress?.(1);
  return { findings, superblocks, nodes, space, wrongGroups: counts.wrong, wrongRecords };
}

/** Finds out whose it is what something is wrong with. */
async function trace(
  view: BlockView,
  { description }: SuperblocksFound,
  { orphans }: NodesFound,
  findings: VolumeFindings,
  step: () => void,
): Promise<void> {
  if (findings.suspects.length === 0) return;
  const traced = new Trace(findings);
  await new Walk(view, traced, new VolumeFindings(), step).run(description.root, orphans);
  traced.report();
}
