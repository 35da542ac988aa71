/**
 * A second look at a VVD file, by code that shares nothing with the driver but the declared offsets: walks every
 * directory page, table page and free extent, and says what claims a place that something else has.
 */
import { type Header, headerLayout, spaceHeadLayout } from '../../formats/vvd/layout.ts';
import { crc32c } from '../../src/binary/crc32c.ts';
import type { MemoryDevice } from '../../src/device/memory-device.ts';

const PAGE = 4096;
const ENTRIES = 252;

interface Claim {
  readonly from: number;
  readonly to: number;
  readonly what: string;
}

export interface Walked {
  readonly problems: readonly string[];
  /** Bytes that nothing uses and that are not listed as free. */
  readonly leaked: number;
  readonly tables: number;
  readonly blocks: number;
}

/** Walks a file that is closed: what its pages say is in force. */
export function walkVvd(file: MemoryDevice): Walked {
  return new Walk(file).run();
}

class Walk {
  readonly #file: MemoryDevice;
  readonly #claims: Claim[] = [];
  readonly #problems: string[] = [];
  #tables = 0;
  #blocks = 0;

  constructor(file: MemoryDevice) {
    this.#file = file;
  }

  run(): Walked {
    const header = this.#header();
    if (!header) return { problems: this.#problems, leaked: 0, tables: 0, blocks: 0 };
    if (header.state !== 1) this.#problems.push('a closed file is not clean');
    const space = this.#page(header.spaceOffset, 'space page 0');
    const head = spaceHeadLayout.decode(space, 64);
    const { directoryOffset, directoryPages, directoryCapacity, dataOffset } = header;
    if (directoryOffset >= dataOffset) this.#claim(directoryOffset, directoryCapacity * PAGE, 'directory');
    this.#claim(head.metadataNext, head.metadataEnd - head.metadataNext, 'unused table pages');
    this.#freeExtents(header.spaceOffset, space, head.extentCount);
    for (let i = 0; i < directoryPages; i++) {
      const written = ((head.directoriesWritten[i >>> 3] ?? 0) >>> (i & 7)) & 1;
      if (written === 1) this.#directory(directoryOffset + i * PAGE, i, 2 ** header.blockShift);
    }
    const directoryEnd = directoryOffset + directoryCapacity * PAGE;
    const leaked = this.#judge(dataOffset, Math.max(head.spaceEnd, directoryEnd));
    return { problems: this.#problems, leaked, tables: this.#tables, blocks: this.#blocks };
  }

  #header(): Header | undefined {
    const copies = [0, PAGE].flatMap((offset) => {
      const page = this.#read(offset, PAGE);
      const stored = new DataView(page.buffer).getUint32(4092, true);
      const header = headerLayout.decode(page);
      page.fill(0, 4092);
      return crc32c(page) === stored ? [header] : [];
    });
    if (copies.length === 0) this.#problems.push('no whole header copy');
    return copies.sort((a, b) => b.generation - a.generation)[0];
  }

  #read(offset: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    if (offset + length <= this.#file.size) this.#file.pread(bytes, offset);
    else this.#problems.push(`${length} bytes at ${offset} pass the end of the file`);
    return bytes;
  }

  #page(offset: number, what: string): Uint8Array {
    const page = this.#read(offset, PAGE);
    const view = new DataView(page.buffer);
    const stored = view.getUint32(60, true);
    view.setUint32(60, 0, true);
    if (crc32c(page) !== stored) this.#problems.push(`${what} at ${offset} is damaged`);
    return page;
  }

  #freeExtents(offset: number, first: Uint8Array, count: number): void {
    let page = first;
    let at = 64 + spaceHeadLayout.size;
    let index = 0;
    for (let i = 0; i < count; i++) {
      if (at + 16 > PAGE) {
        index++;
        page = this.#page(offset + index * PAGE, `space page ${index}`);
        at = 64;
      }
      const view = new DataView(page.buffer);
      this.#claim(u64(view, at), u64(view, at + 8), 'a free extent');
      at += 16;
    }
  }

  #directory(offset: number, index: number, blockSize: number): void {
    const view = new DataView(this.#page(offset, `directory page ${index}`).buffer);
    for (let slot = 0; slot < ENTRIES; slot++) {
      const place = u64(view, 64 + slot * 16);
      if (place !== 0) this.#table(place, index * ENTRIES + slot, u64(view, 72 + slot * 16), blockSize);
    }
  }

  #table(place: number, index: number, generation: number, blockSize: number): void {
    this.#tables++;
    this.#claim(place, PAGE, `table page ${index}`);
    const view = new DataView(this.#page(place, `table page ${index}`).buffer);
    if (u64(view, 8) !== index) this.#problems.push(`table page ${index} says it is ${u64(view, 8)}`);
    if (u64(view, 32) !== generation) this.#problems.push(`table page ${index} is not of its generation`);
    for (let slot = 0; slot < ENTRIES; slot++) this.#entry(view, index, slot, blockSize);
  }

  #entry(view: DataView, table: number, slot: number, blockSize: number): void {
    const at = 64 + slot * 16;
    const low = view.getUint32(at, true);
    const place = view.getUint32(at + 4, true) * 2 ** 32 + ((low & ~15) >>> 0);
    const allocated = view.getUint32(at + 8, true);
    const zero = view.getUint32(at + 12, true);
    const name = `block ${table * ENTRIES + slot}`;
    if ((low & 15) !== 0) this.#blocks++;
    switch (low & 15) {
      case 1:
        if ((allocated & zero) !== 0) this.#problems.push(`${name}: a sub-block is stored and zero`);
        if (place === 0 && allocated !== 0) this.#problems.push(`${name}: stored nowhere`);
        if (place !== 0) this.#claim(place, blockSize, name);
        break;
      case 2:
        this.#claim(place, allocated, `compressed ${name}`);
        break;
      case 0:
      case 3:
        if (place !== 0 || allocated !== 0 || zero !== 0) this.#problems.push(`${name}: stray bits`);
        break;
      default:
        this.#problems.push(`${name}: kind ${low & 15}`);
    }
  }

  #claim(from: number, length: number, what: string): void {
    if (length > 0) this.#claims.push({ from, to: from + length, what });
  }

  /** @returns bytes that nobody claims */
  #judge(dataOffset: number, spaceEnd: number): number {
    let end = dataOffset;
    let last = 'the fixed regions';
    let leaked = 0;
    for (const { from, to, what } of this.#claims.sort((a, b) => a.from - b.from)) {
      if (from < end) this.#problems.push(`${what} at ${from} lies in ${last}, which ends at ${end}`);
      leaked += Math.max(0, from - end);
      if (to > end) {
        end = to;
        last = what;
      }
    }
    if (end > spaceEnd) this.#problems.push(`${last} passes the end of the space in use, ${spaceEnd}`);
    return leaked + Math.max(0, spaceEnd - end);
  }
}

function u64(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true);
}
