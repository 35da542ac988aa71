/**
 * A real guest: Linux on a linked clone that `vimg serve` serves to QEMU. It is killed, its server is killed, its disk
 * is snapshotted and grown while it writes; its file system is sound every time. The tests go on from
 * each other: it is booting that takes the time.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cloneImage, convertImage } from '../../src/index.ts';
import { BUILT_TOOL } from '../cli/session.ts';
import { requireTool } from '../reference-tools.ts';
import { type BootFiles, bootFiles, Guest } from './guest.ts';

const MiB = 1024 * 1024;
const SIZE_MIB = 192;
const GROWN_MIB = 320;
const missing = requireTool('qemu-system-x86_64', 'busybox', 'mke2fs', 'e2fsck', 'debugfs', 'dpkg');

describe.skipIf(missing)('a guest on a linked clone', () => {
  let folder: string;
  let boot: BootFiles;
  let guest: Guest | undefined;
  const at = (name: string): string => join(folder, name);

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'vimg-guest-'));
    boot = bootFiles(folder);
    // a golden image: half of a file system is made here, the guest grows it
    execFileSync('truncate', ['-s', `${SIZE_MIB}M`, at('golden.raw')]);
    execFileSync('mke2fs', ['-q', '-t', 'ext4', '-F', at('golden.raw'), `${SIZE_MIB / 2}M`]);
    await convertImage(at('golden.raw'), at('golden.vvd'), { sourceFormat: 'raw', seal: true });
  });
  afterAll(async () => {
    await guest?.kill();
    rmSync(folder, { recursive: true, force: true });
  });

  /** Boots on the disk; everything of the guest before is gone. */
  async function start(disk: string): Promise<Guest> {
    await guest?.kill();
    const own = mkdtempSync(join(folder, 'guest-'));
    guest = await Guest.boot(at(disk), boot, own);
    return guest;
  }

  /** Replays the journal, then looks through everything. */
  async function isClean(running: Guest): Promise<void> {
    await running.run('e2fsck -p /dev/vda || [ $? -eq 1 ]');
    await running.run('e2fsck -fn /dev/vda');
  }

  it('grows and fills its file system, is killed, and finds it sound', async () => {
    await cloneImage(at('golden.vvd'), at('killed.vvd'));
    const first = await start('killed.vvd');
    await first.run('e2fsck -fp /dev/vda && resize2fs /dev/vda && mount /dev/vda /mnt');
    await first.run(
      'for i in 1 2 3 4 5; do dd if=/dev/urandom of=/mnt/$i bs=64k count=40; done 2>/dev/null; sync',
    );
    const sums = await first.run('cd /mnt; md5sum [1-5]; cd /');
    await first.start('while :; do dd if=/dev/urandom of=/mnt/more bs=64k count=80; rm /mnt/more; done');
    await delay(700);
    const second = await start('killed.vvd');
    await isClean(second);
    await second.run('mount /dev/vda /mnt');
    expect(await second.run('cd /mnt; md5sum [1-5]; cd /')).toBe(sums);
    expect(Number(await second.run("df -m /mnt | awk 'END { print $2 }'"))).toBeGreaterThan(SIZE_MIB / 2);
  });

  it('survives kill -9 of its server: what was synced is there', async () => {
    const first = guest as Guest;
    // each number is synced before the next one begins, and told
    await first.start(
      'i=0; while :; do i=$((i+1)); echo $i > /mnt/counter; sync; echo $i > /tmp/new; mv /tmp/new /tmp/synced; done',
    );
    const wait = 'until [ -f /tmp/synced ] && [ $(cat /tmp/synced) -gt 5 ]; do sleep 0.1; done';
    const synced = Number(await first.run(`${wait}; cat /tmp/synced`));
    first.server.kill('SIGKILL');
    const second = await start('killed.vvd');
    await isClean(second);
    await second.run('mount /dev/vda /mnt');
    expect(Number(await second.run('cat /mnt/counter'))).toBeGreaterThanOrEqual(synced);
  });

  it('writes on while a snapshot is taken, which holds a sound file system', async () => {
    await cloneImage(at('golden.vvd'), at('live.vvd'));
    const running = await start('live.vvd');
    await running.run('mount /dev/vda /mnt && echo before > /mnt/told && sync');
    await running.start(
      'while :; do dd if=/dev/urandom of=/mnt/more bs=64k count=60; sync; rm /mnt/more; done',
    );
    for (const name of ['one', 'two', 'three']) {
      await delay(300);
      execFileSync(process.execPath, [BUILT_TOOL, 'snapshot', '-c', name, at('live.vvd')]);
    }
    await running.run('echo after > /mnt/told && sync');
    for (const name of ['one', 'two', 'three']) {
      const raw = at(`${name}.raw`);
      await convertImage(at('live.vvd'), raw, { snapshot: name });
      expect(spawnSync('e2fsck', ['-p', raw]).status).toBeLessThanOrEqual(1);
      expect(spawnSync('e2fsck', ['-fn', raw]).status).toBe(0);
      expect(execFileSync('debugfs', ['-R', 'cat /told', raw], { encoding: 'utf8', stdio: 'pipe' })).toBe(
        'before\n',
      );
      rmSync(raw);
    }
    const again = await start('live.vvd');
    await isClean(again);
    await again.run('mount /dev/vda /mnt');
    expect(await again.run('cat /mnt/told')).toBe('after');
  });

  it('sees its disk grow, and uses it', async () => {
    const running = guest as Guest;
    await running.start(
      'while :; do dd if=/dev/urandom of=/mnt/more bs=64k count=9; sync; rm /mnt/more; done',
    );
    execFileSync(process.execPath, [BUILT_TOOL, 'resize', '-q', at('live.vvd'), `${GROWN_MIB}M`]);
    // QEMU asks for the size once for each connection: a new one takes the place of the old
    const socket = join(running.folder, 'nbd.sock');
    await running.monitor('blockdev-add', {
      driver: 'nbd',
      'node-name': 'nbd1',
      server: { type: 'unix', path: socket },
      discard: 'unmap',
    });
    await running.monitor('blockdev-reopen', {
      options: [{ driver: 'raw', 'node-name': 'disk', file: 'nbd1', discard: 'unmap' }],
    });
    await running.monitor('block_resize', { 'node-name': 'disk', size: GROWN_MIB * MiB });
    expect(await running.run('cat /sys/block/vda/size')).toBe(String((GROWN_MIB * MiB) / 512));
    await running.run('resize2fs /dev/vda');
    await running.run(`dd if=/dev/zero of=/mnt/large bs=1M count=${SIZE_MIB + 20} 2>/dev/null && sync`);
    await running.run(
      'kill $job; wait $job; until umount /mnt; do sleep 0.2; done 2>/dev/null; e2fsck -fn /dev/vda',
    );
    const { stdout } = spawnSync(process.execPath, [BUILT_TOOL, 'info', at('live.vvd')], {
      encoding: 'utf8',
    });
    expect(stdout).toContain(`virtual size: ${GROWN_MIB} MiB`);
    expect(readFileSync(join(running.folder, 'console.log'), 'latin1')).not.toContain('I/O error');
  });
});
