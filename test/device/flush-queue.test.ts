import { describe, expect, it } from 'vitest';
import { FlushQueue } from '../../src/device/flush-queue.ts';

/** A sync that a test ends by hand. */
class HeldSync {
  readonly ends: { resolve: () => void; reject: (error: Error) => void }[] = [];
  readonly sync = (): Promise<void> =>
    new Promise((resolve, reject) => {
      this.ends.push({ resolve, reject });
    });
}

describe('FlushQueue', () => {
  it('does nothing when nothing was written', () => {
    const held = new HeldSync();
    expect(new FlushQueue(held.sync, false).request()).toBeUndefined();
    expect(held.ends.length).toBe(0);
  });

  it('waits for a sync under way when nothing was written since it started', async () => {
    const held = new HeldSync();
    const queue = new FlushQueue(held.sync, true);
    const first = queue.request();
    expect(queue.request()).toBe(first);
    held.ends[0]?.resolve();
    await first;
    expect(queue.request()).toBeUndefined();
  });

  it('lets everyone who asks during a sync share the next one', async () => {
    const held = new HeldSync();
    const queue = new FlushQueue(held.sync, true);
    const first = queue.request();
    queue.wrote();
    const second = queue.request();
    queue.wrote();
    expect(queue.request()).toBe(second);
    expect(held.ends.length).toBe(1);
    held.ends[0]?.resolve();
    await first;
    await Promise.resolve();
    expect(held.ends.length).toBe(2);
    held.ends[1]?.resolve();
    await second;
    expect(queue.request()).toBeUndefined();
  });

  it('fails for good: those who wait, and all who ask later', async () => {
    const held = new HeldSync();
    const queue = new FlushQueue(held.sync, true);
    const first = queue.request();
    queue.wrote();
    const second = queue.request();
    held.ends[0]?.reject(new Error('lost'));
    await expect(first).rejects.toThrow('lost');
    await expect(second).rejects.toThrow('lost');
    queue.wrote();
    expect(() => queue.request()).toThrow('lost');
    expect(held.ends.length).toBe(1);
  });
});
