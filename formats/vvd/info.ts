/** What `vimg info` says of a VVD file. */
import { NIL_UUID } from '../../src/binary/uuid.ts';
import type { LayerInfo } from '../../src/image/layer.ts';
import type { AttributeValue } from './attributes.ts';
import { headerText, isSealed } from './header.ts';
import {
  COMPRESSION_DEFLATE,
  COMPRESSION_ZSTD,
  type Header,
  PROVISIONING_LAZY,
  PROVISIONING_THICK,
  STATE_DIRTY,
  VERSION_MAJOR,
} from './layout.ts';

export function compressionName(code: number): string {
  if (code === COMPRESSION_DEFLATE) return 'deflate';
  return code === COMPRESSION_ZSTD ? 'zstd' : 'none';
}

export function provisioningName(code: number): string {
  if (code === PROVISIONING_LAZY) return 'lazy';
  return code === PROVISIONING_THICK ? 'thick' : 'thin';
}

export function describeVvd(header: Header, attributes: ReadonlyMap<string, AttributeValue>): LayerInfo {
  const sealed = isSealed(header);
  const snapshot = headerText(header.snapshotName, header.snapshotNameLength);
  return {
    clusterSize: 2 ** header.blockShift,
    dirty: header.state === STATE_DIRTY,
    specific: {
      version: `${VERSION_MAJOR}.${header.versionMinor}`,
      uuid: header.diskUuid,
      'content-id': header.contentId,
      'block-size': 2 ** header.blockShift,
      provisioning: provisioningName(header.provisioning),
      compression: compressionName(header.compression),
      sealed,
      ...(sealed ? { 'data-checksums': header.checksumState === 1 } : {}),
      ...(snapshot === '' ? {} : { snapshot }),
      ...(header.parentUuid === NIL_UUID
        ? {}
        : { 'parent-uuid': header.parentUuid, 'parent-content-id': header.parentContentId }),
      ...(attributes.size > 0 ? { attributes: Object.fromEntries(attributes) } : {}),
    },
  };
}
