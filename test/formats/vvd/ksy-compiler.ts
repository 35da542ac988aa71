/** Compiles vvd.ksy when a test runs, into memory. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

type Yaml = string | number | boolean | Yaml[] | { [key: string]: Yaml };

interface Line {
  readonly indent: number;
  readonly text: string;
  readonly number: number;
}

/**
 * Reads the part of YAML 1.2 that vvd.ksy uses: block mappings, block sequences, and scalars on one line.
 *
 * @throws Error for a line of any other kind
 */
function parseYaml(source: string): Yaml {
  const lines = source.split('\n').flatMap((raw, i): Line[] => {
    const text = raw.trim();
    if (text === '' || text.startsWith('#')) return [];
    return [{ indent: raw.length - raw.trimStart().length, text, number: i + 1 }];
  });
  const [value, end] = parseBlock(lines, 0);
  if (end !== lines.length) throw new Error(`vvd.ksy, line ${lines[end]?.number}: wrong indentation`);
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
    if (!found) throw new Error(`vvd.ksy, line ${line.number}: not understood: ${line.text}`);
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

/** What the compiled description gives, as far as the test looks at it. Parts are parsed when they are asked for. */
export interface ParsedVvd {
  readonly headerCopies: readonly ParsedHeader[];
  readonly header: ParsedHeader;
  readonly blockSize: number;
  readonly attributes: { readonly attributes: readonly ParsedAttribute[] };
  readonly journalSlot0?: ParsedSlot;
  readonly journalSlot1?: ParsedSlot;
  readonly spaceList: {
    readonly header: ParsedPageHeader;
    readonly head: Readonly<Record<string, unknown>> & { readonly directoriesWritten: readonly number[] };
    readonly firstExtents: readonly ParsedExtent[];
    readonly morePages: readonly {
      readonly header: ParsedPageHeader;
      readonly extents: readonly ParsedExtent[];
    }[];
  };
  readonly directory: readonly ParsedDirectory[];
  readonly checksums?: readonly {
    readonly header: ParsedPageHeader;
    readonly checksums?: readonly number[];
  }[];
}
interface ParsedUuid {
  readonly bytes: Uint8Array;
}
export type ParsedHeader = Readonly<Record<string, unknown>> & {
  readonly featureNames: readonly { readonly set: number; readonly bit: number; readonly name: string }[];
};
export interface ParsedText {
  readonly text: string;
  readonly padding: Uint8Array;
}
interface ParsedAttribute {
  readonly type: number;
  readonly key: string;
  readonly value: string;
}
export interface ParsedPageHeader {
  readonly magic: number;
  readonly isPage: boolean;
  readonly type: number;
  readonly version: number;
  readonly index: number;
  readonly diskUuid: ParsedUuid;
  readonly generation: number;
  readonly place: number;
  readonly reserved: Uint8Array;
  readonly crc: number;
}
export interface ParsedSlot {
  readonly header: ParsedPageHeader;
  readonly head: { readonly imageCount: number; readonly headPages: number };
  readonly isFilled: boolean;
  readonly homes: readonly number[];
  readonly images: readonly {
    readonly header: ParsedPageHeader;
    readonly body: Uint8Array | { readonly entries: readonly (ParsedDirectoryEntry | ParsedEntry)[] };
  }[];
}
interface ParsedExtent {
  readonly place: number;
  readonly length: number;
}
export interface ParsedDirectory {
  readonly isWritten: boolean;
  readonly header?: ParsedPageHeader;
  readonly body?: { readonly entries: readonly ParsedDirectoryEntry[] };
}
export interface ParsedDirectoryEntry {
  readonly place: number;
  readonly generation: number;
  readonly table?: {
    readonly header: ParsedPageHeader;
    readonly body: { readonly entries: readonly ParsedEntry[] };
  };
}
export interface ParsedEntry {
  readonly low: number;
  readonly high: number;
  readonly allocated: number;
  readonly zero: number;
  readonly kind: number;
  readonly place: number;
  readonly data?: Uint8Array;
  readonly compressed?: Uint8Array;
}

/** Compiles the description, and returns the function that parses an image by it. */
export async function compileVvd(): Promise<(image: Uint8Array) => ParsedVvd> {
  const require = createRequire(import.meta.url);
  const compiler = require('kaitai-struct-compiler') as {
    compile(language: string, ksy: Yaml, importer: null, debug: boolean): Promise<Record<string, string>>;
  };
  const path = new URL('../../../formats/vvd/vvd.ksy', import.meta.url);
  const files = await compiler.compile('javascript', parseYaml(readFileSync(path, 'utf8')), null, false);
  const module = { exports: {} };
  new Function('module', 'exports', 'require', files['Vvd.js'] ?? '')(module, module.exports, require);
  const { Vvd } = module.exports as { Vvd: new (stream: object) => ParsedVvd };
  const { KaitaiStream } = require('kaitai-struct') as { KaitaiStream: new (buffer: ArrayBuffer) => object };
  return (image) => new Vvd(new KaitaiStream(Uint8Array.from(image).buffer));
}
