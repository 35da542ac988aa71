import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { ERROR_CODES, fromSystemError, invariant, isVimgError, VimgError } from '../../src/base/errors.ts';

describe('VimgError', () => {
  it('prints as stable JSON, without what it does not know', () => {
    expect(new VimgError('OUT_OF_BOUNDS', 'too far').toJSON()).toEqual({
      code: 'OUT_OF_BOUNDS',
      message: 'too far',
    });
    const error = new VimgError('LOCKED', 'held', { op: 'open', path: 'a.vvd', offset: 0, hint: 'stop it' });
    expect(JSON.parse(JSON.stringify(error))).toEqual({
      code: 'LOCKED',
      message: 'held',
      op: 'open',
      path: 'a.vvd',
      offset: 0,
      hint: 'stop it',
    });
  });

  it('falls back to the hint of its code', () => {
    expect(new VimgError('NO_SPACE', 'full').hint).toBe(ERROR_CODES.NO_SPACE.hint);
    expect(new VimgError('IO', 'broken').hint).toBeUndefined();
  });

  it('is told from other errors, by code too', () => {
    const error: unknown = new VimgError('EXISTS', 'there');
    expect([isVimgError(error), isVimgError(error, 'EXISTS'), isVimgError(error, 'IO')]).toEqual([
      true,
      true,
      false,
    ]);
    expect(isVimgError(new Error('no'))).toBe(false);
  });

  it('keeps exit statuses that a shell can see and errnos that NBD has', () => {
    const nbd = new Set([1, 5, 12, 22, 28, 75, 95, 108]); // NBD protocol, "Error values"
    for (const info of Object.values(ERROR_CODES)) {
      expect(info.exitStatus).toBeGreaterThanOrEqual(1);
      expect(info.exitStatus).toBeLessThanOrEqual(255);
      expect(nbd.has(info.nbdErrno)).toBe(true);
    }
  });
});

describe('fromSystemError', () => {
  it('gives a system error its code, a sentence, and a place', () => {
    const cause = readMissing();
    const error = fromSystemError(cause, { op: 'open', path: '/none' });
    expect(error).toMatchObject({ code: 'NOT_FOUND', message: 'No such file or directory', op: 'open' });
    expect(error.cause).toBe(cause);
  });

  it('lets a VimgError pass, and calls the unknown IO', () => {
    const error = new VimgError('LIMIT', 'too much');
    expect(fromSystemError(error, { op: 'other' })).toBe(error);
    expect(fromSystemError(new Error('odd'))).toMatchObject({ code: 'IO', message: 'odd' });
    expect(fromSystemError('text')).toMatchObject({ code: 'IO', message: 'text' });
    expect(fromSystemError(undefined)).toMatchObject({ code: 'IO' });
  });

  function readMissing(): unknown {
    try {
      return readFileSync('/none/such');
    } catch (error) {
      return error;
    }
  }
});

describe('invariant', () => {
  it('throws a TypeError, which no one takes for an operating error', () => {
    expect(() => invariant(true, 'fine')).not.toThrow();
    expect(() => invariant(false, 'two owners')).toThrow(new TypeError('vimg bug: two owners'));
  });
});
