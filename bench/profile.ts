/** Where the time of a run of ours goes: one more run under V8's profiler, after those that count. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runProcess } from './process-run.ts';
import type { Contestant } from './work.ts';
import type { Workshop } from './workshop.ts';

interface CallFrame {
  readonly functionName: string;
  readonly url: string;
  readonly lineNumber: number;
}

/** A .cpuprofile file, as `node --cpu-prof` writes it: samples name nodes, deltas are microseconds. */
interface CpuProfile {
  readonly nodes: readonly { readonly id: number; readonly callFrame: CallFrame }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

const FUNCTIONS_SHOWN = 12;
const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** The functions with the most time of their own on the main thread, one a line. */
export async function profileRun(shop: Workshop, side: Contestant): Promise<string[]> {
  await shop.emptyFolder('profile');
  const { program, args } = side.command;
  await side.prepare?.();
  try {
    const flags = ['--cpu-prof', `--cpu-prof-dir=${shop.path('profile')}`];
    await runProcess({ program, args: [...flags, ...args] });
  } finally {
    await side.cleanUp?.();
  }
  const [file] = await readdir(shop.path('profile'));
  if (file === undefined) return [];
  return hottest(JSON.parse(await readFile(join(shop.path('profile'), file), 'utf8')) as CpuProfile);
}

function hottest(profile: CpuProfile): string[] {
  const frames = new Map(profile.nodes.map((node) => [node.id, nameOf(node.callFrame)]));
  const times = new Map<string, number>();
  let total = 0;
  for (const [i, id] of profile.samples.entries()) {
    const name = frames.get(id) ?? '';
    const delta = profile.timeDeltas[i] ?? 0;
    times.set(name, (times.get(name) ?? 0) + delta);
    total += delta;
  }
  const sorted = [...times].sort((a, b) => b[1] - a[1]).slice(0, FUNCTIONS_SHOWN);
  return sorted.map(([name, time]) => {
    const share = `${((100 * time) / total).toFixed(1)} %`;
    return `${share.padStart(7)} ${(time / 1000).toFixed(0).padStart(7)} ms  ${name}`;
  });
}

function nameOf({ functionName, url, lineNumber }: CallFrame): string {
  const name = functionName || '(anonymous)';
  const path = url.startsWith('file:') ? fileURLToPath(url).replace(ROOT, '') : url;
  return path === '' ? name : `${name} ${path}:${lineNumber + 1}`;
}
