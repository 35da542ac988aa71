/** Runs a program once and says what it took. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { VimgError } from '../src/base/errors.ts';
import { childrenCpuMs } from './child-usage.ts';
import type { Command } from './work.ts';

export interface ProcessRun {
  /** From the start of the process to its end. */
  readonly milliseconds: number;
  /** Processor time, user and system, of all its threads. */
  readonly cpuMilliseconds: number;
  /** The peak of its resident memory, as last seen: looked at every 10 ms. 0 for a process too short to be seen. */
  readonly residentMiB: number;
  readonly stdout: string;
}

const LOOK_EVERY_MS = 10;

/** Nothing else may be started meanwhile. @throws VimgError `IO` with what the program wrote to stderr, when it fails */
export function runProcess(command: Command): Promise<ProcessRun> {
  return new Promise((resolve, reject) => {
    const cpuBefore = childrenCpuMs();
    const started = process.hrtime.bigint();
    const child = spawn(command.program, command.args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let residentMiB = 0;
    const look = setInterval(() => {
      residentMiB = Math.max(residentMiB, peakResidentMiB(child.pid));
    }, LOOK_EVERY_MS);
    let stdout = '';
    let stderr = '';
    let milliseconds = 0;
    let cpuMilliseconds = 0;
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.on('error', (error) => {
      clearInterval(look);
      reject(error);
    });
    child.on('exit', () => {
      milliseconds = Number(process.hrtime.bigint() - started) / 1e6;
      cpuMilliseconds = childrenCpuMs() - cpuBefore;
      clearInterval(look);
    });
    child.on('close', (code, signal) => {
      if (code === 0) resolve({ milliseconds, cpuMilliseconds, residentMiB, stdout });
      else reject(new VimgError('IO', `${lineOf(command)}: exit ${code ?? signal}\n${stderr}`));
    });
  });
}

/** Runs a program whose time is of no interest. */
export async function runQuietly(program: string, ...args: readonly string[]): Promise<string> {
  return (await runProcess({ program, args })).stdout;
}

function lineOf({ program, args }: Command): string {
  return [program, ...args].join(' ');
}

/** proc(5), /proc/pid/status: VmHWM is the largest resident set so far. */
function peakResidentMiB(pid: number | undefined): number {
  if (pid === undefined) return 0;
  try {
    const peak = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
    return Number(peak?.[1] ?? 0) / 1024;
  } catch {
    return 0; // it just ended, or the system has no /proc
  }
}
