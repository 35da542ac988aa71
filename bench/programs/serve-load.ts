/**
 * One server under one load: `serve-load SPEC`, SPEC being a {@link ServeLoad} as JSON. Starts the server, brings its
 * image into the host's cache, lets fio work, and prints what came of it as a {@link LoadResult}.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { VimgError } from '../../src/base/errors.ts';

/** What stands for the socket in the arguments of a server. */
const SOCKET = '$socket';
const START_MS = 10_000;

interface ServeLoad {
  readonly program: string;
  readonly args: readonly string[];
  /** Read once before the load. */
  readonly image: string;
  readonly fio: readonly string[];
}

interface FioSide {
  readonly total_ios: number;
  readonly iops: number;
  readonly clat_ns: { readonly percentile: Readonly<Record<string, number>> };
}

interface FioOutput {
  readonly jobs: readonly { readonly read: FioSide; readonly write: FioSide }[];
}

const load = JSON.parse(process.argv[2] ?? '{}') as ServeLoad;
const folder = mkdtempSync(join(tmpdir(), 'vimg-load-'));
try {
  await run(join(folder, 'nbd.sock'));
} finally {
  rmSync(folder, { recursive: true, force: true });
}

async function run(socket: string): Promise<void> {
  const args = load.args.map((each) => (each === SOCKET ? socket : each));
  const server = spawn(load.program, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const exited = once(server, 'exit');
  try {
    await listening(server, socket);
    await warm(load.image);
    const uri = `nbd+unix:///?socket=${socket}`;
    const always = [
      '--name=load',
      '--ioengine=nbd',
      `--uri=${uri}`,
      '--group_reporting',
      '--output-format=json',
    ];
    const { stdout } = await promisify(execFile)('fio', [...always, ...load.fio], { cwd: folder });
    process.stdout.write(`${JSON.stringify(resultOf(stdout, server.pid))}\n`);
  } finally {
    server.kill();
    await exited;
  }
}

async function listening(server: ChildProcess, socket: string): Promise<void> {
  for (let waited = 0; !existsSync(socket); waited += 10) {
    if (server.exitCode !== null || waited > START_MS) throw new VimgError('IO', 'the server did not start');
    await sleep(10);
  }
}

async function warm(path: string): Promise<void> {
  for await (const _ of createReadStream(path, { highWaterMark: 1 << 20 }));
}

/** fio says other things around its JSON. */
function resultOf(stdout: string, pid: number | undefined): object {
  const { jobs } = JSON.parse(stdout.slice(stdout.indexOf('{'), stdout.lastIndexOf('}') + 1)) as FioOutput;
  const [job] = jobs;
  const side = job && (job.read.total_ios > 0 ? job.read : job.write);
  if (!side) throw new VimgError('IO', 'fio reported no job');
  const microseconds = (percentile: string): number =>
    Math.round((side.clat_ns.percentile[percentile] ?? 0) / 1000);
  return {
    iops: Math.round(side.iops),
    p50: microseconds('50.000000'),
    p99: microseconds('99.000000'),
    p999: microseconds('99.900000'),
    residentMiB: Math.round(peakMiB(pid)),
  };
}

function peakMiB(pid: number | undefined): number {
  const peak = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(peak?.[1] ?? 0) / 1024;
}
