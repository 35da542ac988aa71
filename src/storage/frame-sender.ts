/** Sends frames: all that are made in one turn of the event loop leave together. */
import type { Socket } from 'node:net';
import { askForSendBuffer } from '../host/socket-buffer.ts';
import { encodeFrame, type Frame } from './frame.ts';

/** Bytes: a transfer leaves in few pieces. */
const SEND_BUFFER = 1024 * 1024;
/** Bytes up to which head and body are put into one piece. */
const JOINED_MAX = 16 * 1024;

export class FrameSender {
  readonly #socket: Socket;
  #corked = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    askForSendBuffer(socket, SEND_BUFFER);
  }

  /**
   * The body is read as it leaves: who asks leaves it as it is until there is an answer, who answers gives it away.
   *
   * @throws VimgError `LIMIT` for what is too long to be sent
   */
  send(head: Frame['head'], body?: Uint8Array): void {
    const length = body?.length ?? 0;
    const frame = encodeFrame(head, length);
    if (!this.#corked) {
      this.#corked = true;
      this.#socket.cork();
      process.nextTick(() => {
        this.#corked = false;
        this.#socket.uncork();
      });
    }
    if (body === undefined || length === 0) this.#socket.write(frame);
    else if (length <= JOINED_MAX) this.#socket.write(Buffer.concat([frame, body]));
    else {
      this.#socket.write(frame);
      this.#socket.write(body);
    }
  }
}
