/** A volume that is attached: what a datastore works with. */
import { VimgError } from '../base/errors.ts';
import { newUuid } from '../binary/uuid.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { checkVolume, type VolumeCheckReport } from './check-volume.ts';
import { ClusterCounts } from './cluster-counts.ts';
import { DeviceSet } from './device-set.ts';
import { formatSystemArea, usableClusters } from './format-volume.ts';
import { CLUSTER, DEVICES_MAX } from './geometry.ts';
import { applyReplay, Journal } from './journal.ts';
import { SLOT_STATES, type Slot } from './layout.ts';
import { Metadata } from './metadata.ts';
import { deleteOrphan, listOrphans } from './remove-content.ts';
import { ownHost, readSlot, writeSlot } from './slot.ts';
import { Space } from './space.ts';
import { growLastGroup, spaceTotals } from './space-size.ts';
import { completeSuperblocks, readVolume, type VolumeDescription, writeSuperblocks } from './superblock.ts';
import { VimsFiles } from './vims-files.ts';
import type { VolumeCore } from './volume-core.ts';

/** The slot of the one host that has the volume attached. */
const SLOT = 0;

export class VimsVolume {
  readonly files: VimsFiles;
  readonly #core: VolumeCore;
  readonly #devices: BlockDevice[];
  readonly #slot: Slot;
  #description: VolumeDescription;
  /** Of the newest superblock that was begun to be written. */
  #generation: number;
  #detached: Promise<void> | undefined;

  private constructor(
    place: string,
    core: VolumeCore,
    devices: readonly BlockDevice[],
    description: VolumeDescription,
    slot: Slot,
  ) {
    this.#core = core;
    this.#devices = [...devices];
    this.#description = description;
    this.#generation = description.generation;
    this.#slot = slot;
    this.files = new VimsFiles(core, description.root, place);
  }

  /**
   * Attaches a volume. One that was not left in order is put in order first: its journal is replayed, and files without
   * a name are deleted. When a device is read-only, nothing is written, and what the journal says is only seen.
   *
   * @param place the name under which its files are told
   * @param devices all of the volume, in their order; they stay the caller's
   * @throws VimgError `NOT_FOUND` when a device carries something else, `CORRUPT`, `UNSUPPORTED`
   */
  static async attach(place: string, devices: readonly BlockDevice[]): Promise<VimsVolume> {
    const description = await readVolume(devices);
    const set = new DeviceSet(devices);
    if (description.readOnlyCompatible !== 0n && !set.readOnly) {
      throw new VimgError('UNSUPPORTED', 'The volume has features that are not known; it can only be read', {
        path: devices[0]?.name ?? '',
        hint: 'use a newer vimg',
      });
    }
    const slot = await readSlot(set, description.uuid, SLOT);
    const journal = await Journal.open(set, description.uuid, {
      cluster: slot.journal,
      clusters: slot.journalClusters,
    });
    const replay = await journal.read();
    if (!set.readOnly) {
      if (slot.state !== SLOT_STATES.detached) await completeSuperblocks(devices, description);
      await applyReplay(set, description.uuid, replay);
      // the number of a record that may be there in part is never used again
      await journal.clear(replay.sequence + 2);
    }
    const attached: Slot = {
      ...slot,
      state: SLOT_STATES.attached,
      attachedMs: Date.now(),
      incarnation: slot.incarnation + 1,
      host: ownHost(),
    };
    if (!set.readOnly) await writeSlot(set, description.uuid, SLOT, attached);
    const volume = await VimsVolume.#build(place, devices, set, description, attached, journal, replay);
    if (!set.readOnly) await volume.#putInOrder();
    return volume;
  }

  static async #build(
    place: string,
    devices: readonly BlockDevice[],
    set: DeviceSet,
    description: VolumeDescription,
    slot: Slot,
    journal: Journal,
    replay: { images: ReadonlyMap<number, Uint8Array>; sequence: number },
  ): Promise<VimsVolume> {
    const attached: { core?: VolumeCore } = {};
    const metadata = new Metadata(
      set,
      description.uuid,
      set.readOnly ? undefined : journal,
      replay.sequence + 1,
      ({ freed, unshared }) => {
        attached.core?.space.release(freed);
        attached.core?.counts.settle(unshared);
      },
    );
    if (set.readOnly) metadata.overlay(replay.images);
    const space = await Space.open(
      metadata,
      description.devices.map(({ clusters }) => clusters),
    );
    const counts = new ClusterCounts(metadata, space);
    const core: VolumeCore = { devices: set, metadata, space, counts, orphans: slot.orphans };
    attached.core = core;
    return new VimsVolume(place, core, devices, description, slot);
  }

  async #putInOrder(): Promise<void> {
    for (const device of this.#devices.keys())
      await growLastGroup(
        this.#core.metadata,
        this.#core.space,
        device,
        this.#core.space.clusters[device] as number,
      );
    for (const address of await listOrphans(this.#core)) await deleteOrphan(this.#core, address);
  }

  get uuid(): string {
    return this.#description.uuid;
  }

  /** Bytes: all that data can have, what of it is taken, and what is left. */
  async capacity(): Promise<{ capacity: number; used: number; free: number }> {
    const { clusters, free } = await spaceTotals(this.#core.metadata, this.#core.space);
    return { capacity: clusters * CLUSTER, used: (clusters - free) * CLUSTER, free: free * CLUSTER };
  }

  /**
   * Makes an empty device part of the volume, while it is in use; durable when it resolves.
   *
   * @throws VimgError `LIMIT`, `NO_SPACE` for a device that is too small
   */
  async addDevice(device: BlockDevice): Promise<void> {
    const index = this.#devices.length;
    if (index >= DEVICES_MAX) throw new VimgError('LIMIT', `A volume has ${DEVICES_MAX} devices at most`);
    const clusters = usableClusters(device);
    const devices = [...this.#description.devices, { uuid: newUuid(), clusters }];
    await formatSystemArea(new DeviceSet([...this.#devices, device]), this.uuid, index, 0);
    await device.flush();
    await this.#describe([...this.#devices, device], devices);
    this.#core.devices.add(device);
    this.#devices.push(device);
    await this.#setClusters(index, clusters);
  }

  async #setClusters(device: number, clusters: number): Promise<void> {
    const { metadata, space } = this.#core;
    // before another group can be made ready: then the one before would stay short for ever
    await growLastGroup(metadata, space, device, clusters);
    await space.setClusters(device, clusters);
  }

  /**
   * Writes superblocks of a new generation, those of the last device first. When that fails some may be there, so the
   * number of the generation is not used again.
   */
  async #describe(devices: readonly BlockDevice[], described: VolumeDescription['devices']): Promise<void> {
    const generation = ++this.#generation;
    const description = { ...this.#description, generation, devices: described };
    for (const [index, device] of [...devices.entries()].reverse()) {
      await writeSuperblocks(device, description, index);
    }
    this.#description = description;
  }

  /** Takes in what the devices have grown by. @returns bytes that were won */
  async grow(): Promise<number> {
    const before = this.#description.devices;
    const devices = before.map(({ uuid, clusters }, index) => {
      const now = usableClusters(this.#devices[index] as BlockDevice);
      return { uuid, clusters: Math.max(clusters, now) };
    });
    const won = devices.reduce((sum, { clusters }, i) => sum + clusters - (before[i]?.clusters ?? 0), 0);
    if (won === 0) return 0;
    await this.#describe(this.#devices, devices);
    for (const [index, { clusters }] of devices.entries()) await this.#setClusters(index, clusters);
    return won * CLUSTER;
  }

  /** Checks the volume while it is in use: changes of metadata wait meanwhile, all else goes on. */
  check(): Promise<VolumeCheckReport> {
    return this.#core.metadata.atRest(() => checkVolume(this.#devices));
  }

  /** Makes everything durable and writes down that it was left in order. The devices stay open. Idempotent. */
  detach(): Promise<void> {
    this.#detached ??= this.#detachNow();
    return this.#detached;
  }

  async #detachNow(): Promise<void> {
    const { metadata, devices } = this.#core;
    if (metadata.readOnly) return;
    await metadata.settle();
    const left = { ...this.#slot, state: SLOT_STATES.detached, incarnation: this.#slot.incarnation + 1 };
    await writeSlot(devices, this.uuid, SLOT, left);
  }
}
