/** `npm run bench`: vimg against its peers, side by side in one run. */
import { tmpdir } from 'node:os';
import { parseArgs } from 'node:util';
import { VimgError } from '../src/base/errors.ts';
import { describeMachine } from './machine.ts';
import { type Measurement, measureBout } from './measure.ts';
import { profileRun } from './profile.ts';
import { tableOf } from './report.ts';
import type { Size, Work } from './work.ts';
import { works } from './works/index.ts';
import { Workshop } from './workshop.ts';

const HELP = `npm run bench -- [options]: vimg against its peers, side by side in one run

  --only NAME[,NAME…]     these works; --list shows them
  --scale small|full      small leaves out the largest size of each work
  --pairs N               runs of each side, in turn (default 5)
  --dir DIR               where disks are made; a full run needs about 20 GB, and a quiet machine for an hour
  --output table|json     the table goes to stdout, what is being done to stderr
  --profile               also say where the time goes
  --list, --help
`;

interface Plan {
  readonly chosen: readonly Work[];
  readonly small: boolean;
  readonly pairs: number;
  readonly profile: boolean;
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      scale: { type: 'string', default: 'full' },
      only: { type: 'string', multiple: true },
      pairs: { type: 'string', default: '5' },
      dir: { type: 'string', default: tmpdir() },
      output: { type: 'string', default: 'table' },
      profile: { type: 'boolean', default: false },
      list: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return;
  }
  if (values.list) {
    for (const work of works) process.stdout.write(`${work.name}: ${work.title}\n`);
    return;
  }
  const plan: Plan = {
    chosen: chooseWorks(values.only ?? []),
    small: oneOf(values.scale, ['small', 'full']) === 'small',
    pairs: pairsOf(values.pairs),
    profile: values.profile,
  };
  const machine = await describeMachine(values.dir);
  const shop = new Workshop({ parent: values.dir, hasPeer: machine.peer !== undefined, say });
  const measurements: Measurement[] = [];
  const finish = (): void => {
    shop.remove();
    const asJson = `${JSON.stringify({ machine, measurements }, undefined, 2)}\n`;
    process.stdout.write(values.output === 'json' ? asJson : tableOf(machine, measurements));
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      finish(); // what was measured so far was not in vain
      process.exit(1);
    });
  }
  try {
    await measureAll(shop, plan, measurements);
  } finally {
    finish();
  }
}

function oneOf(given: string, choices: readonly string[]): string {
  if (choices.includes(given)) return given;
  throw new VimgError('USAGE', `'${given}' is none of ${choices.join(', ')}`);
}

function pairsOf(text: string): number {
  const pairs = Number(text);
  if (Number.isInteger(pairs) && pairs > 0) return pairs;
  throw new VimgError('USAGE', `'${text}' is no number of pairs`);
}

function chooseWorks(only: readonly string[]): readonly Work[] {
  const names = only.flatMap((text) => text.split(','));
  for (const name of names) {
    if (!works.some((work) => work.name === name))
      throw new VimgError('USAGE', `no work is named ${name}`, { hint: '--list shows them' });
  }
  return names.length === 0 ? works : works.filter((work) => names.includes(work.name));
}

/** A work that fails is told and left out: the others are still worth their time. */
async function measureAll(shop: Workshop, plan: Plan, measurements: Measurement[]): Promise<void> {
  for (const work of plan.chosen) {
    for (const size of plan.small ? work.sizes.slice(0, 2) : work.sizes) {
      try {
        const found = await measureOne(shop, work, size, plan);
        if (found) measurements.push(found);
      } catch (error) {
        say(`${work.name}, ${size.label}: failed: ${error instanceof Error ? error.message : String(error)}`);
        process.exitCode = 1;
      }
    }
  }
}

async function measureOne(
  shop: Workshop,
  work: Work,
  size: Size,
  plan: Plan,
): Promise<Measurement | undefined> {
  const bout = await work.prepare(shop, size);
  if (bout === undefined) {
    say(`${work.name}, ${size.label}: cannot be measured here`);
    return undefined;
  }
  try {
    const pairs = work.pairs === 'once' ? 1 : plan.pairs * (work.pairs ?? 1);
    const found = await measureBout(shop, work, size, bout, pairs);
    const ratio = found.ratio ? `, ratio ${found.ratio.ofMedians.toFixed(2)}` : '';
    say(`${work.name}, ${size.label}: ${Math.round(found.ours.summary.median)} ${work.metric}${ratio}`);
    const isNode = bout.ours.command.program === process.execPath;
    if (plan.profile && isNode) for (const line of await profileRun(shop, bout.ours)) say(line);
    return found;
  } finally {
    await bout.finish?.();
  }
}

try {
  await main();
} catch (error) {
  const isUsage =
    (error instanceof VimgError && error.code === 'USAGE') ||
    String((error as NodeJS.ErrnoException).code).startsWith('ERR_PARSE_ARGS');
  if (!isUsage) throw error;
  say(`bench: ${(error as Error).message}\n\n${HELP}`);
  process.exitCode = 1;
}
