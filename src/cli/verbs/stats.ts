/** `vimg stats`: what the process that serves a disk did since it began. */
import { VimgError } from '../../base/errors.ts';
import type { HitCounts } from '../../image/cache-statistics.ts';
import { DiskOwner } from '../../serving/disk-owner.ts';
import { usage, wantsJson } from '../command-line.ts';
import { filePath } from '../disk-reference.ts';
import { printable } from '../text/printable.ts';
import { defineVerb, OUTPUT_OPTION, type Verb } from '../verb.ts';

export const verb: Verb = defineVerb<{ readonly output?: string }>({
  name: 'stats',
  summary: 'show what the process that serves a disk did',
  operands: 'DISK',
  details:
    'Latencies are microseconds from a request to its reply. at hand: answered without waiting for storage. ' +
    'Caches: data is the page cache of the host, metadata the tables of the disk, decompressed its compressed blocks.',
  examples: ['stats disk.vvd', 'stats --output=json disk.vvd'],
  options: [OUTPUT_OPTION],
  async run({ terminal, environment }, operands, options) {
    const [name] = operands;
    if (name === undefined || operands.length > 1) throw usage('Expecting one image file name');
    const json = wantsJson(options.output);
    const path = await filePath(name);
    const owner = await DiskOwner.find(path, environment);
    if (!owner) throw new VimgError('NOT_FOUND', 'No process of yours serves this disk', { path });
    try {
      const statistics = await owner.statistics();
      if (json) {
        terminal.json(statistics);
        return 0;
      }
      terminal.line(`process ${statistics.pid}: ${statistics.connections} connections`);
      for (const { name: exported, disk, commands, caches } of statistics.exports) {
        terminal.line(printable(exported === '' ? disk : `${disk} as '${exported}'`));
        for (const [cache, { hits, misses }] of Object.entries<HitCounts>({ ...caches })) {
          if (hits + misses > 0) terminal.line(`  ${cache}: ${hits} cached, ${misses} not`);
        }
        for (const [
          command,
          { requests, errors, 'at-hand': atHand, 'latency-us': latency },
        ] of Object.entries(commands)) {
          const times = Object.entries(latency).map(([at, micros]) => `${at} ${micros}`);
          terminal.line(
            `  ${command}: ${requests}, ${errors} failed, ${atHand} at hand; ${times.join(', ')}`,
          );
        }
      }
      return 0;
    } finally {
      owner.close();
    }
  },
});
