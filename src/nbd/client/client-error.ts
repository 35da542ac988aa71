/** What an NBD error value means as an error of vimg, and the other way to fail: the connection. */
import { type ErrorCode, VimgError } from '../../base/errors.ts';
import { NBD_EINVAL, NBD_ENOSPC, NBD_ENOTSUP, NBD_EOVERFLOW, NBD_EPERM } from '../protocol.ts';

const NBD_EIO = 5;
const NBD_ENOMEM = 12;
const NBD_ESHUTDOWN = 108;

/** "Error values" of the protocol: code and words. Others are taken for EINVAL, as it asks. */
const MEANINGS: ReadonlyMap<number, readonly [ErrorCode, string]> = new Map([
  [NBD_EPERM, ['READ_ONLY', 'The server does not permit it']],
  [NBD_EIO, ['IO', 'Input/output error at the server']],
  [NBD_ENOMEM, ['LIMIT', 'The server has no memory for it']],
  [NBD_EINVAL, ['IO', 'The server takes it for an invalid request']],
  [NBD_ENOSPC, ['NO_SPACE', 'No space left at the server']],
  [NBD_EOVERFLOW, ['LIMIT', 'The server takes it for too large']],
  [NBD_ENOTSUP, ['UNSUPPORTED', 'The server does not support it']],
  [NBD_ESHUTDOWN, ['IO', 'The server is shutting down']],
]);

/** @param message what the server said besides, if anything; it is not trusted, only shown */
export function errorOfReply(
  value: number,
  op: string,
  path: string,
  offset: number,
  message = '',
): VimgError {
  const [code, words] = MEANINGS.get(value) ?? MEANINGS.get(NBD_EINVAL) ?? ['IO', 'Error'];
  const said = printableMessage(message);
  return new VimgError(code, said === '' ? words : `${words} (${said})`, { op, path, offset });
}

/** The peer broke the protocol. */
export function violation(path: string, what: string): VimgError {
  return new VimgError('IO', `The server does not keep to the NBD protocol: ${what}`, { path });
}

export function printableMessage(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?').slice(0, 200);
}
