/**
 * Judging an image that came from somewhere else: may it be handed to a tool that trusts what it reads?
 *
 * The file is opened read-only, through a gate that opens nothing; every check that its format has is run. What was
 * found is told as reasons with stable codes. An image is accepted when there is none against it.
 */
import { isVimgError } from '../base/errors.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { openFile } from '../device/files.ts';
import { DiskImage } from '../image/disk-image.ts';
import { closedGate, printable } from '../image/gate-policies.ts';
import { claimedFormats, readHead } from '../image/probe.ts';
import type { FormatRegistry } from '../image/registry.ts';
import type { JobOptions } from './job.ts';

export interface TrustReason {
  /** Stable words for scripts. */
  readonly code:
    | 'several-formats'
    | 'foreign-format'
    | 'no-format'
    | 'backing-file'
    | 'data-file'
    | 'encrypted'
    | 'huge'
    | 'damaged'
    | 'leaks'
    | 'unreadable';
  readonly message: string;
}

export interface TrustVerdict {
  readonly filename: string;
  readonly verdict: 'accept' | 'reject';
  /** As the content tells; nothing when it does not tell. */
  readonly format?: string;
  readonly virtualSize?: number;
  readonly reasons: readonly TrustReason[];
}

/** No disk of this release is larger, and no host has more. */
const SIZE_MAX = 64 * 1024 ** 4;
const MBR_SIGNATURE_OFFSET = 510;
/** Magics of what stands at the start of a real raw disk: [offset, bytes]. */
const DISK_MAGICS: readonly (readonly [number, string])[] = [
  [MBR_SIGNATURE_OFFSET, '\x55\xaa'],
  [512, 'EFI PART'],
  [0, 'XFSB'],
  [0x218, 'LABELONE'],
  [1024 + 0x38, '\x53\xef'],
  [0x8001, 'CD001'],
];

/** Judges one file. Fails only when the file itself cannot be read. @throws VimgError `NOT_FOUND`, `IO` */
export async function judgeImage(
  path: string,
  formats: FormatRegistry,
  options: JobOptions = {},
): Promise<TrustVerdict> {
  const reasons: TrustReason[] = [];
  const format = await tellFormat(path, formats, reasons);
  let virtualSize: number | undefined;
  if (format !== undefined) {
    try {
      virtualSize = await judgeContent(path, format, formats, reasons, options);
    } catch (error) {
      if (!isVimgError(error) || error.code === 'CANCELLED') throw error;
      reasons.push({ code: 'unreadable', message: error.message });
    }
  }
  return {
    filename: path,
    verdict: reasons.length === 0 ? 'accept' : 'reject',
    ...(format === undefined ? {} : { format }),
    ...(virtualSize === undefined ? {} : { virtualSize }),
    reasons,
  };
}

async function tellFormat(
  path: string,
  formats: FormatRegistry,
  reasons: TrustReason[],
): Promise<string | undefined> {
  const file = await openFile(path, { readOnly: true });
  try {
    const head = await readHead(file);
    const claimed = claimedFormats(head, file.size, formats);
    const [name] = claimed;
    if (claimed.length > 1) {
      reasons.push({ code: 'several-formats', message: `The content could be ${claimed.join(' or ')}` });
      return undefined;
    }
    if (name === undefined) {
      if (await looksLikeDisk(file)) return 'raw';
      reasons.push({
        code: 'no-format',
        message: 'No image format, partition table or file system is recognised',
      });
      return undefined;
    }
    if (formats.list().some((driver) => driver.name === name)) return name;
    reasons.push({
      code: 'foreign-format',
      message: `The file is a ${name} image, which this release does not read`,
    });
    return undefined;
  } finally {
    await file.close();
  }
}

async function looksLikeDisk(file: BlockDevice): Promise<boolean> {
  for (const [offset, magic] of DISK_MAGICS) {
    if (offset + magic.length > file.size) continue;
    const bytes = Buffer.alloc(magic.length);
    await file.pread(bytes, offset);
    if (bytes.toString('latin1') === magic) return true;
  }
  return false;
}

async function judgeContent(
  path: string,
  format: string,
  formats: FormatRegistry,
  reasons: TrustReason[],
  options: JobOptions,
): Promise<number> {
  const disk = await DiskImage.open(path, {
    formats,
    format,
    gate: closedGate,
    lock: false,
    backing: false,
    infoOnly: true,
  });
  try {
    const info = await disk.top.info();
    const { backing } = disk.top;
    if (backing) reasons.push({ code: 'backing-file', message: `It stands on '${printable(backing.path)}'` });
    if (info.dataFile !== undefined) {
      reasons.push({ code: 'data-file', message: `Its data are in '${printable(info.dataFile)}'` });
    }
    if (info.encrypted) reasons.push({ code: 'encrypted', message: 'It is encrypted' });
    if (disk.virtualSize > SIZE_MAX) {
      reasons.push({ code: 'huge', message: `It claims ${disk.virtualSize} bytes: more than any disk has` });
    }
    await runCheck(path, format, formats, reasons, options);
    return disk.virtualSize;
  } finally {
    await disk.close();
  }
}

async function runCheck(
  path: string,
  format: string,
  formats: FormatRegistry,
  reasons: TrustReason[],
  options: JobOptions,
): Promise<void> {
  const driver = formats.get(format);
  if (!driver.check) return;
  const file = await openFile(path, { readOnly: true });
  try {
    const report = await driver.check(file, options.signal === undefined ? {} : { signal: options.signal });
    if (report.corruptions > 0 || report.checkErrors > 0) {
      const first = report.findings.find((finding) => finding.severity === 'corruption');
      const count = report.corruptions + report.checkErrors;
      reasons.push({
        code: 'damaged',
        message: `${count} errors, the first: ${first?.message ?? 'unreadable metadata'}`,
      });
    } else if (report.leaks > 0) {
      reasons.push({
        code: 'leaks',
        message: `${report.leaks} clusters are taken by nothing: content may hide there`,
      });
    }
  } finally {
    await file.close();
  }
}
