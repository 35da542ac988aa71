/** What a request must be like ("Command flags", "Request types", "Error values"), before anything is done for it. */
import { type Export, zeroesFast } from './export.ts';
import type { Session } from './handshake.ts';
import type { MetadataContext } from './metadata-context.ts';
import {
  CMD_BLOCK_STATUS,
  CMD_CACHE,
  CMD_FLAG_DF,
  CMD_FLAG_FAST_ZERO,
  CMD_FLAG_FUA,
  CMD_FLAG_NO_HOLE,
  CMD_FLAG_PAYLOAD_LEN,
  CMD_FLAG_REQ_ONE,
  CMD_FLUSH,
  CMD_READ,
  CMD_TRIM,
  CMD_WRITE,
  CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_ENOSPC,
  NBD_ENOTSUP,
  NBD_EOVERFLOW,
  NBD_EPERM,
} from './protocol.ts';
import type { Request } from './request.ts';
import { PAYLOAD_MAX } from './server-limits.ts';

/** Flags that each command takes, by its number. FUA is taken by all. */
const FLAGS_OF_COMMAND: readonly (number | undefined)[] = flagTable();

function flagTable(): (number | undefined)[] {
  const table: (number | undefined)[] = [];
  table[CMD_READ] = CMD_FLAG_FUA | CMD_FLAG_DF;
  table[CMD_WRITE] = CMD_FLAG_FUA;
  table[CMD_FLUSH] = CMD_FLAG_FUA;
  table[CMD_TRIM] = CMD_FLAG_FUA;
  table[CMD_CACHE] = CMD_FLAG_FUA;
  table[CMD_WRITE_ZEROES] = CMD_FLAG_FUA | CMD_FLAG_NO_HOLE | CMD_FLAG_FAST_ZERO;
  table[CMD_BLOCK_STATUS] = CMD_FLAG_FUA | CMD_FLAG_REQ_ONE;
  return table;
}

/** The error value for a request that must not be done; 0 when it may. */
export function refusal(request: Request, session: Session): number {
  const { type, flags, length } = request;
  const { served } = session;
  const known = FLAGS_OF_COMMAND[type];
  if (known === undefined || (flags & ~known & ~payloadFlag(type, session)) !== 0) return NBD_EINVAL;
  const writes = type === CMD_WRITE || type === CMD_TRIM || type === CMD_WRITE_ZEROES;
  if (writes && served.device.readOnly) return NBD_EPERM;
  const hasPayload = (flags & CMD_FLAG_PAYLOAD_LEN) !== 0;
  if (type === CMD_WRITE && session.replies === 'extended' && !hasPayload) return NBD_EINVAL;
  if (type === CMD_BLOCK_STATUS && hasPayload) return payloadSizeRefusal(request, session);
  if (type === CMD_FLUSH) return request.offset === 0 && length === 0 ? 0 : NBD_EINVAL;
  const outside = outsideRefusal(request, served);
  if (outside !== 0) return outside;
  if (type === CMD_READ) return readRefusal(request, session);
  if (type === CMD_WRITE) return length > PAYLOAD_MAX ? NBD_EINVAL : 0;
  if (type === CMD_BLOCK_STATUS) return session.contexts.length === 0 || length === 0 ? NBD_EINVAL : 0;
  if (type === CMD_WRITE_ZEROES && (flags & CMD_FLAG_FAST_ZERO) !== 0) {
    // Zeroing that keeps space taken may have to write; nobody can tell in advance.
    const fast = (flags & CMD_FLAG_NO_HOLE) === 0 && zeroesFast(served, request.offset, length);
    return fast ? 0 : NBD_ENOTSUP;
  }
  return 0;
}

/** PAYLOAD_LEN, where the command may have it. */
function payloadFlag(type: number, { replies }: Session): number {
  return replies === 'extended' && (type === CMD_WRITE || type === CMD_BLOCK_STATUS)
    ? CMD_FLAG_PAYLOAD_LEN
    : 0;
}

/** Payload of BLOCK_STATUS: the length of the range, then the numbers of one or more contexts, none twice. */
const EFFECT_LENGTH_BYTES = 8;
const CONTEXT_BYTES = 4;

function payloadSizeRefusal({ payloadLength }: Request, { contexts }: Session): number {
  const count = (payloadLength - EFFECT_LENGTH_BYTES) / CONTEXT_BYTES;
  return Number.isInteger(count) && count >= 1 && count <= contexts.length ? 0 : NBD_EINVAL;
}

/** Reads the payload of a BLOCK_STATUS into the request. The error value when it asks for what must not be done. */
export function statusPayloadRefusal(request: Request, session: Session): number {
  const payload = request.payload as Buffer;
  request.length = Number(payload.readBigUInt64BE(0));
  const asked: MetadataContext[] = [];
  for (let at = EFFECT_LENGTH_BYTES; at < payload.length; at += CONTEXT_BYTES) {
    const id = payload.readUInt32BE(at);
    const context = session.contexts.find((each) => each.id === id);
    if (context === undefined || asked.includes(context)) return NBD_EINVAL;
    asked.push(context);
  }
  request.contexts = asked;
  return request.length === 0 ? NBD_EINVAL : outsideRefusal(request, session.served);
}

function outsideRefusal({ type, offset, length }: Request, { device }: Export): number {
  if (offset + length > device.size) {
    return type === CMD_WRITE || type === CMD_WRITE_ZEROES ? NBD_ENOSPC : NBD_EINVAL;
  }
  const { alignment } = device.limits;
  return alignment > 1 && (offset % alignment !== 0 || length % alignment !== 0) ? NBD_EINVAL : 0;
}

function readRefusal({ flags, length }: Request, { replies }: Session): number {
  if ((flags & CMD_FLAG_DF) !== 0 && replies === 'simple') return NBD_EINVAL;
  if (length <= PAYLOAD_MAX) return 0;
  return replies === 'simple' ? NBD_EINVAL : NBD_EOVERFLOW;
}
