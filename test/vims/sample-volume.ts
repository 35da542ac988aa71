/** A volume with something of everything in it, and means to change its structures with right checksums. */
import { expect } from 'vitest';
import { isVimgError } from '../../src/base/errors.ts';
import { crc32cBulk } from '../../src/binary/crc32c.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { generationOf, getU64, seal } from '../../src/vims/block.ts';
import { formatVolume } from '../../src/vims/format-volume.ts';
import { BLOCK, blockOnDevice, deviceOfBlock } from '../../src/vims/geometry.ts';
import { INODE_AT, TREE_AT } from '../../src/vims/layout.ts';
import { VimsVolume } from '../../src/vims/volume.ts';

const MiB = 1024 * 1024;

/** Where the inodes and other blocks of the sample are. */
export interface Sample {
  readonly devices: readonly MemoryDevice[];
  /** Block addresses of inodes, by path. */
  readonly inodes: Readonly<Record<string, number>>;
}

const FILES = [
  'vm1',
  'vm1/root.vvd',
  'vm1/copy.vvd',
  'vm1/sparse.raw',
  'vm1/note',
  'vm1/empty',
  'many',
  'linked',
];

/** `plain`: left in order. `small`: with fewer names. `crashed`: the same, with records in its journal. */
export type SampleKind = 'plain' | 'small' | 'crashed';

/** Each is made once; each use gets a fork. */
const made = new Map<SampleKind, Promise<Sample>>();

export async function sample(kind: SampleKind = 'plain'): Promise<Sample> {
  let making = made.get(kind);
  if (!making) made.set(kind, (making = makeSample(kind)));
  const { devices, inodes } = await making;
  return { devices: devices.map((device) => device.fork()), inodes };
}

async function makeSample(kind: SampleKind): Promise<Sample> {
  const devices = [MemoryDevice.create(1100 * MiB), MemoryDevice.create(64 * MiB)];
  await formatVolume(devices);
  const volume = await VimsVolume.attach('ds', devices);
  const { files } = volume;
  await files.makeFolder('ds:vm1');
  const root = await files.open('ds:vm1/root.vvd', { create: 'exclusive' });
  await root.pwrite(Buffer.alloc(3 * MiB, 1), 0);
  await root.close();
  await files.copy('ds:vm1/root.vvd', 'ds:vm1/copy.vvd');
  const copy = await files.open('ds:vm1/copy.vvd', {});
  await copy.pwrite(Buffer.alloc(MiB, 2), 0);
  await copy.close();
  const sparse = await files.open('ds:vm1/sparse.raw', { create: 'exclusive' });
  await sparse.pwrite(Buffer.alloc(2 * MiB, 3), 2 ** 40);
  await sparse.pwrite(Buffer.alloc(MiB, 4), 0);
  await sparse.close();
  await files.replace('ds:vm1/note', 'a note');
  await (await files.open('ds:vm1/empty', { create: 'exclusive' })).close();
  await files.makeFolder('ds:many');
  const pad = kind === 'plain' ? '' : '-'.repeat(200);
  for (let i = 0; i < (kind === 'plain' ? 400 : 40); i++) {
    await (await files.open(`ds:many/disk-${i}${pad}`, { create: 'exclusive' })).close();
  }
  await files.link('ds:vm1/root.vvd', 'ds:linked');
  const inodes: Record<string, number> = {};
  for (const path of [...FILES, `many/disk-7${pad}`]) {
    inodes[path] = Number((await files.status(`ds:${path}`))?.identity.split(' ')[2]);
  }
  if (kind !== 'crashed') {
    await volume.detach();
    return { devices, inodes };
  }
  const open = await files.open('ds:open', { create: 'exclusive' });
  await open.pwrite(Buffer.alloc(MiB, 5), 0);
  await files.remove('ds:open');
  await files.syncFolder('ds:');
  const crashed = devices.map((device) => device.fork());
  await open.close();
  await volume.detach();
  return { devices: crashed, inodes };
}

export function readBlock(
  devices: readonly MemoryDevice[],
  address: number,
): { bytes: Uint8Array; view: DataView } {
  const bytes = new Uint8Array(BLOCK);
  (devices[deviceOfBlock(address)] as MemoryDevice).pread(bytes, blockOnDevice(address) * BLOCK);
  return { bytes, view: new DataView(bytes.buffer) };
}

/** Changes a block, and gives it a right checksum. */
export function edit(
  devices: readonly MemoryDevice[],
  address: number,
  change: (view: DataView, bytes: Uint8Array) => void,
): void {
  const { bytes, view } = readBlock(devices, address);
  change(view, bytes);
  seal(bytes, generationOf(bytes));
  (devices[deviceOfBlock(address)] as MemoryDevice).pwrite(bytes, blockOnDevice(address) * BLOCK);
}

/** Every part of the devices that was ever written, to be compared. */
export function blocksOf(devices: readonly MemoryDevice[]): Map<string, string> {
  const found = new Map<string, string>();
  for (const [index, device] of devices.entries()) {
    for (let at = 0; at < device.size; ) {
      const { length, zero } = device.status(at, device.size - at);
      if (!zero) {
        const bytes = new Uint8Array(length);
        device.pread(bytes, at);
        found.set(`${index} ${at}`, `${length} ${crc32cBulk(bytes)}`);
      }
      at += length;
    }
  }
  return found;
}

/** Makes a block unreadable. */
export function ruin(devices: readonly MemoryDevice[], address: number): void {
  const { bytes, view } = readBlock(devices, address);
  view.setUint8(100, view.getUint8(100) ^ 0xff);
  (devices[deviceOfBlock(address)] as MemoryDevice).pwrite(bytes, blockOnDevice(address) * BLOCK);
}

/** The tree blocks on the way to the first entry of an inode that is behind others, the highest first. */
export function treeBlocks({ devices }: Sample, inode: number): number[] {
  const found: number[] = [];
  let at: number = INODE_AT.payload;
  let { view } = readBlock(devices, inode);
  for (let depth = view.getUint8(INODE_AT.depth); depth > 0; depth--) {
    while (getU64(view, at) === 0) at += 8;
    const address = getU64(view, at);
    found.push(address);
    view = readBlock(devices, address).view;
    at = TREE_AT.entries;
  }
  expect(found.length).toBeGreaterThan(0);
  return found;
}

/** Everything that is in the files of a volume. Whatever cannot be read is told by its code. */
export async function contentOf(volume: VimsVolume): Promise<Map<string, string>> {
  const content = new Map<string, string>();
  const folders = ['ds:'];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    for (const name of await volume.files.list(folder)) {
      const path = folder.endsWith(':') ? `${folder}${name}` : `${folder}/${name}`;
      const status = await volume.files.status(path).catch(() => undefined);
      if (status?.kind === 'folder') folders.push(path);
      else content.set(path, await bytesOf(volume, path).catch(codeOf));
    }
  }
  return content;
}

function codeOf(error: unknown): string {
  if (isVimgError(error)) return `error ${error.code}`;
  throw error;
}

async function bytesOf(volume: VimsVolume, path: string): Promise<string> {
  const file = await volume.files.open(path, { readOnly: true });
  try {
    const found: string[] = [];
    for (let at = 0; at < file.size; ) {
      const extent = await file.status(at, file.size - at);
      if (!extent.zero) {
        const bytes = Buffer.alloc(Math.min(extent.length, 8 * MiB));
        await file.pread(bytes, at);
        found.push(`${at}: ${Buffer.from(bytes).toString('latin1').slice(0, 8)} ${bytes.length}`);
        at += bytes.length;
      } else at += extent.length;
    }
    return `${file.size} ${found.join(', ')}`;
  } finally {
    await file.close();
  }
}
