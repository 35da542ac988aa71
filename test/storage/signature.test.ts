/** What is recognised on a device, against the tools that make such things where they are installed. */
import { execFileSync } from 'node:child_process';
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { withDir } from 'tmp-promise';
import { describe, expect, it } from 'vitest';
import { FileDevice } from '../../src/device/file-device.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { describeSignatures, probeSignatures } from '../../src/storage/signature.ts';
import { requireTool } from '../reference-tools.ts';

const MiB = 1024 * 1024;

async function namesOn(device: MemoryDevice): Promise<string[]> {
  return (await probeSignatures(device)).map(({ name }) => name);
}

describe('signatures', () => {
  it('are none on an empty device, of any size', async () => {
    for (const size of [0, 1, 511, 512, 4096, 65536, 64 * MiB, 2 ** 52]) {
      expect(await namesOn(MemoryDevice.create(size)), String(size)).toEqual([]);
    }
  });

  it.each([
    [0, 'XFSB', 'XFS'],
    [65600, '_BHRfS_M', 'Btrfs'],
    [3, 'NTFS    ', 'NTFS'],
    [82, 'FAT32   ', 'FAT'],
    [1536, 'LABELONE', 'LVM2'],
    [0, 'LUKS\xba\xbe', 'LUKS'],
    [4096, '\xfc\x4e\x2b\xa9', 'md RAID'],
    [64 * MiB - 65536, '\xfc\x4e\x2b\xa9', 'md RAID'],
    [64 * MiB - 8192, '\xfc\x4e\x2b\xa9', 'md RAID'],
    [4086, 'SWAPSPACE2', 'swap'],
    [512, 'EFI PART', 'GPT'],
    [64 * MiB - 512, 'EFI PART', 'GPT'],
    [131072 + 5 * 1024, '\x0c\xb1\xba\x00', 'ZFS'],
    [MiB, '\x0d\xd0\x01\xc0', 'VMFS'],
    [0, 'QFI\xfb', 'qcow2'],
  ])('at %d: %j is %s', async (offset, magic, name) => {
    const device = MemoryDevice.create(64 * MiB);
    device.pwrite(Buffer.from(magic, 'latin1'), offset);
    expect(await namesOn(device)).toEqual([name]);
  });

  it('tell a boot sector from a partition table', async () => {
    const device = MemoryDevice.create(MiB);
    device.pwrite(Uint8Array.of(0x55, 0xaa), 510);
    expect(await namesOn(device)).toEqual([]);
    device.pwrite(Uint8Array.of(0x83, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0), 450);
    expect(await namesOn(device)).toEqual(['MBR']);
  });

  it('are found all, and described', async () => {
    const device = MemoryDevice.create(MiB);
    device.pwrite(Buffer.from('LABELONE'), 512);
    device.pwrite(Buffer.from('XFSB'), 0);
    expect(describeSignatures(await probeSignatures(device))).toBe('file system XFS, volume LVM2');
  });
});

describe.skipIf(requireTool('mkfs.ext4', 'mkswap', 'sfdisk'))('signatures of real things', () => {
  const TOOLS = [
    ['mkfs.ext4', ['-q', '-F'], 'ext4'],
    ['mkfs.ext4', ['-q', '-F', '-t', 'ext2'], 'ext2'],
    ['mkfs.ext4', ['-q', '-F', '-t', 'ext3'], 'ext3'],
    ['mkswap', ['-q'], 'swap'],
  ] as const;
  it.each(TOOLS)('%s %j makes what is told as %s', async (tool, args, name) => {
    await withDir(
      async ({ path }) => {
        const image = join(path, 'image');
        writeFileSync(image, '');
        truncateSync(image, 16 * MiB);
        execFileSync(`/sbin/${tool}`, [...args, image], { stdio: 'ignore' });
        const device = await FileDevice.open(image, { readOnly: true });
        expect((await probeSignatures(device)).map((each) => each.name)).toEqual([name]);
        await device.close();
      },
      { unsafeCleanup: true },
    );
  });

  it('sfdisk makes what is told as MBR and GPT', async () => {
    await withDir(
      async ({ path }) => {
        for (const [label, name] of [
          ['dos', 'MBR'],
          ['gpt', 'GPT'],
        ] as const) {
          const image = join(path, label);
          writeFileSync(image, '');
          truncateSync(image, 16 * MiB);
          execFileSync('/sbin/sfdisk', ['-q', image], {
            input: `label: ${label}\n,4M\n`,
            stdio: ['pipe', 'ignore', 'ignore'],
          });
          const device = await FileDevice.open(image, { readOnly: true });
          expect((await probeSignatures(device)).map((each) => each.name)).toEqual([name]);
          await device.close();
        }
      },
      { unsafeCleanup: true },
    );
  });
});
