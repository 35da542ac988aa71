import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { findRuns } from '../../src/job/zero-scan.ts';

describe('findRuns', () => {
  it('tells data from zeroes, piece by piece, aligned on the disk', () => {
    const buffer = Buffer.alloc(20);
    buffer[9] = 1;
    expect(findRuns(buffer, 4)).toEqual([
      { start: 0, end: 8, kind: 'zero' },
      { start: 8, end: 12, kind: 'data' },
      { start: 12, end: 20, kind: 'zero' },
    ]);
    expect(findRuns(buffer, 8, 6)).toEqual([
      { start: 0, end: 2, kind: 'zero' },
      { start: 2, end: 10, kind: 'data' },
      { start: 10, end: 20, kind: 'zero' },
    ]);
  });

  it('leaves out what stands behind already', () => {
    const buffer = Buffer.from([1, 1, 0, 0, 2, 2, 0, 0]);
    const behind = Buffer.from([1, 1, 5, 5, 3, 3, 0, 0]);
    expect(findRuns(buffer, 2, 0, behind)).toEqual([
      { start: 0, end: 2, kind: 'same' },
      { start: 2, end: 4, kind: 'zero' },
      { start: 4, end: 6, kind: 'data' },
      { start: 6, end: 8, kind: 'same' },
    ]);
  });

  it('says zero of nothing that is not, and covers the buffer', () => {
    const bytes = fc.array(fc.constantFrom(0, 0, 0, 0, 0, 0, 0, 7), { maxLength: 400 });
    fc.assert(
      fc.property(bytes, fc.integer({ min: 1, max: 64 }), fc.nat(100), (values, piece, phase) => {
        const buffer = Buffer.from(values);
        let end = 0;
        for (const run of findRuns(buffer, piece, phase % piece)) {
          expect(run.start).toBe(end);
          end = run.end;
          const zero = values.slice(run.start, run.end).every((value) => value === 0);
          if (run.kind === 'zero') expect(zero).toBe(true);
          else expect(zero).toBe(false);
        }
        expect(end).toBe(buffer.length);
      }),
    );
  });

  it('sees one byte anywhere in a large buffer', () => {
    for (const at of [0, 1, 8, 4095, 65_536, 131_071, 150_000]) {
      const buffer = Buffer.alloc(150_001);
      buffer[at] = 1;
      expect(findRuns(buffer, 1 << 20)).toEqual([{ start: 0, end: 150_001, kind: 'data' }]);
    }
  });
});
