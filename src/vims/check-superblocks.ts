/**
 * What a check looks at first: every copy of the superblock on every device. All of one volume say the same but for the
 * device that they are on; the right one is the newest that most of them agree on.
 */
import { isVimgError, VimgError } from '../base/errors.ts';
import { isPromise } from '../base/maybe-promise.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { blockProblem, generationOf, seal, setU64, uuidBytes } from './block.ts';
import type { VolumeFindings } from './check-findings.ts';
import { BLOCK, blockAddress, CLUSTER } from './geometry.ts';
import { AT, HEADER, superblockLayout } from './layout.ts';
import {
  decodeSuperblock,
  type FoundSuperblock,
  superblockPlaces,
  type VolumeDescription,
} from './superblock.ts';

/** One copy. */
interface Copy {
  readonly device: number;
  readonly block: number;
  readonly bytes: Uint8Array;
  readonly found: FoundSuperblock | undefined;
  /** Undefined for a whole one, and where there is nothing that looks like one. */
  readonly problem: string | undefined;
  /** The bytes that are the same in all copies, when it is whole. */
  readonly common: string;
}

/** What the superblocks say together. */
export interface SuperblocksFound {
  readonly description: VolumeDescription;
  /** Copies that say something else, or nothing. */
  readonly wrong: readonly { readonly device: number; readonly block: number; readonly problem: string }[];
  /** When they differ, it may be because a change of them was cut off: the next attach ends it. */
  readonly changing: boolean;
  /** Which one is right is known. */
  readonly agreed: boolean;
  /** The right copy, as it must be at a place. */
  copyFor(device: number, block: number): Uint8Array;
}

const DEVICE_INDEX_AT: number =
  HEADER + (superblockLayout.rows.find(({ field }) => field === 'deviceIndex')?.offset ?? 0);

/**
 * Reads all copies.
 *
 * @returns undefined when there is none to go by: that is a finding
 * @throws VimgError `NOT_FOUND` for devices that are not those of one volume in their order; `UNSUPPORTED`; `IO`
 */
export async function examineSuperblocks(
  devices: readonly BlockDevice[],
  findings: VolumeFindings,
): Promise<SuperblocksFound | undefined> {
  if (devices.length === 0) throw new VimgError('USAGE', 'A volume has one device at least');
  const copies: Copy[] = [];
  for (const [index, device] of devices.entries()) copies.push(...(await readCopies(device, index)));
  const whole = copies.filter(({ found }) => found !== undefined);
  const newest = Math.max(0, ...whole.map(({ found }) => found?.generation ?? 0));
  const latest = whole.filter(({ found }) => found?.generation === newest);
  const { right, agreed } = choose(latest, devices);
  if (!right?.found) {
    refuseStrangers(copies, devices);
    findings.lost('no copy of the superblock is whole, on any device: the volume cannot be read');
    return undefined;
  }
  await refuseOthers(right.found, copies, devices);
  const wrong = copies
    .filter((copy) => !isRight(copy, right) && isPlace(copy, right.found as FoundSuperblock))
    .map((copy) => ({ device: copy.device, block: copy.block, problem: problemOf(copy, newest) }));
  // older or torn copies are what a crash leaves; another one of the same generation is not
  const contradicted = latest.some(({ common }) => common !== right.common);
  return {
    description: right.found,
    wrong,
    changing: !contradicted,
    agreed,
    copyFor: (device, block) => copyOf(right.bytes, device, block),
  };
}

async function readCopies(device: BlockDevice, index: number): Promise<Copy[]> {
  const copies: Copy[] = [];
  for (const block of superblockPlaces(Math.floor(device.size / CLUSTER))) {
    if ((block + 1) * BLOCK > device.size) continue;
    const bytes = new Uint8Array(BLOCK);
    let copy: Pick<Copy, 'found' | 'problem'>;
    try {
      const reading = device.pread(bytes, block * BLOCK);
      if (isPromise(reading)) await reading;
      copy = judge(bytes, block, device.name);
    } catch (error) {
      if (!isVimgError(error, 'IO')) throw error;
      copy = { found: undefined, problem: `it cannot be read: ${error.message}` };
    }
    copies.push({ device: index, block, bytes, ...copy, common: copy.found ? commonPart(bytes) : '' });
  }
  return copies;
}

function judge(bytes: Uint8Array, block: number, name: string): Pick<Copy, 'found' | 'problem'> {
  const candidate = decodeSuperblock(bytes, block, name);
  if (candidate === undefined) return { found: undefined, problem: undefined };
  if ('problem' in candidate) return { found: undefined, problem: candidate.problem };
  const { found } = candidate;
  const expected = {
    type: 'superblock',
    volume: uuidBytes(found.uuid),
    address: blockAddress(found.deviceIndex, block),
  } as const;
  const problem = blockProblem(bytes, expected);
  if (problem) return { found: undefined, problem };
  return { found, problem: undefined };
}

/** Whether it says what the right one says, of the device that it is on. */
function isRight({ common, device, found }: Copy, right: Copy): boolean {
  return common === right.common && found?.deviceIndex === device;
}

/** What is the same in all copies of a generation. */
function commonPart(bytes: Uint8Array): string {
  return Buffer.from(copyOf(bytes, 0, 0)).toString('latin1');
}

function copyOf(bytes: Uint8Array, device: number, block: number): Uint8Array {
  const copy = bytes.slice();
  const view = new DataView(copy.buffer);
  setU64(view, AT.address, blockAddress(device, block));
  view.setUint16(DEVICE_INDEX_AT, device, true);
  seal(copy, generationOf(bytes));
  return copy;
}

/** The one that most say; between equals, one that fits the devices. */
function choose(
  latest: readonly Copy[],
  devices: readonly BlockDevice[],
): { right: Copy | undefined; agreed: boolean } {
  const votes = new Map<string, number>();
  for (const { common } of latest) votes.set(common, (votes.get(common) ?? 0) + 1);
  const most = Math.max(0, ...votes.values());
  const leaders = latest.filter(({ common }) => votes.get(common) === most);
  const fitting = leaders.filter(({ found }) => found && fits(found, devices));
  const right = fitting[0] ?? leaders[0];
  const rivals = new Set((fitting.length > 0 ? fitting : leaders).map(({ common }) => common));
  return { right, agreed: rivals.size === 1 };
}

function fits({ devices: known }: VolumeDescription, devices: readonly BlockDevice[]): boolean {
  if (known.length !== devices.length) return false;
  return known.every(({ clusters }, index) => clusters * CLUSTER <= (devices[index]?.size ?? 0));
}

function isPlace({ device, block }: Copy, description: VolumeDescription): boolean {
  return superblockPlaces(description.devices[device]?.clusters ?? 0).includes(block);
}

function problemOf({ found, problem }: Copy, newest: number): string {
  if (problem !== undefined) return problem;
  if (!found) return 'it is no metadata block';
  return found.generation < newest ? 'it is an older one' : 'it says something else than the others';
}

/** With no copy to go by: devices that never had one are the caller's mistake. */
function refuseStrangers(copies: readonly Copy[], devices: readonly BlockDevice[]): void {
  if (copies.some(({ problem }) => problem !== undefined)) return;
  throw new VimgError('NOT_FOUND', 'The device carries no volume', {
    ...(devices[0] ? { path: devices[0].name } : {}),
  });
}

async function refuseOthers(
  description: VolumeDescription,
  copies: readonly Copy[],
  devices: readonly BlockDevice[],
): Promise<void> {
  if (description.devices.length !== devices.length) {
    const message = `The volume has ${description.devices.length} devices, not ${devices.length}`;
    throw new VimgError('NOT_FOUND', message);
  }
  for (const [index, device] of devices.entries()) {
    const own = copies.filter((copy) => copy.device === index);
    const other = own.find(
      ({ found }) => found && (found.uuid !== description.uuid || found.deviceIndex !== index),
    );
    const isOurs = own.some(({ found }) => found?.uuid === description.uuid && found.deviceIndex === index);
    if (isOurs || (!other && (await hasRecord(device, index, description.uuid)))) continue;
    throw new VimgError('NOT_FOUND', 'The device is another one of the volume, or of another volume', {
      path: device.name,
      hint: 'name the devices of one volume, in their order',
    });
  }
}

/** Whether the block behind the superblock says whose device it is. */
async function hasRecord(device: BlockDevice, index: number, uuid: string): Promise<boolean> {
  const bytes = new Uint8Array(BLOCK);
  const reading = device.pread(bytes, BLOCK);
  if (isPromise(reading)) await reading;
  const expected = {
    type: 'deviceRecord',
    volume: uuidBytes(uuid),
    address: blockAddress(index, 1),
  } as const;
  return blockProblem(bytes, expected) === undefined;
}

/** Tells of copies that are wrong. @param leftInOrder no change of them can be under way */
export function reportSuperblocks(
  found: SuperblocksFound,
  leftInOrder: boolean,
  devices: readonly BlockDevice[],
  findings: VolumeFindings,
): void {
  for (const [index, { clusters }] of found.description.devices.entries()) {
    const device = devices[index] as BlockDevice;
    if (clusters * CLUSTER <= device.size) continue;
    findings.lost(
      `device ${index} (${device.name}) is smaller than the volume knows it: ${device.size} bytes, not ${clusters * CLUSTER}`,
    );
  }
  if (found.changing && !leftInOrder) return;
  for (const { device, block, problem } of found.wrong) {
    const message = `the copy of the superblock in block ${block} of device ${device}: ${problem}; no file is touched`;
    if (found.agreed) findings.corruption(message);
    else findings.unproven(message);
  }
}
