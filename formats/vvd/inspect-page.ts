/** What `vimg inspect` reads of one page, whatever its state. */
import { isVimgError, VimgError } from '../../src/base/errors.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { PAGE, pageHeaderLayout } from './layout.ts';

/** What went wrong with a structure; rethrows what is a bug. */
export function stateOf(error: unknown): string {
  if (error instanceof VimgError) return error.message;
  throw error;
}

/** A page as it is in the file; undefined when the file ends before its end, or it cannot be read. */
export async function readPageBytes(file: BlockDevice, place: number): Promise<Uint8Array | undefined> {
  if (!Number.isSafeInteger(place) || place < 0 || place + PAGE > file.size) return undefined;
  const page = new Uint8Array(PAGE);
  try {
    await file.pread(page, place);
    return page;
  } catch (error) {
    if (isVimgError(error, 'IO')) return undefined;
    throw error;
  }
}

/** Decoded fields, or what hinders decoding. */
export function decodeOr(decode: () => object): Record<string, unknown> {
  try {
    return { ...decode() };
  } catch (error) {
    return { problem: stateOf(error) };
  }
}

/** The head that every page has. */
export function pageHeaderFields(page: Uint8Array): Record<string, unknown> {
  const { reserved: _reserved, ...fields } = decodeOr(() => pageHeaderLayout.decode(page));
  return fields;
}
