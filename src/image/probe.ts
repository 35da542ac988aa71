/**
 * Telling a file's format from its first bytes.
 *
 * A raw disk has no magic, so "raw" is only ever a guess: whoever writes to a disk can make it look like another
 * format. A guess is labelled as one; a file that two formats claim, or that belongs to a format this release does
 * not read, is refused (CVE-2008-2004, CVE-2024-40767).
 */
import { VimgError } from '../base/errors.ts';
import type { BlockDevice } from '../device/block-device.ts';
import type { FormatDriver } from './format-driver.ts';
import type { FormatRegistry } from './registry.ts';

export interface ProbeResult {
  readonly driver: FormatDriver;
  /** No format claims the content: it is taken for raw, and that is a guess. */
  readonly guessed: boolean;
}

/** Magics of formats that are not a raw disk, whether or not a driver reads them: [name, offset, bytes]. */
const FOREIGN_MAGICS: readonly (readonly [string, number, string])[] = [
  ['vmdk', 0, 'KDMV'],
  ['vmdk', 0, 'COWD'],
  ['vmdk', 0, '# Disk DescriptorFile'],
  ['vhdx', 0, 'vhdxfile'],
  ['vpc', 0, 'conectix'],
  ['vdi', 0x40, '\x7f\x10\xda\xbe'],
  ['luks', 0, 'LUKS\xba\xbe'],
  ['qed', 0, 'QED\0'],
  ['qcow', 0, 'QFI\xfb\0\0\0\x01'],
  ['parallels', 0, 'WithoutFreeSpace'],
  ['parallels', 0, 'WithouFreSpacExt'],
  ['dmg', 0, 'koly'],
];

/** Bytes from the start of a file that tell every format that is told by its start. */
const PROBE_LENGTH = 8192;

/** Names of the formats that claim these first bytes. Empty: nothing speaks against a raw disk. */
export function claimedFormats(head: Uint8Array, fileSize: number, formats: FormatRegistry): string[] {
  const names = formats
    .list()
    .filter((driver) => driver.probe(head, fileSize) === 'yes')
    .map((driver) => driver.name);
  const text = Buffer.from(head.buffer, head.byteOffset, head.length);
  for (const [name, offset, magic] of FOREIGN_MAGICS) {
    const found = text.subarray(offset, offset + magic.length).toString('latin1') === magic;
    if (found && !names.includes(name)) names.push(name);
  }
  return names;
}

/** The first bytes of a file, at most {@link PROBE_LENGTH}. */
export async function readHead(file: BlockDevice): Promise<Uint8Array> {
  const head = new Uint8Array(Math.min(PROBE_LENGTH, file.size));
  await file.pread(head, 0);
  return head;
}

/**
 * Which driver opens this file, by its content.
 *
 * @throws VimgError `INVALID_FORMAT` when several formats claim it, `UNSUPPORTED` when it belongs to a format that
 *   no driver here reads
 */
export async function probeFormat(file: BlockDevice, formats: FormatRegistry): Promise<ProbeResult> {
  const names = claimedFormats(await readHead(file), file.size, formats);
  if (names.length > 1) {
    throw new VimgError('INVALID_FORMAT', `The file could be ${names.join(' or ')}`, {
      path: file.name,
      hint: 'name the format with -f',
    });
  }
  const [name] = names;
  if (name === undefined) return { driver: formats.get('raw'), guessed: true };
  const driver = formats.list().find((candidate) => candidate.name === name);
  if (driver) return { driver, guessed: false };
  throw new VimgError('UNSUPPORTED', `The file is a ${name} image, which this release does not read`, {
    path: file.name,
    hint: 'if it is a raw disk whose content only looks like one, say so with -f raw',
  });
}
