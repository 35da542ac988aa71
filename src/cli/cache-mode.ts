/** QEMU's cache modes, as far as they concern a tool that makes everything durable before it ends, or nothing. */
import { usage } from './command-line.ts';

const MODES: readonly string[] = ['none', 'writeback', 'writethrough', 'directsync', 'unsafe'];

export const CACHE_OPTION_HELP = "none, directsync: leave nothing of it in the host's cache";

/**
 * Whether a mode keeps files out of the host's cache.
 *
 * @param what for the message
 * @throws VimgError `USAGE` for what is no mode
 */
export function isUncached(mode: string | undefined, what: string): boolean {
  if (mode === undefined) return false;
  if (!MODES.includes(mode)) throw usage(`Invalid ${what}: ${mode}`, `cache modes: ${MODES.join(', ')}`);
  return mode === 'none' || mode === 'directsync';
}
