/** All works, in the order in which they are done: those that share sources are neighbours. */
import type { Work } from '../work.ts';
import { chainReadWorks } from './chain-reads.ts';
import { compareWorks } from './compare.ts';
import { convertWorks } from './convert.ts';
import { convertCompressedWorks } from './convert-compressed.ts';
import { convertSparseWorks } from './convert-sparse.ts';
import { crashOpenWorks } from './crash-open.ts';
import { largeDiskWorks } from './large-disk.ts';
import { memoryWorks } from './memory.ts';
import { serveWorks } from './serve.ts';
import { volumeWorks } from './volume.ts';
import { volumeDayWorks } from './volume-day.ts';

export const works: readonly Work[] = [
  ...largeDiskWorks,
  ...crashOpenWorks,
  ...chainReadWorks,
  ...convertCompressedWorks,
  ...convertSparseWorks,
  ...convertWorks,
  ...compareWorks,
  ...memoryWorks,
  ...serveWorks,
  ...volumeWorks,
  ...volumeDayWorks,
];
