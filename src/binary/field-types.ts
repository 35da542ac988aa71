/** The field types that layouts are made of. Offsets and lengths are decoded into numbers and checked ≤ 2^53 − 1. */
import { VimgError } from '../base/errors.ts';
import type { FieldType } from './layout.ts';
import { formatUuid, parseUuid } from './uuid.ts';

export const u8: FieldType<number> = {
  name: 'u8',
  size: 1,
  get: (view, offset) => view.getUint8(offset),
  set: (view, offset, value) => view.setUint8(offset, value),
};

function u16(littleEndian: boolean): FieldType<number> {
  return {
    name: littleEndian ? 'u16' : 'u16be',
    size: 2,
    get: (view, offset) => view.getUint16(offset, littleEndian),
    set: (view, offset, value) => view.setUint16(offset, value, littleEndian),
  };
}

function u32(littleEndian: boolean): FieldType<number> {
  return {
    name: littleEndian ? 'u32' : 'u32be',
    size: 4,
    get: (view, offset) => view.getUint32(offset, littleEndian),
    set: (view, offset, value) => view.setUint32(offset, value, littleEndian),
  };
}

function u64(littleEndian: boolean): FieldType<number> {
  const name = littleEndian ? 'u64' : 'u64be';
  return {
    name,
    size: 8,
    get(view, offset) {
      const high = view.getUint32(offset + (littleEndian ? 4 : 0), littleEndian);
      const low = view.getUint32(offset + (littleEndian ? 0 : 4), littleEndian);
      if (high > 0x1f_ffff) {
        const hex = ((BigInt(high) << 32n) | BigInt(low)).toString(16);
        throw new VimgError('INVALID_FORMAT', `a 64-bit value is out of range: 0x${hex}`);
      }
      return high * 0x1_0000_0000 + low;
    },
    set(view, offset, value) {
      view.setUint32(offset + (littleEndian ? 4 : 0), Math.floor(value / 0x1_0000_0000), littleEndian);
      view.setUint32(offset + (littleEndian ? 0 : 4), value >>> 0, littleEndian);
    },
  };
}

function u64bits(littleEndian: boolean): FieldType<bigint> {
  return {
    name: littleEndian ? 'u64' : 'u64be',
    size: 8,
    get: (view, offset) => view.getBigUint64(offset, littleEndian),
    set: (view, offset, value) => view.setBigUint64(offset, value, littleEndian),
  };
}

export const u16le: FieldType<number> = u16(true);
export const u16be: FieldType<number> = u16(false);
export const u32le: FieldType<number> = u32(true);
export const u32be: FieldType<number> = u32(false);
/** An offset or length: a number, refused past 2^53 − 1. */
export const u64le: FieldType<number> = u64(true);
export const u64be: FieldType<number> = u64(false);
/** 64 bits that are not a number: feature flags, opaque identities. */
export const bits64le: FieldType<bigint> = u64bits(true);
export const bits64be: FieldType<bigint> = u64bits(false);

/** A UUID in RFC 4122 byte order, as its canonical text. */
export const uuid: FieldType<string> = {
  name: 'uuid',
  size: 16,
  get: (view, offset) => formatUuid(new Uint8Array(view.buffer, view.byteOffset + offset, 16)),
  set: (view, offset, value) =>
    new Uint8Array(view.buffer, view.byteOffset + offset, 16).set(parseUuid(value)),
};

/** `size` ASCII characters, exactly: a magic. */
export function ascii(size: number): FieldType<string> {
  return {
    name: `ascii[${size}]`,
    size,
    get: (view, offset) => Buffer.from(view.buffer, view.byteOffset + offset, size).toString('latin1'),
    set: (view, offset, value) => {
      Buffer.from(view.buffer, view.byteOffset + offset, size)
        .fill(0)
        .write(value, 'latin1');
    },
  };
}

/** `size` bytes, as they are. Decoding copies them. */
export function bytes(size: number): FieldType<Uint8Array> {
  return {
    name: `bytes[${size}]`,
    size,
    get: (view, offset) => new Uint8Array(view.buffer, view.byteOffset + offset, size).slice(),
    set: (view, offset, value) => {
      const target = new Uint8Array(view.buffer, view.byteOffset + offset, size).fill(0);
      target.set(value.subarray(0, size));
    },
  };
}
