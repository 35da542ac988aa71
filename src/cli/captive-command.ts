/** A command that the tool runs for as long as it serves something to it. */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { fromSystemError } from '../base/errors.ts';

/**
 * Runs a command in a shell, on our own standard streams, until it ends; `signal` ends it with SIGTERM.
 *
 * @returns its exit status, or 128 + the number of the signal that ended it, as a shell says it
 */
export function runCaptive(
  command: string,
  environment: Readonly<Record<string, string | undefined>>,
  signal: AbortSignal,
): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn('/bin/sh', ['-c', command], { stdio: 'inherit', env: { ...environment } });
    const stop = (): void => {
      child.kill('SIGTERM');
    };
    signal.addEventListener('abort', stop);
    if (signal.aborted) stop();
    child.once('error', (error) => reject(fromSystemError(error, { op: 'run', path: '/bin/sh' })));
    child.once('exit', (code, name) => {
      signal.removeEventListener('abort', stop);
      resolve(code ?? 128 + (name === null ? 0 : constants.signals[name]));
    });
  });
}
