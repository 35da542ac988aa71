/**
 * What a day of simulated use does to a volume: `volume-day GIB SEED`, GIB being the size of the volume, prints a
 * {@link DayResult} as JSON. Files of less than 64 MiB are left out.
 */
import { checkVolume } from '../../src/vims/check-volume.ts';
import { formatVolume } from '../../src/vims/format-volume.ts';
import { VimsVolume } from '../../src/vims/volume.ts';
import { Day } from '../day/day.ts';
import { copyParts, readInOrder } from '../day/fresh-copy.ts';
import { type FileLayout, layoutOfFiles } from '../day/layout-of-files.ts';
import { SketchedLun } from '../day/sketched-lun.ts';
import { GiB, MiB } from '../work.ts';

const CLUSTERS_MIN = 64;

/** Files of one kind. */
interface Sums {
  files: number;
  gibibytes: number;
  /** A GiB: runs of clusters that follow each other in the file and on the device. */
  runs: number;
  /** A GiB: those that there must be, since the file has holes between them. */
  atLeast: number;
  /** Clusters of the longest run of each file: the median. */
  longest: number;
  /** MiB a second that they are read with from front to back, and that files written in order would be. */
  aged: number;
  fresh: number;
}

interface Measured extends FileLayout {
  readonly agedMs: number;
  readonly freshMs: number;
  readonly readMiB: number;
}

const [gibibytes = '64', seed = '1'] = process.argv.slice(2);
const lun = new SketchedLun(Number(gibibytes) * GiB);
const { lowest, highest, copied } = await Day.spend(lun, Number(seed));
const [finding] = (await checkVolume([lun])).findings;
if (finding) throw new Error(finding.message);
const files = await measure((await layoutOfFiles(lun)).filter(({ clusters }) => clusters >= CLUSTERS_MIN));
const kinds: Readonly<Record<string, (path: string) => boolean>> = {
  all: () => true,
  vvd: (path) => path.endsWith('.vvd'),
  raw: (path) => /^(files|data|log)-.*raw$/.test(path) && !copied.includes(path),
  copied: (path) => copied.includes(path),
  batch: (path) => path.startsWith('batch'),
};
const result: Record<string, Sums | number> = { lowest, highest };
for (const [kind, isOne] of Object.entries(kinds))
  result[kind] = sumsOf(files.filter(({ path }) => isOne(path)));
process.stdout.write(`${JSON.stringify(result, undefined, 2)}\n`);

async function measure(layouts: readonly FileLayout[]): Promise<Measured[]> {
  const empty = new SketchedLun(lun.size);
  await formatVolume([empty]);
  const aged = await VimsVolume.attach('aged', [lun]);
  const fresh = await VimsVolume.attach('fresh', [empty]);
  const measured: Measured[] = [];
  for (const layout of layouts) {
    const file = await aged.files.open(`aged:${layout.path}`, { readOnly: true });
    const copy = await fresh.files.open(`fresh:${layout.path}`, { create: 'exclusive' });
    await copyParts(file, copy);
    const before = [lun.readMs, empty.readMs, lun.readBytes] as const;
    await readInOrder(file);
    await readInOrder(copy);
    measured.push({
      ...layout,
      agedMs: lun.readMs - before[0],
      freshMs: empty.readMs - before[1],
      readMiB: (lun.readBytes - before[2]) / MiB,
    });
    await file.close();
    await copy.close();
  }
  await aged.detach();
  await fresh.detach();
  return measured;
}

function sumsOf(some: readonly Measured[]): Sums {
  const total = (of: (file: Measured) => number): number => some.reduce((sum, file) => sum + of(file), 0);
  const size = total(({ clusters }) => clusters) / 1024;
  const read = total(({ readMiB }) => readMiB);
  const rounded = (value: number): number => Math.round(value * 10) / 10;
  const longest = some.map((file) => file.longest).toSorted((one, other) => one - other);
  return {
    files: some.length,
    gibibytes: rounded(size),
    runs: rounded(total(({ runs }) => runs) / size),
    atLeast: rounded(total(({ islands }) => islands) / size),
    longest: longest[Math.floor(longest.length / 2)] ?? 0,
    aged: rounded((read / total(({ agedMs }) => agedMs)) * 1000),
    fresh: rounded((read / total(({ freshMs }) => freshMs)) * 1000),
  };
}
