/** What a guest starts with: a cpio archive ("newc") of busybox, the tools of ext4, the modules of virtio, and a script. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** In the order in which they are loaded. */
const MODULES = [
  'virtio_ring',
  'virtio',
  'virtio_pci_legacy_dev',
  'virtio_pci_modern_dev',
  'virtio_pci',
  'virtio_blk',
];
const PROGRAMS = ['/sbin/mke2fs', '/sbin/e2fsck', '/sbin/resize2fs'];

/** Runs what comes in at the second serial port, line by line, and says how each ended. */
const INIT = `#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /mnt /etc
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox --install -s /bin
export PATH=/sbin:/bin
: > /etc/mtab
for module in ${MODULES.join(' ')}; do [ -f /$module.ko ] && insmod /$module.ko; done
for i in $(seq 100); do [ -b /dev/vda ] && break; sleep 0.1; done
exec < /dev/ttyS1 > /dev/ttyS1 2>&1
stty raw -echo
echo '@ 0'
while read -r line; do eval "$line"; echo "@ $?"; done
`;

interface Entry {
  readonly name: string;
  readonly mode: number;
  readonly data: Buffer;
}

const FILE = 0o100755;
const FOLDER = 0o040755;

/** @param kernel the folder of an unpacked kernel package */
export function initialFileSystem(kernel: string): Buffer {
  const files = new Map<string, Buffer>([
    ['init', Buffer.from(INIT)],
    ['bin/busybox', readFileSync('/bin/busybox')],
  ]);
  for (const program of PROGRAMS) {
    files.set(program.slice(1), readFileSync(realpathSync(program)));
    for (const library of librariesOf(program))
      files.set(library.slice(1), readFileSync(realpathSync(library)));
  }
  for (const module of MODULES) {
    const path = modulePath(kernel, module);
    if (path !== undefined) files.set(`${module}.ko`, readFileSync(path));
  }
  const folders = new Set(['dev']);
  for (const name of files.keys()) {
    for (let at = dirname(name); at !== '.'; at = dirname(at)) folders.add(at);
  }
  const none = Buffer.alloc(0);
  const entries: Entry[] = [
    ...[...folders].sort().map((name) => ({ name, mode: FOLDER, data: none })),
    ...[...files].map(([name, data]) => ({ name, mode: FILE, data })),
    { name: 'TRAILER!!!', mode: 0, data: none },
  ];
  return Buffer.concat(entries.flatMap((entry, index) => encode(entry, index + 1)));
}

function librariesOf(program: string): string[] {
  const listed = execFileSync('ldd', [program], { encoding: 'utf8' });
  return [...listed.matchAll(/(\/\S+) \(0x/g)].map((match) => match[1] as string);
}

function modulePath(kernel: string, name: string): string | undefined {
  const modules = join(kernel, 'lib/modules');
  const drivers = join(modules, readdirSync(modules)[0] as string, 'kernel/drivers');
  return [join(drivers, 'virtio'), join(drivers, 'block')]
    .map((folder) => join(folder, `${name}.ko`))
    .find((path) => existsSync(path));
}

/** Header of 110 characters, name and data, each padded to 4 bytes (Documentation/driver-api/early-userspace). */
function encode({ name, mode, data }: Entry, inode: number): Buffer[] {
  const fields = [inode, mode, 0, 0, 1, 0, data.length, 0, 0, 0, 0, name.length + 1, 0];
  const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}${name}\0`;
  return [padded(Buffer.from(header, 'latin1')), padded(data)];
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}
