/**
 * Sockets that a service manager made and passed on: systemd's protocol of `LISTEN_FDS` (sd_listen_fds(3)).
 *
 * The descriptors begin at 3. `LISTEN_PID` says for which process they are meant: a child of that process inherits
 * the variables, but not the sockets.
 */
import { fstatSync, readFileSync, readlinkSync } from 'node:fs';
import { VimgError } from '../base/errors.ts';

const FIRST_DESCRIPTOR = 3;
/** Sockets of one service; systemd itself stops far below. */
const DESCRIPTORS_MAX = 64;
/** Flag of a socket that listens, in /proc/net/unix (`__SO_ACCEPTCON`). */
const ACCEPTS = 0x1_0000;

export interface PassedSocket {
  readonly fd: number;
  /** As the service manager calls it (`FileDescriptorName=`). */
  readonly name: string;
  /** The path of a Unix socket; undefined for one of TCP. */
  readonly socketPath: string | undefined;
}

/** The variables of the protocol, which children must not see. */
export const ACTIVATION_VARIABLES = ['LISTEN_FDS', 'LISTEN_PID', 'LISTEN_FDNAMES'] as const;

/**
 * The sockets that were passed to this process; none where nobody passed any.
 *
 * @throws VimgError `USAGE` for numbers that are none, and for a descriptor that is no socket to listen at
 */
export function passedSockets(environment: Readonly<Record<string, string | undefined>>): PassedSocket[] {
  const { LISTEN_PID, LISTEN_FDS = '', LISTEN_FDNAMES = '' } = environment;
  if (LISTEN_PID !== String(process.pid)) return [];
  const count = /^[0-9]{1,4}$/.test(LISTEN_FDS) ? Number(LISTEN_FDS) : Number.NaN;
  if (!(count <= DESCRIPTORS_MAX)) {
    throw new VimgError('USAGE', `LISTEN_FDS is '${LISTEN_FDS}', which is no number of sockets`, {
      hint: `a service manager sets it; up to ${DESCRIPTORS_MAX} are taken`,
    });
  }
  const names = LISTEN_FDNAMES.split(':');
  return Array.from({ length: count }, (_, index) => {
    const name = names[index];
    return describe(FIRST_DESCRIPTOR + index, name === undefined || name === '' ? 'unknown' : name);
  });
}

function describe(fd: number, name: string): PassedSocket {
  const inode = socketInode(fd);
  if (inode === undefined) throw notListening(fd, name, 'is no socket');
  const unix = unixSocket(inode);
  if (unix && !unix.listens) throw notListening(fd, name, 'is a socket that does not listen');
  return { fd, name, socketPath: unix?.path };
}

function notListening(fd: number, name: string, what: string): VimgError {
  return new VimgError('USAGE', `Descriptor ${fd} ('${name}'), passed by LISTEN_FDS, ${what}`, {
    hint: 'set ListenStream= in the socket unit, and Accept=no',
  });
}

function socketInode(fd: number): string | undefined {
  try {
    if (!fstatSync(fd).isSocket()) return undefined;
    return /^socket:\[([0-9]+)\]$/.exec(readlinkSync(`/proc/self/fd/${fd}`))?.[1];
  } catch {
    return undefined; // closed: nobody passed it
  }
}

/** A line of /proc/net/unix: address, references, protocol, flags, type, state, inode, path (proc_net_unix(5)). */
function unixSocket(inode: string): { path: string; listens: boolean } | undefined {
  for (const line of readFileSync('/proc/net/unix', 'utf8').split('\n')) {
    const [, , , flags = '', , , number, path = ''] = line.trim().split(/ +/);
    if (number === inode) return { path, listens: (Number.parseInt(flags, 16) & ACCEPTS) !== 0 };
  }
  return undefined;
}
