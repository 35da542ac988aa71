/**
 * A tree of folders as the root of a Debian system has them, copied from this machine, and its content as a list that
 * can be compared.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  cpSync,
  existsSync,
  ftruncateSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { SeededRandom } from '../../src/base/random.ts';

const MiB = 1024 * 1024;

/** Where files are taken from, as long as there is room. */
const SOURCES = [
  '/etc/alternatives',
  '/etc/default',
  '/etc/init.d',
  '/usr/share/zoneinfo',
  '/usr/share/common-licenses',
  '/usr/share/bash-completion',
  '/usr/share/perl',
  '/usr/share/mime',
  '/usr/lib/x86_64-linux-gnu/perl-base',
  '/usr/share/i18n',
  '/usr/share/fonts',
  '/usr/share/vim',
  '/usr/share/doc',
];
const ROOM = 64 * MiB;
const FILES = 4000;

/** One name in a tree: what it is, its permissions, and what it holds. */
export interface TreeEntry {
  readonly kind: 'file' | 'folder' | 'link';
  readonly mode: number;
  /** Of a file: size and SHA-256. Of a symbolic link: where it points. */
  readonly content: string;
}

/** Copies system files into `root` and adds what a copy may lack: hard links, holes, long names, nothing at all. */
export function makeRootTree(root: string): void {
  mkdirSync(root);
  let left = ROOM;
  let files = 0;
  for (const source of SOURCES) {
    if (!existsSync(source)) continue;
    mkdirSync(join(root, dirname(source)), { recursive: true });
    cpSync(source, join(root, source), {
      recursive: true,
      verbatimSymlinks: true,
      filter: (path) => {
        const stat = lstatSync(path);
        if (!stat.isFile()) return stat.isDirectory() || stat.isSymbolicLink();
        left -= stat.size;
        files++;
        return left > 0 && files <= FILES;
      },
    });
  }
  addSpecialFiles(join(root, 'home'));
}

function addSpecialFiles(home: string): void {
  const random = new SeededRandom(20);
  mkdirSync(join(home, 'empty'), { recursive: true });
  writeFileSync(join(home, 'nothing'), '');
  writeFileSync(join(home, 'x'.repeat(255)), 'a long name\n', { mode: 0o600 });
  writeFileSync(join(home, 'ünïcödé → name'), 'not ASCII\n');
  writeFileSync(join(home, 'noise'), random.fill(Buffer.alloc(5 * MiB + 12_345)));
  linkSync(join(home, 'noise'), join(home, 'empty', '..', 'noise-again'));
  symlinkSync('../etc/alternatives/missing', join(home, 'dangling'));
  symlinkSync(`./${'deep/'.repeat(200)}end`, join(home, 'long-link'));
  const sparse = openSync(join(home, 'sparse'), 'wx');
  for (let i = 0; i < 20; i++) {
    writeSync(sparse, random.fill(Buffer.alloc(3000)), 0, 3000, random.below(60 * MiB));
  }
  ftruncateSync(sparse, 64 * MiB);
  closeSync(sparse);
}

/** Everything below `root`, by its path. `lost+found`, which every ext4 file system has, is left out. */
export function listTree(root: string): Map<string, TreeEntry> {
  const entries = new Map<string, TreeEntry>();
  for (const name of namesBelow(root, '')) {
    if (name !== 'lost+found') entries.set(name, entryOf(join(root, name)));
  }
  return entries;
}

/** Symbolic links to folders are not followed (as `recursive` of `readdirSync` does). */
function* namesBelow(root: string, folder: string): Generator<string> {
  const found = readdirSync(join(root, folder), { withFileTypes: true });
  for (const entry of found.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const name = join(folder, entry.name);
    yield name;
    if (entry.isDirectory()) yield* namesBelow(root, name);
  }
}

function entryOf(path: string): TreeEntry {
  const stat = lstatSync(path);
  const mode = stat.mode & 0o7777;
  if (stat.isSymbolicLink()) return { kind: 'link', mode, content: readlinkSync(path) };
  if (stat.isDirectory()) return { kind: 'folder', mode, content: '' };
  const digest = createHash('sha256').update(readFileSync(path)).digest('hex');
  return { kind: 'file', mode, content: `${stat.size} ${digest}` };
}
