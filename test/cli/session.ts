/**
 * Command line sessions as text. A session is a list of commands with what they print, as a user would see it:
 *
 *     $ vimg resize disk.vvd 5M
 *     ! vimg: Use the --shrink option to perform a shrink operation.
 *     ! hint: <any>
 *     [1]
 *
 * Lines of stderr begin with `! `; `[1]` is the exit status when it is not 0; a line `...` stands for any lines; `<n>`,
 * `<uuid>`, `<size>`, `<time>`, `<dir>` and `<any>` stand for what changes. Lines that begin with `#` are comments;
 * blank lines at the end of an output do not count.
 * Commands run in a shell, each session in a new folder, with `vimg` and `qemu-img` (vimg under that name) in the path.
 */
import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const ROOT = resolve(import.meta.dirname, '../..');

/** The built tool that sessions run: what package.json names as the command. */
export const BUILT_TOOL: string = join(
  ROOT,
  (JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { bin: { vimg: string } }).bin.vimg,
);

interface Expectation {
  readonly line: number;
  readonly command: string;
  readonly stdout: readonly string[];
  readonly stderr: readonly string[];
  readonly status: number;
}

export interface Outcome {
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number;
}

/** Runs every command of a session file. @throws Error that shows the first command whose outcome differs */
export async function runSession(path: string, folder: string): Promise<number> {
  const expectations = parseSession(readFileSync(path, 'utf8'));
  const environment = sessionEnvironment(folder);
  const work = join(folder, 'work');
  mkdirSync(work);
  for (const expected of expectations) {
    const outcome = await runShell(expected.command, work, environment);
    const problem = compareOutcome(expected, outcome);
    if (problem !== undefined)
      throw new Error(`${path}:${expected.line}: ${problem}\n${show(expected, outcome)}`);
  }
  return expectations.length;
}

/** A folder with `vimg` and `qemu-img` in front of the path, and a fixed language and time zone. */
export function sessionEnvironment(folder: string): NodeJS.ProcessEnv {
  if (!existsSync(BUILT_TOOL)) throw new Error(`${BUILT_TOOL} is missing: run \`npm run build\` first`);
  const bin = join(folder, 'bin');
  mkdirSync(bin);
  writeFileSync(join(bin, 'vimg'), `#!/bin/sh\nexec ${process.execPath} ${BUILT_TOOL} "$@"\n`);
  mkdirSync(join(bin, 'link'));
  symlinkSync(BUILT_TOOL, join(bin, 'link', 'qemu-img'));
  writeFileSync(join(bin, 'qemu-img'), `#!/bin/sh\nexec ${process.execPath} ${bin}/link/qemu-img "$@"\n`);
  for (const name of ['vimg', 'qemu-img']) chmodSync(join(bin, name), 0o755);
  const { PATH = '' } = process.env;
  const own = { VIMG_ALLOW: '', VIMG_CONFIG: join(folder, 'config') };
  return { ...process.env, PATH: `${bin}:${PATH}`, LC_ALL: 'C.UTF-8', TZ: 'UTC', ...own };
}

export async function runShell(
  command: string,
  cwd: string,
  environment: NodeJS.ProcessEnv,
): Promise<Outcome> {
  const child = spawn('/bin/bash', ['-c', command], {
    cwd,
    env: environment,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
  const status = await new Promise<number>((done, fail) => {
    child.once('error', fail);
    child.once('close', (code, signal) => done(code ?? (signal === null ? 1 : 128)));
  });
  return { stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString(), status };
}

function parseSession(text: string): Expectation[] {
  const sections: { line: number; command: string; rest: string[] }[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    if (line.startsWith('#') || (line === '' && sections.length === 0)) continue;
    if (line.startsWith('$ ')) sections.push({ line: index + 1, command: line.slice(2), rest: [] });
    else sections.at(-1)?.rest.push(line);
  }
  return sections.map(({ line, command, rest }) => {
    while (rest.at(-1) === '') rest.pop();
    const status = /^\[([0-9]+)\]$/.exec(rest.at(-1) ?? '')?.[1];
    if (status !== undefined) rest.pop();
    return {
      line,
      command,
      stdout: rest.filter((each) => !isStderr(each)),
      stderr: rest.filter(isStderr).map((each) => each.slice(2)),
      status: Number(status ?? 0),
    };
  });
}

function isStderr(line: string): boolean {
  return line.startsWith('! ') || line === '!';
}

function compareOutcome(expected: Expectation, outcome: Outcome): string | undefined {
  if (outcome.status !== expected.status) return `exit status ${outcome.status}, expected ${expected.status}`;
  if (!patternOf(expected.stdout).test(outcome.stdout.replace(/\n{2,}$/, '\n'))) return 'stdout differs';
  return patternOf(expected.stderr).test(outcome.stderr) ? undefined : 'stderr differs';
}

const PLACEHOLDERS: Readonly<Record<string, string>> = {
  n: '[0-9]+',
  uuid: '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}',
  size: '[0-9.]+ (?:B|KiB|MiB|GiB|TiB)',
  time: '[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}',
  dir: '/[^ ]*/work',
  any: '.*',
};

/** The lines as a pattern for the whole output. */
function patternOf(lines: readonly string[]): RegExp {
  const parts = lines.map((line) => (line === '...' ? '(?:.*\\n)*?' : `${linePattern(line)}\\n`));
  return new RegExp(`^${parts.join('')}$`);
}

function linePattern(line: string): string {
  return line
    .split(/(<[a-z]+>)/)
    .map((part) => PLACEHOLDERS[part.slice(1, -1)] ?? part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
    .join('');
}

function show(expected: Expectation, outcome: Outcome): string {
  const errors = outcome.stderr.split('\n').slice(0, -1);
  const wanted = [...expected.stdout, ...expected.stderr.map((line) => `! ${line}`)];
  return [
    `$ ${expected.command}`,
    'expected:',
    ...wanted.map((line) => `  ${line}`),
    'got:',
    ...outcome.stdout
      .split('\n')
      .slice(0, -1)
      .map((line) => `  ${line}`),
    ...errors.map((line) => `  ! ${line}`),
    `  [${outcome.status}]`,
  ].join('\n');
}
