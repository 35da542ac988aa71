/** Rules that every file keeps, so that nobody has to look for them in a review. */
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import {
  isBlock,
  isCallExpression,
  isCatchClause,
  isIdentifier,
  isNewExpression,
  isPropertyAccessExpression,
  type Node,
  SyntaxKind,
} from 'typescript/unstable/ast';
import { describe, expect, it } from 'vitest';
import { lineOf, type ParsedFile, parseSources, ROOT, walk } from './source-files.ts';

/** Longest file, and longest function, in lines. */
const FILE_LINES = 350;
const FUNCTION_LINES = 70;

/** Files that may be longer. Each is explained in ARCHITECTURE.md. */
const LONG_FILES: readonly string[] = [];

const files = parseSources();
const product = files.filter((file) => /^(src|formats|bin)\//.test(file.path));
const tests = files.filter((file) => file.path.startsWith('test/'));

/** `path:line` of every node that a rule is against. */
function offences(
  among: readonly ParsedFile[],
  isAgainst: (node: Node, file: ParsedFile) => boolean,
): string[] {
  return among.flatMap((file) => {
    const found: string[] = [];
    walk(file.tree, (node) => {
      if (isAgainst(node, file)) found.push(`${file.path}:${lineOf(file, node)}`);
    });
    return found;
  });
}

function linesMatching(among: readonly ParsedFile[], pattern: RegExp): string[] {
  return among.flatMap((file) =>
    file.text.split('\n').flatMap((line, at) => (pattern.test(line) ? [`${file.path}:${at + 1}`] : [])),
  );
}

describe('style', () => {
  it(`no file is longer than ${FILE_LINES} lines`, () => {
    const long = files.filter(({ lines, path }) => lines > FILE_LINES && !LONG_FILES.includes(path));
    expect(long.map(({ path, lines }) => `${path}: ${lines}`)).toEqual([]);
  });

  it(`no function of the product is longer than ${FUNCTION_LINES} lines`, () => {
    expect(
      offences(product, (node, file) => {
        if (!('body' in node) || !node.body || !isBlock(node.body as Node)) return false;
        return file.text.slice(node.getStart(file.tree), node.end).split('\n').length > FUNCTION_LINES;
      }),
    ).toEqual([]);
  });

  it('every file of the product begins by saying what it is for', () => {
    const silent = product.filter(({ text }) => !/^(#!.*\n)?\/\*\*/.test(text));
    expect(silent.map(({ path }) => path)).toEqual([]);
  });

  it('no file is named for nothing in particular', () => {
    const vague = /^(utils?|helpers?|common|misc|shared|types)\b/;
    expect(files.map(({ path }) => path).filter((path) => vague.test(basename(path)))).toEqual([]);
  });

  it('the product throws no bare Error', () => {
    expect(
      offences(
        product,
        (node) => isNewExpression(node) && isIdentifier(node.expression) && node.expression.text === 'Error',
      ),
    ).toEqual([]);
  });

  it('nothing is of type any, and no complaint of the compiler is silenced', () => {
    expect(offences(files, (node) => node.kind === SyntaxKind.AnyKeyword)).toEqual([]);
    expect(linesMatching(files, /@ts-(ignore|nocheck)/)).toEqual([]);
  });

  it('nothing caught is dropped without a word', () => {
    expect(
      offences(files, (node, file) => {
        if (!isCatchClause(node) || node.block.statements.length > 0) return false;
        return !file.text.slice(node.block.pos, node.block.end).includes('//');
      }),
    ).toEqual([]);
  });

  it('nothing is left to be done', () => {
    expect(linesMatching(files, /\b(TO[D]O|FIX[M]E|X[X]X)\b/)).toEqual([]);
  });

  it('every test runs, once', () => {
    const names = new Set(['only', 'skip', 'todo', 'fails']);
    expect(
      offences(tests, (node) => {
        if (!isCallExpression(node) || !isPropertyAccessExpression(node.expression)) return false;
        const { expression, name } = node.expression;
        return (
          isIdentifier(expression) && /^(it|test|describe)$/.test(expression.text) && names.has(name.text)
        );
      }),
    ).toEqual([]);
    expect(linesMatching(tests, /\bretry:/)).toEqual([]);
    expect(readFileSync(join(ROOT, 'vitest.config.ts'), 'utf8')).not.toMatch(
      /\b(retry|bail|passWithNoTests)\b/,
    );
  });
});
