/** The methods of a control socket by which other processes use the disks that this one has open. */
import type { ControlCall, ControlMethod } from '../control/control-server.ts';
import type { MapExtent } from '../image/disk-image.ts';
import type { OpenDiskSet } from './open-disk-set.ts';
import {
  ATTRIBUTES,
  type AttributesRequest,
  DISKS,
  type DiskRequest,
  isBytes,
  isChange,
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
