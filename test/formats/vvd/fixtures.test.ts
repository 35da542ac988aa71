/** Images of every released version open, read, check and can be written, for ever. */
import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { dir } from 'tmp-promise';
import { describe, expect, it } from 'vitest';
import { formats } from '../../../formats/index.ts';
import { checkVvd } from '../../../formats/vvd/check.ts';
import { isSealed, readHeader } from '../../../formats/vvd/header.ts';
import { INTENT_SNAPSHOT } from '../../../formats/vvd/layout.ts';
import { vvdLifecycle } from '../../../formats/vvd/lifecycle.ts';
import { FileDevice } from '../../../src/device/file-device.ts';
import type { CheckReport } from '../../../src/image/check-report.ts';
import { DiskImage } from '../../../src/image/disk-image.ts';
import { fixtureBytes, guestContent, unpackFixture, VVD_FIXTURES } from './fixtures.ts';

/** What a check finds in images that show damage. */
const FINDINGS: Readonly<Record<string, readonly string[]>> = { 'torn-header.vvd': ['header-copy'] };

async function check(path: string): Promise<CheckReport> {
  const file = await FileDevice.open(path, { readOnly: true });
  try {
    return await checkVvd(file, { scrub: true });
  } finally {
    await file.close();
  }
}

describe.each(VVD_FIXTURES)('$version/$name: $feature', (fixture) => {
  it('is the file that was released', () => {
    const bytes = fixtureBytes(fixture);
    expect(bytes.length).toBe(fixture.bytes);
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(fixture.sha256);
  });

  it('reads, checks, and stays as it is', async () => {
    const folder = await dir({ unsafeCleanup: true, prefix: 'vimg-vvd-' });
    try {
      const path = unpackFixture(fixture, folder.path);
      const { virtualSize, contentSha256 } = fixture;
      expect(await guestContent(path)).toEqual({ virtualSize, contentSha256 });
      const kinds = (await check(path)).findings.map(({ kind }) => kind);
      expect(kinds).toEqual(FINDINGS[fixture.name] ?? []);
      expect(await guestContent(path)).toEqual({ virtualSize, contentSha256 });
    } finally {
      await folder.cleanup();
    }
  });

  it('can be written, unless it is sealed', async () => {
    const folder = await dir({ unsafeCleanup: true, prefix: 'vimg-vvd-' });
    try {
      const path = unpackFixture(fixture, folder.path);
      const file = await FileDevice.open(path, { readOnly: true });
      const header = await readHeader(file);
      const sealed = isSealed(header) && header.intent !== INTENT_SNAPSHOT; // a snapshot that did not happen
      await file.close();
      const opening = DiskImage.open(path, { formats, readOnly: false });
      if (sealed) {
        await expect(opening).rejects.toMatchObject({ code: 'READ_ONLY' });
        return;
      }
      const disk = await opening;
      await disk.pwrite(new Uint8Array(512).fill(1), disk.size - 512);
      await disk.pwrite(new Uint8Array(512), disk.size - 512);
      await disk.close();
      expect(await guestContent(path)).toEqual({
        virtualSize: fixture.virtualSize,
        contentSha256: contentWithoutTail(fixture.name) ?? fixture.contentSha256,
      });
      expect((await check(path)).corruptions).toBe(0);
    } finally {
      await folder.cleanup();
    }
  });
});

it.each(['down.vvd', 'middle.vvd', 'up.vvd'])(
  'an interrupted deletion below %s is completed',
  async (name) => {
    const folder = await dir({ unsafeCleanup: true, prefix: 'vimg-vvd-' });
    try {
      const fixture = VVD_FIXTURES.find((other) => other.name === name);
      if (!fixture) throw new TypeError(`there is no fixture ${name}`);
      const path = unpackFixture(fixture, folder.path);
      const { virtualSize, contentSha256 } = fixture;
      await vvdLifecycle.deleteSnapshot(path, 'old', { formats });
      expect(await guestContent(path)).toEqual({ virtualSize, contentSha256 });
      expect((await vvdLifecycle.listSnapshots(path)).map((snapshot) => snapshot.name)).toEqual(
        name === 'middle.vvd' ? ['new'] : [],
      );
      for (const file of readdirSync(folder.path)) {
        expect((await check(join(folder.path, file))).findings).toEqual([]);
      }
    } finally {
      await folder.cleanup();
    }
  },
);

/** The last sector of one disk holds data, which the test above overwrites. */
function contentWithoutTail(name: string): unknown {
  return name === 'large.vvd' ? expect.any(String) : undefined;
}
