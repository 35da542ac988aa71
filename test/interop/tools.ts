/** Runs vimg in this process and qemu-img beside it, in the same folder, to compare what they say. */
import { spawn } from 'node:child_process';
import { vi } from 'vitest';
import { main } from '../../src/cli/main.ts';

export interface Said {
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number;
}

/** The name that vimg is called by. */
export type CalledAs = 'vimg' | 'qemu-img';

/** Runs one command line of vimg in the process of the test: one at a time. */
export async function runVimg(args: readonly string[], calledAs: CalledAs = 'vimg'): Promise<Said> {
  let [stdout, stderr] = ['', ''];
  const out = vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    stdout += String(text);
    return true;
  });
  const err = vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    stderr += String(text);
    return true;
  });
  try {
    const status = await main(['node', `/bin/${calledAs}`, ...args]);
    return { stdout, stderr, status };
  } finally {
    out.mockRestore();
    err.mockRestore();
  }
}

/** Runs a reference tool, in the working folder of the test. */
export async function runTool(program: string, args: readonly string[]): Promise<Said> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const status = await new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve(code ?? 128));
  });
  return { stdout, stderr, status };
}

/** Everything in `theirs` is in `ours` too, with the same value; ours may hold more keys. */
export function missingFrom(ours: unknown, theirs: unknown, at = ''): string[] {
  if (Array.isArray(theirs)) {
    if (!Array.isArray(ours) || ours.length !== theirs.length) return [`${at}: not ${theirs.length} entries`];
    return theirs.flatMap((each, index) => missingFrom(ours[index], each, `${at}[${index}]`));
  }
  if (theirs !== null && typeof theirs === 'object') {
    const own = (ours ?? {}) as Record<string, unknown>;
    return Object.entries(theirs).flatMap(([key, value]) => missingFrom(own[key], value, `${at}.${key}`));
  }
  return Object.is(ours, theirs) ? [] : [`${at}: ${String(ours)}, not ${String(theirs)}`];
}
