/**
 * The README's examples, run. Blocks marked `sh session` are commands with what they print, run in order in one new
 * folder; `…` stands for anything within a line, a line `…` for any lines. Blocks marked `ts` are programs, compiled
 * against the types of the built package and run; a `text` block behind one is what it prints.
 */
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { dir } from 'tmp-promise';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runShell, sessionEnvironment } from '../cli/session.ts';
import { ROOT } from '../structure/source-files.ts';
import { compilePrograms } from './programs.ts';

interface Block {
  readonly kind: string;
  readonly line: number;
  readonly text: string;
}

const readme = readFileSync(join(ROOT, 'README.md'), 'utf8');
const blocks: Block[] = [...readme.matchAll(/^```([a-z ]+)\n(.*?)^```$/gms)].map((match) => ({
  kind: match[1] as string,
  line: readme.slice(0, match.index).split('\n').length,
  text: match[2] as string,
}));

let folder: string;
let cleanup: () => Promise<void>;
let environment: NodeJS.ProcessEnv;

beforeAll(async () => {
  ({ path: folder, cleanup } = await dir({ unsafeCleanup: true, prefix: 'vimg-readme-' }));
  environment = sessionEnvironment(folder);
});
afterAll(() => cleanup());

interface Command {
  readonly line: number;
  readonly command: string;
  readonly output: string;
}

function commandsOf({ text, line }: Block): Command[] {
  const found: { line: number; command: string; output: string }[] = [];
  for (const [index, shown] of text.split('\n').slice(0, -1).entries()) {
    const last = found.at(-1);
    if (shown.startsWith('$ ')) {
      found.push({ line: line + 1 + index, command: shown.slice(2), output: '' });
    } else if (last) last.output += `${shown}\n`;
  }
  return found;
}

/** What is shown as a pattern for what is printed. */
function patternOf(shown: string): RegExp {
  const lines = shown.split('\n').slice(0, -1);
  const parts = lines.map((line) => {
    if (line === '…') return '(?:.*\\n)*?';
    return `${line.replace(/[.*+?^${}()|[\]\\]/g, '\\$&').replaceAll('…', '.*')}\\n`;
  });
  return new RegExp(`^${parts.join('')}$`);
}

describe('README.md', () => {
  it('has examples of every kind', () => {
    const kinds = new Set(blocks.map(({ kind }) => kind));
    expect([...kinds].sort()).toEqual(['sh', 'sh session', 'text', 'ts']);
  });

  it('shows commands that do what it shows', async () => {
    const work = join(folder, 'work');
    mkdirSync(work);
    for (const { line, command, output } of blocks
      .filter(({ kind }) => kind === 'sh session')
      .flatMap(commandsOf)) {
      const { stdout, stderr } = await runShell(`exec 2>&1; ${command}`, work, environment);
      expect(stdout + stderr, `README.md:${line}: ${command}`).toMatch(patternOf(output));
    }
  });

  it('shows programs that compile and print what it shows', async () => {
    const place = join(folder, 'library');
    mkdirSync(place);
    const programs = blocks.flatMap((block, index) => (block.kind === 'ts' ? [{ block, index }] : []));
    const texts = new Map(programs.map(({ block }) => [`line-${block.line}`, block.text]));
    expect(await compilePrograms(place, texts)).toBe('');
    for (const { block, index } of programs) {
      const run = await runShell(`node line-${block.line}.mjs`, place, environment);
      const next = blocks[index + 1];
      const shown = next?.kind === 'text' ? next.text : '';
      expect(run.status, `README.md:${block.line}: ${run.stderr}`).toBe(0);
      expect(run.stdout, `README.md:${block.line}`).toMatch(patternOf(shown));
    }
  });

  it('links to files that are there, and ARCHITECTURE.md names such files', () => {
    const architecture = readFileSync(join(ROOT, 'ARCHITECTURE.md'), 'utf8');
    const paths = [...architecture.matchAll(/`((?:src|formats|test|bin)\/[\w./-]+)`/g)].map(
      (match) => match[1],
    );
    expect(paths.filter((path) => !existsSync(join(ROOT, path as string)))).toEqual([]);
    const targets = [...readme.matchAll(/\]\(([^)#]+)\)/g)].map((match) => match[1] as string);
    expect(targets.filter((target) => !target.startsWith('http')).length).toBeGreaterThan(3);
    for (const target of targets) expect(() => readFileSync(join(ROOT, target)), target).not.toThrow();
  });

  it('and ARCHITECTURE.md name only scripts that there are', () => {
    const architecture = readFileSync(join(ROOT, 'ARCHITECTURE.md'), 'utf8');
    const named = [...`${readme}${architecture}`.matchAll(/npm run ([a-z:]+)/g)].map(
      (match) => match[1] as string,
    );
    const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { scripts: object };
    expect(named.filter((name) => !(name in scripts))).toEqual([]);
  });

  it('names every function of the library and every verb', async () => {
    const names = Object.keys(await import('vimg'));
    expect(names.filter((name) => !new RegExp(`\\b${name}\\b`).test(readme))).toEqual([]);
    const help = await runShell('vimg --help', folder, environment);
    const verbs = [...help.stdout.matchAll(/^ {2}([a-z]+) {2,}[a-z]/gm)].map((match) => match[1] as string);
    expect(verbs.length).toBeGreaterThan(15);
    expect(verbs.filter((verb) => !new RegExp(`\\b${verb}\\b`).test(readme))).toEqual([]);
  });
});
