/** How deep the chain behind a layer is: a layer more than can be opened must never be put on top. */
import { VimgError } from '../../src/base/errors.ts';
import { LIMITS } from '../../src/base/limits.ts';
import { resolveReference } from '../../src/image/gate-policies.ts';
import { headerText } from './header.ts';
import { peekHeader } from './header-peek.ts';
import type { Header } from './layout.ts';

/**
 * Follows the chain by its headers, which takes a read a layer. A layer that is not where its child says ends it, and
 * one of another format counts as one.
 *
 * @throws VimgError `LIMIT` when no layer more may be put on this one
 */
export async function refuseDeepChain(path: string, header: Header): Promise<void> {
  let at: { path: string; header: Header } | undefined = { path, header };
  for (let depth = 1; depth < LIMITS.chainDepth; depth++) {
    if (at === undefined || at.header.parentPathLength === 0) return;
    const stored = headerText(at.header.parentPath, at.header.parentPathLength);
    const parent: string = resolveReference(stored, at.path);
    const found: Header | undefined = stored.includes('\0') ? undefined : await peekHeader(parent);
    at = found && { path: parent, header: found };
  }
  throw new VimgError('LIMIT', `The chain has ${LIMITS.chainDepth} layers already`, {
    op: 'snapshot',
    path,
    hint: `delete a snapshot first: vimg snapshot -d NAME ${path}`,
  });
}
