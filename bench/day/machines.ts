/** The virtual machines of a simulated day. Each does a little at every turn, so that all of them grow side by side. */
import type { BlockDevice } from '../../src/device/block-device.ts';
import { KiB, MiB } from '../work.ts';
import { type Guest, UNIT } from './guest.ts';

export interface Machine {
  readonly guest: Guest;
  /** Does what it does in a moment. @param time part of the day that has gone by */
  turn(time: number): Promise<void>;
}

/** Files come and go. */
export function fileServer(guest: Guest, fullness: number, discards: boolean): Machine {
  return {
    guest,
    async turn() {
      await guest.grow(4, 256);
      while (guest.fullness > fullness) await guest.remove(discards);
    },
  };
}

/** Writes here and there in a table that grows, and a log in order. */
export function database(guest: Guest): Machine {
  const logUnits = Math.floor(guest.units / 8);
  let at = 0;
  return {
    guest,
    async turn(time) {
      const table = Math.floor((guest.units - logUnits) * (0.3 + 0.6 * time));
      for (let i = 0; i < 4; i++) {
        await guest.write(
          (logUnits + guest.random.below(table)) * UNIT + guest.random.below(4) * 64 * KiB,
          64 * KiB,
        );
      }
      await guest.write((at++ % logUnits) * UNIT, UNIT);
    },
  };
}

/** Appends, and begins anew when it is full. */
export function recorder(guest: Guest): Machine {
  let at = 0;
  return {
    guest,
    async turn() {
      await guest.write((at++ % guest.units) * UNIT, UNIT);
    },
  };
}

/** Fills a file from front to back: the copy of a disk, or what a batch job writes. */
export async function* fill(file: BlockDevice, size: number, source?: BlockDevice): AsyncGenerator<void> {
  const buffer = Buffer.alloc(MiB, 7);
  for (let offset = 0; offset < size; offset += MiB) {
    const length = Math.min(MiB, size - offset);
    if (source) {
      const { zero } = await source.status(offset, length);
      if (zero) continue;
      await source.pread(buffer.subarray(0, length), offset);
    }
    await file.pwrite(buffer.subarray(0, length), offset);
    yield;
  }
}
