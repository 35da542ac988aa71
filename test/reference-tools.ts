/**
 * The one place that decides what happens when a test needs something that this machine lacks.
 *
 * On a developer's machine such tests are skipped, and say why. In CI (the variable `CI` is set) a missing reference
 * tool is a failure: interoperability must not go untested unnoticed.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { accessSync, constants, mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';

/**
 * Says whether to skip tests that need these programs: `describe.skipIf(requireTool('qemu-img'))(…)`.
 *
 * @throws Error under CI when one is missing
 */
export function requireTool(...names: readonly string[]): boolean {
  const missing = names.filter((name) => findTool(name) === undefined);
  if (missing.length === 0) return false;
  const reason = `${missing.join(', ')} not found: install qemu-utils and the packages named in .ci/run`;
  const { CI } = process.env;
  if (CI) throw new Error(reason);
  process.stderr.write(`skipped: ${reason}\n`);
  return true;
}

/** Says whether to skip tests that mount file systems, which takes root and a machine that allows it. */
export function requireMount(): boolean {
  const point = mkdtempSync(join(tmpdir(), 'vimg-mount-'));
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', point]).status === 0;
  if (mounted) execFileSync('umount', [point]);
  rmdirSync(point);
  if (!mounted) process.stderr.write('skipped: mounting a file system needs root\n');
  return !mounted;
}

/** Says whether to skip tests that need loop devices. */
export function requireLoopDevice(): boolean {
  const found = spawnSync('losetup', ['--find']).status === 0;
  if (!found) process.stderr.write('skipped: no loop device to be had (losetup, root)\n');
  return !found;
}

/** The path of a program, also of those that only root has in its path. */
function findTool(name: string): string | undefined {
  const { PATH = '' } = process.env;
  const folders = [...PATH.split(delimiter), '/usr/sbin', '/sbin'];
  return folders
    .map((folder) => join(folder, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false; // not in this folder
      }
    });
}
