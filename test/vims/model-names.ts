/** What a volume's names must stand for: a model of names, files and folders, with the errors that changes end with. */
import type { ErrorCode } from '../../src/base/errors.ts';

/** A file of the model. */
export interface ModelFile {
  readonly kind: 'file';
  readonly id: number;
  content: Buffer;
  size: number;
  links: number;
}

export interface ModelFolder {
  readonly kind: 'folder';
}

export type ModelNode = ModelFile | ModelFolder;

/** What a change comes to: an error, or what to do to the model once it was done. */
export type Outcome = ErrorCode | (() => void);

export class ModelNames {
  readonly nodes: Map<string, ModelNode> = new Map<string, ModelNode>([['', { kind: 'folder' }]]);
  #lastId = 0;

  makeFile(): ModelFile {
    return { kind: 'file', id: ++this.#lastId, content: Buffer.alloc(0), size: 0, links: 1 };
  }

  get files(): Set<ModelFile> {
    const files = new Set<ModelFile>();
    for (const node of this.nodes.values()) if (node.kind === 'file') files.add(node);
    return files;
  }

  file(path: string): ModelFile | undefined {
    const node = this.nodes.get(path);
    return node?.kind === 'file' ? node : undefined;
  }

  #hasFolder(path: string): boolean {
    return this.nodes.get(parentOf(path))?.kind === 'folder';
  }

  list(path: string): string[] {
    const prefix = path === '' ? '' : `${path}/`;
    return [...this.nodes.keys()]
      .filter((each) => each !== '' && each.startsWith(prefix) && !each.slice(prefix.length).includes('/'))
      .map((each) => each.slice(prefix.length));
  }

  /** Gives a file a name that is free, or takes it from the file that has it. */
  put(path: string, file: ModelFile): Outcome {
    if (!this.#hasFolder(path)) return 'NOT_FOUND';
    if (this.nodes.get(path)?.kind === 'folder') return 'EXISTS';
    return () => {
      this.#unlink(path);
      this.nodes.set(path, file);
    };
  }

  makeFolder(path: string): Outcome {
    if (!this.#hasFolder(path)) return 'NOT_FOUND';
    if (this.nodes.has(path)) return 'EXISTS';
    return () => this.nodes.set(path, { kind: 'folder' });
  }

  removeFolder(path: string): Outcome {
    if (this.nodes.get(path)?.kind !== 'folder') return 'NOT_FOUND';
    if (this.list(path).length > 0) return 'USAGE';
    return () => this.nodes.delete(path);
  }

  remove(path: string): Outcome {
    const node = this.nodes.get(path);
    if (!node) return 'NOT_FOUND';
    if (node.kind === 'folder') return 'USAGE';
    return () => this.#unlink(path);
  }

  link(path: string, second: string): Outcome {
    const node = this.nodes.get(path);
    if (!node) return 'NOT_FOUND';
    if (node.kind === 'folder') return 'USAGE';
    if (!this.#hasFolder(second)) return 'NOT_FOUND';
    if (this.nodes.has(second)) return 'EXISTS';
    return () => {
      node.links++;
      this.nodes.set(second, node);
    };
  }

  rename(from: string, to: string): Outcome {
    const node = this.nodes.get(from);
    if (!node || !this.#hasFolder(to)) return 'NOT_FOUND';
    if (from === to) return () => undefined;
    const there = this.nodes.get(to);
    if (node.kind === 'folder' && `${to}/`.startsWith(`${from}/`)) return 'USAGE';
    if (there && there !== node && (there.kind === 'folder' || node.kind === 'folder')) return 'EXISTS';
    return () => {
      this.#unlink(to);
      for (const [path, each] of [...this.nodes]) {
        if (path !== from && !path.startsWith(`${from}/`)) continue;
        this.nodes.delete(path);
        this.nodes.set(to + path.slice(from.length), each);
      }
    };
  }

  #unlink(path: string): void {
    const node = this.nodes.get(path);
    if (node?.kind === 'file') node.links--;
    this.nodes.delete(path);
  }
}

export function parentOf(path: string): string {
  return path.includes('/') ? path.slice(0, path.lastIndexOf('/')) : '';
}

/** The folders on the way to a path, the root first. */
export function foldersOf(path: string): string[] {
  const folders: string[] = [];
  for (let at = parentOf(path); at !== ''; at = parentOf(at)) folders.unshift(at);
  return ['', ...folders];
}
