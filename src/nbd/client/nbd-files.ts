/**
 * NBD exports as a place where disk files live (device/file-system.ts): a path is a URI, and there are only files: no
 * folders, no names to change.
 */
import { resolve } from 'node:path';
import { VimgError } from '../../base/errors.ts';
import type { FileDeviceOptions } from '../../device/file-device.ts';
import type { DiskFile, FileIdentity, FileStatus, FileSystem } from '../../device/file-system.ts';
import { mountFiles } from '../../device/mounts.ts';
import { exportIdentity } from './export-identity.ts';
import { NbdDevice } from './nbd-device.ts';
import { canonicalUri, type NbdUri, parseNbdUri } from './uri.ts';

class NbdFiles implements FileSystem {
  readonly isFlat = true;
  /** By URI: the last one opened. */
  readonly #opened = new Map<string, NbdDevice>();

  async open(path: string, { readOnly = false, create }: FileDeviceOptions): Promise<DiskFile> {
    if (create !== undefined) throw refused('create', path);
    const device = await NbdDevice.open(path, { readOnly });
    this.#opened.set(device.name, device);
    return device;
  }

  /**
   * By a look at the server, unless the export is open already: `qemu-nbd` takes one client, unless told otherwise.
   * Nobody tells when an export changed.
   */
  async status(path: string): Promise<FileStatus | undefined> {
    const uri = parseNbdUri(path);
    const size = this.#sizeOfOpen(canonicalUri(uri)) ?? (await this.#sizeAtServer(path));
    if (size === undefined) return undefined;
    const identity = await exportIdentity(uri);
    return { kind: 'device', size, allocated: size, identity, modifiedNs: 0n };
  }

  /** Connects to nobody: a server that takes one client would have served it by that. */
  async identify(path: string): Promise<FileIdentity> {
    return { kind: 'device', identity: await exportIdentity(parseNbdUri(path)) };
  }

  #sizeOfOpen(uri: string): number | undefined {
    const device = this.#opened.get(uri);
    if (!device?.isClosed) return device?.size;
    this.#opened.delete(uri);
    return undefined;
  }

  async #sizeAtServer(path: string): Promise<number | undefined> {
    try {
      const device = await NbdDevice.open(path);
      await device.close();
      return device.size;
    } catch (error) {
      if (error instanceof VimgError && error.code === 'NOT_FOUND') return undefined;
      throw error;
    }
  }

  /** Nothing lies beside an export. */
  async list(): Promise<string[]> {
    return [];
  }

  async realPath(path: string): Promise<string> {
    return canonicalUri(parseNbdUri(path));
  }

  async rename(from: string): Promise<void> {
    throw refused('rename', from);
  }

  async link(path: string): Promise<void> {
    throw refused('link', path);
  }

  async remove(path: string): Promise<void> {
    throw refused('remove', path);
  }

  async makeFolder(path: string): Promise<void> {
    throw refused('make a folder', path);
  }

  async removeFolder(path: string): Promise<void> {
    throw refused('remove a folder', path);
  }

  async syncFolder(): Promise<void> {
    // no names, nothing to make durable
  }

  async replace(path: string): Promise<void> {
    throw refused('replace', path);
  }

  async keepOwner(): Promise<void> {
    // a file is never replaced
  }
}

function refused(op: string, path: string): VimgError {
  return new VimgError('UNSUPPORTED', 'It is the export of an NBD server: it can only be read and written', {
    op,
    path,
    hint: 'do that where the server has the disk; `vimg serve` does snapshots of the disks it serves',
  });
}

let isMounted = false;

/** From here on NBD URIs are paths of disks, for this process. */
export function mountExports(): void {
  if (isMounted) return;
  const files = new NbdFiles();
  for (const scheme of ['nbd', 'nbds', 'nbd+unix', 'nbds+unix']) mountFiles(scheme, files);
  isMounted = true;
}

/**
 * The path that a URI is: it means the same from every folder. From here on NBD URIs are paths of disks, for this process.
 *
 * @throws VimgError `USAGE` for what is no such URI
 */
export function nbdPath(text: string): string {
  const path = canonicalUri(wholeUri(parseNbdUri(text)));
  mountExports();
  return path;
}

/** Files that a URI names are seen from the working folder; from here on from anywhere. */
function wholeUri({ address, exportName, tls }: NbdUri): NbdUri {
  const { certificates, pskFile } = tls ?? {};
  return {
    address: 'socketPath' in address ? { socketPath: resolve(address.socketPath) } : address,
    exportName,
    tls: tls && {
      ...tls,
      ...(certificates === undefined ? {} : { certificates: resolve(certificates) }),
      ...(pskFile === undefined ? {} : { pskFile: resolve(pskFile) }),
    },
  };
}
