/** Where and with what a benchmark ran: a figure without it says nothing. */
import { readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { VimgError } from '../src/base/errors.ts';
import { runQuietly } from './process-run.ts';

export interface Machine {
  readonly date: string;
  readonly vimg: string;
  readonly node: string;
  readonly peer: string | undefined;
  readonly kernel: string;
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly fileSystem: string;
}

export async function describeMachine(folder: string): Promise<Machine> {
  return {
    date: new Date().toISOString().slice(0, 10),
    vimg: packageVersion(),
    node: process.version.slice(1),
    peer: await peerVersion(),
    kernel: release(),
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    fileSystem: (await runQuietly('df', '--output=fstype', folder)).trim().split('\n').at(-1) ?? '',
  };
}

export function machineLine(machine: Machine): string {
  const tools = [`vimg ${machine.vimg}`, `Node ${machine.node}`, machine.peer ?? 'no qemu-img'];
  const place = `${machine.cores} × ${machine.cpu}, ${machine.memoryGiB} GiB, Linux ${machine.kernel}, ${machine.fileSystem}`;
  return `${machine.date} · ${tools.join(', ')} · ${place}`;
}

function packageVersion(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

async function peerVersion(): Promise<string | undefined> {
  try {
    const [line = ''] = (await runQuietly('qemu-img', '--version')).split('\n');
    return line.replace(' version', '').replace(/[()]/g, '');
  } catch (error) {
    if (error instanceof VimgError || (error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
