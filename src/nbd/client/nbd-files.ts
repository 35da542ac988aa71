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
import { OpenExports } from './open-exports.ts';
import { canonicalUri, type NbdUri, parseNbdUri } from './uri.ts';

class NbdFiles implements FileSystem {
  readonly isFlat = true;
  readonly exports: OpenExports = new OpenExports();

  async open(path: string, { readOnly = false, create }: FileDeviceOptions): Promise<DiskFile> {
    if (create !== undefined) throw refused('create', path);
    return this.exports.open(path, readOnly);
  }

  /**
   * By a look at the server, unless the export is open already: `qemu-nbd` takes one client, unless told otherwise.
   * Nobody tells when an export changed.
   */
  async status(path: string): Promise<FileStatus | undefined> {
    const uri = parseNbdUri(path);
    const size = (await this.exports.sizeOf(path)) ?? (await this.#sizeAtServer(path));
    if (size === undefined) return undefined;
    const identity = await exportIdentity(uri);
    return { kind: 'device', size, allocated: size, identity, modifiedNs: 0n };
  }

  /** Connects to nobody: a server that takes one client would have served it by that. */
  async identify(path: string): Promise<FileIdentity> {
    return { kind: 'device', identity: await exportIdentity(parseNbdUri(path)) };
  }

  async #sizeAtServer(path: string): Promise<number | undefined> {
    try {
      const file = await this.exports.open(path, true);
      await file.close();
      return file.size;
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

let mounted: NbdFiles | undefined;

/** From here on NBD URIs are paths of disks, for this process. */
export function mountExports(): void {
  if (mounted) return;
  mounted = new NbdFiles();
  for (const scheme of ['nbd', 'nbds', 'nbd+unix', 'nbds+unix']) mountFiles(scheme, mounted);
}

/**
 * As {@link mountExports}; and every export is connected to once, and stays so: what a server that takes one client needs
 * of a program that opens a disk several times.
 *
 * @returns ends that
 */
export function mountAndKeepExports(): () => Promise<void> {
  mountExports();
  return (mounted as NbdFiles).exports.keep();
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
