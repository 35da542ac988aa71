/**
 * What a real guest goes through: Linux on a linked clone that `vimg serve` serves to QEMU. It is killed, its server is
 * killed, its disk is snapshotted and grown while it writes; its file system is sound every time. The tests go on from
 * each other: it is booting that takes the time.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type BootFiles, bootFiles, Guest } from './guest.ts';
import type { GuestPlace } from './guest-place.ts';

const MiB = 1024 * 1024;
const SIZE_MIB = 192;
const GROWN_MIB = 320;

/** What tests that follow find. */
export interface GuestOfTests {
  readonly place: GuestPlace;
  /** Boots on a disk; everything of the guest before is gone. */
  start(disk: string): Promise<Guest>;
  /** kill -9 of QEMU; its server has ended too when this resolves. */
  kill(): Promise<void>;
}

/** Registers the tests, in the `describe` that this is called in. */
export function lifeOfAGuest(makePlace: () => GuestPlace): GuestOfTests {
  let place: GuestPlace;
  let boot: BootFiles;
  let guest: Guest | undefined;

  beforeAll(() => {
    place = makePlace();
    boot = bootFiles(place.folder);
    // a golden image: half of a file system is made here, the guest grows it
    execFileSync('truncate', ['-s', `${SIZE_MIB}M`, place.at('golden.raw')]);
    execFileSync('mke2fs', ['-q', '-t', 'ext4', '-F', place.at('golden.raw'), `${SIZE_MIB / 2}M`]);
    place.vimg('convert', '-q', '-f', 'raw', '--seal', place.at('golden.raw'), place.disk('golden.vvd'));
    for (const name of ['killed.vvd', 'live.vvd']) {
      place.vimg('clone', '-q', place.disk('golden.vvd'), place.disk(name));
    }
  });
  afterAll(async () => {
    await guest?.kill();
    place.remove();
  });

  async function start(disk: string): Promise<Guest> {
    await guest?.kill();
    const own = mkdtempSync(join(place.folder, 'guest-'));
    guest = await Guest.boot(place.disk(disk), boot, own, place.environment);
    return guest;
  }

  it('grows and fills its file system, is killed, and finds it sound', async () => {
    const first = await start('killed.vvd');
    await first.run('e2fsck -fp /dev/vda && resize2fs /dev/vda && mount /dev/vda /mnt');
    await first.run(
      'for i in 1 2 3 4 5; do dd if=/dev/urandom of=/mnt/$i bs=64k count=40; done 2>/dev/null; sync',
    );
    const sums = await first.run('cd /mnt; md5sum [1-5]; cd /');
    await first.start('while :; do dd if=/dev/urandom of=/mnt/more bs=64k count=80; rm /mnt/more; done');
    await delay(700);
    const second = await start('killed.vvd');
    await second.fileSystemIsClean();
    await second.run('mount /dev/vda /mnt');
    expect(await second.run('cd /mnt; md5sum [1-5]; cd /')).toBe(sums);
    expect(Number(await second.run("df -m /mnt | awk 'END { print $2 }'"))).toBeGreaterThan(SIZE_MIB / 2);
  });

  it('survives kill -9 of its server: what was synced is there', async () => {
    const first = guest as Guest;
    await first.startCounting();
    const synced = await first.counted(5);
    first.server.kill('SIGKILL');
    const second = await start('killed.vvd');
    await second.fileSystemIsClean();
    await second.run('mount /dev/vda /mnt');
    expect(Number(await second.run('cat /mnt/counter'))).toBeGreaterThanOrEqual(synced);
  });

  it('writes on while a snapshot is taken, which holds a sound file system', async () => {
    const running = await start('live.vvd');
    await running.run('mount /dev/vda /mnt && echo before > /mnt/told && sync');
    await running.start(
      'while :; do dd if=/dev/urandom of=/mnt/more bs=64k count=60; sync; rm /mnt/more; done',
    );
    for (const name of ['one', 'two', 'three']) {
      await delay(300);
      place.vimg('snapshot', '-c', name, place.disk('live.vvd'));
    }
    await running.run('echo after > /mnt/told && sync');
    for (const name of ['one', 'two', 'three']) {
      const raw = place.at(`${name}.raw`);
      place.vimg('convert', '-q', '-O', 'raw', '-l', name, place.disk('live.vvd'), raw);
      expect(spawnSync('e2fsck', ['-p', raw]).status).toBeLessThanOrEqual(1);
      expect(spawnSync('e2fsck', ['-fn', raw]).status).toBe(0);
      expect(execFileSync('debugfs', ['-R', 'cat /told', raw], { encoding: 'utf8', stdio: 'pipe' })).toBe(
        'before\n',
      );
      rmSync(raw);
    }
    const again = await start('live.vvd');
    await again.fileSystemIsClean();
    await again.run('mount /dev/vda /mnt');
    expect(await again.run('cat /mnt/told')).toBe('after');
  });

  it('writes on while its snapshots are deleted, those first on which others stand', async () => {
    const running = guest as Guest;
    await running.run('dd if=/dev/urandom of=/mnt/kept bs=64k count=60 2>/dev/null; sync');
    const sum = await running.run('md5sum /mnt/kept');
    await running.start(
      'while :; do dd if=/dev/urandom of=/mnt/more bs=64k count=60; sync; rm /mnt/more; done',
    );
    for (const name of ['two', 'one', 'three']) {
      place.vimg('snapshot', '-d', name, place.disk('live.vvd'));
      expect(place.vimg('chain', place.disk('live.vvd'))).not.toContain(`'${name}'`);
    }
    await running.run('echo deleted > /mnt/told; sync');
    const again = await start('live.vvd');
    await again.fileSystemIsClean();
    await again.run('mount /dev/vda /mnt');
    expect(await again.run('cat /mnt/told')).toBe('deleted');
    expect(await again.run('md5sum /mnt/kept')).toBe(sum);
  });

  it('sees its disk grow, and uses it', async () => {
    const running = guest as Guest;
    await running.start(
      'while :; do dd if=/dev/urandom of=/mnt/more bs=64k count=9; sync; rm /mnt/more; done',
    );
    place.vimg('resize', '-q', place.disk('live.vvd'), `${GROWN_MIB}M`);
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
    expect(place.vimg('info', place.disk('live.vvd'))).toContain(`virtual size: ${GROWN_MIB} MiB`);
    expect(readFileSync(join(running.folder, 'console.log'), 'latin1')).not.toContain('I/O error');
  });

  return {
    get place() {
      return place;
    },
    start,
    async kill() {
      await guest?.kill();
    },
  };
}
