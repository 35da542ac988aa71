/** What is where in a disk, as `map` tells it, made from where a layer says that a range lives. */
import type { Extent } from '../device/block-device.ts';
import { BEHIND, COMPRESSED, DATA, type Layer, type Location, ZERO } from './layer.ts';

/** One extent of the guest's disk, as `vimg map` prints it. Offsets and lengths are bytes. */
export interface MapExtent {
  readonly offset: number;
  readonly length: number;
  /** Which layer answers: 0 is the disk itself. */
  readonly depth: number;
  /** Some layer holds the range, as data or as zeroes. */
  readonly present: boolean;
  readonly zero: boolean;
  readonly data: boolean;
  readonly compressed: boolean;
  /** Where the bytes are, when they are stored one to one. */
  readonly fileOffset?: number;
  readonly fileName?: string;
}

export function mapExtent(
  offset: number,
  location: Location,
  depth: number,
  holder: Layer | undefined,
  hostExtent?: Extent,
): MapExtent {
  const stored = location.kind === DATA || (location.kind === ZERO && location.reserved);
  const zero = location.kind === ZERO || location.kind === BEHIND || (hostExtent?.zero ?? false);
  return {
    offset,
    length: hostExtent ? Math.min(location.length, hostExtent.length) : location.length,
    depth: holder ? depth : Math.max(0, depth - 1),
    present: holder !== undefined,
    zero,
    data: (location.kind === DATA && !zero) || location.kind === COMPRESSED,
    compressed: location.kind === COMPRESSED,
    ...(stored ? { fileOffset: location.deviceOffset, fileName: location.device?.name ?? '' } : {}),
  };
}

export function toStatus(extent: MapExtent): Extent {
  const allocated = extent.data || extent.fileOffset !== undefined;
  return { offset: extent.offset, length: extent.length, zero: extent.zero, allocated };
}
