import { getU64, setU64 } from '../../src/vims/block.ts';
import { BLOCKS_PER_CLUSTER, groupStart } from '../../src/vims/geometry.ts';
import { HEADER, INODE_AT } from '../../src/vims/layout.ts';
import { edit, readBlock, type Sample } from './sample-volume.ts';

export const GROUP: number = groupStart(0) * BLOCKS_PER_CLUSTER;
export const ROOT: number = GROUP + 5;
export const ORPHANS: number = ROOT + 1;
export const JOURNAL: number = (groupStart(0) + 1) * BLOCKS_PER_CLUSTER;

export interface Damage {
  readonly name: string;
  readonly harm: (volume: Sample) => void;
  /** What the check says. */
  readonly says: RegExp;
  /** What it says after a repair, when that mends a part. */
  readonly leaves?: RegExp;
  /** Whether a repair puts everything right. */
  readonly mends: boolean;
}

export function field(inode: string, offset: number, size: 1 | 4 | 8, value: number): Damage['harm'] {
  return ({ devices, inodes }) =>
    edit(devices, inodes[inode] as number, (view) => {
      if (size === 1) view.setUint8(offset, value);
      else if (size === 4) view.setUint32(offset, value, true);
      else setU64(view, offset, value);
    });
}

/** Where the count of the cluster of an entry is. */
function countOf(
  { devices, inodes }: Sample,
  path: string,
  entry: number,
): { block: number; offset: number } {
  const { view } = readBlock(devices, inodes[path] as number);
  const i = view.getUint32(INODE_AT.payload + entry * 8, true) - groupStart(0);
  return { block: GROUP + 1 + Math.floor(i / 2016), offset: HEADER + (i % 2016) * 2 };
}

export function setCount(path: string, entry: number, count: number): Damage['harm'] {
  return (volume) => {
    const { block, offset } = countOf(volume, path, entry);
    edit(volume.devices, block, (view) => view.setUint16(offset, count, true));
  };
}

export function setEntry(path: string, entry: number, value: bigint): Damage['harm'] {
  return ({ devices, inodes }) =>
    edit(devices, inodes[path] as number, (view) =>
      view.setBigUint64(INODE_AT.payload + entry * 8, value, true),
    );
}

/** The first bucket of the folder with many names. */
export function bucket({ devices, inodes }: Sample): number {
  const { view } = readBlock(devices, inodes['many'] as number);
  return getU64(view, INODE_AT.payload);
}

/** A block in the last metadata cluster. */
export function lastBlock(devices: Sample['devices']): number {
  const { view } = readBlock(devices, GROUP + 1);
  let found = 0;
  for (let i = 0; i < 1096; i++) if (view.getUint16(HEADER + i * 2, true) === 0xffff) found = i;
  return (groupStart(0) + found) * BLOCKS_PER_CLUSTER + 1;
}
