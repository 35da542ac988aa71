/**
 * Random command lines, given to qemu-img and to vimg under that name, each in a folder of its own: both have to say
 * the same, end with the same exit status, and leave disks with the same content.
 *
 * `VIMG_COMMANDS=20000 npx vitest run test/interop/random-commands.test.ts` tries more of them, `VIMG_SEED` others.
 */
import { mkdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type DirectoryResult, dir } from 'tmp-promise';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SeededRandom } from '../../src/base/random.ts';
import { requireTool } from '../reference-tools.ts';
import { commandLine, type Disk, type Line } from './command-lines.ts';
import { runTool, runVimg, type Said } from './tools.ts';

const skip = requireTool('qemu-img', 'qemu-io');
const { VIMG_COMMANDS = '120', VIMG_SEED = '1' } = process.env;
/** Commands that are given to one set of disks. */
const ROUND = 40;
const SIDES = ['theirs', 'ours'] as const;

let home: string;
let folder: DirectoryResult;

beforeAll(async () => {
  home = process.cwd();
  folder = await dir({ unsafeCleanup: true, prefix: 'vimg-commands' });
});

afterAll(async () => {
  process.chdir(home);
  await folder.cleanup();
});

describe.skipIf(skip)('random command lines', () => {
  const rounds = Math.ceil(Number(VIMG_COMMANDS) / ROUND);
  const seeds = Array.from({ length: rounds }, (_, index) => Number(VIMG_SEED) + index);
  it.each(seeds)('VIMG_SEED=%i VIMG_COMMANDS=1', { timeout: 60_000 }, async (seed) => {
    const random = new SeededRandom(seed);
    const disks = new Map<string, Disk>();
    const history: string[] = [];
    for (const side of SIDES) mkdirSync(join(folder.path, side));
    try {
      for (let count = 0; count < ROUND; count++) {
        const line = commandLine(random, [...disks.values()]);
        history.push(`${line.program} ${line.args.join(' ')}`);
        await giveBoth(line, disks, history);
      }
    } finally {
      process.chdir(home);
      for (const side of SIDES) rmSync(join(folder.path, side), { recursive: true });
    }
  });
});

async function giveBoth(line: Line, disks: Map<string, Disk>, history: readonly string[]): Promise<void> {
  const { program, args, target, told } = line;
  process.chdir(join(folder.path, 'theirs'));
  const theirs = await runTool(program, args);
  // what only looks is given the same disks, for where things are stored is up to who writes them
  process.chdir(join(folder.path, target === undefined ? 'theirs' : 'ours'));
  const ours = program === 'qemu-img' ? await runVimg(args, 'qemu-img') : await runTool(program, args);
  const shown = (said: Said): unknown => ({
    stdout: said.status > 1 || (said.status === 1 && args[0] !== 'compare') ? '' : told(said.stdout),
    status: said.status,
  });
  const about = `${history.join('\n')}\nqemu-img: ${theirs.stderr}\nvimg: ${ours.stderr}\n`;
  expect(shown(ours), about).toEqual(shown(theirs));
  if (target === undefined || theirs.status !== 0) return;
  disks.set(target.name, target);
  if (line.base !== undefined) disks.set(line.base.name, { ...line.base, base: true });
  expect(await contentOf(target), about).toBe('the same');
}

/** What qemu-img finds when it compares what both made; and whether what vimg made is sound. */
async function contentOf({ name, format, large }: Disk): Promise<string> {
  const [theirs, ours] = SIDES.map((side) => join(folder.path, side, name)) as [string, string];
  if (format === 'raw') {
    if (statSync(theirs).size !== statSync(ours).size) return `another size: ${statSync(ours).size}`;
    if (large) return 'the same';
  } else {
    const checked = await runTool('qemu-img', ['check', '-q', '-f', format, ours]);
    if (checked.status !== 0) return `not sound: ${checked.stderr}`;
  }
  const compared = await runTool('qemu-img', ['compare', '-f', format, '-F', format, theirs, ours]);
  return compared.stdout === 'Images are identical.\n' ? 'the same' : compared.stdout + compared.stderr;
}
