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
  readonly body: Buffer;
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

/** Puts frames together from what a socket brings. */
export class FrameReader {
  #parts: Buffer[] = [];
  #held = 0;

  /** @throws VimgError `INVALID_FORMAT` for what is no frame: nothing that follows can be understood */
  push(chunk: Buffer): Frame[] {
    this.#parts.push(chunk);
    this.#held += chunk.length;
    const frames: Frame[] = [];
    for (let frame = this.#next(); frame !== undefined; frame = this.#next()) frames.push(frame);
    return frames;
  }

  #next(): Frame | undefined {
    if (this.#held < PREFIX) return undefined;
    const prefix = this.#peek(PREFIX);
    const headLength = prefix.readUInt32BE(0);
    const bodyLength = prefix.readUInt32BE(4);
    if (headLength > HEAD_MAX || bodyLength > BODY_MAX) throw notAFrame();
    const length = PREFIX + headLength + bodyLength;
    if (this.#held < length) return undefined;
    const whole = this.#peek(length);
    const [first = EMPTY, ...others] = this.#parts;
    this.#parts = first.length > length ? [first.subarray(length), ...others] : others;
    this.#held -= length;
    return {
      head: parse(whole.subarray(PREFIX, PREFIX + headLength)),
      body: whole.subarray(PREFIX + headLength, length),
    };
  }

  /** The first bytes, in one piece; afterwards the first part begins with them. */
  #peek(length: number): Buffer {
    const [first = EMPTY] = this.#parts;
    if (first.length < length) this.#parts = [Buffer.concat(this.#parts)];
    return (this.#parts[0] ?? EMPTY).subarray(0, length);
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
