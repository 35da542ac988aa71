/** Real LUNs for tests: loop devices, NBD exports of nbdkit and qemu-storage-daemon, an iSCSI target behind one. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** A LUN that exists until it is stopped. */
export interface Lun {
  /** A path, or a URI. */
  readonly path: string;
  stop(): Promise<void>;
}

const WAIT_MS = 20_000;

export function loopDevice(file: string): Lun {
  const path = execFileSync('losetup', ['--find', '--show', file], { encoding: 'utf8' }).trim();
  return {
    path,
    stop: async () => {
      execFileSync('losetup', ['--detach', path]);
    },
  };
}

/** A file behind nbdkit. */
export async function nbdkitLun(file: string, folder: string): Promise<Lun> {
  const socket = join(folder, 'nbdkit.sock');
  const child = start('nbdkit', ['-f', '-U', socket, '--exit-with-parent', 'file', file]);
  await waitFor(() => listens(socket), child);
  return { path: `nbd+unix:///?socket=${socket}`, stop: () => end(child) };
}

/** Whatever a block driver of QEMU opens, behind qemu-storage-daemon. */
export async function storageDaemonLun(blockdev: string, folder: string): Promise<Lun> {
  const socket = join(folder, 'daemon.sock');
  const child = start('qemu-storage-daemon', [
    ...['--blockdev', `${blockdev},node-name=lun`],
    ...['--nbd-server', `addr.type=unix,addr.path=${socket}`],
    ...['--export', 'type=nbd,id=e,node-name=lun,name=lun,writable=on'],
  ]);
  await waitFor(() => listens(socket), child);
  return { path: `nbd+unix:///lun?socket=${socket}`, stop: () => end(child) };
}

/** A file as LUN 1 of an iSCSI target on the loopback interface, reached through QEMU's initiator. */
export async function iscsiLun(file: string, folder: string): Promise<Lun> {
  const port = await freePort();
  const control = String(1 + (process.pid % 30_000));
  const name = 'iqn.2026-01.test:vimg';
  const admin = (...args: string[]): void => {
    execFileSync('tgtadm', ['-C', control, '--lld', 'iscsi', ...args], { stdio: 'pipe' });
  };
  const target = start('tgtd', ['-f', '-C', control, '--iscsi', `portal=127.0.0.1:${port}`]);
  try {
    await waitFor(() => {
      try {
        admin('--op', 'new', '--mode', 'target', '--tid', '1', '-T', name);
        return true;
      } catch {
        return false; // it does not listen yet
      }
    }, target);
    admin('--op', 'new', '--mode', 'logicalunit', '--tid', '1', '--lun', '1', '-b', file);
    admin('--op', 'bind', '--mode', 'target', '--tid', '1', '-I', 'ALL');
    const portal = `driver=iscsi,transport=tcp,portal=127.0.0.1:${port},target=${name},lun=1`;
    const lun = await storageDaemonLun(portal, folder);
    return {
      path: lun.path,
      stop: async () => {
        await lun.stop();
        await end(target);
      },
    };
  } catch (error) {
    await end(target);
    throw error;
  }
}

function start(program: string, args: readonly string[]): ChildProcess {
  return spawn(program, args, { stdio: 'ignore' });
}

/** Whether somebody listens there: a socket is in the folder before that. */
async function listens(path: string): Promise<boolean> {
  const socket = connect(path);
  const found = await new Promise<boolean>((resolve) => {
    socket.once('connect', () => resolve(true));
    socket.once('error', () => resolve(false));
  });
  socket.destroy();
  return found;
}

async function waitFor(ready: () => boolean | Promise<boolean>, child: ChildProcess): Promise<void> {
  const deadline = performance.now() + WAIT_MS;
  while (!(await ready())) {
    if (child.exitCode !== null) throw new Error(`${child.spawnfile} ended with ${child.exitCode}`);
    if (performance.now() > deadline) throw new Error(`${child.spawnfile} does not answer`);
    await sleep(20);
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL'); // tgtd ignores a friendly signal while it has a target
  await ended;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === 'object' && address ? address.port : 0;
}
