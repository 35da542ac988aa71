/** Reads guest data through a layer's answers alone, so that the driver is tested without the I/O engine. */
import { invariant } from '../../../src/base/errors.ts';
import type { BlockDevice } from '../../../src/device/block-device.ts';
import type { Gate } from '../../../src/image/gate.ts';
import { BEHIND, COMPRESSED, DATA, type Layer, Location } from '../../../src/image/layer.ts';

/** A gate that opens nothing. */
export const noGate: Gate = () => Promise.reject(new TypeError('nothing may be opened here'));

/** Fills `buffer` from `offset` on; what the layer does not hold comes from `behind`, or is zero. */
export async function readLayer(
  layer: Layer,
  buffer: Uint8Array,
  offset: number,
  behind?: BlockDevice,
): Promise<void> {
  const location = new Location();
  for (let done = 0; done < buffer.length; ) {
    const at = offset + done;
    await layer.locate(at, buffer.length - done, location);
    const { length } = location;
    invariant(length > 0 && length <= buffer.length - done, 'an answer covers a part of the question');
    const piece = buffer.subarray(done, done + length);
    piece.fill(0);
    if (location.kind === DATA) {
      await location.device?.pread(piece, location.deviceOffset);
    } else if (location.kind === COMPRESSED) {
      const { unitOffset, unitLength } = location;
      const unit = await layer.decompress(location);
      invariant(unit.length === unitLength, 'a unit has the length that was said');
      piece.set(unit.subarray(at - unitOffset, at - unitOffset + length));
    } else if (location.kind === BEHIND && behind !== undefined && at < behind.size) {
      await behind.pread(piece.subarray(0, Math.min(length, behind.size - at)), at);
    }
    done += length;
  }
}

/** The whole content of a layer. */
export async function readWhole(layer: Layer, behind?: BlockDevice): Promise<Uint8Array> {
  const bytes = new Uint8Array(layer.virtualSize);
  await readLayer(layer, bytes, 0, behind);
  return bytes;
}
