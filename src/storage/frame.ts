/**
 * Messages between the process that has a volume and those that use it through that one: a JSON object, and bytes.
 *
 *     4 bytes   length of the JSON text, big-endian
 *     4 bytes   length of the bytes behind it
 *               the JSON text, in UTF-8
 *               the bytes
 */
import { VimgError } from '../base/errors.ts';
import { LIMITS } from '../base/limits.ts';

export interface Frame {
  readonly head: Readonly<Record<string, unknown>>;
  readonly body: Uint8Array;
}

const PREFIX = 8;
const HEAD_MAX = 1024 * 1024;
/** A transfer, or the whole content of a small file. */
export const BODY_MAX: number = LIMITS.transfer;

const EMPTY = Buffer.alloc(0);

/** @throws VimgError `LIMIT` for what is too long to be sent */
export function encodeFrame(head: Frame['head'], bodyLength = 0): Buffer {
  const text = Buffer.from(JSON.stringify(head));
  if (text.length > HEAD_MAX || bodyLength > BODY_MAX) {
    throw new VimgError('LIMIT', 'A message is too long', { op: 'send' });
  }
  const frame = Buffer.allocUnsafe(PREFIX + text.length);
  frame.writeUInt32BE(text.length, 0);
  frame.writeUInt32BE(bodyLength, 4);
  text.copy(frame, PREFIX);
  return frame;
}

/** Where the bytes of a frame are to go; undefined when that is of no matter. */
export type BodyPlace = (head: Frame['head'], length: number) => Uint8Array | undefined;

/** Puts frames together from what a socket brings. Nothing of a chunk is kept: its memory may be used again. */
export class FrameReader {
  readonly #placeOf: BodyPlace;
  /** The beginning of a frame whose prefix and head are not there in full. */
  #partial: Buffer = EMPTY;
  /** A frame whose bytes are on their way, and how many are there. */
  #frame: Frame | undefined;
  #filled = 0;
  #behind: Buffer = EMPTY;

  constructor(placeOf: BodyPlace = () => undefined) {
    this.#placeOf = placeOf;
  }

  /** @throws VimgError `INVALID_FORMAT` for what is no frame: nothing that follows can be understood */
  push(chunk: Buffer): Frame[] {
    const frames: Frame[] = [];
    for (let rest = chunk; ; ) {
      const frame = this.#frame ?? this.#begin(rest);
      if (frame === undefined) return frames;
      if (frame !== this.#frame) rest = this.#behind;
      const part = rest.subarray(0, frame.body.length - this.#filled);
      frame.body.set(part, this.#filled);
      this.#filled += part.length;
      rest = rest.subarray(part.length);
      this.#frame = frame;
      if (this.#filled < frame.body.length) return frames;
      this.#frame = undefined;
      this.#filled = 0;
      frames.push(frame);
    }
  }

  /** Reads prefix and head, and leaves what is behind them. Undefined when they are not there in full. */
  #begin(rest: Buffer): Frame | undefined {
    if (this.#partial.length === 0 && rest.length === 0) return undefined;
    const bytes = this.#partial.length === 0 ? rest : Buffer.concat([this.#partial, rest]);
    const headLength = bytes.length < PREFIX ? 0 : bytes.readUInt32BE(0);
    const bodyLength = bytes.length < PREFIX ? 0 : bytes.readUInt32BE(4);
    if (headLength > HEAD_MAX || bodyLength > BODY_MAX) throw notAFrame();
    const end = PREFIX + headLength;
    if (bytes.length < end) {
      this.#partial = Buffer.from(bytes);
      return undefined;
    }
    this.#partial = EMPTY;
    const head = parse(bytes.subarray(PREFIX, end));
    const body =
      bodyLength === 0 ? EMPTY : (this.#placeOf(head, bodyLength) ?? Buffer.allocUnsafe(bodyLength));
    this.#behind = bytes.subarray(end);
    return { head, body };
  }
}

function parse(text: Buffer): Frame['head'] {
  try {
    const value: unknown = JSON.parse(text.toString('utf8'));
    if (typeof value === 'object' && value !== null) return value as Frame['head'];
  } catch {
    // told below
  }
  throw notAFrame();
}

function notAFrame(): VimgError {
  return new VimgError('INVALID_FORMAT', 'The other process speaks something else', { op: 'read' });
}
