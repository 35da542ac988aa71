/**
 * The judge of a hostile volume: everything that can be done with it ends in data or in a `VimgError`, within 2 s of CPU
 * time and 1 GiB of memory each; what a check calls sound is as it was; a repair changes nothing that can be read, and
 * can be undone.
 */
import { rm } from 'node:fs/promises';
import { type ErrorCode, VimgError } from '../../src/base/errors.ts';
import type { MemoryDevice } from '../../src/device/memory-device.ts';
import { checkVolume, type VolumeCheckReport } from '../../src/vims/check-volume.ts';
import { undoRepair } from '../../src/vims/undo-file.ts';
import { VimsVolume } from '../../src/vims/volume.ts';
import { countResources } from '../fuzz/resources.ts';
import { blocksOf, contentOf } from './sample-volume.ts';

const BAD_INPUT: readonly ErrorCode[] = [
  'INVALID_FORMAT',
  'CORRUPT',
  'UNSUPPORTED',
  'LIMIT',
  'NOT_FOUND',
  'OUT_OF_BOUNDS',
  'EXISTS',
  'NO_SPACE',
  'USAGE',
  'READ_ONLY',
  'IO',
];
const FINDINGS_MAX = 10_001;

type Content = ReadonlyMap<string, string>;

/** @param sound what was in the volume before, when a check that finds nothing must mean that it still is */
export async function verdict(
  devices: readonly MemoryDevice[],
  undoPath: string,
  sound: Content | undefined,
): Promise<string | undefined> {
  const problems: string[] = [];
  const attempt = async <T>(what: string, work: () => Promise<T>): Promise<T | undefined> => {
    const tooMuch = countResources();
    try {
      return await work();
    } catch (error) {
      if (error instanceof VimgError && BAD_INPUT.includes(error.code) && !isBug(error.cause))
        return undefined;
      problems.push(`${what}: ${error instanceof Error ? error.stack : String(error)}`);
      return undefined;
    } finally {
      problems.push(...tooMuch().map((problem) => `${what}: ${problem}`));
    }
  };
  const forks = (readOnly = false): MemoryDevice[] => devices.map((device) => device.fork({ readOnly }));
  const report = await attempt('check', () => checkVolume(forks()));
  problems.push(...reportProblems(report));
  const before = await attempt('read', () => readAll(forks(true)));
  if (report?.findings.length === 0 && sound) problems.push(...differences('sound', sound, before));
  await attempt('use', () => use(forks(), attempt));
  const repaired = forks();
  await attempt('repair', () => checkVolume(repaired, { undoPath }));
  await attempt('check again', () => checkVolume(repaired));
  if (before) {
    const after = await attempt('read again', () =>
      readAll(repaired.map((device) => device.fork({ readOnly: true }))),
    );
    problems.push(...differences('repaired', before, after));
  }
  await attempt('undo', () => undoRepair(repaired, undoPath));
  if (JSON.stringify([...blocksOf(repaired)]) !== JSON.stringify([...blocksOf(devices)])) {
    problems.push('undo: not everything is as it was');
  }
  await rm(undoPath, { force: true });
  return problems.length === 0 ? undefined : problems.join('\n');
}

function isBug(cause: unknown): boolean {
  if (cause instanceof VimgError) return isBug(cause.cause);
  return cause instanceof Error && !('errno' in cause) && cause.constructor !== Error;
}

function reportProblems(report: VolumeCheckReport | undefined): string[] {
  if (!report) return [];
  const problems: string[] = [];
  if (report.findings.length > FINDINGS_MAX) problems.push(`check: ${report.findings.length} findings`);
  for (const { message } of report.findings) {
    if (message === '' || /[\x00-\x1f\x7f]/.test(message)) problems.push(`check: message '${message}'`);
  }
  return problems;
}

/** What can be read; a file that cannot be is told by the code of its error. */
async function readAll(devices: MemoryDevice[]): Promise<Content> {
  const volume = await VimsVolume.attach('ds', devices);
  return contentOf(volume);
}

function differences(what: string, before: Content, after: Content | undefined): string[] {
  const problems: string[] = [];
  for (const [path, content] of before) {
    if (content.startsWith('error')) continue;
    if (after?.get(path) !== content)
      problems.push(`${what}: '${path}' was ${content} and is ${after?.get(path)}`);
  }
  return problems;
}

type Attempt = <T>(what: string, work: () => Promise<T>) => Promise<T | undefined>;

/** Attaches it for writing, and does something of everything. */
async function use(devices: readonly MemoryDevice[], attempt: Attempt): Promise<void> {
  const volume = await VimsVolume.attach('ds', devices);
  const { files } = volume;
  await attempt('capacity', () => volume.capacity());
  for (const path of ['ds:vm1/root.vvd', 'ds:vm1/sparse.raw', 'ds:vm1/note', 'ds:new']) {
    await attempt(`write ${path}`, async () => {
      const exists = (await files.status(path)) !== undefined;
      const file = await files.open(path, exists ? {} : { create: 'exclusive' });
      try {
        await file.pwrite(new Uint8Array(300_000).fill(7), 100_000);
        await file.writeZeroes(0, 2_000_000);
        await file.flush();
      } finally {
        await file.close();
      }
    });
  }
  await attempt('copy', () => files.copy('ds:vm1/copy.vvd', 'ds:copy'));
  await attempt('rename', () => files.rename('ds:vm1/empty', 'ds:many/empty'));
  await attempt('rename folder', () => files.rename('ds:vm1', 'ds:many/vm1'));
  await attempt('remove', () => files.remove('ds:linked'));
  for (const path of ['ds:vm1/sparse.raw', 'ds:many/vm1/sparse.raw', 'ds:vm1/root.vvd']) {
    await attempt('remove', () => files.remove(path));
  }
  await attempt('grow', async () => {
    await devices[1]?.resize(devices[1].size * 2);
    await volume.grow();
  });
  await attempt('detach', () => volume.detach());
  await attempt('check after use', () => checkVolume(devices));
}
