/**
 * zstd data (RFC 8878) into a buffer of known size, bounded: frames are measured before they are decompressed.
 *
 * Invariant: no input makes it allocate more than {@link OUTPUT_MAX} on the way.
 */
import { VimgError } from '../base/errors.ts';
import { LIMITS } from '../base/limits.ts';
import { loadZstd } from './zstd-codec.ts';
import { measureZstdFrame } from './zstd-frame.ts';

/** What a decoder may be made to produce before its output is measured. */
const OUTPUT_MAX: number = LIMITS.structure;

/**
 * Decompresses frames until they gave `wanted` bytes; what follows is not looked at.
 *
 * @returns at most `wanted` bytes; fewer when the frames hold fewer
 * @throws VimgError `CORRUPT` for damaged or oversized frames, `UNSUPPORTED` when this Node has no zstd
 */
export async function unzstd(stored: Uint8Array, wanted: number): Promise<Uint8Array> {
  const codec = await loadZstd();
  const parts: Uint8Array[] = [];
  let length = 0;
  for (let at = 0; length < wanted; ) {
    const frame = measureZstdFrame(stored, at);
    const content = frame.skippable
      ? new Uint8Array(0)
      : await unzstdFrame(codec, stored.subarray(at, at + frame.length), frame, wanted - length);
    parts.push(content);
    length += content.length;
    at += frame.length;
  }
  return parts.length === 1 ? (parts[0] as Uint8Array) : Buffer.concat(parts);
}

async function unzstdFrame(
  codec: Awaited<ReturnType<typeof loadZstd>>,
  bytes: Uint8Array,
  frame: { readonly contentSize: number | undefined; readonly contentMax: number },
  wanted: number,
): Promise<Uint8Array> {
  if ((frame.contentSize ?? 0) > wanted || frame.contentMax > OUTPUT_MAX) {
    throw new VimgError('CORRUPT', `zstd: a frame holds more than the ${wanted} bytes that are left`, {
      op: 'decompress',
    });
  }
  let content: Uint8Array;
  try {
    content = await codec.decompress(bytes, Math.min(frame.contentMax, wanted));
  } catch (cause) {
    throw new VimgError('CORRUPT', 'zstd: the frame does not decompress', { op: 'decompress', cause });
  }
  if (content.length > wanted) {
    throw new VimgError('CORRUPT', `zstd: a frame holds ${content.length} bytes, ${wanted} are left`, {
      op: 'decompress',
    });
  }
  return content;
}
