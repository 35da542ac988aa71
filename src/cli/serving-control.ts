/** The control socket of `vimg serve`: other calls of the tool find it by the lock of a disk. */
import { formats } from '../../formats/index.ts';
import { isVimgError } from '../base/errors.ts';
import { controlFolders, ownControlPath } from '../control/control-place.ts';
import { ControlServer } from '../control/control-server.ts';
import type { DiskImage } from '../image/disk-image.ts';
import type { Export } from '../nbd/export.ts';
import type { NbdServer } from '../nbd/server.ts';
import { controlMethods } from '../serving/control-methods.ts';
import { OpenDiskSet } from '../serving/open-disk-set.ts';
import type { ServingStatistics } from '../serving/protocol.ts';
import { describeError } from './error-report.ts';
import type { Context } from './verb.ts';

/** Closed before the disks are: what is under way in them ends first. */
export interface ServingControl {
  close(): Promise<void>;
}

/**
 * What a server did with its exports until now.
 *
 * @param disks one for each export, in their order
 */
export function servingStatistics(
  server: NbdServer,
  exports: readonly Export[],
  disks: readonly DiskImage[],
): ServingStatistics {
  return {
    pid: process.pid,
    'uptime-seconds': Math.round(process.uptime()),
    connections: server.clients,
    exports: exports.flatMap(({ name, statistics: recorded }, index) => {
      const { path, caches } = disks[index] as DiskImage;
      return recorded === undefined
        ? []
        : [{ name, disk: path, ...recorded.toJSON(), caches: caches.toJSON() }];
    }),
  };
}

/** Listens; where that cannot be, says so, and serving goes on without. */
export async function startControl(
  context: Context,
  disks: readonly DiskImage[],
  statistics: () => ServingStatistics,
): Promise<ServingControl> {
  const open = new OpenDiskSet(disks, formats);
  try {
    const uid = process.getuid?.() ?? -1;
    const path = await ownControlPath(controlFolders(context.environment, uid), uid);
    const control = await ControlServer.listen(path, controlMethods(open, statistics));
    return {
      async close() {
        await control.close();
        await open.idle();
      },
    };
  } catch (error) {
    if (!isVimgError(error)) throw error;
    context.terminal.note(`${context.program}: warning: there is no control socket: ${describeError(error)}`);
    return { close: () => open.idle() };
  }
}
