/**
 * The gate: every file that an image header points to is opened through it, so that a hostile image reads nothing
 * that the caller did not allow (CVE-2015-5163, CVE-2022-47951, CVE-2024-32498).
 */
import type { BlockDevice } from '../device/block-device.ts';

/** A file that a header asks for. */
export interface FileReference {
  readonly role: 'backing' | 'data-file' | 'extent';
  /** As stored in the header. */
  readonly stored: string;
  /** The file whose header says so: relative references are relative to its folder. */
  readonly from: string;
  readonly readOnly: boolean;
  /** The content will be accepted only with a matching identity: a guessed path opens nothing. */
  readonly byIdentity: boolean;
}

/** Opens what a header asks for, or refuses. @throws VimgError `UNSUPPORTED`, `NOT_FOUND`, `LOCKED`, `IO` */
export type Gate = (reference: FileReference) => Promise<BlockDevice>;
