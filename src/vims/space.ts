/**
 * The space of a volume: which group gives clusters to whom, and blocks to metadata.
 *
 * Groups are made ready one after the other, from the first on, when the ones before have no long runs any more: so a
 * new volume is made in no time whatever its size, and nothing reads what was never used.
 *
 * A few clusters are kept for metadata: data may fill a volume, and still disks can be merged and deleted on it.
 */
import { VimgError } from '../base/errors.ts';
import {
  BLOCKS_PER_CLUSTER,
  blockAddress,
  blockOnDevice,
  CLUSTER,
  clusterAddress,
  clusterOnDevice,
  deviceOfBlock,
  deviceOfCluster,
  groupLength,
  groupOf,
  groupStart,
  groupsOfDevice,
} from './geometry.ts';
import { Group, type Run } from './group.ts';
import { groupBlocks } from './group-blocks.ts';
import { deviceRecordLayout, HEADER } from './layout.ts';
import type { Metadata } from './metadata.ts';
import type { Operation } from './operation.ts';
import { RunSearch } from './run-search.ts';

/** Who holds reserved clusters that are not in use, and gives them back when space is short. */
export interface Reserver {
  giveBack(): void;
}

/** Clusters kept for metadata: a sixty-fourth, at most these. */
const RESERVE_MAX = 64;

export class Space {
  readonly #metadata: Metadata;
  /** Clusters of each device. */
  readonly #clusters: number[];
  /** Groups made ready, of each device. */
  readonly #ready: number[] = [];
  readonly #loading = new Map<number, Promise<Group>>();
  readonly #loaded = new Map<number, Group>();
  readonly #reservers = new Set<Reserver>();
  /** The group that the last new run was found in. */
  #current: readonly [device: number, group: number] = [0, 0];
  readonly #runs = new RunSearch({
    order: () => this.#order(),
    turnTo: ({ device, index }) => {
      this.#current = [device, index];
    },
    group: (device, index) => this.group(device, index),
    makeReady: () => this.#makeGroupReady(),
    kept: () => this.kept,
  });
  /** Metadata took what is kept for it: another group is made ready before the next change of names. */
  #wantsGroup = false;
  /** One search for new runs at a time: two would both make a group ready. */
  #searching: Promise<unknown> = Promise.resolve();

  private constructor(metadata: Metadata, clusters: readonly number[]) {
    this.#metadata = metadata;
    this.#clusters = [...clusters];
  }

  /** @param clusters of each device. @throws VimgError `CORRUPT` */
  static async open(metadata: Metadata, clusters: readonly number[]): Promise<Space> {
    const space = new Space(metadata, clusters);
    for (const device of clusters.keys()) {
      await space.#readRecord(device);
      const ready = space.#ready[device] as number;
      if (ready > 0) space.#current = [device, ready - 1]; // when it was made ready, those before it were full
    }
    return space;
  }

  async #readRecord(device: number): Promise<void> {
    const record = await this.#metadata.read('deviceRecord', blockAddress(device, 1));
    const { groupsReady } = deviceRecordLayout.decode(record.bytes, HEADER);
    const most = groupsOfDevice(this.#clusters[device] as number);
    if (groupsReady > most) {
      throw new VimgError('CORRUPT', `Device ${device} claims ${groupsReady} groups, it has ${most}`);
    }
    this.#ready[device] = groupsReady;
  }

  /** Clusters kept for metadata. */
  get kept(): number {
    const all = this.#clusters.reduce((sum, each) => sum + each, 0);
    return Math.max(1, Math.min(RESERVE_MAX, Math.floor(all / 64)));
  }

  /** Clusters of each device. */
  get clusters(): readonly number[] {
    return this.#clusters;
  }

  /** Groups made ready, of each device. */
  get ready(): readonly number[] {
    return this.#ready;
  }

  addReserver(reserver: Reserver): void {
    this.#reservers.add(reserver);
  }

  removeReserver(reserver: Reserver): void {
    this.#reservers.delete(reserver);
  }

  async group(device: number, index: number): Promise<Group> {
    const key = device * 2 ** 32 + index;
    const known = this.#loaded.get(key);
    if (known) return known;
    if (index < 0 || index >= (this.#ready[device] ?? 0)) {
      throw new VimgError(
        'CORRUPT',
        `An address leads to group ${index} of device ${device}, which is not in use`,
      );
    }
    let loading = this.#loading.get(key);
    if (!loading) {
      loading = Group.load(this.#metadata, device, index).finally(() => this.#loading.delete(key));
      this.#loading.set(key, loading);
    }
    const group = await loading;
    this.#loaded.set(key, group);
    return group;
  }

  groupOfCluster(cluster: number): Promise<Group> {
    return this.group(deviceOfCluster(cluster), groupOf(clusterOnDevice(cluster)));
  }

  /**
   * Reserves clusters that follow each other: `want`, of a segment at most, or the longest run there is.
   *
   * @throws VimgError `NO_SPACE` when there is none, beyond what is kept for metadata
   */
  reserve(want: number): Promise<Run> {
    const search = this.#searching.then(() => this.#reserveNew(want));
    this.#searching = search.catch(() => undefined);
    return search;
  }

  /** Reserves `goal`, if it is free and space is not short, and what is free right before and behind it. */
  async reserveAround(goal: number, before: number, after: number): Promise<Run | undefined> {
    const device = deviceOfCluster(goal);
    const index = groupOf(clusterOnDevice(goal));
    if (index < 0 || index >= (this.#ready[device] ?? 0)) return undefined;
    const group = await this.group(device, index);
    const most = group.free - this.kept;
    if (most <= 0) return undefined;
    const behind = Math.min(after, most);
    const run = group.runAround(goal, Math.min(before, most - behind), behind);
    if (run) group.take(run);
    return run;
  }

  async #reserveNew(want: number): Promise<Run> {
    for (let attempt = 0; ; attempt++) {
      const run = await this.#runs.take(want);
      if (run) return run;
      if (attempt === 0) for (const reserver of this.#reservers) reserver.giveBack();
      else if (attempt === 1) {
        await this.#metadata.flush(); // what was freed and not committed yet comes free
        await this.#metadata.released();
      } else {
        throw new VimgError('NO_SPACE', 'The volume is full', {
          op: 'allocate',
          hint: 'remove what is not needed, or `vimg datastore extend NAME`',
        });
      }
    }
  }

  /** To be called before an operation that makes blocks: inside one, no group can be made ready. */
  async prepare(): Promise<void> {
    if (!this.#wantsGroup) return;
    this.#wantsGroup = false;
    const making = this.#searching.then(() => this.#makeGroupReady());
    this.#searching = making.catch(() => undefined);
    await making;
  }

  /** All groups that are ready, from the current one on and round. */
  *#order(): Generator<readonly [device: number, group: number]> {
    const [device, group] = this.#current;
    const devices = this.#ready.length;
    for (let step = 0; step <= devices; step++) {
      const at = (device + step) % devices;
      const end = step === devices ? group : (this.#ready[at] as number);
      for (let index = step === 0 ? group : 0; index < end; index++) yield [at, index];
    }
  }

  /** Makes the next group ready, if there is one. */
  async #makeGroupReady(): Promise<Group | undefined> {
    for (const [device, clusters] of this.#clusters.entries()) {
      const index = this.#ready[device] as number;
      if (index >= groupsOfDevice(clusters)) continue;
      // written, not only zeroed: a thin device below has the room from now on
      const start = clusterAddress(device, groupStart(index));
      await this.#metadata.devices.write(new Uint8Array(CLUSTER), start, 0);
      await this.#metadata.change((operation) => this.#formatGroup(operation, device, index));
      this.#ready[device] = index + 1;
      return this.group(device, index);
    }
    return undefined;
  }

  async #formatGroup(operation: Operation, device: number, index: number): Promise<void> {
    const length = groupLength(index, this.#clusters[device] as number);
    for (const { type, address, bytes } of groupBlocks(device, index, length)) {
      const block = operation.create(type, address, 0);
      block.bytes.set(bytes.subarray(HEADER), HEADER);
    }
    const record = await operation.read('deviceRecord', blockAddress(device, 1));
    operation.edit(record);
    record.view.setUint32(HEADER, index + 1, true);
  }

  /** Gives reserved clusters back that came into no use. */
  giveBack(run: Run): void {
    for (let i = 0; i < run.length; i++) this.#giveNow(run.cluster + i);
    this.#runs.givenBack(run);
  }

  /** Clusters whose freeing is durable may be given away. */
  release(clusters: readonly number[]): void {
    for (const cluster of clusters) this.#giveNow(cluster);
  }

  #giveNow(cluster: number): void {
    const key = deviceOfCluster(cluster) * 2 ** 32 + groupOf(clusterOnDevice(cluster));
    this.#loaded.get(key)?.give(cluster);
  }

  /** Takes a block for metadata, near `near`. @throws VimgError `NO_SPACE` */
  async takeBlock(operation: Operation, near: number): Promise<number> {
    for (const [device, index] of this.#orderFrom(near)) {
      const group = await this.group(device, index);
      const block = await group.takeBlock(operation);
      if (block !== undefined) return block;
    }
    return this.#takeBlockOfNewCluster(operation);
  }

  /** The group that a block is in, and then all. */
  *#orderFrom(block: number): Generator<readonly [device: number, group: number]> {
    const device = deviceOfBlock(block);
    const index = Math.max(0, groupOf(Math.floor(blockOnDevice(block) / BLOCKS_PER_CLUSTER)));
    if (index < (this.#ready[device] ?? 0)) yield [device, index];
    yield* this.#order();
  }

  async #takeBlockOfNewCluster(operation: Operation): Promise<number> {
    for (const [device, index] of this.#order()) {
      const group = await this.group(device, index);
      const run = group.free > 0 ? group.findRun(1) : undefined;
      if (!run) continue;
      group.take(run);
      operation.undo(() => group.give(run.cluster));
      await this.#metadata.devices.write(new Uint8Array(CLUSTER), run.cluster, 0);
      await group.addMetadataCluster(operation, run.cluster);
      if (group.free < this.kept) this.#wantsGroup = true;
      const block = await group.takeBlock(operation);
      if (block !== undefined) return block;
    }
    throw new VimgError('NO_SPACE', 'The volume has no room for metadata', {
      op: 'allocate',
      hint: 'remove what is not needed, or `vimg datastore extend NAME`',
    });
  }

  async giveBlock(operation: Operation, address: number): Promise<void> {
    const cluster = Math.floor(blockOnDevice(address) / BLOCKS_PER_CLUSTER);
    const group = await this.group(deviceOfBlock(address), groupOf(cluster));
    await group.giveBlock(operation, address);
  }

  /** Takes in a new device, or what one has grown by. The superblock says so already. */
  async setClusters(device: number, clusters: number): Promise<void> {
    this.#clusters[device] = clusters;
    if (this.#ready[device] === undefined) await this.#readRecord(device);
  }
}
