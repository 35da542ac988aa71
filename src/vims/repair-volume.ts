/**
 * The repair of a volume: only what can be proven.
 *
 * - Copies of the superblock are written again from the one that is right.
 * - Numbers that sum up what is there (links, names, clusters, parents, counts, bitmaps, what is free) are set to what
 *   is there. Files that have a cluster together are marked so, and none overwrites the other's data.
 * - Space that nothing has becomes free, unless something could not be read, or leads elsewhere than it did: then what
 *   nothing leads to may still be somebody's.
 *
 * Nothing else is touched: what a lost block led to nobody can know. All that is overwritten is in the undo file first,
 * durably. Blocks are written through the journal, as an operation's are: a crash in the middle leaves the volume as it
 * was before, or after some of the repair, and each block of that is as good as it was or better.
 */
import type { BlockDevice } from '../device/block-device.ts';
import { blockBytes, seal, setU64 } from './block.ts';
import type { FieldFix, VolumeFinding, VolumeFindings } from './check-findings.ts';
import type { NodesFound } from './check-nodes.ts';
import type { SpaceUnderCheck } from './check-space.ts';
import type { SuperblocksFound } from './check-superblocks.ts';
import type { VolumeExamination } from './check-volume.ts';
import { DeviceSet } from './device-set.ts';
import { BLOCK, blockAddress, blockOnDevice, deviceOfBlock, firstBlockOf } from './geometry.ts';
import { applyReplay, Journal, type Replay } from './journal.ts';
import { HEADER } from './layout.ts';
import { type NewBlocks, planGroup } from './repair-groups.ts';
import { type DeviceRange, saveUndo } from './undo-file.ts';

/** Blocks that one repair writes: what is left is found by the next. */
const BLOCKS_MAX = 16_384;

/** A copy of the superblock that is written again. */
interface SuperblockCopy {
  readonly device: number;
  readonly block: number;
  readonly bytes: Uint8Array;
}

/**
 * Repairs what `found` proves. Durable when this resolves.
 *
 * @returns whether anything was changed; if not, there is no undo file
 * @throws VimgError `EXISTS` for the undo file, `READ_ONLY`, `NO_SPACE`, `IO`
 */
export async function repairVolume(
  devices: readonly BlockDevice[],
  found: VolumeExamination,
  undoPath: string,
): Promise<boolean> {
  const { superblocks, nodes, space, findings } = found;
  if (!superblocks || !nodes || !space) return false;
  const copies = planSuperblocks(superblocks, nodes);
  const blocks: NewBlocks = new Map();
  if (nodes.journal) {
    await planFixes(space, findings, blocks);
    planRecords(space, found.wrongRecords, findings, blocks);
    for (const group of found.wrongGroups) {
      if (blocks.size < BLOCKS_MAX) await planGroup(space, group, findings.provesFree, blocks);
    }
  }
  if (copies.length === 0 && blocks.size === 0) return false;
  const { uuid } = superblocks.description;
  await saveUndo(undoPath, devices, uuid, rangesOf(copies, blocks, nodes));
  await writeCopies(devices, copies);
  if (nodes.journal && nodes.replay && blocks.size > 0) {
    await writeBlocks(new DeviceSet(devices), uuid, nodes.journal, nodes.replay, blocks);
  }
  return true;
}

function planSuperblocks(superblocks: SuperblocksFound, { leftInOrder }: NodesFound): SuperblockCopy[] {
  if (!superblocks.agreed || (superblocks.changing && !leftInOrder)) return [];
  return superblocks.wrong.map(({ device, block }) => ({
    device,
    block,
    bytes: superblocks.copyFor(device, block),
  }));
}

async function planFixes(space: SpaceUnderCheck, findings: VolumeFindings, blocks: NewBlocks): Promise<void> {
  for (const fix of findings.fixes) {
    if (fix.unlessLeaks === true && findings.leaks > 0) continue;
    const bytes = blocks.get(fix.address) ?? (await space.view.find(fix.type, fix.address)).block?.bytes;
    if (!bytes || (blocks.size >= BLOCKS_MAX && !blocks.has(fix.address))) continue;
    setField(new DataView(bytes.buffer), fix);
    blocks.set(fix.address, bytes);
  }
}

function setField(view: DataView, { offset, size, value }: FieldFix): void {
  if (size === 2) view.setUint16(offset, value, true);
  else if (size === 4) view.setUint32(offset, value, true);
  else setU64(view, offset, value);
}

/** A record that claims more groups than are there is left when something else is lost that may have been in them. */
function planRecords(
  space: SpaceUnderCheck,
  devices: readonly number[],
  findings: VolumeFindings,
  blocks: NewBlocks,
): void {
  for (const device of devices) {
    const claimed = space.claimedGroups(device);
    const ready = space.groups[device]?.length ?? 0;
    if (!findings.provesFree && (claimed === undefined || claimed > ready)) continue;
    const address = blockAddress(device, 1);
    const bytes = blockBytes('deviceRecord', space.description.uuid, address);
    new DataView(bytes.buffer).setUint32(HEADER, ready, true);
    blocks.set(address, bytes);
  }
}

/** Everything that will be overwritten: also what the journal brings, and the journal. */
function rangesOf(
  copies: readonly SuperblockCopy[],
  blocks: NewBlocks,
  { journalPlace, replay, journal }: NodesFound,
): DeviceRange[] {
  const ranges = copies.map(({ device, block }) => ({ device, offset: block * BLOCK, length: BLOCK }));
  const add = (address: number, count = 1): void => {
    ranges.push({
      device: deviceOfBlock(address),
      offset: blockOnDevice(address) * BLOCK,
      length: count * BLOCK,
    });
  };
  if (blocks.size === 0 || !journalPlace || !journal) return ranges;
  for (const address of new Set([...blocks.keys(), ...(replay?.images.keys() ?? [])])) add(address);
  // a part that is not full begins where the last one ended: at most all of the ring is written
  const written = Math.min(journal.capacity, 2 * Journal.recordBlocks(blocks.size));
  add(firstBlockOf(journalPlace.cluster), 1 + written);
  return ranges;
}

async function writeCopies(
  devices: readonly BlockDevice[],
  copies: readonly SuperblockCopy[],
): Promise<void> {
  // the first block last: one of the first two is whole at every moment
  for (const { device, block, bytes } of [...copies].sort((one, other) => other.block - one.block)) {
    await devices[device]?.pwrite(bytes, block * BLOCK);
    await devices[device]?.flush();
  }
}

async function writeBlocks(
  devices: DeviceSet,
  volume: string,
  journal: Journal,
  replay: Replay,
  blocks: NewBlocks,
): Promise<void> {
  await applyReplay(devices, volume, replay);
  // the number of a record that may be there in part is never used again
  let sequence = replay.sequence + 2;
  await journal.clear(sequence);
  const addresses = [...blocks.keys()].sort((one, other) => one - other);
  const most = Math.floor(journal.capacity / 2);
  for (let at = 0; at < addresses.length; at += most) {
    const images = addresses.slice(at, at + most).map((address) => {
      const bytes = blocks.get(address) as Uint8Array;
      seal(bytes, sequence);
      return { address, bytes };
    });
    await journal.append(sequence, images);
    for (const { address, bytes } of images) await devices.writeBlocks(bytes, address);
    await devices.flush();
    sequence++;
    await journal.clear(sequence);
  }
}

/** Why a finding stays after a repair. */
export function refusalOf(finding: VolumeFinding, { findings, nodes }: VolumeExamination): string {
  if (finding.refusal !== undefined) return finding.refusal;
  if (nodes && !nodes.journal) return 'the journal that a repair is written through is damaged';
  if (findings.contentLost) return 'what could not be read may have to do with it';
  if (findings.doubtful) return 'something leads elsewhere than it did, and it may have led here';
  return 'too much is damaged for one repair: repair again';
}
