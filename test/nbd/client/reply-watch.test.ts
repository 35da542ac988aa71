import { describe, expect, it } from 'vitest';
import { PROGRESS_BYTES } from '../../../src/nbd/client/client-limits.ts';
import { ReplyWatch } from '../../../src/nbd/client/reply-watch.ts';

/** Times are given by hand: the first request is sent at 1000. */
function watching(): ReplyWatch {
  const watch = new ReplyWatch({ silenceMs: 100, replyMs: 1000 });
  watch.progress(1000);
  return watch;
}

describe('a server that owes an answer', () => {
  it('is overdue after a silence', () => {
    const watch = watching();
    expect(watch.isOverdue(1000, 1099)).toBe(false);
    expect(watch.isOverdue(1000, 1100)).toBe(true);
  });

  it('gains nothing by a byte now and then', () => {
    const watch = watching();
    for (let at = 1010; at < 1100; at += 10) watch.data(1, at);
    expect(watch.isOverdue(1000, 1100)).toBe(true);
  });

  it('may be slow', () => {
    const watch = watching();
    for (let at = 1050; at < 1900; at += 50) {
      watch.data(PROGRESS_BYTES / 2, at);
      expect(watch.isOverdue(1000, at)).toBe(false);
    }
  });

  it('leaves no request out by answering others', () => {
    const watch = watching();
    for (let at = 1050; at < 2000; at += 50) watch.progress(at);
    expect(watch.isOverdue(1000, 1999)).toBe(false);
    expect(watch.isOverdue(1000, 2000)).toBe(true);
    expect(watch.isOverdue(1500, 2000)).toBe(false);
  });

  it('owes nothing when nothing was asked', () => {
    expect(watching().isOverdue(undefined, 1e9)).toBe(false);
  });
});
