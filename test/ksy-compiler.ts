/** Compiles a Kaitai Struct description when a test runs, into memory. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';

type Yaml = string | number | boolean | Yaml[] | { [key: string]: Yaml };

interface Line {
  readonly indent: number;
  readonly text: string;
  /** Where it is, for messages. */
  readonly place: string;
}

/**
 * Reads the part of YAML 1.2 that our descriptions use: block mappings, block sequences, and scalars on one line.
 *
 * @throws Error for a line of any other kind
 */
function parseYaml(source: string, name: string): Yaml {
  const lines = source.split('\n').flatMap((raw, i): Line[] => {
    const text = raw.trim();
    if (text === '' || text.startsWith('#')) return [];
    return [{ indent: raw.length - raw.trimStart().length, text, place: `${name}, line ${i + 1}` }];
  });
  const [value, end] = parseBlock(lines, 0);
  if (end !== lines.length) throw new Error(`${lines[end]?.place}: wrong indentation`);
  return value;
}

function parseBlock(lines: readonly Line[], start: number): [Yaml, number] {
  return lines[start]?.text.startsWith('- ') ? parseSequence(lines, start) : parseMapping(lines, start);
}

function parseSequence(lines: readonly Line[], start: number): [Yaml[], number] {
  const items: Yaml[] = [];
  const indent = lines[start]?.indent ?? 0;
  let at = start;
  while (lines[at]?.indent === indent && lines[at]?.text.startsWith('- ')) {
    // the dash stands in for the indentation of the mapping that it begins
    const end = lines.findIndex((line, i) => i > at && line.indent <= indent);
    const last = end < 0 ? lines.length : end;
    const first = lines[at] as Line;
    const inner = [{ ...first, indent: indent + 2, text: first.text.slice(2) }, ...lines.slice(at + 1, last)];
    items.push(parseMapping(inner, 0)[0]);
    at = last;
  }
  return [items, at];
}

function parseMapping(lines: readonly Line[], start: number): [{ [key: string]: Yaml }, number] {
  const map: { [key: string]: Yaml } = {};
  const indent = lines[start]?.indent ?? 0;
  let at = start;
  while (at < lines.length && lines[at]?.indent === indent) {
    const line = lines[at] as Line;
    const found = /^([\w:-]+?):(?: (.*))?$/.exec(line.text);
    if (!found) throw new Error(`${line.place}: not understood: ${line.text}`);
    const [, key = '', rest] = found;
    at++;
    if (rest !== undefined) map[key] = scalar(rest);
    else [map[key], at] = parseBlock(lines, at);
  }
  return [map, at];
}

function scalar(text: string): Yaml {
  if (text.startsWith('"')) return JSON.parse(text) as string;
  if (/^-?\d+$/.test(text)) return Number(text);
  return text === 'true' || text === 'false' ? text === 'true' : text;
}

/** What is parsed, when it is too large to be in memory. Each range that is read is read once. */
export interface KsySource {
  readonly size: number;
  pread(bytes: Uint8Array, offset: number): void;
}

/** Where each range of a source is that was read from it. */
const places = new WeakMap<ArrayBufferLike, number>();

/** As much of Kaitai's stream as the outermost structure needs: all inside it have sizes, and so streams of their own. */
class SourceStream {
  readonly #source: KsySource;
  readonly byteOffset = 0;
  pos = 0;

  constructor(source: KsySource) {
    this.#source = source;
  }

  get size(): number {
    return this.#source.size;
  }

  seek(pos: number): void {
    this.pos = pos;
  }

  readBytes(length: number): Uint8Array {
    if (this.pos + length > this.size) throw new Error(`${length} bytes at ${this.pos} pass the end`);
    const bytes = new Uint8Array(length);
    this.#source.pread(bytes, this.pos);
    places.set(bytes.buffer, this.pos);
    this.pos += length;
    return bytes;
  }
}

interface DebugPlace {
  readonly start: number;
  readonly end: number;
  /** Of the stream in its buffer. */
  readonly ioOffset: number;
  /** Of a field that is repeated. */
  readonly arr?: readonly { readonly start: number; readonly end: number }[];
}

/** A structure: its fields by name. Parts are parsed when they are asked for. */
export type Parsed = Readonly<Record<string, unknown>> & {
  readonly _debug: Readonly<Record<string, DebugPlace>>;
  readonly _io: { readonly dataView?: DataView };
};

/** Where a field is in the whole. */
export interface ParsedPlace {
  readonly offset: number;
  readonly length: number;
  /** Of a field that is repeated: where each one is, from the first. */
  readonly items: readonly number[];
}

/** Of a field that was read, at once or when it was asked for. */
export function placeOf(parsed: Parsed, field: string): ParsedPlace {
  const {
    start,
    end,
    ioOffset,
    arr = [],
  } = (parsed._debug[field] ?? parsed._debug[`_m_${field}`]) as DebugPlace;
  const base = parsed._io.dataView ? (places.get(parsed._io.dataView.buffer) ?? 0) : 0;
  return {
    offset: base + ioOffset + start,
    length: end - start,
    items: arr.map((each) => each.start - start),
  };
}

type Constructor = (new (stream: object) => Parsed & { _read(): void }) & Record<string, unknown>;

/**
 * Compiles a description.
 *
 * @returns what parses bytes by it, or by one of its types when that is named
 */
export async function compileKsy<T>(ksy: URL): Promise<(source: Uint8Array | KsySource, type?: string) => T> {
  const require = createRequire(import.meta.url);
  const compiler = require('kaitai-struct-compiler') as {
    compile(language: string, ksy: Yaml, importer: null, debug: boolean): Promise<Record<string, string>>;
  };
  const yaml = parseYaml(readFileSync(ksy, 'utf8'), basename(fileURLToPath(ksy)));
  // what it calls debugging keeps the place of each field
  const files = await compiler.compile('javascript', yaml, null, true);
  const module = { exports: {} };
  new Function('module', 'exports', 'require', Object.values(files)[0] ?? '')(
    module,
    module.exports,
    require,
  );
  const [Whole] = Object.values(module.exports) as [Constructor];
  const { KaitaiStream } = require('kaitai-struct') as { KaitaiStream: new (buffer: ArrayBuffer) => object };
  return (source, type) => {
    const isInMemory = source instanceof Uint8Array;
    const stream = isInMemory ? new KaitaiStream(Uint8Array.from(source).buffer) : new SourceStream(source);
    const Type = type === undefined ? Whole : (Whole[type] as Constructor);
    const parsed = new Type(stream);
    parsed._read();
    return parsed as T;
  };
}
