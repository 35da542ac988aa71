/**
 * What the package offers, by name. A change of this list is a change for everyone who uses vimg: it comes with a
 * line in CHANGELOG.md.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Export, type ParsedFile, parseSources, ROOT } from '../structure/source-files.ts';

const DOORS = ['vimg', 'vimg/device', 'vimg/image', 'vimg/formats', 'vimg/testing'];
const sources = new Map(parseSources().map((file) => [file.path, file]));

/** The names that a source file offers, those that it passes on included. */
function namesOf(path: string): string[] {
  const { exports } = sources.get(path) as ParsedFile;
  const nested = (each: Export): string[] =>
    each.name === '*' && each.from ? namesOf(each.from.target) : [each.name];
  return [...new Set(exports.flatMap(nested))].sort();
}

function sourceOf(door: string): string {
  const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
    exports: Record<string, { types: string; default: string }>;
  };
  const target = manifest.exports[door.replace('vimg', '.')];
  return (target?.default ?? '').replace(/^\.\/dist\//, '').replace(/\.js$/, '.ts');
}

describe('the public doors', () => {
  it('offer these names, and no others', async () => {
    const lines: string[] = [];
    for (const door of DOORS) {
      const values = Object.keys((await import(door)) as object);
      const names = namesOf(sourceOf(door));
      expect(values.filter((name) => !names.includes(name))).toEqual([]);
      lines.push(door);
      for (const name of names) lines.push(`  ${values.includes(name) ? '' : 'type '}${name}`);
    }
    await expect(`${lines.join('\n')}\n`).toMatchFileSnapshot('doors.txt');
  });

  it('explain every function of the library: what, which errors, an example', () => {
    const silent = [...sources.values()]
      .filter(({ path }) => path.startsWith('src/library/'))
      .flatMap(({ path, text, exports }) =>
        exports
          .filter(({ name }) => namesOf('src/index.ts').includes(name))
          .filter(({ name }) => new RegExp(`^export async function\\*? ${name}\\(`, 'm').test(text))
          .filter(({ name }) => !isExplained(text, name))
          .map(({ name }) => `${path} ${name}`),
      );
    expect(silent).toEqual([]);
  });
});

/** Whether the comment right before a function names its errors and shows an example that calls it. */
function isExplained(text: string, name: string): boolean {
  const before = text.slice(0, text.search(new RegExp(`^export async function\\*? ${name}\\(`, 'm')));
  const comment = before.slice(before.lastIndexOf('/**'));
  const example = comment.slice(comment.indexOf('@example'));
  return /@throws VimgError/.test(comment) && example.includes('@example') && example.includes(`${name}(`);
}
