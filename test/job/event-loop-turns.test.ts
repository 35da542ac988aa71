import { expect, it, vi } from 'vitest';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { compareDisks } from '../../src/job/compare.ts';

it('a job whose work completes in the same tick can be cancelled by what another turn brings', async () => {
  let nowMs = 0;
  const now = vi.spyOn(performance, 'now').mockImplementation(() => (nowMs += 5)); // every look takes 5 ms
  try {
    const [first, second] = [MemoryDevice.create(2 ** 30), MemoryDevice.create(2 ** 30)];
    for (let at = 0; at < 2 ** 30; at += 2 ** 24) {
      first.pwrite(Buffer.from('same'), at);
      second.pwrite(Buffer.from('same'), at);
    }
    const controller = new AbortController();
    setImmediate(() => controller.abort());
    await expect(compareDisks(first, second, { signal: controller.signal })).rejects.toMatchObject({
      code: 'CANCELLED',
    });
  } finally {
    now.mockRestore();
  }
});
