/**
 * Attributes: typed keys and values that live beside the data and change without touching it.
 *
 * Two slots, one in use; a change writes the other slot, flushes, and then lets the header name it. Keys that this
 * program does not know are kept as they are.
 */
import { VimgError } from '../../src/base/errors.ts';
import { crc32c } from '../../src/binary/crc32c.ts';
import { u8, u16le, u32le } from '../../src/binary/field-types.ts';
import { type Layout, layout } from '../../src/binary/layout.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { type Header, PAGE } from './layout.ts';

export const ATTRIBUTES_LIMIT = 64;
export const KEY_LIMIT = 128;
export const VALUE_LIMIT = 4096;

export type AttributeValue = string | number | boolean;
export type Attributes = ReadonlyMap<string, AttributeValue>;

const TYPE_STRING = 1;
const TYPE_INTEGER = 2;
const TYPE_BOOLEAN = 3;

interface AttributeHead {
  keyLength: number;
  type: number;
  reserved: number;
  valueLength: number;
}
/** Before each key and value. The slot starts with the number of attributes, u32. */
export const attributeHeadLayout: Layout<AttributeHead> = layout<AttributeHead>('attribute head', 8, {
  keyLength: [0, u16le, 'bytes of the UTF-8 key, 1 to 128'],
  type: [2, u8, '1 UTF-8 string, 2 integer as decimal text, 3 boolean as "true" or "false"'],
  reserved: [3, u8, 'zero'],
  valueLength: [4, u32le, 'bytes of the value, up to 4096'],
});

/** The attributes of an image without any. */
export const NO_ATTRIBUTES: Uint8Array = new Uint8Array(4);

export function encodeAttributes(attributes: Attributes): Uint8Array {
  if (attributes.size > ATTRIBUTES_LIMIT) {
    throw new VimgError('LIMIT', `An image holds at most ${ATTRIBUTES_LIMIT} attributes`);
  }
  const parts: Uint8Array[] = [];
  const count = new Uint8Array(4);
  new DataView(count.buffer).setUint32(0, attributes.size, true);
  parts.push(count);
  for (const [key, value] of attributes) {
    const keyBytes = Buffer.from(key, 'utf8');
    const valueBytes = Buffer.from(String(value), 'utf8');
    checkAttribute(key, keyBytes.length, valueBytes.length);
    const head = attributeHeadLayout.encode({
      keyLength: keyBytes.length,
      type: typeOf(value),
      reserved: 0,
      valueLength: valueBytes.length,
    });
    parts.push(head, keyBytes, valueBytes);
  }
  return Buffer.concat(parts);
}

function checkAttribute(key: string, keyLength: number, valueLength: number): void {
  if (keyLength === 0 || /[\u0000-\u0020=]/.test(key)) {
    throw new VimgError('USAGE', `'${key}' cannot be the name of an attribute`, {
      hint: 'a name has no spaces, no control characters and no =',
    });
  }
  if (keyLength > KEY_LIMIT) throw new VimgError('LIMIT', `An attribute name has at most ${KEY_LIMIT} bytes`);
  if (valueLength > VALUE_LIMIT)
    throw new VimgError('LIMIT', `An attribute value has at most ${VALUE_LIMIT} bytes`);
}

function typeOf(value: AttributeValue): number {
  if (typeof value === 'boolean') return TYPE_BOOLEAN;
  if (typeof value === 'string') return TYPE_STRING;
  if (!Number.isSafeInteger(value)) throw new VimgError('USAGE', `${value} is not a whole number`);
  return TYPE_INTEGER;
}

/** @throws VimgError `CORRUPT` when the bytes are not exactly a list of attributes within the limits */
export function decodeAttributes(bytes: Uint8Array): Map<string, AttributeValue> {
  const attributes = new Map<string, AttributeValue>();
  const count = bytes.length >= 4 ? new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true) : -1;
  if (count < 0 || count > ATTRIBUTES_LIMIT) throw corrupt('impossible number of attributes');
  let at = 4;
  for (let i = 0; i < count; i++) {
    if (at + attributeHeadLayout.size > bytes.length) throw corrupt('cut short');
    const head = attributeHeadLayout.decode(bytes, at);
    const keyAt = at + attributeHeadLayout.size;
    const valueAt = keyAt + head.keyLength;
    at = valueAt + head.valueLength;
    if (head.keyLength > KEY_LIMIT || head.valueLength > VALUE_LIMIT || at > bytes.length) {
      throw corrupt('a length passes its limit');
    }
    const key = Buffer.from(bytes.subarray(keyAt, valueAt)).toString('utf8');
    attributes.set(key, decodeValue(head.type, Buffer.from(bytes.subarray(valueAt, at)).toString('utf8')));
  }
  return attributes;
}

function decodeValue(type: number, text: string): AttributeValue {
  switch (type) {
    case TYPE_INTEGER:
      if (!/^-?\d{1,16}$/.test(text)) throw corrupt('an integer is none');
      return Number(text);
    case TYPE_BOOLEAN:
      if (text !== 'true' && text !== 'false') throw corrupt('a boolean is none');
      return text === 'true';
    case TYPE_STRING:
      return text;
    default:
      throw corrupt(`unknown type ${type}`);
  }
}

function corrupt(why: string): VimgError {
  return new VimgError('CORRUPT', `The attributes are damaged: ${why}`);
}

/** Reads and verifies the attributes in use. @throws VimgError `CORRUPT` */
export async function readAttributes(
  file: BlockDevice,
  header: Header,
): Promise<Map<string, AttributeValue>> {
  const offset = slotOffset(header, header.attributesSlot);
  if (offset + header.attributesLength > file.size) throw corrupt('they pass the end of the file');
  const bytes = new Uint8Array(header.attributesLength);
  await file.pread(bytes, offset);
  if (crc32c(bytes) !== header.attributesCrc) throw corrupt('their checksum does not match');
  return decodeAttributes(bytes);
}

/**
 * Writes attributes into the slot not in use, durably, and makes `header` name it. The caller writes the header.
 */
export async function stageAttributes(
  file: BlockDevice,
  header: Header,
  attributes: Attributes,
): Promise<void> {
  const bytes = encodeAttributes(attributes);
  const slot = 1 - header.attributesSlot;
  await file.pwrite(bytes, slotOffset(header, slot));
  await file.flush();
  header.attributesSlot = slot;
  header.attributesLength = bytes.length;
  header.attributesCrc = crc32c(bytes);
}

function slotOffset(header: Header, slot: number): number {
  return header.attributesOffset + slot * header.attributesSlotPages * PAGE;
}
