/** Sizes as people write and read them. */

import { VimgError } from './errors.ts';
import { LIMITS } from './limits.ts';

const SUFFIX_POWER: Readonly<Record<string, number>> = { '': 0, b: 0, k: 1, m: 2, g: 3, t: 4, p: 5, e: 6 };
const SIZE_PATTERN = /^(?:(0[xX][0-9a-fA-F]+)|([0-9]+)(?:\.([0-9]+))?)([bBkKmMgGtTpPeE]?)$/;

/**
 * Reads a size: `1048576`, `0x100000`, `10G`, `1.5T`. Suffixes `b k K M G T P E` are powers of 1024; without one
 * the number counts `unit` bytes (1 by default, as for qemu-img). The result is exact: fractions are computed in
 * whole bytes and cut, as qemu-img does.
 *
 * @throws VimgError `USAGE` for anything else (a sign, an exponent, `KB`, `GiB`, nothing), `LIMIT` past 2^53 − 1
 */
export function parseSize(text: string, unit = 1): number {
  const match = SIZE_PATTERN.exec(text);
  if (!match) {
    throw new VimgError('USAGE', `Invalid size '${text}'`, {
      hint: 'write a number of bytes, or a number with one of the suffixes k, M, G, T, P, E (powers of 1024)',
    });
  }
  const [, hex, whole, fraction, suffix = ''] = match;
  const power = SUFFIX_POWER[suffix.toLowerCase()] ?? 0;
  const multiplier = suffix === '' ? BigInt(unit) : 1024n ** BigInt(power);
  if (fraction !== undefined && multiplier === 1n) {
    throw new VimgError('USAGE', `Invalid size '${text}'`, { hint: 'a fraction needs a suffix: 1.5G' });
  }
  let bytes = BigInt(hex ?? whole ?? '0') * multiplier;
  if (fraction !== undefined) bytes += (BigInt(fraction) * multiplier) / 10n ** BigInt(fraction.length);
  if (bytes > BigInt(LIMITS.offset)) {
    throw new VimgError('LIMIT', `Size '${text}' is too large`, { hint: 'the largest size is 8191T' });
  }
  return Number(bytes);
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];

/**
 * A size as qemu-img prints it: three significant digits and a binary unit, `1.5 GiB`. Exact halves go to the even
 * digit, as C's printf does: 1.125 GiB is `1.12 GiB`.
 */
export function formatSize(bytes: number): string {
  let unit = 0;
  while (bytes / 1024 ** unit >= 1000 && unit < UNITS.length - 1) unit++;
  const value = bytes / 1024 ** unit;
  let decimals = 3; // 1000 KiB and more is 0.98 MiB: never four digits
  if (value >= 100) decimals = 0;
  else if (value >= 10) decimals = 1;
  else if (value >= 1) decimals = 2;
  const digits = divideToEven(BigInt(Math.round(bytes)) * 10n ** BigInt(decimals), 1024n ** BigInt(unit));
  return `${Number(digits) / 10 ** decimals} ${UNITS[unit]}`;
}

/** The nearest whole quotient; of two that are equally near, the even one. */
function divideToEven(dividend: bigint, divisor: bigint): bigint {
  const quotient = dividend / divisor;
  const twice = 2n * (dividend % divisor);
  return twice > divisor || (twice === divisor && quotient % 2n === 1n) ? quotient + 1n : quotient;
}

/** Rounds up to a multiple of `unit`. Exact to 2^53. */
export function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

/** Rounds down to a multiple of `unit`. Exact to 2^53. */
export function roundDown(value: number, unit: number): number {
  return Math.floor(value / unit) * unit;
}

/** Whether a number is a power of two, 1 included. */
export function isPowerOfTwo(value: number): boolean {
  return value >= 1 && Number.isInteger(Math.log2(value));
}
