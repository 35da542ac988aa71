/**
 * Lists the structures of a qcow2 file, as much as can be read of a damaged one: for `vimg inspect`.
 *
 * Nothing here trusts anything: each structure is read on its own, and one that cannot be read says so and does not
 * hide the others.
 */
import { VimgError } from '../../src/base/errors.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { InspectedStructure } from '../../src/image/format-driver.ts';
import { readBitmapDirectory } from './bitmap-directory.ts';
import { type Qcow2Header, readHeader } from './header.ts';
import { extensionName, locateExtensions } from './header-extensions.ts';
import { L1Table } from './l2-cache.ts';
import { hostOffset } from './l2-table.ts';
import { HEADER_LENGTH_V2, HEADER_LENGTH_V3, headerBaseLayout, headerFeaturesLayout } from './layout.ts';
import { readSnapshotTable } from './snapshot-table.ts';

/** L1 entries shown one by one. */
const L1_ENTRIES_SHOWN = 64;
const HEAD_BYTES = 65536;

/** Every structure that can be found, in the order of their importance. */
export async function* inspectQcow2(file: BlockDevice): AsyncGenerator<InspectedStructure> {
  const head = new Uint8Array(Math.min(HEAD_BYTES, file.size));
  await file.pread(head, 0);
  let header: Qcow2Header | undefined;
  let state = 'ok';
  try {
    header = await readHeader(file, { allowEncrypted: true });
  } catch (error) {
    state = describe(error);
  }
  yield* inspectHeader(head, state);
  if (header === undefined) return;
  yield* inspectTables(file, header);
  yield* inspectSnapshots(file, header);
  yield* inspectBitmaps(file, header);
}

function* inspectHeader(head: Uint8Array, state: string): Generator<InspectedStructure> {
  if (head.length < HEADER_LENGTH_V2) {
    yield { name: 'header', offset: 0, length: head.length, state: 'cut short', fields: {} };
    return;
  }
  const base = headerBaseLayout.decode(head);
  yield { name: 'header', offset: 0, length: HEADER_LENGTH_V2, state, fields: shown(base) };
  let start = HEADER_LENGTH_V2;
  if (base.version >= 3) {
    if (head.length < HEADER_LENGTH_V3) return;
    const features = headerFeaturesLayout.decode(head, HEADER_LENGTH_V2);
    yield {
      name: 'header, version 3',
      offset: HEADER_LENGTH_V2,
      length: headerFeaturesLayout.size,
      state: 'ok',
      fields: shown(features),
    };
    start = features.headerLength;
  }
  try {
    for (const place of locateExtensions(head, start)) {
      const data = head.subarray(place.offset, place.offset + Math.min(place.length, 64));
      const name = `extension: ${extensionName(place.type)}`;
      const fields = { data: Buffer.from(data).toString('hex') };
      yield { name, offset: place.offset - 8, length: place.length + 8, state: 'ok', fields };
    }
  } catch (error) {
    yield { name: 'extensions', offset: start, length: 0, state: describe(error), fields: {} };
  }
}

async function* inspectTables(file: BlockDevice, header: Qcow2Header): AsyncGenerator<InspectedStructure> {
  const { clusterSize } = header;
  yield {
    name: 'refcount table',
    offset: header.refcountTableOffset,
    length: header.refcountTableClusters * clusterSize,
    state: 'ok',
    fields: { refcountBits: header.refcountBits },
  };
  const l1 = { name: 'L1 table', offset: header.l1TableOffset, length: header.l1Size * 8 };
  let table: L1Table;
  try {
    table = await L1Table.read(file, header.l1TableOffset, header.l1Size, clusterSize, []);
  } catch (error) {
    yield { ...l1, state: describe(error), fields: {} };
    return;
  }
  yield { ...l1, state: 'ok', fields: { entries: header.l1Size } };
  let shown = 0;
  for (let index = 0; index < table.entries && shown < L1_ENTRIES_SHOWN; index++) {
    if (table.isAbsent(index)) continue;
    shown++;
    yield await inspectL2(file, header, table, index);
  }
}

async function inspectL2(
  file: BlockDevice,
  header: Qcow2Header,
  table: L1Table,
  index: number,
): Promise<InspectedStructure> {
  const name = `L2 table ${index}`;
  try {
    const offset = table.l2Offset(index);
    const bytes = new Uint8Array(header.clusterSize);
    await file.pread(bytes, offset);
    const view = new DataView(bytes.buffer);
    const stride = header.extendedL2 ? 16 : 8;
    let used = 0;
    let firstHost = 0;
    for (let at = 0; at < bytes.length; at += stride) {
      if (view.getUint32(at) === 0 && view.getUint32(at + 4) === 0) continue;
      used++;
      firstHost ||= hostOffset(view.getUint32(at), view.getUint32(at + 4));
    }
    const fields = { entries: bytes.length / stride, used, firstHostOffset: firstHost };
    return { name, offset, length: header.clusterSize, state: 'ok', fields };
  } catch (error) {
    return { name, offset: 0, length: header.clusterSize, state: describe(error), fields: {} };
  }
}

async function* inspectSnapshots(file: BlockDevice, header: Qcow2Header): AsyncGenerator<InspectedStructure> {
  if (header.snapshotCount === 0) return;
  try {
    for (const snapshot of (await readSnapshotTable(file, header)).snapshots) {
      const { entryOffset, entryLength, ...fields } = snapshot;
      yield {
        name: `snapshot ${snapshot.id}`,
        offset: entryOffset,
        length: entryLength,
        state: 'ok',
        fields,
      };
    }
  } catch (error) {
    yield {
      name: 'snapshot table',
      offset: header.snapshotsOffset,
      length: 0,
      state: describe(error),
      fields: {},
    };
  }
}

async function* inspectBitmaps(file: BlockDevice, header: Qcow2Header): AsyncGenerator<InspectedStructure> {
  try {
    const directory = await readBitmapDirectory(file, header);
    if (directory === undefined) return;
    const { offset, length } = directory;
    yield {
      name: 'bitmap directory',
      offset,
      length,
      state: 'ok',
      fields: { bitmaps: directory.bitmaps.length },
    };
    for (const bitmap of directory.bitmaps) {
      const name = `bitmap ${bitmap.name}`;
      yield {
        name,
        offset: bitmap.tableOffset,
        length: bitmap.tableSize * 8,
        state: 'ok',
        fields: { ...bitmap },
      };
    }
  } catch (error) {
    yield { name: 'bitmap directory', offset: 0, length: 0, state: describe(error), fields: {} };
  }
}

/** Fields as JSON can have them: 64-bit words that are no exact number become hexadecimal text. */
function shown(fields: object): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => {
      if (typeof value !== 'bigint') return [name, value];
      return [name, value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : `0x${value.toString(16)}`];
    }),
  );
}

/** What is wrong, for the line of a structure. A bug is not one of these and passes on. */
function describe(error: unknown): string {
  if (error instanceof VimgError) return error.message;
  throw error;
}
