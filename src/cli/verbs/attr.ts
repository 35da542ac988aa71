/** `vimg attr`: attributes of a disk, without touching its data. */
import { VimgError } from '../../base/errors.ts';
import { usage, wantsJson } from '../command-line.ts';
import { hereOrThere } from '../disk-owner.ts';
import { lifecycleDisk } from '../lifecycle-disk.ts';
import { printable } from '../text/printable.ts';
import { defineVerb, OUTPUT_OPTION, repeated, type Verb } from '../verb.ts';

interface Options {
  readonly output?: string;
  readonly unset?: readonly string[];
}

export const verb: Verb = defineVerb<Options>({
  name: 'attr',
  summary: 'list, read, set and remove attributes of a disk',
  operands: 'DISK [KEY | KEY=VALUE…]',
  details: 'Known attributes include label, description, persistent and shared; your own begin with x-.',
  examples: [
    'attr disk.vvd',
    'attr disk.vvd label',
    'attr disk.vvd label=web-1 x-owner=ops',
    'attr disk.vvd --unset x-owner',
  ],
  options: [['--unset <key>', 'remove this attribute (repeatable)', repeated], OUTPUT_OPTION],
  async run(context, operands, options) {
    const [name, ...words] = operands;
    if (name === undefined) throw usage('Expecting an image file name');
    const json = wantsJson(options.output);
    const change = readChange(words, options.unset ?? []);
    const { path, lifecycle } = await lifecycleDisk(name, undefined, 'use attributes of');
    if (change.size > 0) {
      await hereOrThere(
        context,
        path,
        () => lifecycle.changeAttributes(path, change),
        (owner) => owner.changeAttributes(change),
      );
      return 0;
    }
    const attributes = await lifecycle.readAttributes(path);
    const [key] = words;
    if (key === undefined) {
      if (json) context.terminal.json(Object.fromEntries(attributes));
      else
        for (const [each, value] of attributes)
          context.terminal.line(`${printable(each)}=${printable(String(value))}`);
      return 0;
    }
    const value = attributes.get(key);
    if (value === undefined) throw new VimgError('NOT_FOUND', `There is no attribute '${key}'`, { path });
    if (json) context.terminal.json(value);
    else context.terminal.line(printable(String(value)));
    return 0;
  },
});

/** What is to be changed; nothing when attributes are only read. */
function readChange(words: readonly string[], unset: readonly string[]): Map<string, string | undefined> {
  const change = new Map<string, string | undefined>(unset.map((key) => [key, undefined]));
  const reads = words.filter((word) => !word.includes('='));
  if (reads.length > 1 || (reads.length === 1 && (words.length > 1 || change.size > 0))) {
    throw usage(`'${reads[0]}' is neither KEY=VALUE nor the one key to read`);
  }
  for (const word of words) {
    const at = word.indexOf('=');
    if (at === 0) throw usage(`'${word}' has no key`);
    if (at > 0) change.set(word.slice(0, at), word.slice(at + 1));
  }
  return change;
}
