/** Random command lines for qemu-img, on disks that earlier ones made. What vimg says otherwise on purpose is left out. */
import type { SeededRandom } from '../../src/base/random.ts';

export interface Disk {
  readonly name: string;
  readonly format: 'raw' | 'qcow2';
  /** More than is ever read in a test. */
  readonly large?: boolean;
  /** Others stand on it: it is not changed any more. */
  readonly base?: boolean;
}

export interface Line {
  readonly program: 'qemu-img' | 'qemu-io';
  readonly args: readonly string[];
  /** The disk that is made or changed. */
  readonly target?: Disk;
  /** What the target stands on from then on. */
  readonly base?: Disk;
  /** What has to be the same in the output. */
  told(stdout: string): unknown;
}

const SIZES = '0 1 511 512 1000 64k 1M 1536K 1.5M 3M 4M 0x100000 1048577 2097663 8388608b'.split(' ');
const LARGE_SIZES = ['1G', '5T'];
const BAD_SIZES = ['-1', '1e3', '1KB', '10GiB', '', '0x', '8E', '9E', '.5M', '1 M', '16384P', 'M', '0x1k'];

/** The next command. */
export function commandLine(random: SeededRandom, disks: readonly Disk[]): Line {
  if (disks.length < 2) return create(random, disks);
  const kind = random.below(20);
  if (kind < 3) return create(random, disks);
  const changeable = disks.filter((disk) => !disk.base);
  if (kind < 7 && changeable.length > 0) return write(random, random.pick(changeable));
  if (kind < 11) return convert(random, disks);
  if (kind < 12) return resize(random, disks);
  if (kind < 14) return map(random, random.pick(disks));
  if (kind < 16) return compare(random, random.pick(disks), random.pick(disks));
  if (kind < 18) return measure(random, random.pick(disks));
  return look(random, random.pick(disks));
}

function qemuImg(args: readonly string[], told: Line['told'] = asItIs, target?: Disk, base?: Disk): Line {
  return {
    program: 'qemu-img',
    args,
    told,
    ...(target === undefined ? {} : { target }),
    ...(base === undefined ? {} : { base }),
  };
}

function asItIs(stdout: string): unknown {
  return stdout;
}

function sizeText(random: SeededRandom): string {
  if (random.oneIn(12)) return random.pick(BAD_SIZES);
  return random.pick(random.oneIn(9) ? LARGE_SIZES : SIZES);
}

function isLarge(size: string): boolean {
  return /[GTPE]/.test(size);
}

function newDisk(random: SeededRandom, size = ''): Disk {
  const format = random.pick(['raw', 'qcow2'] as const);
  return { name: `${random.below(1_000_000)}.${format}`, format, large: isLarge(size) };
}

/** Sometimes. */
function perhaps(random: SeededRandom, n: number, args: () => readonly string[]): readonly string[] {
  return random.oneIn(n) ? args() : [];
}

/** `-o name=value,…`, or each of them with an `-o` of its own. */
function formatOptions(random: SeededRandom, format: Disk['format']): readonly string[] {
  if (format === 'raw') {
    return perhaps(random, 4, () => ['-o', `preallocation=${random.pick(['off', 'falloc', 'full'])}`]);
  }
  const options: string[] = [];
  const add = (n: number, name: string, values: readonly string[]): void => {
    if (random.oneIn(n)) options.push(`${name}=${random.pick(values)}`);
  };
  add(2, 'cluster_size', ['512', '1k', '4k', '16k', '64k', '65536', '256K', '1M', '2M', '4M', '100', '0']);
  const old = random.oneIn(6);
  if (old) options.push('compat=0.10');
  else {
    add(6, 'compat', ['1.1']);
    add(5, 'extended_l2', ['on', 'off']);
    add(5, 'lazy_refcounts', ['on', 'off']);
    add(5, 'refcount_bits', ['1', '2', '4', '8', '16', '32', '64', '3', '0']);
    add(5, 'compression_type', ['zlib', 'zstd']);
  }
  add(8, 'preallocation', ['off']);
  if (options.length === 0) return [];
  return random.oneIn(4) ? options.flatMap((each) => ['-o', each]) : ['-o', options.join(',')];
}

function create(random: SeededRandom, disks: readonly Disk[]): Line {
  const text = sizeText(random);
  const base = disks.length > 0 && random.oneIn(3) ? random.pick(disks) : undefined;
  const size = base !== undefined && random.oneIn(2) ? undefined : text;
  const target = { ...newDisk(random, text), ...(base?.large ? { large: true } : {}) };
  const options = target.large ? [] : formatOptions(random, target.format);
  const backing =
    base === undefined ? [] : ['-b', base.name, ...(random.oneIn(8) ? [] : ['-F', base.format])];
  const args = ['create', ...perhaps(random, 3, () => ['-q']), '-f', target.format, ...options, ...backing];
  return qemuImg([...args, target.name, ...(size === undefined ? [] : [size])], asItIs, target, base);
}

function write(random: SeededRandom, target: Disk): Line {
  const commands = Array.from({ length: 1 + random.below(5) }, () => {
    const place = `${random.below(2048) * 512} ${512 * (1 + random.below(random.pick([8, 200, 2000])))}`;
    // what a discarded range of a qcow2 disk reads as is up to how it was stored
    const zeroes = random.pick([
      'write -q -z',
      'write -q -z -u',
      target.format === 'raw' ? 'discard -q' : 'write -q -z',
    ]);
    return random.oneIn(3) ? `${zeroes} ${place}` : `write -q -P ${random.below(256)} ${place}`;
  });
  const args = ['-d', 'unmap', '-f', target.format, ...commands.flatMap((each) => ['-c', each]), target.name];
  return { program: 'qemu-io', args, target, told: () => '' };
}

function convert(random: SeededRandom, every: readonly Disk[]): Line {
  const disks = every.filter((disk) => !disk.large);
  const raws = disks.filter((disk) => disk.format === 'raw' && !disk.base);
  if (disks.length === 0) return create(random, every);
  const sources = Array.from({ length: random.oneIn(5) ? 2 : 1 }, () => random.pick(disks));
  const existing = raws.length > 0 && random.oneIn(4);
  const target = existing ? random.pick(raws) : newDisk(random);
  const base = existing || !random.oneIn(6) ? undefined : random.pick(disks);
  const sameFormat = sources.every((disk) => disk.format === sources[0]?.format);
  const args = [
    'convert',
    ...(sameFormat ? perhaps(random, 2, () => ['-f', (sources[0] as Disk).format]) : []),
    ...['-O', target.format],
    ...(existing ? ['-n'] : formatOptions(random, target.format)),
    ...perhaps(random, 4, () => ['-c']),
    ...perhaps(random, 3, () => [
      '-S',
      random.pick(['0', '512', '4k', '64k', '1M', '16M', '17M', '100', '-1']),
    ]),
    ...perhaps(random, 4, () => ['-W']),
    ...perhaps(random, 4, () => ['-m', random.pick(['1', '4', '16', '17', '0'])]),
    ...perhaps(random, 8, () => ['-q']),
    ...perhaps(random, 9, () => ['-l', 'nowhere']),
    ...perhaps(random, 15, () => ['--salvage']),
    ...perhaps(random, 15, () => ['-r', random.pick(['1G', '100M', '-1'])]),
    ...(base ? ['-B', base.name, '-F', base.format] : []),
    ...(existing ? [] : perhaps(random, 25, () => ['--target-is-zero'])),
    ...perhaps(random, 9, () => ['-t', random.pick(['none', 'unsafe', 'writeback', 'writethrough', 'bad'])]),
  ];
  return qemuImg([...args, ...sources.map((disk) => disk.name), target.name], asItIs, target, base);
}

function resize(random: SeededRandom, disks: readonly Disk[]): Line {
  const raws = disks.filter((disk) => disk.format === 'raw' && !disk.base);
  if (raws.length === 0) return create(random, disks);
  const disk = random.pick(raws);
  // QEMU gives a raw file any size; vimg whole sectors, as both do when they create one
  const whole = random.pick(['0', '512', '64k', '1M', '1.5M', '4M', '5T', '', '1e3', '9E']);
  const size = `${random.pick(['', '', '+', '-'])}${whole}`;
  const args = [
    'resize',
    '-f',
    'raw',
    ...perhaps(random, 2, () => ['--shrink']),
    ...perhaps(random, 3, () => ['-q']),
  ];
  const modes = isLarge(size) ? ['off', 'metadata'] : ['off', 'falloc', 'full', 'metadata'];
  const preallocation = perhaps(random, 4, () => [`--preallocation=${random.pick(modes)}`]);
  const target = { ...disk, large: isLarge(size) || (disk.large ?? false) };
  return qemuImg([...args, ...preallocation, disk.name, size], asItIs, target);
}

function map(random: SeededRandom, disk: Disk): Line {
  const json = random.oneIn(2);
  const args = [
    'map',
    ...(json ? ['--output=json'] : []),
    ...perhaps(random, 2, () => ['-f', disk.format]),
    ...perhaps(random, 3, () => ['-s', sizeText(random)]),
    ...perhaps(random, 3, () => ['-l', sizeText(random)]),
  ];
  return qemuImg([...args, disk.name], json ? withoutOurs : asItIs);
}

function compare(random: SeededRandom, first: Disk, second: Disk): Line {
  const formats = perhaps(random, 2, () => ['-f', first.format, '-F', second.format]);
  const flags = [...perhaps(random, 3, () => ['-s']), ...perhaps(random, 4, () => ['-q'])];
  // QEMU takes the last extent for a difference in status: it may find one earlier than there is
  const told = (stdout: string): unknown => stdout.replace(/Offset [0-9]+/, 'Offset');
  return qemuImg(['compare', ...flags, ...formats, first.name, second.name], told);
}

function measure(random: SeededRandom, disk: Disk): Line {
  const format = random.pick(['raw', 'qcow2'] as const);
  const json = random.oneIn(2);
  const args = [
    'measure',
    ...(json ? ['--output=json'] : []),
    '-O',
    format,
    ...formatOptions(random, format),
  ];
  if (random.oneIn(3)) args.push('--size', sizeText(random));
  else args.push(...perhaps(random, 2, () => ['-f', disk.format]), disk.name);
  return qemuImg(args, json ? withoutOurs : asItIs);
}

function look(random: SeededRandom, disk: Disk): Line {
  const verb = random.pick(['info', 'info', 'check']);
  const json = random.oneIn(2);
  const args = [
    verb,
    ...(json ? ['--output=json'] : []),
    ...perhaps(random, 2, () => ['-f', disk.format]),
    ...(verb === 'info' ? perhaps(random, 2, () => ['--backing-chain']) : []),
  ];
  return qemuImg([...args, disk.name], json ? withoutOurs : asItIs);
}

/** JSON without the keys that only vimg prints. */
function withoutOurs(stdout: string): unknown {
  const left = ['compressed', 'format-guessed'];
  return JSON.parse(stdout, (key, value) => (left.includes(key) ? undefined : value));
}
