/** A new folder for each test, and short words for what tests of the library do in it. */
import { join } from 'node:path';
import { dir } from 'tmp-promise';
import { type ErrorCode, isVimgError, openImage } from 'vimg';
import { afterEach, beforeEach } from 'vitest';

let folder: string;
let cleanup: () => Promise<void>;

/** Gives each test of a file a folder of its own. */
export function useFolder(): void {
  beforeEach(async () => {
    ({ path: folder, cleanup } = await dir({ unsafeCleanup: true, prefix: 'vimg-library-' }));
  });
  afterEach(() => cleanup());
}

/** The path of a file in the folder; without a name, the folder. */
export function at(name = ''): string {
  return join(folder, name);
}

export async function put(path: string, text: string, offset = 0): Promise<void> {
  const disk = await openImage(path, { readOnly: false });
  try {
    await disk.pwrite(Buffer.from(text), offset);
  } finally {
    await disk.close();
  }
}

export async function get(path: string, length: number, offset = 0, snapshot?: string): Promise<string> {
  const disk = await openImage(path, snapshot === undefined ? {} : { snapshot });
  try {
    const buffer = Buffer.alloc(length);
    await disk.pread(buffer, offset);
    return buffer.toString('latin1');
  } finally {
    await disk.close();
  }
}

/** The code with which `work` fails. */
export async function codeOf(work: Promise<unknown>): Promise<ErrorCode | undefined> {
  const error: unknown = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  return isVimgError(error) ? error.code : undefined;
}
