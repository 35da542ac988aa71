/** A partitioned disk with an ext4 file system, made, changed, checked and read by the tools of e2fsprogs. */
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './programs.ts';

const MiB = 1024 * 1024;
const SECTOR = 512;
const PARTITION_START: number = MiB;

/** What debugfs and e2fsck call a file system that begins inside a file. */
function fileSystemOf(disk: string): string {
  return `${disk}?offset=${PARTITION_START}`;
}

/** Writes a disk of `size` bytes with a GUID partition table, one partition, and the content of `tree` in it. */
export async function makeExt4Disk(folder: string, disk: string, size: number, tree: string): Promise<void> {
  writeFileSync(join(folder, disk), '');
  truncateSync(join(folder, disk), size);
  const partition = size - PARTITION_START - MiB;
  const table = `label: gpt\nstart=${PARTITION_START / SECTOR}, size=${partition / SECTOR}, type=L, name=root\n`;
  writeFileSync(join(folder, 'table'), table);
  await run(folder, 'sh', '-c', `sfdisk --quiet ${disk} < table`);
  const place = ['-E', `offset=${PARTITION_START}`, disk, `${partition / 1024}k`];
  await run(folder, 'mke2fs', '-q', '-F', '-t', 'ext4', '-b', '4096', '-d', tree, ...place);
}

/** @throws Error unless the file system is found to be sound */
export async function checkExt4(folder: string, disk: string): Promise<void> {
  await run(folder, 'e2fsck', '-f', '-n', fileSystemOf(disk));
}

/** Copies everything out of the file system, without mounting it. */
export async function readExt4(folder: string, disk: string, target: string): Promise<void> {
  mkdirSync(join(folder, target));
  await run(folder, 'debugfs', '-R', `rdump / ${target}`, fileSystemOf(disk));
}

/** Runs commands of debugfs that change the file system. @throws Error when one of them failed */
export async function changeExt4(folder: string, disk: string, commands: readonly string[]): Promise<void> {
  writeFileSync(join(folder, 'commands'), `${commands.join('\n')}\n`);
  const { stderr } = await run(folder, 'debugfs', '-w', '-f', 'commands', fileSystemOf(disk));
  const [, ...complaints] = stderr.trimEnd().split('\n'); // the first line is its version
  if (complaints.length > 0) throw new Error(`debugfs: ${complaints.join('\n')}`);
}

/** Inode number and number of links of a file. */
export async function linksOf(folder: string, disk: string, path: string): Promise<[number, number]> {
  const { stdout } = await run(folder, 'debugfs', '-R', `stat ${path}`, fileSystemOf(disk));
  const number = (pattern: RegExp): number => Number(pattern.exec(stdout)?.[1]);
  return [number(/^Inode: (\d+)/m), number(/Links: (\d+)/)];
}
