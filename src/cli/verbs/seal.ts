/** `vimg seal`: a disk becomes read-only for good, with a checksum for each block of data. */
import { usage } from '../command-line.ts';
import type { ProgressOptions } from '../progress-display.ts';
import { sealDisk } from '../seal-disk.ts';
import { defineVerb, type Verb } from '../verb.ts';

export const verb: Verb = defineVerb<ProgressOptions>({
  name: 'seal',
  summary: 'make a disk read-only for good',
  operands: 'DISK',
  details:
    'A golden image: clones can stand on it, nothing can change it, and `check` finds a flipped bit in its data.',
  examples: ['seal golden.vvd'],
  options: [
    ['-p', 'show progress'],
    ['--progress <style>', 'bar, jsonl or none'],
    ['-q, --quiet', 'print only errors'],
  ],
  async run(context, operands, options) {
    const [name] = operands;
    if (name === undefined || operands.length > 1) throw usage('Expecting one image file name');
    await sealDisk(context, name, options);
    return 0;
  },
});
