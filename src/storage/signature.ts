/**
 * What a device carries already: file systems, partition tables, volumes of others. Asked before anything is put on it.
 *
 * Places and magics are those of the formats' own headers: ext4 (Documentation/filesystems/ext4), XFS, Btrfs, F2FS,
 * GFS2, OCFS2 (their `*_fs.h` and `*_format.h` in the kernel), NTFS, exFAT and FAT (boot sector at 3, 54, 82), LVM2
 * (label in one of the first four sectors), LUKS, md (superblocks 0.90 to 1.2), swap (end of the first page), ZFS
 * (uberblocks from 128 KiB on), GPT (UEFI 2.10, 5.3.2) and MBR, ISO 9660, VMFS (volume magic at 1 MiB).
 */
import type { BlockDevice } from '../device/block-device.ts';

export interface Signature {
  /** What kind of thing it is. */
  readonly kind: 'file system' | 'partition table' | 'volume' | 'disk image';
  /** Which: `ext4`, `GPT`, `LVM2`. */
  readonly name: string;
}

interface Magic extends Signature {
  /** Byte offset; from the end when negative. */
  readonly offset: number;
  readonly bytes: string;
}

const KiB = 1024;
const SECTOR = 512;

const fileSystem = (name: string, offset: number, bytes: string): Magic => ({
  kind: 'file system',
  name,
  offset,
  bytes,
});
const volume = (name: string, offset: number, bytes: string): Magic => ({
  kind: 'volume',
  name,
  offset,
  bytes,
});

const MAGICS: readonly Magic[] = [
  fileSystem('XFS', 0, 'XFSB'),
  fileSystem('Btrfs', 64 * KiB + 64, '_BHRfS_M'),
  fileSystem('F2FS', KiB, '\x10\x20\xf5\xf2'),
  fileSystem('GFS2', 64 * KiB, '\x01\x16\x19\x70'),
  fileSystem('OCFS2', 8 * KiB, 'OCFSV2'),
  fileSystem('NTFS', 3, 'NTFS    '),
  fileSystem('exFAT', 3, 'EXFAT   '),
  fileSystem('FAT', 54, 'FAT12   '),
  fileSystem('FAT', 54, 'FAT16   '),
  fileSystem('FAT', 82, 'FAT32   '),
  fileSystem('ISO 9660', 32 * KiB + 1, 'CD001'),
  fileSystem('VMFS', 1024 * KiB, '\x0d\xd0\x01\xc0'),
  fileSystem('swap', 4 * KiB - 10, 'SWAPSPACE2'),
  fileSystem('swap', 64 * KiB - 10, 'SWAPSPACE2'),
  volume('VIMS', 0, 'VIMS'),
  volume('LUKS', 0, 'LUKS\xba\xbe'),
  volume('md RAID', 0, '\xfc\x4e\x2b\xa9'),
  volume('md RAID', 4 * KiB, '\xfc\x4e\x2b\xa9'),
  volume('bcache', 4 * KiB + 24, '\xc6\x85\x73\xf6\x4e\x1a\x45\xca'),
  volume('Ceph BlueStore', 0, 'bluestore block device'),
  ...[0, 1, 2, 3].map((sector) => volume('LVM2', sector * SECTOR, 'LABELONE')),
  { kind: 'partition table', name: 'GPT', offset: SECTOR, bytes: 'EFI PART' },
  { kind: 'partition table', name: 'GPT', offset: 4 * KiB, bytes: 'EFI PART' },
  { kind: 'partition table', name: 'GPT', offset: -SECTOR, bytes: 'EFI PART' },
  { kind: 'disk image', name: 'qcow2', offset: 0, bytes: 'QFI\xfb' },
  { kind: 'disk image', name: 'VVD', offset: 0, bytes: 'VVDIMAGE' },
];

const EXT_SUPERBLOCK = KiB;
const MD_RESERVED = 64 * KiB;
const ZFS_UBERBLOCKS = 128 * KiB;
const ZFS_UBERBLOCK = 0x00bab10c;

/** What is recognised on a device, each once; nothing for a device that is empty or holds something unknown. */
export async function probeSignatures(device: BlockDevice): Promise<Signature[]> {
  const found: Signature[] = [];
  const add = (signature: Signature): void => {
    if (!found.some((each) => each.name === signature.name)) {
      found.push({ kind: signature.kind, name: signature.name });
    }
  };
  for (const magic of MAGICS) {
    const offset = magic.offset < 0 ? device.size + magic.offset : magic.offset;
    if ((await textAt(device, offset, magic.bytes.length)) === magic.bytes) add(magic);
  }
  const ext = await extVersion(device);
  if (ext !== undefined) add({ kind: 'file system', name: ext });
  if (await hasOldRaid(device)) add({ kind: 'volume', name: 'md RAID' });
  if (await hasZfs(device)) add({ kind: 'file system', name: 'ZFS' });
  const isBootSector = found.some(({ name }) => ['NTFS', 'exFAT', 'FAT', 'GPT'].includes(name));
  if (!isBootSector && (await hasMbr(device))) add({ kind: 'partition table', name: 'MBR' });
  return found;
}

/** `file system ext4, partition table GPT`. */
export function describeSignatures(signatures: readonly Signature[]): string {
  return signatures.map(({ kind, name }) => `${kind} ${name}`).join(', ');
}

async function bytesAt(device: BlockDevice, offset: number, length: number): Promise<Buffer | undefined> {
  if (offset < 0 || offset + length > device.size) return undefined;
  const bytes = Buffer.alloc(length);
  await device.pread(bytes, offset);
  return bytes;
}

async function textAt(device: BlockDevice, offset: number, length: number): Promise<string | undefined> {
  return (await bytesAt(device, offset, length))?.toString('latin1');
}

/** Which of the family, by features: a journal came with ext3, extents with ext4. */
async function extVersion(device: BlockDevice): Promise<string | undefined> {
  const block = await bytesAt(device, EXT_SUPERBLOCK, KiB);
  if (block?.readUInt16LE(0x38) !== 0xef53) return undefined;
  if ((block.readUInt32LE(0x60) & 0x40) !== 0) return 'ext4';
  return (block.readUInt32LE(0x5c) & 0x4) === 0 ? 'ext2' : 'ext3';
}

/** Superblocks of md 0.90 and 1.0 are near the end of the device. */
async function hasOldRaid(device: BlockDevice): Promise<boolean> {
  const aligned = Math.floor(device.size / MD_RESERVED) * MD_RESERVED - MD_RESERVED;
  const late = Math.floor((device.size - 8 * KiB) / (4 * KiB)) * 4 * KiB;
  for (const offset of [aligned, late]) {
    if ((await textAt(device, offset, 4)) === '\xfc\x4e\x2b\xa9') return true;
  }
  return false;
}

async function hasZfs(device: BlockDevice): Promise<boolean> {
  const ring = await bytesAt(device, ZFS_UBERBLOCKS, 128 * KiB);
  if (!ring) return false;
  for (let at = 0; at < ring.length; at += KiB) {
    if (ring.readUInt32LE(at) === ZFS_UBERBLOCK || ring.readUInt32BE(at + 4) === ZFS_UBERBLOCK) return true;
  }
  return false;
}

/** The signature alone is on every boot sector; a table has a partition of a type and a length. */
async function hasMbr(device: BlockDevice): Promise<boolean> {
  const sector = await bytesAt(device, 0, SECTOR);
  if (sector?.readUInt16LE(510) !== 0xaa55) return false;
  return [446, 462, 478, 494].some((at) => sector[at + 4] !== 0 && sector.readUInt32LE(at + 12) !== 0);
}
