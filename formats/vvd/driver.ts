/** VVD as a format driver: what it is called, what it can do, and where each part of it is. */
import { roundUp } from '../../src/base/size.ts';
import type { FormatDriver, OptionSpec } from '../../src/image/format-driver.ts';
import { createVvd } from './create.ts';
import { geometry } from './header.ts';
import { MAGIC, PAGE } from './layout.ts';
import { vvdLifecycle } from './lifecycle.ts';
import { openVvd } from './open.ts';

const OPTIONS: readonly OptionSpec[] = [
  {
    name: 'block_size',
    type: 'size',
    default: '128k',
    help: 'allocation unit, a power of two from 64k to 4M',
  },
  {
    name: 'provisioning',
    type: 'choice',
    choices: ['thin', 'lazy', 'thick'],
    default: 'thin',
    help: 'thin: grows as written; lazy: space reserved, zeroed when read; thick: zeroes written now',
  },
  {
    name: 'compression',
    type: 'choice',
    choices: ['zstd', 'deflate', 'none'],
    default: 'zstd',
    help: 'how compressed blocks are stored (convert -c)',
  },
  {
    name: 'journal_size',
    type: 'size',
    help: 'bytes for the metadata journal, 128k to 64M; by the size of the disk',
  },
];

export const vvdDriver: FormatDriver = {
  name: 'vvd',
  description: 'VIMS virtual disk: journaled, checksummed, knows its parents by identity',
  endings: ['vvd'],
  can: {
    create: true,
    write: true,
    backing: true,
    snapshot: true,
    compress: true,
    resize: true,
    check: true,
  },
  createOptions: OPTIONS,
  probeLength: 2 * PAGE,
  probe: (head) => (hasMagic(head, 0) || hasMagic(head, PAGE) ? 'yes' : 'no'),
  open: openVvd,
  create: createVvd,
  lifecycle: vvdLifecycle,
  // loaded when first used: start-up stays lean
  check: async (file, options) => (await import('./check.ts')).checkVvd(file, options),
  undoRepair: async (file, undoPath) => (await import('./undo-file.ts')).applyUndo(file, undoPath),
  async *inspect(file) {
    yield* (await import('./inspect.ts')).inspectVvd(file);
  },
  measure: (virtualSize, dataBytes, options) => {
    const blockSize = Number(options['block_size'] ?? 128 * 1024);
    const { tables, directories } = geometry(virtualSize, Math.log2(blockSize));
    const fixed = roundUp((150 + directories * 4) * PAGE, blockSize);
    const tableBytes = roundUp(tables * PAGE, blockSize);
    return {
      required: fixed + tableBytes + roundUp(dataBytes, blockSize),
      fullyAllocated: fixed + tableBytes + roundUp(virtualSize, blockSize),
    };
  },
};

function hasMagic(head: Uint8Array, offset: number): boolean {
  return (
    Buffer.from(head.buffer, head.byteOffset, head.length)
      .subarray(offset, offset + 8)
      .toString('latin1') === MAGIC
  );
}
