/** What both ends of a volume's socket agree on: names, and how values are written as JSON. */
import { ERROR_CODES, type ErrorCode, VimgError } from '../base/errors.ts';
import type { DeviceLimits } from '../device/block-device.ts';
import type { FileStatus } from '../device/file-system.ts';

/** Changes when an old client could misunderstand a new server, or the other way round. */
export const PROTOCOL_VERSION = 2;
/** The first request. */
export const HELLO = 'hello';
/** The server leaves in an orderly way: everything that it answered is durable. */
export const FAREWELL = 'farewell';

/** An open file as its server describes it. */
export interface OpenAnswer {
  readonly handle: number;
  readonly identity: string;
  readonly size: number;
  readonly limits: DeviceLimits;
  readonly readOnly: boolean;
  readonly locked: boolean;
}

type WireStatus = Omit<FileStatus, 'modifiedNs'> & { readonly modifiedNs: string };

export function statusToWire(status: FileStatus): WireStatus {
  return { ...status, modifiedNs: String(status.modifiedNs) };
}

export function statusFromWire(wire: WireStatus): FileStatus {
  return { ...wire, modifiedNs: BigInt(wire.modifiedNs) };
}

export function errorToWire(error: VimgError): Record<string, unknown> {
  return error.toJSON();
}

/** An error arrives as it was thrown: code, place and hint. */
export function errorFromWire(wire: unknown): VimgError {
  const { code, message, op, path, offset, hint } = (wire ?? {}) as Record<string, unknown>;
  const known = typeof code === 'string' && code in ERROR_CODES ? (code as ErrorCode) : 'IO';
  return new VimgError(known, String(message), {
    ...(typeof op === 'string' ? { op } : {}),
    ...(typeof path === 'string' ? { path } : {}),
    ...(typeof offset === 'number' ? { offset } : {}),
    ...(typeof hint === 'string' ? { hint } : {}),
  });
}
