/**
 * The qcow2 driver: reads version 2 and 3 with every feature that QEMU 7.2 writes except encryption, and writes new
 * images. SPEC.md says which rule of the specification is kept where.
 */
import { VimgError } from '../../src/base/errors.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import type {
  CreateLayerOptions,
  FormatDriver,
  OpenLayerOptions,
  ProbeVerdict,
} from '../../src/image/format-driver.ts';
import type { Layer } from '../../src/image/layer.ts';
import { locateBitmapDirectory } from './bitmap-directory.ts';
import { checkQcow2 } from './check.ts';
import { QCOW2_CREATE_OPTIONS } from './create-options.ts';
import { headerRegions, l2EntriesPerTable, type Qcow2Header, readHeader, withPath } from './header.ts';
import { inspectQcow2 } from './inspect.ts';
import { L1Table } from './l2-cache.ts';
import { Qcow2Layer } from './layer.ts';
import { QCOW2_MAGIC } from './layout.ts';
import { measureQcow2 } from './measure.ts';
import { checkApart, checkPlace, type MetadataRegion } from './metadata-region.ts';
import { checkSnapshotL1, findSnapshot, type Qcow2Snapshot, readSnapshotTable } from './snapshot-table.ts';
import { startQcow2Writer } from './writer.ts';

/** Every version has the magic; the version field is left to `open`, which can say what is wrong with it. */
function probe(head: Uint8Array): ProbeVerdict {
  if (head.length < 4) return 'no';
  return new DataView(head.buffer, head.byteOffset, 4).getUint32(0) === QCOW2_MAGIC ? 'yes' : 'no';
}

async function open(file: BlockDevice, options: OpenLayerOptions): Promise<Layer> {
  const infoOnly = options.infoOnly ?? false;
  const header = await readHeader(file, { allowEncrypted: infoOnly });
  if (header.corrupt && !options.readOnly) {
    throw new VimgError('CORRUPT', 'the image is marked corrupt and must not be written to', {
      op: 'open for writing',
      path: file.name,
    });
  }
  try {
    const { snapshots, region } = await readSnapshotTable(file, header);
    const regions = headerRegions(header);
    if (region) regions.push(region);
    checkApart(regions);
    locateBitmapDirectory(header, file.size);
    const shown = chooseContent(file, header, snapshots, regions, options.snapshot);
    const l1 = await L1Table.read(
      file,
      shown.l1TableOffset,
      infoOnly ? 0 : shown.l1Size,
      header.clusterSize,
      regions,
    );
    const dataFile = infoOnly ? undefined : await openDataFile(file, header, options);
    return new Qcow2Layer({ file, header, l1, virtualSize: shown.virtualSize, snapshots, regions, dataFile });
  } catch (error) {
    throw withPath(error, file.name);
  }
}

/** The image's present content, or that of a snapshot; the L1 table of the latter joins the regions. */
function chooseContent(
  file: BlockDevice,
  header: Qcow2Header,
  snapshots: readonly Qcow2Snapshot[],
  regions: MetadataRegion[],
  idOrName: string | undefined,
): Pick<Qcow2Snapshot, 'l1TableOffset' | 'l1Size' | 'virtualSize'> {
  if (idOrName === undefined) return header;
  const snapshot = findSnapshot(snapshots, idOrName, file.name);
  checkSnapshotL1(snapshot, header.clusterSize * l2EntriesPerTable(header));
  if (snapshot.l1Size > 0) {
    const what = `the L1 table of snapshot '${snapshot.name}'`;
    const region = { what, offset: snapshot.l1TableOffset, length: snapshot.l1Size * 8 };
    checkPlace(region, header.clusterSize, file.size);
    regions.push(region);
    checkApart(regions);
  }
  return snapshot;
}

async function openDataFile(
  file: BlockDevice,
  header: Qcow2Header,
  options: OpenLayerOptions,
): Promise<BlockDevice | undefined> {
  if (header.dataFile === undefined) return undefined;
  if (header.dataFile.name === undefined || header.dataFile.name === '') {
    throw new VimgError('UNSUPPORTED', 'the image keeps its data in another file and does not name it', {
      op: 'open data file',
      path: file.name,
    });
  }
  return options.gate({
    role: 'data-file',
    stored: header.dataFile.name,
    from: file.name,
    readOnly: true,
    byIdentity: false,
  });
}

async function create(file: BlockDevice, options: CreateLayerOptions): Promise<void> {
  const writer = await startQcow2Writer(file, options);
  await writer.finish();
}

export const qcow2Driver: FormatDriver = {
  name: 'qcow2',
  description: 'QEMU copy-on-write, version 2 and 3',
  endings: ['qcow2'],
  can: {
    create: true,
    write: false,
    backing: true,
    snapshot: true,
    compress: true,
    resize: false,
    check: true,
  },
  createOptions: QCOW2_CREATE_OPTIONS,
  probeLength: 4,
  probe,
  open,
  create,
  startWriter: startQcow2Writer,
  check: checkQcow2,
  inspect: inspectQcow2,
  measure: measureQcow2,
};
