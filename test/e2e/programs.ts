/** Running the built tool and the reference tools as a user would, in a folder. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { BUILT_TOOL } from '../cli/session.ts';

const OUTPUT_MAX = 64 * 1024 * 1024;
/** Tools for file systems are where only root looks. */
const PATH = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;

export interface Output {
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end. @throws Error with its stderr when it does not end with 0 */
export function run(folder: string, program: string, ...args: readonly string[]): Promise<Output> {
  const env = { ...process.env, PATH, LC_ALL: 'C.UTF-8' };
  return promisify(execFile)(program, args, { cwd: folder, maxBuffer: OUTPUT_MAX, env });
}

/** Runs the built `vimg`. @returns its stdout */
export async function vimg(folder: string, ...args: readonly string[]): Promise<string> {
  return (await run(folder, process.execPath, BUILT_TOOL, ...args)).stdout;
}
