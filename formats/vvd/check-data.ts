/**
 * Data against its checksums. The checksum pages of a sealed layer are always verified; the scrub also reads the
 * data: compressed blocks always have a checksum, others where the layer is sealed and has them.
 */
import { isVimgError, VimgError } from '../../src/base/errors.ts';
import { crc32cBulk } from '../../src/binary/crc32c.ts';
import { checksumPageCount, readChecksumPage, readStored } from './block-checksums.ts';
import type { DataCheck } from './check-entries.ts';
import type { CheckFindings } from './check-findings.ts';
import { guestRange, type ImageUnderCheck } from './check-image.ts';
import { decompressBlock } from './compression.ts';
import { allocatedOf, entryAt, KIND_COMPRESSED, KIND_DATA, kindOf, placeOf, zeroOf } from './entry.ts';
import { geometry } from './header.ts';
import { CHECKSUMS, ENTRIES, PAGE, PAGE_HEADER } from './layout.ts';

/** Blocks in work at once. */
const CONCURRENCY = 4;
const CACHED_PAGES = 64;

export class ChecksumCheck implements DataCheck {
  readonly #image: ImageUnderCheck;
  readonly #findings: CheckFindings;
  readonly #scrub: boolean;
  readonly #step: () => void;
  readonly #hasChecksums: boolean;
  /** Checksum pages, by index. Blocks come nearly in order: few are kept. */
  readonly #pages = new Map<number, DataView>();
  readonly #damagedPages = new Set<number>();

  /** @param step called between blocks. @throws VimgError `CANCELLED` */
  constructor(image: ImageUnderCheck, findings: CheckFindings, scrub: boolean, step: () => void) {
    this.#image = image;
    this.#findings = findings;
    this.#scrub = scrub;
    this.#step = step;
    this.#hasChecksums = image.header.checksumState === 1;
  }

  /** Verifies what one table page maps. */
  async table(index: number, view: DataView, base: number): Promise<void> {
    if (this.#scrub) return this.#scrubTable(index, view, base);
    if (this.#hasChecksums && storesData(view, base)) await this.#checksums(index * ENTRIES);
  }

  async #scrubTable(index: number, view: DataView, base: number): Promise<void> {
    let slot = 0;
    const worker = async (): Promise<void> => {
      while (slot < ENTRIES) {
        const mine = slot++;
        await this.#entry(index * ENTRIES + mine, view, base + entryAt(mine));
      }
    };
    const results = await Promise.allSettled(Array.from({ length: CONCURRENCY }, worker));
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }

  async #entry(block: number, view: DataView, at: number): Promise<void> {
    const kind = kindOf(view, at);
    const place = placeOf(view, at);
    const allocated = allocatedOf(view, at);
    if (place <= 0 || allocated === 0) return;
    if (kind === KIND_COMPRESSED) {
      this.#step();
      await this.#compressed(block, place, allocated, zeroOf(view, at));
    } else if (kind === KIND_DATA && this.#hasChecksums) {
      this.#step();
      await this.#stored(block, place, allocated);
    }
  }

  async #compressed(block: number, place: number, length: number, checksum: number): Promise<void> {
    const { file, header, blockSize } = this.#image;
    if (length > blockSize || place + length > file.size) return; // told by the walk over the entries
    const stored = new Uint8Array(length);
    try {
      await file.pread(stored, place);
      await decompressBlock(stored, checksum, header.compression, blockSize, file.name);
    } catch (error) {
      this.#damaged(error, 'compressed-data', block, place);
    }
  }

  async #stored(block: number, place: number, allocated: number): Promise<void> {
    const page = await this.#checksums(block);
    if (!page) return;
    const { file, blockSize } = this.#image;
    try {
      const data = await readStored(file, place, allocated, blockSize);
      if (crc32cBulk(data) === page.getUint32(PAGE_HEADER + (block % CHECKSUMS) * 4, true)) return;
      throw new VimgError('CORRUPT', 'its data does not match its checksum');
    } catch (error) {
      if (isVimgError(error, 'OUT_OF_BOUNDS')) return; // told by the walk over the entries
      this.#damaged(error, 'data-checksum', block, place);
    }
  }

  #damaged(error: unknown, kind: string, block: number, place: number): void {
    if (!(error instanceof VimgError) || error.code === 'UNSUPPORTED') throw error;
    const guest = guestRange(this.#image, block, 1);
    this.#findings.corruption(kind, `block ${block}: ${error.message}`, {
      fileOffset: place,
      ...(guest ? { guestRange: guest } : {}),
    });
  }

  /** The page that holds the checksum of a block; undefined when it is damaged, which is told once. */
  async #checksums(block: number): Promise<DataView | undefined> {
    const index = Math.floor(block / CHECKSUMS);
    const cached = this.#pages.get(index);
    if (cached || this.#damagedPages.has(index)) return cached;
    const { file, header } = this.#image;
    try {
      const page = await readChecksumPage(file, header, index);
      if (this.#pages.size >= CACHED_PAGES) this.#pages.clear();
      this.#pages.set(index, page);
      return page;
    } catch (error) {
      if (!(error instanceof VimgError)) throw error;
      if (this.#damagedPages.has(index)) return undefined;
      this.#damagedPages.add(index);
      const guest = guestRange(this.#image, index * CHECKSUMS, CHECKSUMS);
      this.#findings.corruption('checksum-page', error.message, {
        fileOffset: header.checksumOffset + index * PAGE,
        ...(guest ? { guestRange: guest } : {}),
      });
      return undefined;
    }
  }
}

function storesData(view: DataView, base: number): boolean {
  for (let slot = 0; slot < ENTRIES; slot++) {
    const at = base + entryAt(slot);
    if (kindOf(view, at) === KIND_DATA && allocatedOf(view, at) !== 0) return true;
  }
  return false;
}

/** Whether the checksum pages of a sealed layer are as many as its blocks need. */
export function checksumCountProblem(image: ImageUnderCheck): string | undefined {
  const { header } = image;
  if (header.checksumState !== 1) return undefined;
  const { tables } = geometry(header.virtualSize, header.blockShift);
  const needed = checksumPageCount(tables);
  if (header.checksumOffset !== 0 && header.checksumPages >= needed) return undefined;
  return `the layer has ${header.checksumPages} checksum pages and needs ${needed}`;
}
