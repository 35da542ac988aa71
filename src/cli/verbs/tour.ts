/** `vimg tour`: what the tool does, shown with real commands in a temporary folder that is removed again. */
import { spawn } from 'node:child_process';
import { closeSync, ftruncateSync, mkdirSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { VimgError } from '../../base/errors.ts';
import { SeededRandom } from '../../base/random.ts';
import { throwIfCancelled } from '../../job/job.ts';
import { usage } from '../command-line.ts';
import { type Context, defineVerb, type Verb } from '../verb.ts';

interface Options {
  readonly keep?: boolean;
}

interface Step {
  readonly why: string;
  readonly args: readonly string[];
}

const MiB = 1024 * 1024;

const STEPS: readonly Step[] = [
  {
    why: 'A raw disk becomes a VVD disk. Only its data is copied, not its empty space.',
    args: ['convert', 'guest.raw', 'disk.vvd'],
  },
  { why: 'What the new disk is.', args: ['info', 'disk.vvd'] },
  { why: 'Do both hold the same?', args: ['compare', 'guest.raw', 'disk.vvd'] },
  {
    why: 'A snapshot takes constant time, whatever the size of the disk.',
    args: ['snapshot', '-c', 'before', 'disk.vvd'],
  },
  { why: 'So does a linked clone, here of that snapshot.', args: ['clone', 'disk.vvd@before', 'clone.vvd'] },
  { why: 'The clone is a disk of its own: it can grow …', args: ['resize', 'clone.vvd', '+64M'] },
  { why: '… and has attributes of its own.', args: ['attr', 'clone.vvd', 'label=web-1', 'x-owner=tour'] },
  {
    why: 'What the clone stands on. A changed or exchanged parent would be refused.',
    args: ['chain', 'clone.vvd'],
  },
  { why: 'What it costs: the data is shared.', args: ['du', 'clone.vvd'] },
  {
    why: 'The content of the snapshot as a compressed qcow2 image for other tools.',
    args: ['convert', '-c', 'disk.vvd@before', 'before.qcow2'],
  },
  { why: 'Still the same?', args: ['compare', 'disk.vvd', 'before.qcow2'] },
  { why: 'Every structure of the disk is checked.', args: ['check', 'disk.vvd'] },
  {
    why: 'A datastore is a place where disks live, under a name; here a folder, as it might be on a share.',
    args: ['datastore', 'create', 'lab', 'share'],
  },
  {
    why: 'Its files are named NAME:PATH in every verb. This clone stands on a disk outside of it.',
    args: ['clone', 'disk.vvd@before', 'lab:web-2.vvd'],
  },
  {
    why: 'A datastore can also stand on devices: LUNs, local disks, NBD exports. Here a file stands for a LUN.',
    args: ['datastore', 'create', 'san', '--size', '1G', 'lun.img'],
  },
  { why: 'A disk moves there …', args: ['convert', 'disk.vvd', 'san:db.vvd'] },
  { why: '… and snapshots and clones work as before.', args: ['snapshot', '-c', 'first', 'san:db.vvd'] },
  { why: 'A clone beside it.', args: ['clone', 'san:db.vvd@first', 'san:test.vvd'] },
  { why: 'The chain, inside the datastore.', args: ['chain', 'san:test.vvd'] },
  {
    why: 'When space is short, another device makes the datastore larger, while it is in use.',
    args: ['datastore', 'extend', 'san', '--size', '512M', 'lun2.img'],
  },
  {
    why: 'Every structure of the volume and every disk in it is checked.',
    args: ['datastore', 'check', 'san'],
  },
  { why: 'Space, and what thin disks were promised.', args: ['datastore', 'df'] },
  {
    why: 'The snapshot is not needed any more; the clone still stands on its layer.',
    args: ['snapshot', '-l', 'disk.vvd'],
  },
];

export const verb: Verb = defineVerb<Options>({
  name: 'tour',
  summary: 'show all this in a minute, in a temporary folder',
  operands: '',
  examples: ['tour', 'tour --keep'],
  options: [['--keep', 'leave the folder in place, and tell its name']],
  async run(context, operands, options) {
    if (operands.length > 0) throw usage(`Unexpected argument: ${operands[0]}`);
    const folder = mkdtempSync(join(tmpdir(), 'vimg-tour-'));
    try {
      makeGuestDisk(join(folder, 'guest.raw'));
      mkdirSync(join(folder, 'share'));
      context.terminal.line(`A tour of ${context.program}, in ${folder}.`);
      context.terminal.line('guest.raw is a disk of 256 MiB with 6 MiB of data, as a guest would leave it.');
      for (const step of STEPS) await take(context, folder, step);
      context.terminal.line('');
      context.terminal.line(
        `That was all. \`${context.program} --help\` lists the verbs; each has a --help with examples.`,
      );
    } finally {
      if (options.keep) context.terminal.note(`the files are in ${folder}`);
      else rmSync(folder, { recursive: true, force: true });
    }
    return 0;
  },
});

/** A partition table's signature, and data here and there. */
function makeGuestDisk(path: string): void {
  const random = new SeededRandom(1);
  const fd = openSync(path, 'wx');
  try {
    ftruncateSync(fd, 256 * MiB);
    for (let piece = 0; piece < 6; piece++)
      writeSync(fd, random.fill(new Uint8Array(MiB)), 0, MiB, piece * 40 * MiB);
    writeSync(fd, Uint8Array.of(0x55, 0xaa), 0, 2, 510);
  } finally {
    closeSync(fd);
  }
}

/** Shows one command and runs it as a user would. */
async function take(context: Context, folder: string, step: Step): Promise<void> {
  throwIfCancelled(context.signal);
  context.terminal.line('');
  context.terminal.line(`# ${step.why}`);
  context.terminal.line(`$ ${context.program} ${step.args.join(' ')}`);
  context.terminal.flush();
  const [interpreter, script] = process.argv as [string, string];
  const child = spawn(interpreter, [script, ...step.args], {
    cwd: folder,
    // the datastore of the tour is nobody else's
    env: { ...process.env, VIMG_CONFIG: join(folder, 'config') },
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  throwIfCancelled(context.signal);
  if (status !== 0) {
    throw new VimgError('IO', `The tour ends here: \`${context.program} ${step.args.join(' ')}\` failed`, {
      hint: 'that should not happen; please report it',
    });
  }
}
