/** Imports point one way, and no file imports itself by a detour. The arrows are those of ARCHITECTURE.md. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type ParsedFile, parseSources, ROOT } from './source-files.ts';

/** What a folder may import, besides itself. `formats/index.ts` is the list of drivers; drivers see none of it. */
const ARROWS: Readonly<Record<string, readonly string[]>> = {
  'src/base': [],
  'src/host': ['src/base'],
  'src/binary': ['src/base'],
  'src/device': ['src/base', 'src/host', 'src/binary'],
  'src/image': ['src/base', 'src/host', 'src/binary', 'src/device'],
  'formats/*': ['src/base', 'src/binary', 'src/device', 'src/image'],
  'formats/index.ts': ['formats/*', 'src/image'],
  'src/nbd': ['src/base', 'src/host', 'src/binary', 'src/device', 'src/image'],
  'src/control': ['src/base', 'src/host'],
  'src/vims': ['src/base', 'src/binary', 'src/device'],
  'src/serving': ['src/base', 'src/device', 'src/image', 'src/nbd', 'src/job', 'src/control'],
  'src/job': ['src/base', 'src/host', 'src/binary', 'src/device', 'src/image'],
  'src/storage': ['src/base', 'src/host', 'src/binary', 'src/device', 'src/image', 'src/vims'],
  'src/testing': ['src/base', 'src/host', 'src/binary', 'src/device', 'src/image'],
  'src/cli': [
    'src/base',
    'src/host',
    'src/binary',
    'src/device',
    'src/image',
    'src/storage',
    'src/nbd',
    'src/job',
    'src/control',
    'src/serving',
    'formats/index.ts',
  ],
  'src/library': [
    'src/base',
    'src/device',
    'src/image',
    'src/storage',
    'src/nbd',
    'src/job',
    'formats/index.ts',
  ],
  'src/index.ts': ['src/base', 'src/device', 'src/image', 'src/job', 'src/library', 'formats/index.ts'],
  bin: ['src/cli'],
};

/** Packages that only one folder may load: the rest of the program goes through it. */
const KEPT_TO: Readonly<Record<string, string>> = {
  koffi: 'src/host',
  valibot: 'src/storage',
  commander: 'src/cli',
  'yargs-parser': 'src/cli',
  '@bomb.sh/tab': 'src/cli',
  'cli-progress': 'src/cli',
  'cli-table3': 'src/cli',
  'crc-32': 'src/binary',
  '@node-rs/crc32': 'src/binary',
};

const files = parseSources();
const product = files.filter((file) => /^(src|formats|bin)\//.test(file.path));

/** `src/image/clone.ts` is in `src/image`; a driver's file in `formats/*`. */
function folderOf(path: string): string {
  if (path in ARROWS) return path;
  const [top = '', second = ''] = path.split('/');
  return top === 'src' ? `src/${second}` : top === 'formats' ? 'formats/*' : top;
}

function isOwnFolder(path: string, target: string): boolean {
  const depth = path.startsWith('bin/') ? 1 : 2;
  const folder = (name: string): string => name.split('/').slice(0, depth).join('/');
  return folder(path) === folder(target);
}

function mayImport(path: string, target: string): boolean {
  const folder = folderOf(path);
  return isOwnFolder(path, target) || (ARROWS[folder] ?? []).includes(folderOf(target));
}

describe('layers', () => {
  it('knows the folder of every file', () => {
    expect(product.map((file) => file.path).filter((path) => !(folderOf(path) in ARROWS))).toEqual([]);
  });

  it('imports point one way', () => {
    const offences = product.flatMap((file) =>
      file.imports
        .filter(({ target }) => target.includes('/') && target.endsWith('.ts'))
        .filter(({ target }) => !mayImport(file.path, target))
        .map(({ target }) => `${file.path} imports ${target}`),
    );
    expect([...new Set(offences)]).toEqual([]);
  });

  it('no file stands behind itself', () => {
    expect(cycles(files)).toEqual([]);
  });

  it('a package is loaded in its own folder only', () => {
    const offences = product.flatMap((file) =>
      file.imports
        .filter(({ target }) => target in KEPT_TO && folderOf(file.path) !== KEPT_TO[target])
        .map(({ target }) => `${file.path} imports ${target}`),
    );
    expect(offences).toEqual([]);
  });

  it('what the product loads is a dependency, and every dependency is used', () => {
    const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as Record<string, object>;
    const declared = Object.keys({ ...manifest['dependencies'], ...manifest['optionalDependencies'] });
    const loaded = product.flatMap((file) =>
      file.imports.filter((each) => !each.isType && isPackage(each.target)).map(({ target }) => target),
    );
    expect([...new Set(loaded)].filter((name) => !declared.includes(name))).toEqual([]);
    // some are loaded when first used, through require: then their name stands in the text
    const isNamed = (name: string): boolean => product.some((file) => file.text.includes(`'${name}`));
    expect(declared.filter((name) => !isNamed(name))).toEqual([]);
  });
});

function isPackage(target: string): boolean {
  return !target.startsWith('node:') && !target.endsWith('.ts');
}

/**
 * Cycles of imports, as `a -> b -> a`: files that need each other to be loaded. An interface that mentions another
 * loads nothing, and neither does `import(…)` before it is called.
 */
function cycles(all: readonly ParsedFile[]): string[] {
  const loads = (file: ParsedFile): string[] =>
    file.imports.filter((each) => !each.isType && !each.isDynamic).map(({ target }) => target);
  const importsOf = new Map(all.map((file) => [file.path, [...new Set(loads(file))]]));
  const done = new Set<string>();
  const found: string[] = [];
  const follow = (path: string, above: readonly string[]): void => {
    const at = above.indexOf(path);
    if (at >= 0) found.push([...above.slice(at), path].join(' -> '));
    if (at >= 0 || done.has(path)) return;
    for (const target of importsOf.get(path) ?? []) follow(target, [...above, path]);
    done.add(path);
  };
  for (const path of importsOf.keys()) follow(path, []);
  return found;
}
