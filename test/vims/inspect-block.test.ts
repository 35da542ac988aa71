/** A look at single blocks. */
import { describe, expect, it } from 'vitest';
import { inspectBlock } from '../../src/vims/inspect-block.ts';
import { slotAddress } from '../../src/vims/slot.ts';
import { edit, ruin, sample } from './sample-volume.ts';

describe('a block that is looked at', () => {
  it('tells its fields, and the rest', async () => {
    const { devices, inodes } = await sample();
    const note = await inspectBlock(devices, inodes['vm1/note'] as number);
    expect(note).toMatchObject({ address: inodes['vm1/note'], type: 'inode', state: 'ok' });
    expect(note.fields).toMatchObject({ magic: 'VIMS', kind: 1, content: 0, links: 1, size: 6 });
    expect(Buffer.from(note.rest).toString('latin1')).toMatch(/^a note\0/);
    expect((await inspectBlock(devices, slotAddress(0))).fields).toMatchObject({ state: 2 });
    expect((await inspectBlock(devices, 1)).fields).toMatchObject({ groupsReady: 1 });
    expect((await inspectBlock(devices, 0)).type).toBe('superblock');
  });

  it('tells what it can of a damaged one', async () => {
    const { devices, inodes } = await sample();
    const address = inodes['vm1/note'] as number;
    edit(devices, address, (view) => view.setBigUint64(72, 2n ** 64n - 1n, true));
    ruin(devices, address);
    const found = await inspectBlock(devices, address);
    expect(found).toMatchObject({ type: 'inode', state: 'its checksum does not match' });
    expect(found.fields).toMatchObject({ size: new Uint8Array(8).fill(0xff) });
    expect(await inspectBlock(devices, 3)).toMatchObject({ type: 'unknown', fields: {} });
    await expect(inspectBlock(devices, 2 ** 50)).rejects.toMatchObject({ code: 'USAGE' });
  });
});
