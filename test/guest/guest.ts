/** A virtual machine: QEMU without hardware help, a disk over NBD, a shell at a serial port, QMP. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { BUILT_TOOL } from '../cli/session.ts';
import { requireTool } from '../reference-tools.ts';
import { initialFileSystem } from './initial-file-system.ts';

const ROOT = resolve(import.meta.dirname, '../..');
/** Under TCG, on a busy machine. */
const BOOT_MS = 120_000;

/** Says whether to skip tests that boot a guest. @throws Error under CI when something is missing */
export function requireGuestTools(): boolean {
  return requireTool('qemu-system-x86_64', 'busybox', 'mke2fs', 'e2fsck', 'debugfs', 'dpkg');
}

/** Files that every guest boots from. */
export interface BootFiles {
  readonly kernel: string;
  readonly initialFileSystem: string;
}

/** Fetches a kernel on the first use ($VIMG_GUEST_KERNEL, or the user's cache), and packs what the guest starts with. */
export function bootFiles(folder: string): BootFiles {
  const { VIMG_GUEST_KERNEL: given, XDG_CACHE_HOME: cache = join(homedir(), '.cache') } = process.env;
  const unpacked = given ?? join(cache, 'vimg-guest');
  execFileSync(join(ROOT, '.ci/guest-kernel'), [unpacked], { stdio: ['ignore', 'ignore', 'inherit'] });
  const boot = join(unpacked, 'boot');
  const kernel = join(boot, readdirSync(boot).find((name) => name.startsWith('vmlinuz-')) as string);
  const archive = join(folder, 'initial.cpio');
  writeFileSync(archive, initialFileSystem(unpacked));
  return { kernel, initialFileSystem: archive };
}

/** A line-wise conversation over a Unix socket. */
class Lines {
  readonly #socket: Socket;
  #text = '';
  #wake: () => void = () => undefined;
  #ended = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (chunk) => {
      this.#text += chunk.toString('latin1');
      this.#wake();
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.#ended = true;
      this.#wake();
    });
  }

  static async connect(path: string): Promise<Lines> {
    for (let left = BOOT_MS; left > 0; left -= 50) {
      const socket = await new Promise<Socket | undefined>((done) => {
        const opening = connect(path);
        opening.once('connect', () => done(opening));
        opening.once('error', () => done(undefined));
      });
      if (socket) return new Lines(socket);
      await delay(50);
    }
    throw new Error(`nobody listens at ${path}`);
  }

  send(line: string): void {
    this.#socket.write(`${line}\n`);
  }

  /** The next line. @throws Error when the other side is gone */
  async next(): Promise<string> {
    for (;;) {
      const end = this.#text.indexOf('\n');
      if (end >= 0) {
        const line = this.#text.slice(0, end);
        this.#text = this.#text.slice(end + 1);
        return line.replace(/\r$/, '');
      }
      if (this.#ended) throw new Error('the guest is gone');
      await new Promise<void>((done) => {
        this.#wake = done;
      });
    }
  }
}

export class Guest {
  readonly server: ChildProcess;
  /** The exit status of `vimg serve`, or the signal that ended it. */
  readonly ended: Promise<number | string | null>;
  /** Where its sockets are. */
  readonly folder: string;
  readonly #shell: Lines;
  readonly #monitor: Lines;

  private constructor(
    server: ChildProcess,
    ended: Guest['ended'],
    folder: string,
    shell: Lines,
    monitor: Lines,
  ) {
    this.server = server;
    this.ended = ended;
    this.folder = folder;
    this.#shell = shell;
    this.#monitor = monitor;
  }

  /** Serves the disk to a new QEMU, and waits for its shell. */
  static async boot(
    disk: string,
    boot: BootFiles,
    folder: string,
    environment: NodeJS.ProcessEnv,
  ): Promise<Guest> {
    const at = (name: string): string => join(folder, name);
    const qemu = [
      'exec qemu-system-x86_64 -nodefaults -display none -no-reboot -accel tcg -m 256',
      `-kernel ${boot.kernel} -initrd ${boot.initialFileSystem} -append "console=ttyS0 quiet panic=-1 nokaslr"`,
      `-blockdev driver=nbd,node-name=nbd0,server.type=unix,server.path=${at('nbd.sock')},discard=unmap`,
      '-blockdev driver=raw,node-name=disk,file=nbd0,discard=unmap -device virtio-blk-pci,drive=disk',
      `-serial file:${at('console.log')} -chardev socket,id=shell,path=${at('shell.sock')},server=on,wait=off`,
      `-serial chardev:shell -qmp unix:${at('qmp.sock')},server=on,wait=off -pidfile ${at('qemu.pid')}`,
    ].join(' ');
    const args = [BUILT_TOOL, 'serve', disk, '--socket', at('nbd.sock'), '--run', qemu];
    const server = spawn(process.execPath, args, {
      stdio: ['ignore', 'inherit', 'inherit'],
      cwd: folder,
      env: environment,
    });
    const ended = new Promise<number | string | null>((done) => {
      server.once('exit', (code, signal) => done(code ?? signal));
    });
    const [shell, monitor] = [await Lines.connect(at('shell.sock')), await Lines.connect(at('qmp.sock'))];
    const guest = new Guest(server, ended, folder, shell, monitor);
    await guest.#answer();
    await guest.monitor('qmp_capabilities');
    return guest;
  }

  /** Runs a command line in the guest. @returns what it printed. @throws Error when it failed */
  async run(command: string): Promise<string> {
    this.#shell.send(command);
    const { lines, status } = await this.#answer();
    if (status !== 0) throw new Error(`${command}: exit status ${status}\n${lines.join('\n')}`);
    return lines.join('\n');
  }

  /** Starts a command line in the guest that goes on beside others; `$job` is its process. It prints nothing. */
  async start(command: string): Promise<void> {
    await this.run(`(${command}) > /dev/null 2>&1 & job=$!`);
  }

  /** Lets the file system's journal be replayed, and looks through everything. @throws Error when anything is wrong */
  async fileSystemIsClean(): Promise<void> {
    await this.run('e2fsck -p /dev/vda || [ $? -eq 1 ]');
    await this.run('e2fsck -fn /dev/vda');
  }

  /** Counts in `/mnt/counter` from now on: each number is synced before the next one begins, and told. */
  async startCounting(): Promise<void> {
    await this.start(
      'i=0; while :; do i=$((i+1)); echo $i > /mnt/counter; sync; echo $i > /tmp/new; mv /tmp/new /tmp/synced; done',
    );
  }

  /** Waits until more than this many were synced. @returns how many were */
  async counted(above: number): Promise<number> {
    const wait = `until [ -f /tmp/synced ] && [ $(cat /tmp/synced) -gt ${above} ]; do sleep 0.1; done`;
    return Number(await this.run(`${wait}; cat /tmp/synced`));
  }

  async #answer(): Promise<{ lines: string[]; status: number }> {
    const lines: string[] = [];
    for (;;) {
      const line = await this.#shell.next();
      const status = /^@ (\d+)$/.exec(line)?.[1];
      if (status !== undefined) return { lines, status: Number(status) };
      lines.push(line);
    }
  }

  /** A command of QMP. @throws Error when it failed */
  async monitor(execute: string, parameters: object = {}): Promise<unknown> {
    this.#monitor.send(JSON.stringify({ execute, arguments: parameters }));
    for (;;) {
      const answer = JSON.parse(await this.#monitor.next()) as Record<string, unknown>;
      if (answer['error'] !== undefined) throw new Error(`${execute}: ${JSON.stringify(answer['error'])}`);
      if ('return' in answer) return answer['return'];
    }
  }

  /** kill -9 of QEMU. Resolves when the server has ended too. */
  async kill(): Promise<void> {
    const pidFile = join(this.folder, 'qemu.pid');
    if (existsSync(pidFile)) {
      try {
        process.kill(Number(readFileSync(pidFile, 'latin1')), 'SIGKILL');
      } catch {
        // it is gone already
      }
    }
    await this.ended;
  }
}
