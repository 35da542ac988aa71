/** An export: a device under a name, with what NBD can say about it beyond a device. */
import { roundUp } from '../base/size.ts';
import type { BlockDevice } from '../device/block-device.ts';
import type { DiskImage } from '../image/disk-image.ts';
import { diskContexts, type StatusSource } from './metadata-context.ts';
import {
  SEND_BLOCK_STATUS_PAYLOAD,
  SEND_CACHE,
  SEND_DF,
  SEND_FAST_ZERO,
  SEND_FLUSH,
  SEND_FUA,
  SEND_HAS_FLAGS,
  SEND_MULTI_CONN,
  SEND_READ_ONLY,
  SEND_TRIM,
  SEND_WRITE_ZEROES,
} from './protocol.ts';
import type { ReplyFormat } from './reply-writer.ts';
import { RequestStatistics } from './request-statistics.ts';
import { PAYLOAD_MAX } from './server-limits.ts';

export interface Export {
  /** As clients ask for it; empty for the default export. At most 4096 bytes. */
  readonly name: string;
  /** For people. */
  readonly description?: string;
  readonly device: BlockDevice;
  /** Ranges aligned to this are zeroed faster than they are written; 0 when nothing is known. */
  readonly fastZeroUnit: number;
  /** Metadata contexts besides `base:allocation`; asked for by each client that negotiates. */
  readonly moreContexts?: () => StatusSource[];
  /** Told of every request. */
  readonly statistics?: RequestStatistics;
}

/** The constraints that INFO_BLOCK_SIZE announces ("Size constraints"). Bytes. */
export interface BlockSizes {
  readonly minimum: number;
  readonly preferred: number;
  readonly maximum: number;
}

const PREFERRED_BLOCK = 4096;

/** An export of a disk image: with what its chain tells, and zeroing that is known to be fast. */
export function exportDisk(disk: DiskImage, name: string, description?: string): Export {
  const { writer, file } = disk.top;
  const punches = file.limits.discardGranularity;
  return {
    name,
    ...(description === undefined ? {} : { description }),
    device: disk,
    // Where the host punches no holes, a raw file is zeroed by writing.
    fastZeroUnit: writer === undefined || punches === 0 ? 0 : roundUp(writer.zeroUnit, punches),
    moreContexts: () => diskContexts(disk),
    statistics: new RequestStatistics(),
  };
}

/**
 * What the server can do with this export, as "Transmission flags" say it.
 *
 * CAN_MULTI_CONN holds because every connection works on the one device, whose flush covers every write that
 * completed before it, whichever connection it came from.
 */
export function transmissionFlags(served: Export, replies: ReplyFormat, hasContexts: boolean): number {
  const always = SEND_HAS_FLAGS | SEND_FLUSH | SEND_FUA | SEND_MULTI_CONN | SEND_CACHE;
  const writing = served.device.readOnly ? SEND_READ_ONLY : SEND_TRIM | SEND_WRITE_ZEROES | SEND_FAST_ZERO;
  const inChunks = replies === 'simple' ? 0 : SEND_DF;
  const filtered = replies === 'extended' && hasContexts ? SEND_BLOCK_STATUS_PAYLOAD : 0;
  return always | writing | inChunks | filtered;
}

export function blockSizes(served: Export): BlockSizes {
  const minimum = served.device.limits.alignment;
  return { minimum, preferred: Math.max(minimum, PREFERRED_BLOCK), maximum: PAYLOAD_MAX };
}

/** Whether zeroing this range takes less than writing it. */
export function zeroesFast(served: Export, offset: number, length: number): boolean {
  const { fastZeroUnit: unit, device } = served;
  if (unit === 0 || offset % unit !== 0) return false;
  return length % unit === 0 || offset + length === device.size;
}
