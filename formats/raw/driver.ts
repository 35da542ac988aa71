/**
 * raw: the guest's bytes and nothing else. Holes of the file are told apart from data (SEEK_HOLE), discard punches
 * them, and preallocation is `off`, `falloc` (space reserved) or `full` (zeroes written).
 */
import { VimgError } from '../../src/base/errors.ts';
import { roundUp } from '../../src/base/size.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { CreateLayerOptions, FormatDriver, OptionSpec } from '../../src/image/format-driver.ts';
import { RawLayer } from './layer.ts';

const SECTOR = 512;

const PREALLOCATION: OptionSpec = {
  name: 'preallocation',
  type: 'choice',
  choices: ['off', 'falloc', 'full'],
  default: 'off',
  help: 'off: a sparse file; falloc: space reserved; full: zeroes written',
};

export const rawDriver: FormatDriver = {
  name: 'raw',
  description: "the guest's bytes as they are",
  endings: ['raw', 'img', 'iso', 'bin'],
  can: {
    create: true,
    write: true,
    backing: false,
    snapshot: false,
    compress: false,
    resize: true,
    check: false,
  },
  createOptions: [PREALLOCATION],
  probeLength: 0,
  probe: () => 'guess',
  open: (file, options) => Promise.resolve(new RawLayer(file, options.readOnly, options.fresh)),
  create: createRaw,
  measure: (virtualSize, _dataBytes) => {
    const required = roundUp(virtualSize, SECTOR);
    return { required, fullyAllocated: required };
  },
};

async function createRaw(file: BlockDevice, options: CreateLayerOptions): Promise<void> {
  if (options.backing) {
    throw new VimgError('UNSUPPORTED', 'A raw disk cannot have a backing file', { path: file.name });
  }
  const size = roundUp(options.virtualSize, SECTOR);
  await file.resize(size);
  switch (options.options['preallocation'] ?? 'off') {
    case 'falloc':
      await file.writeZeroes(0, size, { keepAllocated: true });
      break;
    case 'full':
      await writeFull(file, size);
      break;
    default:
  }
}

async function writeFull(file: BlockDevice, size: number): Promise<void> {
  const zeroes = new Uint8Array(1024 * 1024);
  for (let at = 0; at < size; at += zeroes.length) {
    await file.pwrite(zeroes.subarray(0, Math.min(zeroes.length, size - at)), at);
  }
}
