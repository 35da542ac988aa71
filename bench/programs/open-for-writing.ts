/** Opens a disk for writing, with whatever a crash left to be done, reads from it, and leaves: `open-for-writing PATH`. */
import { formats } from '../../formats/index.ts';
import { DiskImage } from '../../src/image/index.ts';

const disk = await DiskImage.open(process.argv[2] ?? '', { formats, readOnly: false });
await disk.pread(Buffer.alloc(4096), 0);
await disk.close();
