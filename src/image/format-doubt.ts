/**
 * Whether a disk's format is certain enough for work that a wrong guess would spoil.
 *
 * A raw disk has no magic: a damaged image of another format looks raw, and a guest can make its raw disk look like
 * another format (CVE-2008-2004). So a disk whose format nobody named is raw only when its name says so too, and one
 * that is named raw is nothing else.
 */
import type { DiskImage } from './disk-image.ts';
import type { FormatRegistry } from './registry.ts';

/** What speaks against the format that a disk was opened with, when its content alone told it; else nothing. */
export function formatDoubt(disk: DiskImage, formats: FormatRegistry): string | undefined {
  const namedRaw = formats.forEnding(disk.path)?.name === 'raw';
  if (disk.probed && !namedRaw) return 'its format is not known for sure';
  if (!disk.probed && disk.path.toLowerCase().endsWith('.raw')) {
    return `it is named like a raw disk, but its content looks like ${disk.format}`;
  }
  return undefined;
}
