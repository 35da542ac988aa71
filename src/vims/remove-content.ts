/**
 * Files without a name: they are in a folder of their own until nobody has them open and their clusters are given back,
 * in as many operations as that takes. Whoever attaches the volume after a crash goes on with that.
 */
import type { Block } from './block.ts';
import { Directory, nameBytes } from './directory.ts';
import { ENTRIES_PER_OPERATION, entryBatches, freeEntries } from './free-entries.ts';
import { kindOf, readInode } from './inode.ts';
import { CONTENT, INODE_AT } from './layout.ts';
import type { Operation } from './operation.ts';
import type { VolumeCore } from './volume-core.ts';

function orphanName(address: number): Uint8Array {
  return nameBytes(address.toString(16), '');
}

async function orphanFolder(core: VolumeCore): Promise<Directory> {
  return new Directory(core.metadata, core.space, await readInode(core.metadata, core.orphans));
}

export async function addOrphan(core: VolumeCore, operation: Operation, inode: Block): Promise<void> {
  const folder = await orphanFolder(core);
  await folder.insert(operation, orphanName(inode.address), inode.address, kindOf(inode));
}

export async function removeOrphan(core: VolumeCore, operation: Operation, address: number): Promise<void> {
  await (await orphanFolder(core)).remove(operation, orphanName(address));
}

/** Files without a name that are there. */
export async function listOrphans(core: VolumeCore): Promise<number[]> {
  const orphans: number[] = [];
  const folder = await orphanFolder(core);
  for await (const { inode } of folder.list()) orphans.push(inode);
  return orphans;
}

/** Gives back what a file without a name has, and then the file. Nobody may have it open. */
export async function deleteOrphan(core: VolumeCore, address: number): Promise<void> {
  const inode = await core.metadata.look(async () =>
    core.metadata.pin(await readInode(core.metadata, address)),
  );
  try {
    if (kindOf(inode) === 'folder') await freeBuckets(core, inode);
    else if (inode.view.getUint8(INODE_AT.content) === CONTENT.tree) await freeClusters(core, inode);
    await core.metadata.change(async (operation) => {
      await removeOrphan(core, operation, address);
      await freeInode(core, operation, inode);
    });
  } finally {
    inode.pins--;
  }
}

async function freeClusters(core: VolumeCore, inode: Block): Promise<void> {
  for await (const batch of entryBatches(core, inode, 0, Number.MAX_SAFE_INTEGER)) {
    await core.metadata.change((operation) => freeEntries(core, operation, inode, batch));
  }
}

async function freeBuckets(core: VolumeCore, inode: Block): Promise<void> {
  const folder = new Directory(core.metadata, core.space, inode);
  for (let end = folder.slots; end > 0; end -= ENTRIES_PER_OPERATION) {
    const first = Math.max(0, end - ENTRIES_PER_OPERATION);
    await core.metadata.change((operation) => folder.freeSlots(operation, first, end));
  }
}

/** Gives the block of an inode back that has nothing any more. */
async function freeInode(core: VolumeCore, operation: Operation, inode: Block): Promise<void> {
  operation.discard(inode);
  await core.space.giveBlock(operation, inode.address);
}
