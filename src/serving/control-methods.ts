/** The methods of a control socket by which other processes use the disks that this one has open. */
import type { ControlCall, ControlMethod } from '../control/control-server.ts';
import type { MapExtent } from '../image/disk-image.ts';
import type { DeletePlan } from '../image/lifecycle.ts';
import type { OpenDiskSet } from './open-disk-set.ts';
import {
  ATTRIBUTES,
  type AttributesRequest,
  CLONE_BASE,
  type CloneBaseRequest,
  DELETE_SNAPSHOT,
  type DeleteSnapshotRequest,
  DISKS,
  type DiskRequest,
  isBytes,
  isChange,
  isFlag,
  isListOf,
  isNullOr,
  isOneOf,
  isText,
  MAP,
  type MapRequest,
  RESIZE,
  type ResizeRequest,
  readParameters,
  type ServingStatistics,
  SNAPSHOT,
  type SnapshotRequest,
  STATISTICS,
  USAGE,
} from './protocol.ts';

/** Extents told at once: some tens of kilobytes. */
const EXTENTS_AT_ONCE = 256;
const PROGRESS_MS = 200;

export function controlMethods(
  disks: OpenDiskSet,
  statistics: () => ServingStatistics,
): Map<string, ControlMethod> {
  return new Map<string, ControlMethod>([
    [DISKS, () => disks.describe()],
    [STATISTICS, () => Promise.resolve(statistics())],
    [
      SNAPSHOT,
      (parameters) => {
        const checks = { disks: isListOf(isText), name: isText };
        const request = readParameters<SnapshotRequest>(parameters, checks);
        return disks.snapshot(request.disks, request.name);
      },
    ],
    [
      CLONE_BASE,
      (parameters) => {
        const checks = { disk: isText, name: isText, clone: isText };
        return disks.snapshotForClone(readParameters<CloneBaseRequest>(parameters, checks));
      },
    ],
    [
      DELETE_SNAPSHOT,
      (parameters, call) => {
        const checks = { disk: isText, name: isText, plan: isFlag };
        return deleteSnapshot(disks, readParameters<DeleteSnapshotRequest>(parameters, checks), call);
      },
    ],
    [
      RESIZE,
      (parameters, { signal }) => {
        const preallocation = isOneOf('off', 'falloc', 'full');
        const checks = { disk: isText, from: isBytes, to: isBytes, preallocation };
        return disks.resize(readParameters<ResizeRequest>(parameters, checks), signal);
      },
    ],
    [
      ATTRIBUTES,
      (parameters) => {
        const checks = { disk: isText, change: isListOf(isChange) };
        const { disk, change } = readParameters<AttributesRequest>(parameters, checks);
        return disks.changeAttributes(disk, new Map(change.map(([key, value]) => [key, value ?? undefined])));
      },
    ],
    [
      MAP,
      (parameters, call) => {
        const checks = { disk: isText, offset: isBytes, length: isNullOr(isBytes) };
        return tellMap(disks, readParameters<MapRequest>(parameters, checks), call);
      },
    ],
    [
      USAGE,
      (parameters, { signal }) =>
        disks.usage(readParameters<DiskRequest>(parameters, { disk: isText }).disk, { signal }),
    ],
  ]);
}

/** Progress is told now and then: who does not take it is not waited for. */
function deleteSnapshot(
  disks: OpenDiskSet,
  request: DeleteSnapshotRequest,
  { signal, report }: ControlCall,
): Promise<DeletePlan> {
  let toldMs = performance.now();
  const onProgress = (done: number, total: number): void => {
    const now = performance.now();
    if (now - toldMs < PROGRESS_MS && done < total) return;
    toldMs = now;
    report({ done, total })?.catch(() => undefined); // an abort, which the operation meets by its signal
  };
  return disks.deleteSnapshot(request, { signal, onProgress });
}

async function tellMap(disks: OpenDiskSet, request: MapRequest, call: ControlCall): Promise<void> {
  let extents: MapExtent[] = [];
  for await (const extent of disks.map(request, call.signal)) {
    extents.push(extent);
    if (extents.length < EXTENTS_AT_ONCE) continue;
    await call.report(extents);
    extents = [];
  }
  if (extents.length > 0) await call.report(extents);
}
