import { describe, expect, it } from 'vitest';
import { ProgressMeter, type ProgressReport } from '../../src/job/progress.ts';

describe('ProgressMeter', () => {
  it('tells the rate over the last seconds and the time left', () => {
    let nowMs = 0;
    const reports: ProgressReport[] = [];
    const meter = new ProgressMeter(
      (report) => reports.push(report),
      () => nowMs,
    );
    meter.phase('mapping');
    meter.phase('copying', 1000);
    for (let i = 0; i < 5; i++) {
      nowMs += 1000;
      meter.add(100);
    }
    expect(reports.at(-1)).toEqual({
      phase: 'copying',
      bytesDone: 500,
      bytesTotal: 1000,
      fraction: 0.5,
      bytesPerSecond: 100,
      secondsLeft: 5,
      secondsElapsed: 5,
    });
    meter.phase('flushing');
    meter.phase('done');
    expect(reports.at(-1)?.fraction).toBe(1);
    expect(reports.map((report) => report.phase).filter((phase, i, all) => phase !== all[i - 1])).toEqual([
      'mapping',
      'copying',
      'flushing',
      'done',
    ]);
  });

  it('reports at most ten times a second', () => {
    let nowMs = 0;
    let count = 0;
    const meter = new ProgressMeter(
      () => count++,
      () => nowMs,
    );
    meter.phase('copying', 1000);
    for (let i = 0; i < 1000; i++) {
      nowMs += 1;
      meter.add(1);
    }
    expect(count).toBe(11);
  });

  it('costs nothing when nobody listens, and never passes 1', () => {
    const silent = new ProgressMeter(undefined);
    expect(silent.active).toBe(false);
    silent.add(5);
    const fractions: number[] = [];
    const meter = new ProgressMeter(
      (report) => fractions.push(report.fraction),
      () => 0,
    );
    meter.phase('copying', 0);
    meter.phase('copying', 10);
    meter.add(20);
    meter.phase('copying');
    expect(fractions).toEqual([0, 0, 1]);
  });
});
