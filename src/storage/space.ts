/**
 * Space in a datastore: what is used, what its thin disks were promised, and whether it is time to warn.
 *
 * A thin disk takes less than its guest may write. `promised` is what the datastore would hold if every disk that can
 * be written were full; divided by the capacity it is the ratio of over-commitment.
 */
import { isVimgError } from '../base/errors.ts';
import type { FileStatus } from '../device/file-system.ts';
import { openFile } from '../device/files.ts';
import { closedGate } from '../image/gate-policies.ts';
import { probeFormat } from '../image/probe.ts';
import type { FormatRegistry } from '../image/registry.ts';
import { changeConfiguration, type Environment } from './configuration.ts';
import type { Alarm, Thresholds } from './configuration-schema.ts';
import type { OpenDatastore } from './datastore.ts';
import { filesBelow } from './files-below.ts';

export interface DatastoreSpace {
  readonly capacity: number;
  readonly used: number;
  readonly free: number;
  /** Bytes that its files take. */
  readonly files: number;
  /** Bytes that its files would take if every disk were written full. */
  readonly promised: number;
  /** `promised` of the capacity; more than 1 is over-committed. */
  readonly ratio: number;
  /** Percent of the capacity that is used. */
  readonly percentUsed: number;
  readonly alarm: Alarm;
}

export const DEFAULT_THRESHOLDS: Thresholds = { warning: 80, critical: 95, recovery: 5 };

/** Adds up. Opens the header of every file, and locks none. */
export async function datastoreSpace(
  datastore: OpenDatastore,
  formats: FormatRegistry,
): Promise<DatastoreSpace> {
  const { entry } = datastore;
  const room = await datastore.capacity();
  let files = 0;
  let promised = 0;
  for await (const { path, status } of filesBelow(`${entry.name}:`)) {
    files += status.allocated;
    promised += await fullSize(path, status, formats);
  }
  const percentUsed = room.capacity === 0 ? 0 : (room.used / room.capacity) * 100;
  return {
    ...room,
    files,
    promised,
    ratio: room.capacity === 0 ? 0 : promised / room.capacity,
    percentUsed,
    alarm: nextAlarm(entry.alarm ?? 'normal', percentUsed, entry.thresholds ?? DEFAULT_THRESHOLDS),
  };
}

/** Bytes that a file takes when everything that may be written to it is. */
async function fullSize(path: string, status: FileStatus, formats: FormatRegistry): Promise<number> {
  try {
    const file = await openFile(path, { readOnly: true });
    try {
      const { driver, guessed } = await probeFormat(file, formats);
      if (guessed) return Math.max(status.allocated, status.size);
      const layer = await driver.open(file, { readOnly: true, gate: closedGate, infoOnly: true });
      const sealed = (await layer.info()).specific?.['sealed'] === true;
      return sealed ? status.allocated : Math.max(status.allocated, layer.virtualSize);
    } finally {
      await file.close();
    }
  } catch (error) {
    if (isVimgError(error)) return status.allocated; // damaged, or gone meanwhile: what it takes is all that is known
    throw error;
  }
}

/**
 * The alarm that follows, with hysteresis: a threshold raises it when it is reached, and lets it go only when use has
 * fallen below it by the recovery offset; so use that moves around a threshold does not ring the bell again and again.
 */
export function nextAlarm(now: Alarm, percentUsed: number, thresholds: Thresholds): Alarm {
  const { warning, critical, recovery } = thresholds;
  if (percentUsed >= critical || (now === 'critical' && percentUsed > critical - recovery)) return 'critical';
  if (percentUsed >= warning || (now !== 'normal' && percentUsed > warning - recovery)) return 'warning';
  return 'normal';
}

/** The next one to ask has to know that there was an alarm. Who may not write the configuration only asks. */
export async function rememberAlarm(name: string, alarm: Alarm, environment: Environment): Promise<void> {
  try {
    await changeConfiguration(environment, (now) => ({
      ...now,
      datastores: now.datastores.map((each) => (each.name === name ? { ...each, alarm } : each)),
    }));
  } catch (error) {
    if (!isVimgError(error, 'READ_ONLY')) throw error;
  }
}
