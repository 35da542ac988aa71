/**
 * What a check knows of the space of a volume: the groups that are ready, and what was found to use them.
 *
 * Memory is bounded by the groups that are in use: two bytes for each cluster of those that files have clusters in, and
 * 64 bytes for each metadata cluster.
 */
import type { VolumeFindings } from './check-findings.ts';
import { shownBlock } from './check-findings.ts';
import { GroupUnderCheck } from './check-group.ts';
import type { NodesFound } from './check-nodes.ts';
import { type BlockView, READS_AT_ONCE } from './check-view.ts';
import {
  blockAddress,
  clusterOfBlock,
  clusterOnDevice,
  deviceOfCluster,
  groupLength,
  groupOf,
  groupStart,
  groupsOfDevice,
} from './geometry.ts';
import { backupsIn } from './group-blocks.ts';
import { HEADER } from './layout.ts';
import type { VolumeDescription } from './superblock.ts';

export class SpaceUnderCheck {
  readonly view: BlockView;
  readonly description: VolumeDescription;
  /** Groups that are ready, of each device. */
  readonly groups: readonly GroupUnderCheck[][];
  readonly #records: readonly FoundRecord[];
  /** Which clusters are journals is known: others that are marked so are not. */
  readonly systemKnown: boolean;

  private constructor(
    view: BlockView,
    description: VolumeDescription,
    groups: readonly GroupUnderCheck[][],
    records: readonly FoundRecord[],
    systemKnown: boolean,
  ) {
    this.view = view;
    this.description = description;
    this.groups = groups;
    this.#records = records;
    this.systemKnown = systemKnown;
  }

  /** Reads records, headers and counts. @param step called now and then. @throws VimgError `CANCELLED` from `step` */
  static async examine(
    view: BlockView,
    description: VolumeDescription,
    nodes: NodesFound,
    step: () => void,
  ): Promise<SpaceUnderCheck> {
    const groups: GroupUnderCheck[][] = [];
    const records: FoundRecord[] = [];
    for (const [device, { clusters }] of description.devices.entries()) {
      const record = await findRecord(view, device);
      records.push(record);
      groups.push(await findGroups(view, nodes, device, clusters, record.claimed, step));
    }
    return new SpaceUnderCheck(view, description, groups, records, nodes.known);
  }

  /**
   * Tells of records that claim something else than is there; to be called after the walk. Groups at the end that have
   * nothing whole, and that nothing leads to, were never made ready.
   *
   * @returns the devices whose record is wrong
   */
  settleRecords(findings: VolumeFindings): number[] {
    const wrong: number[] = [];
    for (const [device, list] of this.groups.entries()) {
      while (list.at(-1)?.isUnused) list.pop();
      const { claimed, problem } = this.#records[device] as FoundRecord;
      if (problem === undefined && claimed === list.length) continue;
      wrong.push(device);
      const where = `the record of device ${device} (${shownBlock(blockAddress(device, 1))})`;
      const what = problem === undefined ? ` claims ${claimed} groups` : `: ${problem}`;
      findings.corruption(`${where}${what}; ${list.length} groups are in use, with all files in them`);
    }
    return wrong;
  }

  /** Groups that the record of a device claims; undefined when that is damaged. */
  claimedGroups(device: number): number | undefined {
    return this.#records[device]?.claimed;
  }

  *all(): Generator<GroupUnderCheck> {
    for (const list of this.groups) yield* list;
  }

  /** The group that a cluster is in; undefined for one that no group has. */
  groupOfCluster(cluster: number): GroupUnderCheck | undefined {
    const onDevice = clusterOnDevice(cluster);
    const index = groupOf(onDevice);
    const group = this.groups[deviceOfCluster(cluster)]?.[index];
    return group && onDevice - groupStart(index) < group.length ? group : undefined;
  }

  /** The group that a metadata block can be in; undefined where there can be none. */
  groupOfBlock(address: number): GroupUnderCheck | undefined {
    if (!this.view.has(address)) return undefined;
    return this.groupOfCluster(clusterOfBlock(address));
  }

  /** Blocks that are marked as used. */
  get markedBlocks(): number {
    let count = 0;
    for (const group of this.all()) count += group.markedBlocks;
    return count;
  }
}

/** What the record of a device says. */
interface FoundRecord {
  readonly claimed: number | undefined;
  readonly problem: string | undefined;
}

async function findRecord(view: BlockView, device: number): Promise<FoundRecord> {
  const { block, problem } = await view.find('deviceRecord', blockAddress(device, 1));
  return { claimed: block?.view.getUint32(HEADER, true), problem };
}

/**
 * All groups that the record claims, and those behind them up to the first that is none: so what a record that is lost
 * or wrong says is found again.
 */
async function findGroups(
  view: BlockView,
  nodes: NodesFound,
  device: number,
  clusters: number,
  claimed: number | undefined,
  step: () => void,
): Promise<GroupUnderCheck[]> {
  const most = groupsOfDevice(clusters);
  const sure = Math.min(claimed ?? 0, most);
  const list: GroupUnderCheck[] = [];
  const journals = journalsOf(nodes, device);
  while (list.length < most) {
    step();
    const first = list.length;
    const count = first < sure ? Math.min(READS_AT_ONCE, sure - first) : 1;
    const indexes = Array.from({ length: count }, (_, i) => first + i);
    const found = await Promise.all(
      indexes.map((index) =>
        GroupUnderCheck.examine(view, device, index, clusters, systemIn(journals, index, clusters)),
      ),
    );
    if (first >= sure && !found[0]?.headerIsWhole) break;
    list.push(...found);
  }
  return list;
}

/** The clusters of journals on a device, from where to where. */
function journalsOf({ journals }: NodesFound, device: number): { from: number; to: number }[] {
  return journals
    .filter(({ cluster }) => deviceOfCluster(cluster) === device)
    .map(({ cluster, clusters }) => ({
      from: clusterOnDevice(cluster),
      to: clusterOnDevice(cluster) + clusters,
    }));
}

/** The clusters of a group that backups of the superblock and journals take, by their number in it. */
function systemIn(
  journals: readonly { from: number; to: number }[],
  index: number,
  deviceClusters: number,
): Set<number> {
  const start = groupStart(index);
  const length = groupLength(index, deviceClusters);
  const found = new Set(backupsIn(index, length));
  for (const { from, to } of journals) {
    for (let cluster = Math.max(from, start); cluster < Math.min(to, start + length); cluster++) {
      found.add(cluster - start);
    }
  }
  return found;
}
