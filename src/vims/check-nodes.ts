/** The slots of the nodes, and the journal of the one that may have to be replayed. */
import { isVimgError } from '../base/errors.ts';
import { shownBlock, type VolumeFindings } from './check-findings.ts';
import type { BlockView } from './check-view.ts';
import {
  BLOCK,
  CLUSTER,
  clusterAddress,
  clusterOffset,
  deviceOfCluster,
  firstBlockOf,
  SYSTEM_CLUSTERS,
} from './geometry.ts';
import { Journal, type JournalPlace, type Replay } from './journal.ts';
import { SLOT_STATES, type Slot } from './layout.ts';
import { readSlot, slotAddress } from './slot.ts';

/** The slot of the one host that has the volume attached. */
const SLOT = 0;

export interface NodesFound {
  /** Every slot says where its journal is: which clusters are journals is known. */
  readonly known: boolean;
  readonly journals: readonly JournalPlace[];
  /** Block addresses of the folders of files without a name. */
  readonly orphans: readonly number[];
  readonly leftInOrder: boolean;
  /** The journal that a repair is written through, and what it brings; undefined when it is damaged. */
  readonly journal: Journal | undefined;
  readonly journalPlace: JournalPlace | undefined;
  readonly replay: Replay | undefined;
}

/** Looks at all slots and at the journal. Afterwards the view shows what a replay will leave. */
export async function examineNodes(
  view: BlockView,
  slots: number,
  findings: VolumeFindings,
): Promise<NodesFound> {
  const found: (Slot | undefined)[] = [];
  let known = true;
  for (let slot = 0; slot < slots; slot++) {
    const here = await examineSlot(view, slot, findings);
    if (here === 'damaged') known = false;
    else if (here !== undefined || slot === SLOT) found.push(here);
  }
  const used = found.filter((slot): slot is Slot => slot !== undefined && slot.state !== SLOT_STATES.free);
  const places = used.map(placeOf).filter((place): place is JournalPlace => place !== undefined);
  const own = known ? used[0] : undefined;
  const ownPlace = own && placeOf(own);
  if (known && !ownPlace) findings.lost('slot 0 has no journal: the volume cannot be attached');
  const opened = ownPlace ? await openJournal(view, ownPlace, findings) : undefined;
  if (opened) {
    view.overlay = opened.replay.images;
    view.sequence = opened.replay.sequence;
  }
  return {
    known: known && ownPlace !== undefined,
    journals: places,
    orphans: used.map(({ orphans }) => orphans),
    leftInOrder: own?.state === SLOT_STATES.detached,
    journal: opened?.journal,
    journalPlace: ownPlace,
    replay: opened?.replay,
  };
}

function placeOf({ journal, journalClusters }: Slot): JournalPlace | undefined {
  return journal === 0 ? undefined : { cluster: journal, clusters: journalClusters };
}

/** One slot; undefined for one that nothing was ever written to. */
async function examineSlot(
  view: BlockView,
  index: number,
  findings: VolumeFindings,
): Promise<Slot | 'damaged' | undefined> {
  let problem: string | undefined;
  try {
    if (index !== SLOT && (await isBlank(view, slotAddress(index)))) return undefined;
    const slot = await readSlot(view.devices, view.volume, index);
    problem = slotProblem(view, slot);
    if (problem === undefined) return slot;
  } catch (error) {
    if (!isVimgError(error) || error.code === 'CANCELLED') throw error;
    problem = error.message;
  }
  findings.lost(
    `slot ${index} (${shownBlock(slotAddress(index))}): ${problem}; without it no file of the volume can be opened`,
  );
  return 'damaged';
}

async function isBlank(view: BlockView, address: number): Promise<boolean> {
  const bytes = new Uint8Array(BLOCK);
  await view.devices.readBlock(bytes, address);
  return bytes.every((byte) => byte === 0);
}

function slotProblem(
  view: BlockView,
  { state, journal, journalClusters, orphans }: Slot,
): string | undefined {
  if (state > SLOT_STATES.detached) return `its state is ${state}`;
  if (state === SLOT_STATES.free) return undefined;
  if (orphans === 0 || !view.has(orphans)) return 'its folder of files without a name is nowhere';
  if (journal === 0) return 'it has no journal';
  const device = deviceOfCluster(journal);
  const fits =
    device < view.devices.count &&
    journal >= clusterAddress(device, SYSTEM_CLUSTERS) &&
    clusterOffset(journal) + journalClusters * CLUSTER <= view.devices.device(device).size;
  return fits && journalClusters > 0 ? undefined : 'its journal is outside the devices';
}

async function openJournal(
  view: BlockView,
  place: JournalPlace,
  findings: VolumeFindings,
): Promise<{ journal: Journal; replay: Replay } | undefined> {
  try {
    const journal = await Journal.open(view.devices, view.volume, place);
    return { journal, replay: await journal.read() };
  } catch (error) {
    if (!isVimgError(error) || error.code === 'CANCELLED') throw error;
    const where = shownBlock(firstBlockOf(place.cluster));
    findings.lost(`the journal (${where}): ${error.message}; what it may hold of files is not known`);
    return undefined;
  }
}
