/** A volume after a day of simulated use: in how many pieces files lie, and how quickly that is read. */
import { writeFile } from 'node:fs/promises';
import { runQuietly } from '../process-run.ts';
import type { Contestant, Goal, Size, Work } from '../work.ts';
import type { Workshop } from '../workshop.ts';

const SEED = '1';

/** What the program prints of files of one kind. */
interface KindOfFiles {
  readonly runs: number;
  readonly atLeast: number;
  readonly aged: number;
  readonly fresh: number;
}

type DayResult = Readonly<Record<'all' | 'vvd' | 'raw' | 'copied' | 'batch', KindOfFiles>>;

/** One day is simulated for all works: it takes a minute, and is the same each time. */
function day(shop: Workshop, { units }: Size): Promise<string> {
  return shop.stock(`day-${units}.json`, async (path) => {
    const { command } = shop.program('volume-day', [String(units), SEED]);
    await writeFile(path, await runQuietly(command.program, ...command.args));
  });
}

function contestant(path: string, label: string, read: (result: DayResult) => number): Contestant {
  return {
    label,
    command: { program: 'cat', args: [path] },
    readRate: (stdout) => read(JSON.parse(stdout) as DayResult),
  };
}

/** Where a file goes on and the device does not, a GiB of it. */
const breaksIn = ({ runs, atLeast }: KindOfFiles): number => Math.round((runs - atLeast) * 10) / 10;

function sizes(goal: Goal): Size[] {
  return [16, 64].map((units) => ({ units, label: `${units} GiB`, goal: units === 64 ? goal : undefined }));
}

export const volumeDayWorks: readonly Work[] = [
  {
    name: 'volume-day',
    title: 'volume after a day of simulated use: breaks in its files',
    metric: '/GiB',
    sizes: sizes({ kind: '/GiB at most', value: 30 }),
    pairs: 'once',
    async prepare(shop, size) {
      const ours = contestant(await day(shop, size), 'volume', ({ all }) => breaksIn(all));
      return {
        ours: {
          ...ours,
          readDetails: (stdout) => {
            const { raw, vvd, copied, batch } = JSON.parse(stdout) as DayResult;
            return {
              raw: breaksIn(raw),
              vvd: breaksIn(vvd),
              copied: breaksIn(copied),
              batch: breaksIn(batch),
            };
          },
        },
      };
    },
  },
  {
    name: 'volume-day-read',
    title:
      'the same: MiB/s of reading all files from front to back, off a disk with 200 MiB/s and seeks of 8 ms',
    metric: '/s',
    sizes: sizes({ kind: 'ratio at least', value: 0.8 }),
    pairs: 'once',
    async prepare(shop, size) {
      const path = await day(shop, size);
      return {
        ours: contestant(path, 'aged', ({ all }) => all.aged),
        peer: contestant(path, 'written in order', ({ all }) => all.fresh),
      };
    },
  },
];
