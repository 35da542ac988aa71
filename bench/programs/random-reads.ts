/** Random reads of 4 KiB by the library, one at a time: `random-reads PATH COUNT` prints reads a second. */
import { formats } from '../../formats/index.ts';
import { isPromise } from '../../src/base/maybe-promise.ts';
import { SeededRandom } from '../../src/base/random.ts';
import { DiskImage } from '../../src/image/index.ts';

const LENGTH = 4096;
const [path = '', count = '0'] = process.argv.slice(2);

const disk = await DiskImage.open(path, { formats });
await readAll(disk, Number(count) >>> 2); // fills caches, and lets the engine compile
const started = performance.now();
await readAll(disk, Number(count));
const seconds = (performance.now() - started) / 1000;
await disk.close();
process.stdout.write(`${JSON.stringify({ readsPerSecond: Math.round(Number(count) / seconds) })}\n`);

async function readAll(image: DiskImage, reads: number): Promise<void> {
  const random = new SeededRandom(5);
  const buffer = Buffer.alloc(LENGTH);
  const places = Math.floor(image.size / LENGTH);
  for (let i = 0; i < reads; i++) {
    const io = image.pread(buffer, random.below(places) * LENGTH);
    if (isPromise(io)) await io;
  }
}
