/** The first exchange on a control socket: who is there, and whether both speak the same. */
import { VimgError } from '../base/errors.ts';

const PROTOCOL = 'vimg-control';
/** Changes when an old client could misunderstand a new server, or the other way round. */
const VERSION = 1;

/** The first request; every other one is refused before it. */
export const HELLO = 'hello';

/** What each side says of itself. */
export interface Hello {
  readonly protocol: string;
  readonly version: number;
  readonly pid: number;
}

export function ownHello(): Hello {
  return { protocol: PROTOCOL, version: VERSION, pid: process.pid };
}

/** @throws VimgError `UNSUPPORTED` for another protocol or version */
export function checkHello(value: unknown): Hello {
  const { protocol, version, pid } = (value ?? {}) as Partial<Hello>;
  if (protocol === PROTOCOL && version === VERSION) return { protocol, version, pid: Number(pid) };
  const other = protocol === PROTOCOL ? `version ${version} of the control protocol` : 'something else';
  throw new VimgError('UNSUPPORTED', `The other process speaks ${other}, this one version ${VERSION}`, {
    op: 'talk to the process that has the disk',
    hint: 'it runs another version of vimg: use that one, or start it anew with this one',
  });
}
