/** Block devices as sysfs shows them: a tree made for the test, and the machine's own. */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { withDir } from 'tmp-promise';
import { describe, expect, it } from 'vitest';
import { listBlockDevices } from '../../src/host/block-devices.ts';

/** Files of sysfs and proc, by their paths. */
function makeTree(root: string, files: Readonly<Record<string, string>>): void {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content);
  }
}

function link(root: string, name: string, target: string): void {
  mkdirSync(join(root, 'sys/block'), { recursive: true });
  symlinkSync(join(root, 'sys/devices', target), join(root, 'sys/block', name));
}

describe('block devices', () => {
  it('are told with size, identity, transport, and who uses them', async () => {
    await withDir(
      ({ path }) => {
        const scsi = 'sys/devices/platform/host3/session1/target3:0:0/3:0:0:1/block/sdb';
        const fibre = 'sys/devices/pci0000:00/host1/rport-1:0-2/target1:0:0/1:0:0:0/block/sdc';
        makeTree(path, {
          'sys/devices/pci/sda/size': '2048\n',
          'sys/devices/pci/sda/dev': '8:0\n',
          'sys/devices/pci/sda/ro': '0\n',
          'sys/devices/pci/sda/device/wwid': 'naa.5000c500a1b2c3d4\n',
          'sys/devices/pci/sda/device/model': 'A \u001b[31mDISK   \n',
          'sys/devices/pci/sda/sda1/partition': '1\n',
          'sys/devices/pci/sda/sda1/dev': '8:1\n',
          'sys/devices/pci/sda/sda2/partition': '2\n',
          'sys/devices/pci/sda/sda2/dev': '8:2\n',
          'sys/class/block/sda2/dev': '8:2\n',
          [`${scsi}/size`]: '4096\n',
          [`${scsi}/dev`]: '8:16\n',
          [`${scsi}/holders/dm-0/x`]: '',
          [`${fibre}/size`]: '8192\n',
          [`${fibre}/dev`]: '8:32\n',
          [`${fibre}/ro`]: '1\n',
          'sys/devices/virtual/loop0/size': '0\n',
          'proc/self/mountinfo': '29 1 8:1 / / rw - ext4 /dev/root rw\n30 29 0:5 / /proc rw - proc proc rw\n',
          'proc/swaps': 'Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n',
        });
        link(path, 'sda', 'pci/sda');
        link(path, 'sdb', scsi.slice('sys/devices/'.length));
        link(path, 'sdc', fibre.slice('sys/devices/'.length));
        link(path, 'loop0', 'virtual/loop0');
        const roots = { sys: join(path, 'sys'), proc: join(path, 'proc') };
        expect(listBlockDevices(roots)).toEqual([
          {
            path: '/dev/sda',
            size: 1024 * 1024,
            readOnly: false,
            identity: 'naa.5000c500a1b2c3d4',
            model: 'A [31mDISK',
            transport: 'local',
            usedBy: ['/ (/dev/sda1)', 'swap (/dev/sda2)'],
          },
          {
            path: '/dev/sdb',
            size: 2048 * 1024,
            readOnly: false,
            identity: undefined,
            model: undefined,
            transport: 'iscsi',
            usedBy: ['/dev/dm-0'],
          },
          {
            path: '/dev/sdc',
            size: 4096 * 1024,
            readOnly: true,
            identity: undefined,
            model: undefined,
            transport: 'fc',
            usedBy: [],
          },
        ]);
        return Promise.resolve();
      },
      { unsafeCleanup: true },
    );
  });

  it('are none where there is no sysfs; those of this machine can be listed', () => {
    expect(listBlockDevices({ sys: '/nowhere', proc: '/nowhere' })).toEqual([]);
    for (const device of listBlockDevices()) expect(device.path).toMatch(/^\/dev\//);
  });
});
