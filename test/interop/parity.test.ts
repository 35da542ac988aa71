/**
 * vimg against qemu-img on the same images: exit status, JSON keys and values, and text, of info, map, check, measure,
 * snapshot -l and compare. Differences that are meant are named here, with the reason.
 */
import { execFileSync } from 'node:child_process';
import { copyFileSync } from 'node:fs';
import { type DirectoryResult, dir } from 'tmp-promise';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FIXTURES, unpackFixtures } from '../../fixtures/unpack.ts';
import { requireTool } from '../reference-tools.ts';
import { missingFrom, runTool, runVimg } from './tools.ts';

const skip = requireTool('qemu-img', 'qemu-io');

let folder: DirectoryResult;
let home: string;

beforeAll(async () => {
  if (skip) return;
  home = process.cwd();
  folder = await dir({ unsafeCleanup: true, prefix: 'vimg-parity' });
  process.chdir(folder.path);
  await unpackFixtures('.');
  makeImages();
});

afterAll(async () => {
  if (skip) return;
  process.chdir(home);
  await folder.cleanup();
});

/** Raw disks with holes, a chain in folders, and an image with a leak. */
function makeImages(): void {
  const tool = (name: string, ...args: string[]): void => {
    execFileSync(name, args, { stdio: 'ignore' });
  };
  tool('qemu-img', 'create', '-f', 'raw', 'holes.raw', '10M');
  tool('qemu-io', '-f', 'raw', '-c', 'write -P 1 1M 64k', '-c', 'write -P 2 8M 1M', 'holes.raw');
  tool('mkdir', '-p', 'chain/deep');
  tool('qemu-img', 'create', '-f', 'qcow2', '-b', '../holes.raw', '-F', 'raw', 'chain/mid.qcow2');
  tool('qemu-io', '-c', 'write -P 3 0 64k', '-c', 'write -z 8M 512k', 'chain/mid.qcow2');
  tool(
    'qemu-img',
    'create',
    '-f',
    'qcow2',
    '-b',
    '../mid.qcow2',
    '-F',
    'qcow2',
    'chain/deep/top.qcow2',
    '16M',
  );
  tool('qemu-io', '-c', 'write -P 4 4M 100k', 'chain/deep/top.qcow2');
  copyFileSync('holes.raw', 'same.raw');
}

const IMAGES = [
  ...FIXTURES.filter((fixture) => fixture.format === 'qcow2').map((fixture) => fixture.name),
  'holes.raw',
  'chain/mid.qcow2',
  'chain/deep/top.qcow2',
];

/** An entry for a range that nobody holds has no place; QEMU 7.2 prints one for unallocated subclusters. */
const PLACES_OF_NOTHING = new Set(['extended-l2.qcow2', 'extended-l2-overlay.qcow2']);
/** qemu-img needs the key to open these; vimg checks what can be checked without it. */
const CHECKED_WITHOUT_KEY = new Set(['encrypted-aes.qcow2']);
const ALLOW = ['--allow', '.'];

interface MapEntry {
  readonly start: number;
  readonly length: number;
  readonly present: boolean;
  readonly zero: boolean;
  readonly offset?: number;
}

describe.skipIf(skip)('parity with qemu-img', () => {
  it.each(IMAGES)('info of %s', async (name) => {
    const theirs = await runTool('qemu-img', ['info', '--output=json', name]);
    const ours = await runVimg(['info', '--output=json', name]);
    expect(ours.status).toBe(theirs.status);
    if (theirs.status !== 0) return;
    expect(missingFrom(JSON.parse(ours.stdout), JSON.parse(theirs.stdout))).toEqual([]);
    expect((await runVimg(['info', name], 'qemu-img')).stdout).toBe(
      (await runTool('qemu-img', ['info', name])).stdout,
    );
  });

  it.each(IMAGES)('map of %s', async (name) => {
    const theirs = await runTool('qemu-img', ['map', '--output=json', name]);
    const ours = await runVimg(['map', '--output=json', ...ALLOW, name]);
    expect(ours.status).toBe(theirs.status);
    if (theirs.status !== 0) return;
    const entries = JSON.parse(theirs.stdout) as MapEntry[];
    const expected = PLACES_OF_NOTHING.has(name) ? withoutPlacesOfNothing(entries) : entries;
    expect(missingFrom(JSON.parse(ours.stdout), expected)).toEqual([]);
    const text = await runTool('qemu-img', ['map', name]);
    const ourText = await runVimg(['map', name], 'qemu-img');
    expect(ourText.status).toBe(text.status);
    expect(withPlainPaths(ourText.stdout)).toBe(withPlainPaths(text.stdout));
  });

  it.each(IMAGES)('check of %s', async (name) => {
    const theirs = await runTool('qemu-img', ['check', '--output=json', name]);
    const ours = await runVimg(['check', '--output=json', name]);
    if (CHECKED_WITHOUT_KEY.has(name)) {
      expect([theirs.status, ours.status]).toEqual([1, 0]);
      return;
    }
    expect(ours.status).toBe(theirs.status);
    if (theirs.status === 1 || theirs.status === 63) return;
    expect(missingFrom(JSON.parse(ours.stdout), JSON.parse(theirs.stdout))).toEqual([]);
    expect((await runVimg(['check', name])).stdout).toBe((await runTool('qemu-img', ['check', name])).stdout);
  });

  it.each(IMAGES)('measure of %s', async (name) => {
    for (const args of [
      ['-O', 'qcow2'],
      ['-O', 'raw'],
      ['-O', 'qcow2', '-o', 'cluster_size=4k'],
    ]) {
      const theirs = await runTool('qemu-img', ['measure', '--output=json', ...args, name]);
      const ours = await runVimg(['measure', '--output=json', ...args, ...ALLOW, name]);
      expect(ours.status).toBe(theirs.status);
      if (theirs.status === 0) expect(JSON.parse(ours.stdout)).toEqual(JSON.parse(theirs.stdout));
    }
  });

  it.each(IMAGES)('snapshots and chain of %s', async (name) => {
    for (const args of [
      ['snapshot', '-l'],
      ['info', '--backing-chain', '-U'],
    ]) {
      const theirs = await runTool('qemu-img', [...args, name]);
      const ours = await runVimg([...args, name], 'qemu-img');
      expect(ours.status).toBe(theirs.status);
      if (theirs.status === 0) expect(withPlainPaths(ours.stdout)).toBe(withPlainPaths(theirs.stdout));
    }
  });

  it('compare', async () => {
    const pairs = [
      ['holes.raw', 'same.raw'],
      ['holes.raw', 'chain/mid.qcow2'],
      ['chain/mid.qcow2', 'chain/deep/top.qcow2'],
      ['v3-default.qcow2', 'v3-default.qcow2'],
      ['v3-default.qcow2', 'v2-plain.qcow2'],
      ['compressed-zlib.qcow2', 'compressed-zstd.qcow2'],
      ['snapshots.qcow2', 'v2-snapshots.qcow2'],
      ['holes.raw', 'missing.raw'],
    ] as const;
    for (const pair of pairs) {
      for (const flags of [[], ['-s'], ['-q']]) {
        const theirs = await runTool('qemu-img', ['compare', ...flags, ...pair]);
        const ours = await runVimg(['compare', ...flags, ...pair], 'qemu-img');
        // QEMU takes "the last extent" for a difference in status: it may find one earlier than there is
        const told = (text: string): string =>
          flags[0] === '-s' ? text.replace(/Offset [0-9]+/, 'Offset') : text;
        expect([told(ours.stdout), ours.status], `${pair.join(' ')} ${flags.join(' ')}`).toEqual([
          told(theirs.stdout),
          theirs.status,
        ]);
      }
    }
  });

  it('measure of an empty disk', async () => {
    for (const size of ['0', '1M', '1000', '10G', '1T', '64T']) {
      for (const options of [
        [],
        ['-o', 'cluster_size=512'],
        ['-o', 'cluster_size=2M'],
        ['-o', 'compat=0.10'],
      ]) {
        if (size.endsWith('T') && options.includes('cluster_size=512')) continue; // more than an L1 table holds
        const args = ['measure', '--output=json', '-O', 'qcow2', ...options, '--size', size];
        const theirs = await runTool('qemu-img', args);
        const ours = await runVimg(args);
        expect(ours.status, args.join(' ')).toBe(theirs.status);
        if (theirs.status === 0)
          expect(JSON.parse(ours.stdout), args.join(' ')).toEqual(JSON.parse(theirs.stdout));
      }
    }
  });
});

function withoutPlacesOfNothing(entries: readonly MapEntry[]): MapEntry[] {
  const merged: MapEntry[] = [];
  for (const { offset, ...entry } of entries) {
    const last = merged.at(-1);
    if (entry.present) merged.push(offset === undefined ? entry : { ...entry, offset });
    else if (last && !last.present)
      merged[merged.length - 1] = { ...last, length: last.length + entry.length };
    else merged.push(entry);
  }
  return merged;
}

/** A layer behind is named as from here: `chain/deep/../mid.qcow2` and `chain/mid.qcow2` are one file. */
function withPlainPaths(text: string): string {
  for (let before = '', now = text; ; now = before.replaceAll(/\b[a-z]+\/\.\.\//g, '')) {
    if (before === now) return now;
    before = now;
  }
}
