/** `vimg serve`: disks for virtual machines and other NBD clients, until it is told to stop. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { isVimgError, VimgError } from '../../base/errors.ts';
import { replaceFile } from '../../host/atomic-file.ts';
import { ACTIVATION_VARIABLES, passedSockets } from '../../host/socket-activation.ts';
import type { DiskImage } from '../../image/disk-image.ts';
import { type Export, exportDisk } from '../../nbd/export.ts';
import {
  inheritedAddress,
  isPublic,
  type ListenAddress,
  LOOPBACK,
  NBD_PORT,
  parseTcpAddress,
  unixAddress,
} from '../../nbd/listen-address.ts';
import { NbdServer } from '../../nbd/server.ts';
import { DEFAULT_LIMITS } from '../../nbd/server-limits.ts';
import type { ServerTls } from '../../nbd/tls-server.ts';
import type { MetricsServer } from '../../serving/metrics-server.ts';
import type { ServingStatistics } from '../../serving/protocol.ts';
import { runCaptive } from '../captive-command.ts';
import { usage } from '../command-line.ts';
import { describeError } from '../error-report.ts';
import { type Access, type AccessOptions, accessOf, openDisk } from '../open-disk.ts';
import { servingStatistics, startControl } from '../serving-control.ts';
import { watchSpace } from '../space-watch.ts';
import { ALLOW_OPTION, type Context, defineVerb, repeated, type Verb } from '../verb.ts';

interface Options extends AccessOptions {
  readonly socket?: string;
  readonly listen?: string;
  readonly readOnly?: boolean;
  readonly name?: readonly string[];
  readonly run?: string;
  readonly pidFile?: string;
  readonly snapshot?: string;
  readonly shared?: string;
  readonly onFull?: string;
  readonly metrics?: string;
  readonly tls?: string;
}

/** More sockets than this no process of ours should hold. */
const CONNECTIONS_MAX = 10_000;

export const verb: Verb = defineVerb<Options>({
  name: 'serve',
  summary: 'serve disks to virtual machines, over NBD',
  operands: 'DISK…',
  details:
    'The disks are locked and can be written until the tool is ended (Ctrl-C, SIGTERM): then what clients were told ' +
    'is done is made durable, however long that takes; a second signal cuts it off. One disk is the default export; of several, each has the name of its file. Without ' +
    'an address it listens at 127.0.0.1:10809; with --run, at a socket that only the command knows; started by a ' +
    'service manager that passes sockets (systemd), at those. Without --tls there is no ' +
    'encryption and no password: who reaches the socket reads and writes the disks.',
  examples: [
    'serve disk.vvd --socket /run/vm1.sock',
    'serve --read-only golden.vvd',
    `serve disk.vvd --run 'qemu-system-x86_64 -drive file="$uri",format=raw,if=virtio'`,
  ],
  options: [
    ['-f, --format <format>', 'format of the disks; raw disks must be named so'],
    ['-s, --socket <path>', 'listen at this Unix socket; its mode is 0600'],
    ['-l, --listen <address>', 'listen at this TCP address: host:port'],
    ['-r, --read-only', 'clients may only read'],
    ['-n, --name <name>', 'name of the export; with several disks, once for each, in their order', repeated],
    ['--snapshot <name>', 'serve the disks as they were at this snapshot, to read only'],
    ['-e, --shared <number>', 'connections at once, of all clients together; 0 or nothing: 256'],
    ['--on-full <way>', 'when storage is full: pause writers until there is space (default), or error'],
    [
      '--tls <folder>',
      'require TLS: with server-cert.pem, server-key.pem, ca-cert.pem (of the clients too), or with keys.psk',
    ],
    ['--metrics <address>', 'statistics for Prometheus at http://ADDRESS/metrics; address: host:port'],
    ['--run <command>', 'run a command with $uri (and $uri1, $uri2…) set; serve as long as it runs'],
    ['--pid-file <path>', 'write the process ID here once clients can connect'],
    ALLOW_OPTION,
  ],
  endIsWaitedFor: true,
  async run(context, operands, options) {
    if (operands.length === 0) throw usage('Expecting the disks to serve');
    const names = exportNames(operands, options.name);
    const watch = watchSpace(context, operands, options.onFull);
    const folder = await privateFolder(options);
    try {
      return await serve(context, operands, names, addressesOf(context, options, folder), options);
    } finally {
      await watch.close();
      if (folder !== undefined) await rm(folder, { recursive: true, force: true });
    }
  },
});

/** A folder of our own for the socket, when only the command of `--run` needs to know it. */
async function privateFolder(options: Options): Promise<string | undefined> {
  const isPrivate = options.run !== undefined && options.socket === undefined && options.listen === undefined;
  return isPrivate ? mkdtemp(join(tmpdir(), 'vimg-')) : undefined;
}

function addressesOf(
  { environment }: Context,
  { socket, listen }: Options,
  folder: string | undefined,
): ListenAddress[] {
  if (socket !== undefined && listen !== undefined) {
    throw usage('--socket and --listen cannot be used together');
  }
  const passed = passedSockets(environment).map(inheritedAddress);
  if (passed.length > 0) {
    if (socket === undefined && listen === undefined) return passed;
    throw usage('The service manager says where to listen: leave out --socket and --listen');
  }
  if (socket !== undefined) return [unixAddress(resolve(socket))];
  if (listen !== undefined) return [parseTcpAddress(listen)];
  return [folder === undefined ? { host: LOOPBACK, port: NBD_PORT } : unixAddress(join(folder, 'nbd.sock'))];
}

async function serverTls({ tls }: Options): Promise<ServerTls | undefined> {
  if (tls === undefined) return undefined;
  const { readServerTls } = await import('../../nbd/tls-server.ts');
  return readServerTls(tls, DEFAULT_LIMITS.handshakeMs);
}

async function startMetrics(
  { terminal, program }: Context,
  address: string | undefined,
  statistics: () => ServingStatistics,
): Promise<MetricsServer | undefined> {
  if (address === undefined) return undefined;
  const { MetricsServer } = await import('../../serving/metrics-server.ts');
  const server = await MetricsServer.listen(parseTcpAddress(address), statistics);
  const { host, port } = server.address;
  terminal.note(`${program}: metrics at http://${host.includes(':') ? `[${host}]` : host}:${port}/metrics`);
  return server;
}

/** How many connections there may be: QEMU's `--shared`. */
function connectionLimit({ shared = '0' }: Options): number {
  const count = /^[0-9]{1,5}$/.test(shared) ? Number(shared) : Number.NaN;
  if (!(count <= CONNECTIONS_MAX)) {
    throw usage(`'${shared}' is not a number of connections`, `it is 0 to ${CONNECTIONS_MAX}`);
  }
  return count === 0 ? DEFAULT_LIMITS.connections : count;
}

function exportNames(disks: readonly string[], given: readonly string[] | undefined): string[] {
  if (given === undefined) return disks.length === 1 ? [''] : disks.map((disk) => basename(disk));
  if (given.length !== disks.length) {
    throw usage(
      `There are ${disks.length} disks, but ${given.length} names`,
      'give --name once for each disk',
    );
  }
  return [...given];
}

async function serve(
  context: Context,
  operands: readonly string[],
  names: readonly string[],
  addresses: readonly ListenAddress[],
  options: Options,
): Promise<number> {
  const disks: DiskImage[] = [];
  const limits = { connections: connectionLimit(options) };
  try {
    const exports: Export[] = [];
    for (const [index, operand] of operands.entries()) {
      const disk = await openServed(context, operand, accessOf(context, options, operands), options);
      disks.push(disk);
      exports.push(exportDisk(disk, names[index] as string));
    }
    const tls = await serverTls(options);
    const server = await NbdServer.listen(addresses, { exports, limits, tls, onError: tellOnce(context) });
    const statistics = (): ServingStatistics => servingStatistics(server, exports, disks);
    const control = await startControl(context, disks, statistics);
    let metrics: MetricsServer | undefined;
    try {
      metrics = await startMetrics(context, options.metrics, statistics);
      return await whileServing(context, server, names, options);
    } finally {
      await Promise.all([server.close(), control.close(), metrics?.close()]);
    }
  } finally {
    await closeAll(disks);
  }
}

/** What can only be read is told how it can be served. */
async function openServed(
  context: Context,
  name: string,
  access: Access,
  { format, snapshot, readOnly = false }: Options,
): Promise<DiskImage> {
  try {
    return await openDisk(context, name, access, {
      format,
      snapshot,
      readOnly,
      blocking: false,
      trusts: 'serve',
    });
  } catch (error) {
    if (readOnly || !isVimgError(error) || error.op !== 'open for writing') throw error;
    const hint = `${error.hint ?? ''}; or serve it as it is, with --read-only`;
    throw new VimgError(error.code, error.message, { op: error.op, path: name, hint, cause: error });
  }
}

async function whileServing(
  context: Context,
  server: NbdServer,
  names: readonly string[],
  options: Options,
): Promise<number> {
  const { terminal, signal } = context;
  const { pidFile, run } = options;
  if (options.tls === undefined && server.addresses.some(isPublic)) {
    terminal.note(`${context.program}: warning: every machine that reaches this address can use the disks`);
  }
  const uris = names.map((name) => server.uri(name));
  if (run === undefined) {
    for (const uri of uris) terminal.line(uri);
    terminal.flush();
  }
  if (pidFile !== undefined) await replaceFile(pidFile, `${process.pid}\n`);
  try {
    if (run === undefined) await aborted(signal);
    else return await runCaptive(run, { ...environmentOf(context), ...variablesOf(uris) }, signal);
    return 0;
  } finally {
    if (pidFile !== undefined) await rm(pidFile, { force: true });
  }
}

/** What a command of ours inherits: sockets that were passed to us are not its. */
function environmentOf({ environment }: Context): Context['environment'] {
  const inherited = { ...environment };
  for (const name of ACTIVATION_VARIABLES) delete inherited[name];
  return inherited;
}

function variablesOf(uris: readonly string[]): Record<string, string> {
  const numbered = uris.map((uri, index) => [`uri${index + 1}`, uri] as const);
  return { ...Object.fromEntries(numbered), uri: uris[0] as string };
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((done) => signal.addEventListener('abort', () => done(), { once: true }));
}

/** Errors of a disk go to stderr, each kind of a file once: a client that tries again and again fills no log. */
function tellOnce({ program, terminal }: Context): (error: VimgError) => void {
  const told = new Set<string>();
  return (error) => {
    const kind = `${error.code} ${error.path}`;
    if (told.has(kind)) return;
    told.add(kind);
    terminal.note(`${program}: ${describeError(error)}`);
  };
}

/** Flushes, closes and unlocks every disk, also when another one fails. */
async function closeAll(disks: readonly DiskImage[]): Promise<void> {
  const results = await Promise.allSettled(disks.map((disk) => disk.close()));
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}
