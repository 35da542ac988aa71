/**
 * The header extensions: optional pieces between the header and the name of the backing file
 * (QEMU docs/interop/qcow2, "Header extensions").
 *
 * Invariants: nothing is read past the first cluster; each known type appears at most once; a string is UTF-8
 * without NUL, so that it names one file and not another.
 */
import { VimgError } from '../../src/base/errors.ts';
import { LIMITS } from '../../src/base/limits.ts';
import {
  type BitmapsExtension,
  bitmapsExtensionLayout,
  type EncryptionPointer,
  EXTENSION_BACKING_FORMAT,
  EXTENSION_BITMAPS,
  EXTENSION_DATA_FILE,
  EXTENSION_ENCRYPTION,
  EXTENSION_END,
  EXTENSION_FEATURE_NAMES,
  encryptionPointerLayout,
  extensionHeadLayout,
  type FeatureName,
  featureNameLayout,
} from './layout.ts';

/** Longest format name that a backing format extension may hold. */
const BACKING_FORMAT_BYTES_MAX = 255;
/** Most extensions that one header is searched for; QEMU writes five. */
const EXTENSIONS_MAX = 64;

/** Where one extension lies, for `inspect`. `offset` is that of its data. */
export interface ExtensionPlace {
  readonly type: number;
  readonly offset: number;
  readonly length: number;
}

/** What the extensions of a header say. */
export interface HeaderExtensions {
  readonly places: readonly ExtensionPlace[];
  readonly backingFormat: string | undefined;
  readonly dataFile: string | undefined;
  readonly featureNames: readonly FeatureName[];
  readonly bitmaps: BitmapsExtension | undefined;
  readonly encryption: EncryptionPointer | undefined;
}

/** A header without extensions. */
export const NO_EXTENSIONS: HeaderExtensions = {
  places: [],
  backingFormat: undefined,
  dataFile: undefined,
  featureNames: [],
  bitmaps: undefined,
  encryption: undefined,
};

/**
 * Reads the extensions from `area`, the bytes of the file from 0 to where extensions must end.
 *
 * @param start where the first extension may begin: the end of the header
 * @throws VimgError `INVALID_FORMAT` for one that passes the end of the area, is repeated, or holds nonsense
 */
export function readExtensions(area: Uint8Array, start: number): HeaderExtensions {
  const places = locateExtensions(area, start);
  const data = (type: number): Uint8Array | undefined => {
    const place = places.find((candidate) => candidate.type === type);
    return place && area.subarray(place.offset, place.offset + place.length);
  };
  const backingFormat = data(EXTENSION_BACKING_FORMAT);
  if (backingFormat !== undefined && backingFormat.length > BACKING_FORMAT_BYTES_MAX) {
    throw invalid(`the name of the backing format has ${backingFormat.length} bytes`);
  }
  const dataFile = data(EXTENSION_DATA_FILE);
  if (dataFile !== undefined && dataFile.length > LIMITS.referenceBytes) {
    throw invalid(`the name of the data file has ${dataFile.length} bytes`);
  }
  const bitmaps = data(EXTENSION_BITMAPS);
  const encryption = data(EXTENSION_ENCRYPTION);
  return {
    places,
    backingFormat:
      backingFormat === undefined || backingFormat.length === 0
        ? undefined
        : decodeName(backingFormat, 'the name of the backing format'),
    dataFile: dataFile === undefined ? undefined : decodeName(dataFile, 'the name of the data file'),
    featureNames: readFeatureNames(data(EXTENSION_FEATURE_NAMES)),
    bitmaps: bitmaps && bitmapsExtensionLayout.decode(bitmaps),
    encryption: encryption && encryptionPointerLayout.decode(encryption),
  };
}

/** Finds each extension. @throws VimgError `INVALID_FORMAT` */
export function locateExtensions(area: Uint8Array, start: number): ExtensionPlace[] {
  const places: ExtensionPlace[] = [];
  for (let at = start; at + extensionHeadLayout.size <= area.length; ) {
    const head = extensionHeadLayout.decode(area, at);
    if (head.type === EXTENSION_END) return places;
    const offset = at + extensionHeadLayout.size;
    if (head.length > area.length - offset) {
      throw invalid(`header extension 0x${hex32(head.type)} of ${head.length} bytes passes the end`, at);
    }
    if (places.some((place) => place.type === head.type && isKnown(head.type))) {
      throw invalid(`header extension 0x${hex32(head.type)} appears twice`, at);
    }
    if (places.length === EXTENSIONS_MAX) throw invalid(`more than ${EXTENSIONS_MAX} header extensions`, at);
    places.push({ type: head.type, offset, length: head.length });
    at = offset + Math.ceil(head.length / 8) * 8;
  }
  return places;
}

const EXTENSION_NAMES: Readonly<Record<number, string>> = {
  [EXTENSION_BACKING_FORMAT]: 'backing format',
  [EXTENSION_FEATURE_NAMES]: 'feature name table',
  [EXTENSION_BITMAPS]: 'bitmaps',
  [EXTENSION_ENCRYPTION]: 'encryption header pointer',
  [EXTENSION_DATA_FILE]: 'data file name',
};

/** What a person calls an extension of this type. */
export function extensionName(type: number): string {
  return EXTENSION_NAMES[type] ?? `unknown (0x${hex32(type)})`;
}

function isKnown(type: number): boolean {
  return EXTENSION_NAMES[type] !== undefined;
}

function readFeatureNames(data: Uint8Array | undefined): FeatureName[] {
  if (data === undefined) return [];
  const names: FeatureName[] = [];
  // A table that is no multiple of an entry: the spec says nothing, what is whole is read.
  for (let at = 0; at + featureNameLayout.size <= data.length; at += featureNameLayout.size) {
    const entry = featureNameLayout.decode(data, at);
    names.push({ ...entry, name: printable(entry.name) });
  }
  return names;
}

/** Names come from the file and go to a terminal: keep what cannot steer it. */
function printable(name: string): string {
  const end = name.indexOf('\0');
  return (end < 0 ? name : name.slice(0, end)).replaceAll(/[^\x20-\x7e]/g, '?');
}

/**
 * Names feature bits, from the table of the file where it has them.
 *
 * @param bits the feature word, only the bits to be named set
 * @param kind 0 incompatible, 1 compatible, 2 autoclear
 */
export function nameFeatures(bits: bigint, kind: number, table: readonly FeatureName[]): string[] {
  const names: string[] = [];
  for (let bit = 0; bit < 64; bit++) {
    if ((bits & (1n << BigInt(bit))) === 0n) continue;
    const entry = table.find((candidate) => candidate.kind === kind && candidate.bit === bit);
    names.push(entry && entry.name !== '' ? `${entry.name} (bit ${bit})` : `bit ${bit}`);
  }
  return names;
}

const utf8 = new TextDecoder('utf-8', { fatal: true });

/** Reads the name of a file or format. @throws VimgError `INVALID_FORMAT` for a NUL or for what is not UTF-8 */
export function decodeName(bytes: Uint8Array, what: string): string {
  if (bytes.includes(0)) throw invalid(`${what} holds a zero byte`);
  try {
    return utf8.decode(bytes);
  } catch (cause) {
    throw new VimgError('INVALID_FORMAT', `${what} is not UTF-8`, { op: 'read qcow2 header', cause });
  }
}

function invalid(message: string, offset?: number): VimgError {
  return new VimgError('INVALID_FORMAT', message, {
    op: 'read qcow2 header',
    ...(offset === undefined ? {} : { offset }),
  });
}

function hex32(value: number): string {
  return value.toString(16).padStart(8, '0');
}
