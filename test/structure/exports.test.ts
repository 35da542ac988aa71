/** Nothing is exported that nobody takes: it would be dead code that looks alive. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { declaredNames, isExported, type ParsedFile, parseSources, ROOT, walk } from './source-files.ts';

const files = parseSources();
const byPath = new Map(files.map((file) => [file.path, file]));

/** The sources of the package's public doors, from the `exports` of package.json. */
function doors(): string[] {
  const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
    exports: Record<string, { default?: string }>;
  };
  return Object.values(manifest.exports).flatMap(({ default: target }) =>
    target === undefined ? [] : [target.replace(/^\.\/dist\//, '').replace(/\.js$/, '.ts')],
  );
}

/** `path name` of everything that can be had through a door, or by another file. */
function taken(): Set<string> {
  const found = new Set<string>();
  const take = (path: string, name: string): void => {
    const key = `${path} ${name}`;
    if (found.has(key)) return;
    found.add(key);
    for (const each of byPath.get(path)?.exports ?? []) {
      if (!each.from || (each.name !== name && each.name !== '*' && name !== '*')) continue;
      take(each.from.target, each.from.name === '*' ? name : each.from.name);
    }
  };
  for (const door of doors()) for (const each of byPath.get(door)?.exports ?? []) take(door, each.name);
  for (const file of files) {
    const passedOn = new Set(file.exports.map((each) => each.from?.target));
    for (const { target, name } of file.imports) if (!passedOn.has(target)) take(target, name);
  }
  return found;
}

/** Names that the exported declarations of a file mention: their types belong to what is offered. */
function mentioned(file: ParsedFile): Set<string> {
  const names = new Set<string>();
  for (const statement of file.tree.statements) {
    if (!isExported(statement)) continue;
    const own = declaredNames(statement);
    walk(statement, (node) => {
      const { text } = node as { text?: unknown };
      if (typeof text === 'string' && !own.includes(text)) names.add(text);
    });
  }
  return names;
}

/** Files of the product that are loaded from the doors or by the command. */
function reachable(): Set<string> {
  const found = new Set<string>();
  const visit = (path: string): void => {
    if (found.has(path)) return;
    found.add(path);
    for (const { target } of byPath.get(path)?.imports ?? []) visit(target);
  };
  for (const entry of [...doors(), ...COMMAND]) visit(entry);
  return found;
}

/** The command is loaded by scripts (bin/bundle.mjs), which the parser does not follow. */
const COMMAND: readonly string[] = ['src/cli/main.ts', 'bin/vimg.cts', 'bin/program.cts'];

describe('exports', () => {
  it('every file of the product is loaded by something', () => {
    const known = reachable();
    const product = files.filter(({ path }) => /^(src|formats|bin)\//.test(path));
    expect(product.map(({ path }) => path).filter((path) => !known.has(path))).toEqual([]);
  });

  it('every public door is a file', () => {
    expect(doors().filter((door) => !byPath.has(door))).toEqual([]);
    expect(doors()).toHaveLength(5);
  });

  it('every export is taken by another file, or offered by a door', () => {
    const known = taken();
    const dead = files
      .filter((file) => /^(src|formats|bin|test|bench)\//.test(file.path))
      .flatMap((file) => {
        const offered = mentioned(file);
        return file.exports
          .filter(({ name }) => !known.has(`${file.path} ${name}`) && !known.has(`${file.path} *`))
          .filter(({ name, isType }) => !(isType && offered.has(name)))
          .map(({ name }) => `${file.path} exports ${name}`);
      });
    expect(dead).toEqual([]);
  });
});
