/** A VVD file as a layer: answers where each range of the disk lives, from its allocation table. */
import { VimgError } from '../../src/base/errors.ts';
import { isPromise, type MaybePromise } from '../../src/base/maybe-promise.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { HitCounts } from '../../src/image/cache-statistics.ts';
import {
  type BackingReference,
  BEHIND,
  COMPRESSED,
  DATA,
  type Layer,
  type LayerIdentity,
  type LayerInfo,
  type LayerWriter,
  type Location,
  ZERO,
} from '../../src/image/layer.ts';
import type { AttributeValue } from './attributes.ts';
import { backingReference } from './backing.ts';
import type { BlockChecksums } from './block-checksums.ts';
import { decompressBlock } from './compression.ts';
import {
  ALL_SUB_BLOCKS,
  allocatedOf,
  entryAt,
  KIND_COMPRESSED,
  KIND_DATA,
  KIND_UNALLOCATED,
  KIND_ZERO,
  kindOf,
  placeOf,
  runLength,
  zeroOf,
} from './entry.ts';
import { formerIdentity, headerText, isSealed } from './header.ts';
import { describeVvd } from './info.ts';
import { ENTRIES, type Header, INTENT_DELETE, SUB_BLOCKS } from './layout.ts';
import type { Metadata } from './metadata.ts';
import type { MetadataPage } from './page-cache.ts';
import type { VvdWriter } from './writer.ts';

/** What an open gathered; see open.ts. */
export interface VvdParts {
  readonly file: BlockDevice;
  readonly header: Header;
  readonly metadata: Metadata;
  readonly writer: VvdWriter | undefined;
  readonly attributes: Map<string, AttributeValue>;
  readonly checksums: BlockChecksums | undefined;
}

export class VvdLayer implements Layer {
  readonly format = 'vvd';
  readonly file: BlockDevice;
  readonly header: Header;
  readonly metadata: Metadata;
  readonly attributes: Map<string, AttributeValue>;
  readonly writer: LayerWriter | undefined;
  readonly unit: number;
  readonly snapshotName: string | undefined;
  readonly backing: BackingReference | undefined;
  /** The writer with what operations on whole files need. */
  readonly vvdWriter: VvdWriter | undefined;
  readonly #checksums: BlockChecksums | undefined;
  readonly #blockSize: number;
  readonly #subBlockSize: number;
  /** Guest bytes that one table page maps. */
  readonly #tableSpan: number;
  #closed: Promise<void> | undefined;

  constructor(parts: VvdParts) {
    const { header } = parts;
    this.file = parts.file;
    this.header = header;
    this.metadata = parts.metadata;
    this.attributes = parts.attributes;
    this.writer = parts.writer;
    this.vvdWriter = parts.writer;
    this.#checksums = parts.checksums;
    this.#blockSize = 2 ** header.blockShift;
    this.#subBlockSize = this.#blockSize / SUB_BLOCKS;
    this.#tableSpan = this.#blockSize * ENTRIES;
    this.unit = this.#blockSize;
    this.backing = backingReference(parts.file.name, header);
    this.snapshotName =
      isSealed(header) && header.intent !== INTENT_DELETE
        ? headerText(header.snapshotName, header.snapshotNameLength) || undefined
        : undefined;
  }

  /** The same layer, which is sealed now, for reading: with the pages that are in memory. Use only one of the two. */
  sealedView(): VvdLayer {
    const { file, header, metadata, attributes } = this;
    return new VvdLayer({ file, header, metadata, attributes, writer: undefined, checksums: undefined });
  }

  /** The same layer after its header changed on what it stands. Use only one of the two. */
  renewed(): VvdLayer {
    const { file, header, metadata, attributes, vvdWriter: writer } = this;
    return new VvdLayer({ file, header, metadata, attributes, writer, checksums: this.#checksums });
  }

  get metadataCounts(): HitCounts {
    return this.metadata.counts;
  }

  get virtualSize(): number {
    return this.header.virtualSize;
  }

  get readOnly(): boolean {
    return this.writer === undefined;
  }

  get identity(): LayerIdentity {
    const former = formerIdentity(this.header);
    const { diskUuid: uuid, contentId } = this.header;
    return former ? { uuid, contentId, former } : { uuid, contentId };
  }

  locate(offset: number, length: number, into: Location): MaybePromise<void> {
    const index = Math.floor(offset / this.#tableSpan);
    const page = this.metadata.cachedTable(index) ?? this.metadata.table(index);
    if (isPromise(page)) return page.then((loaded) => this.#locateIn(loaded, index, offset, length, into));
    this.#locateIn(page, index, offset, length, into);
  }

  #locateIn(
    page: MetadataPage | undefined,
    index: number,
    offset: number,
    length: number,
    into: Location,
  ): void {
    into.verify = false;
    into.reserved = false;
    if (!page) {
      into.kind = BEHIND;
      const asked = Math.ceil((offset + length) / this.#tableSpan) - index;
      const absent = this.metadata.absentTables(index, asked);
      into.length = Math.min(length, (index + absent) * this.#tableSpan - offset);
      return;
    }
    const inTable = Math.min(length, (index + 1) * this.#tableSpan - offset);
    const { view } = page;
    const inSpan = offset - index * this.#tableSpan;
    const slot = Math.floor(inSpan / this.#blockSize);
    const within = inSpan - slot * this.#blockSize;
    const at = entryAt(slot);
    switch (kindOf(view, at)) {
      case KIND_UNALLOCATED:
        into.kind = BEHIND;
        into.length = this.#sameKind(view, slot, within, inTable, KIND_UNALLOCATED);
        return;
      case KIND_ZERO:
        into.kind = ZERO;
        into.length = this.#sameKind(view, slot, within, inTable, KIND_ZERO);
        return;
      case KIND_DATA:
        this.#locateData(view, slot, within, inTable, into);
        break;
      case KIND_COMPRESSED:
        this.#locateCompressed(view, at, offset, within, inTable, into);
        break;
      default:
        throw this.#corrupt(offset, `unknown kind ${kindOf(view, at)}`);
    }
    if (into.kind === DATA || into.kind === COMPRESSED) this.#checkPlace(offset, into);
  }

  /** Bytes from `within` block `slot` on until a block of another kind, `limit` at most. */
  #sameKind(view: DataView, slot: number, within: number, limit: number, kind: number): number {
    let length = this.#blockSize - within;
    for (let next = slot + 1; length < limit && next < ENTRIES; next++) {
      if (kindOf(view, entryAt(next)) !== kind) break;
      length += this.#blockSize;
    }
    return Math.min(length, limit);
  }

  #locateData(view: DataView, slot: number, within: number, limit: number, into: Location): void {
    const at = entryAt(slot);
    const allocated = allocatedOf(view, at);
    const zero = zeroOf(view, at);
    const place = placeOf(view, at);
    if ((allocated & zero) !== 0 || place < 0 || (place === 0 && allocated !== 0)) {
      throw this.#corrupt(0, `entry ${slot} of its table page contradicts itself`);
    }
    const subBlock = Math.floor(within / this.#subBlockSize);
    const bit = (1 << subBlock) >>> 0;
    into.device = this.file;
    into.deviceOffset = place + within;
    if ((allocated & bit) !== 0) {
      into.kind = DATA;
      into.verify = this.#checksums !== undefined;
      into.length = this.#dataRun(view, slot, within, limit, place, runLength(allocated, subBlock), subBlock);
      return;
    }
    const isZero = (zero & bit) !== 0;
    into.kind = isZero ? ZERO : BEHIND;
    into.reserved = isZero && place !== 0;
    const run = isZero ? runLength(zero, subBlock) : runLength((allocated | zero) >>> 0, subBlock);
    const length = (subBlock + run) * this.#subBlockSize - within;
    const toEnd = into.reserved && subBlock + run === SUB_BLOCKS;
    into.length = Math.min(
      limit,
      toEnd ? length + this.#reservedBlocks(view, slot + 1, place, limit - length) : length,
    );
  }

  /** Bytes of the blocks from `slot` on that follow `place` in the file and read as zero though space is taken. */
  #reservedBlocks(view: DataView, slot: number, place: number, limit: number): number {
    let length = 0;
    for (let next = slot; length < limit && next < ENTRIES; next++) {
      const at = entryAt(next);
      length += this.#blockSize;
      const follows = kindOf(view, at) === KIND_DATA && placeOf(view, at) === place + length;
      if (!follows || zeroOf(view, at) !== ALL_SUB_BLOCKS || allocatedOf(view, at) !== 0)
        return length - this.#blockSize;
    }
    return length;
  }

  /** Stored bytes from `within` on that also lie side by side in the file: on into next blocks where they do. */
  #dataRun(
    view: DataView,
    slot: number,
    within: number,
    limit: number,
    place: number,
    run: number,
    subBlock: number,
  ): number {
    let length = (subBlock + run) * this.#subBlockSize - within;
    let toEnd = subBlock + run === SUB_BLOCKS;
    let expected = place + this.#blockSize;
    for (let next = slot + 1; toEnd && length < limit && next < ENTRIES; next++) {
      const at = entryAt(next);
      const bits = kindOf(view, at) === KIND_DATA ? allocatedOf(view, at) : 0;
      if ((bits & 1) === 0 || placeOf(view, at) !== expected || (bits & zeroOf(view, at)) !== 0) break;
      const more = bits === ALL_SUB_BLOCKS ? SUB_BLOCKS : runLength(bits, 0);
      length += more * this.#subBlockSize;
      toEnd = more === SUB_BLOCKS;
      expected += this.#blockSize;
    }
    return Math.min(length, limit);
  }

  #locateCompressed(
    view: DataView,
    at: number,
    offset: number,
    within: number,
    limit: number,
    into: Location,
  ): void {
    into.kind = COMPRESSED;
    into.length = Math.min(limit, this.#blockSize - within);
    into.device = this.file;
    into.deviceOffset = placeOf(view, at);
    into.storedLength = allocatedOf(view, at);
    into.unitOffset = offset - within;
    into.unitLength = this.#blockSize;
    if (into.storedLength === 0 || into.storedLength > this.#blockSize) {
      throw this.#corrupt(offset, 'a compressed block has an impossible length');
    }
  }

  /** A place must lie behind the fixed regions and inside the file. */
  #checkPlace(offset: number, into: Location): void {
    const { kind, deviceOffset } = into;
    const end = deviceOffset + (kind === COMPRESSED ? into.storedLength : into.length);
    if (deviceOffset >= this.header.dataOffset && end <= this.file.size) return;
    throw this.#corrupt(offset, `its place ${deviceOffset} is outside the data of the file`);
  }

  #corrupt(offset: number, why: string): VimgError {
    return new VimgError('CORRUPT', `The allocation table is damaged: ${why}`, {
      op: 'look up',
      path: this.file.name,
      offset,
    });
  }

  async decompress(location: Location): Promise<Uint8Array> {
    const index = Math.floor(location.unitOffset / this.#tableSpan);
    const page = await this.metadata.table(index);
    const slot = Math.floor((location.unitOffset - index * this.#tableSpan) / this.#blockSize);
    if (!page) throw this.#corrupt(location.unitOffset, 'its table page is gone');
    const stored = new Uint8Array(location.storedLength);
    const checksum = zeroOf(page.view, entryAt(slot));
    await this.file.pread(stored, location.deviceOffset);
    return decompressBlock(stored, checksum, this.header.compression, location.unitLength, this.file.name);
  }

  verifyRange(offset: number, length: number): MaybePromise<void> {
    return this.#checksums?.verifyRange(offset, length);
  }

  info(): LayerInfo {
    return describeVvd(this.header, this.attributes);
  }

  /** Finishes what is being written, marks the file clean, and closes it. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    try {
      await this.vvdWriter?.close();
    } finally {
      await this.file.close();
    }
  }
}
