/** The VVD fixtures: images made by released versions of vimg, as fixtures/vvd/manifest.json describes them. */
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { formats } from '../../../formats/index.ts';
import { DiskImage } from '../../../src/image/disk-image.ts';

export interface VvdFixture {
  readonly name: string;
  readonly version: string;
  /** Path below fixtures/vvd, packed with gzip. */
  readonly stored: string;
  readonly bytes: number;
  /** Of the unpacked file. */
  readonly sha256: string;
  readonly feature: string;
  /** Files that must lie beside it. */
  readonly needs: readonly string[];
  readonly virtualSize: number;
  /** See `guestContent`. */
  readonly contentSha256: string;
}

const FOLDER = new URL('../../../fixtures/vvd/', import.meta.url);

export const VVD_FIXTURES: readonly VvdFixture[] = (
  JSON.parse(readFileSync(new URL('manifest.json', FOLDER), 'utf8')) as { images: VvdFixture[] }
).images;

/** The unpacked bytes. */
export function fixtureBytes(fixture: VvdFixture): Uint8Array {
  return gunzipSync(readFileSync(new URL(fixture.stored.replace('@', '%40'), FOLDER)));
}

/** Unpacks a fixture and what it needs into a folder. @returns its path */
export function unpackFixture(fixture: VvdFixture, folder: string): string {
  for (const name of fixture.needs) {
    const needed = VVD_FIXTURES.find((other) => other.name === name && other.version === fixture.version);
    if (needed) unpackFixture(needed, folder);
  }
  const path = join(folder, fixture.name);
  writeFileSync(path, fixtureBytes(fixture));
  return path;
}

const PAGE = 4096;

/** The sum over all pages of 4 KiB that are not zero: offset in decimal, a space, and the bytes of each. */
export async function guestContent(path: string): Promise<{ virtualSize: number; contentSha256: string }> {
  const disk = await DiskImage.open(path, { formats });
  const sum = createHash('sha256');
  const page = new Uint8Array(PAGE);
  try {
    for (let offset = 0; offset < disk.size; ) {
      const extent = await disk.status(offset, disk.size - offset);
      const behind = extent.zero ? Math.floor((offset + extent.length) / PAGE) * PAGE : offset;
      if (behind > offset) {
        offset = behind;
        continue;
      }
      const bytes = page.subarray(0, Math.min(PAGE, disk.size - offset));
      await disk.pread(bytes, offset);
      if (bytes.some((byte) => byte !== 0)) sum.update(`${offset} `).update(bytes);
      offset += PAGE;
    }
    return { virtualSize: disk.size, contentSha256: sum.digest('hex') };
  } finally {
    await disk.close();
  }
}
