/**
 * The layer behind: named by path, recognised by identity.
 *
 * A VVD parent must have the disk UUID and the content ID that the child was made on. A parent of another format has
 * no identity of its own; its size and the time of its last change stand for its content ID, so a base that was
 * touched is refused rather than read. Of an export only the size is known.
 */

import { createHash } from 'node:crypto';
import { VimgError } from '../../src/base/errors.ts';
import { formatUuid, NIL_UUID } from '../../src/binary/uuid.ts';
import { fileStatus } from '../../src/device/files.ts';
import type { BackingReference, Layer, LayerIdentity } from '../../src/image/layer.ts';
import { headerText } from './header.ts';
import type { Header } from './layout.ts';

/** The reference that a header carries, if any. */
export function backingReference(path: string, header: Header): BackingReference | undefined {
  if (header.parentPathLength === 0) return undefined;
  const stored = headerText(header.parentPath, header.parentPathLength);
  const format = header.parentFormat.replace(/\0.*$/s, '') || undefined;
  const { parentUuid: uuid } = header;
  const byIdentity = uuid !== NIL_UUID;
  return {
    path: stored,
    format,
    byIdentity,
    verify: (parent) => verifyParent(path, header, parent),
    ...(byIdentity
      ? { matches: (found: LayerIdentity) => found.uuid === uuid && hasContent(found, header) }
      : {}),
  };
}

function hasContent(found: LayerIdentity, child: Header): boolean {
  if (found.contentId === child.parentContentId) return true;
  return found.former?.childUuid === child.diskUuid && found.former.contentId === child.parentContentId;
}

async function verifyParent(child: string, header: Header, parent: Layer): Promise<void> {
  const found = await identityOf(parent);
  if (found.uuid !== header.parentUuid) {
    throw new VimgError(
      'STALE_PARENT',
      `The parent '${parent.file.name}' is another disk than the one this was made on`,
      {
        op: 'open parent',
        path: child,
      },
    );
  }
  if (hasContent(found, header)) return;
  throw new VimgError(
    'STALE_PARENT',
    `The parent '${parent.file.name}' was changed after this layer was made on it; together they would read as garbage`,
    { op: 'open parent', path: child },
  );
}

/** Who a layer is, for a child that is made on it. */
export async function identityOf(layer: Layer): Promise<LayerIdentity> {
  return layer.identity ?? { uuid: NIL_UUID, contentId: await fingerprint(layer.file.name) };
}

/** A content ID for a file whose format has none: size and time of the last change, to the nanosecond. */
async function fingerprint(path: string): Promise<string> {
  const status = await fileStatus(path);
  if (!status) throw new VimgError('NOT_FOUND', 'No such file or directory', { op: 'look at', path });
  return formatUuid(createHash('sha256').update(`${status.size}:${status.modifiedNs}`).digest());
}
