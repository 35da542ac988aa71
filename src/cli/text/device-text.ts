/** Devices that were found, as a table and as JSON. */
import { formatSize } from '../../base/size.ts';
import type { FoundDevice } from '../../storage/resource.ts';
import { columns } from './columns.ts';

export function deviceTable(devices: readonly FoundDevice[]): string[] {
  const rows = devices.map((device) => [
    device.path,
    device.kind,
    device.size === undefined ? '' : formatSize(device.size),
    device.resource,
    device.identity ?? '',
    useOf(device),
  ]);
  return columns([['DEVICE', 'KIND', 'SIZE', 'RESOURCE', 'IDENTITY', 'USE'], ...rows], [2]);
}

function useOf({ datastore, inUse }: FoundDevice): string {
  if (datastore !== undefined) return `datastore ${datastore}`;
  return inUse === '' ? 'free' : inUse;
}

export function deviceJson(device: FoundDevice): Record<string, unknown> {
  const { path, kind, size, resource, identity, model, datastore, inUse } = device;
  return {
    device: path,
    kind,
    resource,
    ...(size === undefined ? {} : { size }),
    ...(identity === undefined ? {} : { identity }),
    ...(model === undefined ? {} : { model }),
    ...(datastore === undefined ? {} : { datastore }),
    free: datastore === undefined && inUse === '',
    'in-use': inUse,
  };
}
