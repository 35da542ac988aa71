/** The data of options, read: a name and what is asked about it. Anything malformed is `undefined`. */
import { STRING_MAX } from './protocol.ts';

/** Data of INFO and GO. */
export interface InfoRequest {
  readonly name: string;
  readonly wanted: readonly number[];
}

/** Data of LIST_META_CONTEXT and SET_META_CONTEXT. */
export interface MetaContextRequest {
  readonly name: string;
  readonly queries: readonly string[];
}

export function parseInfoRequest(data: Buffer): InfoRequest | undefined {
  const reader = new OptionReader(data);
  const name = reader.text();
  const count = reader.integer(2);
  if (name === undefined || count === undefined || reader.left !== 2 * count) return undefined;
  const wanted = Array.from({ length: count }, () => reader.integer(2) as number);
  return { name, wanted };
}

export function parseMetaContextRequest(data: Buffer): MetaContextRequest | undefined {
  const reader = new OptionReader(data);
  const name = reader.text();
  const count = reader.integer(4);
  if (name === undefined || count === undefined) return undefined;
  const queries: string[] = [];
  while (queries.length < count) {
    const query = reader.text();
    if (query === undefined) return undefined;
    queries.push(query);
  }
  return reader.left === 0 ? { name, queries } : undefined;
}

class OptionReader {
  readonly #data: Buffer;
  #at = 0;

  constructor(data: Buffer) {
    this.#data = data;
  }

  get left(): number {
    return this.#data.length - this.#at;
  }

  integer(size: number): number | undefined {
    if (this.left < size) return undefined;
    this.#at += size;
    return this.#data.readUIntBE(this.#at - size, size);
  }

  /** A length, and as many bytes of UTF-8. */
  text(): string | undefined {
    const length = this.integer(4);
    if (length === undefined || length > this.left || length > STRING_MAX) return undefined;
    this.#at += length;
    return this.#data.toString('utf8', this.#at - length, this.#at);
  }
}
