/**
 * The one error class of vimg and the one table of its codes.
 *
 * Every operating error (bad input, a full disk, a lock held by someone else) is a `VimgError` with a code from
 * the closed list below. Programming errors are not: they are asserted with {@link invariant} and crash.
 */

/** What a code means to the three audiences that see it: a shell, an NBD client, a person. */
export interface ErrorCodeInfo {
  /** Exit status of the command line tool. Verbs with a contract of their own (check, compare) override it. */
  readonly exitStatus: number;
  /** Linux errno that an NBD reply carries (NBD protocol, "Error values"). */
  readonly nbdErrno: number;
  /** What to do next, when nothing more specific is known. */
  readonly hint?: string;
}

const EPERM = 1;
const EIO = 5;
const EINVAL = 22;
const ENOSPC = 28;
const ENOTSUP = 95;
const ESHUTDOWN = 108;

/** A code from the closed list. */
export type ErrorCode =
  | 'IO'
  | 'INVALID_FORMAT'
  | 'UNSUPPORTED'
  | 'CORRUPT'
  | 'OUT_OF_BOUNDS'
  | 'NOT_FOUND'
  | 'EXISTS'
  | 'READ_ONLY'
  | 'NO_SPACE'
  | 'LOCKED'
  | 'FENCED'
  | 'STALE_PARENT'
  | 'LIMIT'
  | 'CANCELLED'
  | 'USAGE';

/** Every error code, with its exit status, NBD errno and general hint. */
export const ERROR_CODES: Readonly<Record<ErrorCode, ErrorCodeInfo>> = {
  IO: { exitStatus: 1, nbdErrno: EIO },
  INVALID_FORMAT: {
    exitStatus: 1,
    nbdErrno: EIO,
    hint: 'name the format with -f if you know it, or look at the file with `vimg inspect`',
  },
  UNSUPPORTED: { exitStatus: 1, nbdErrno: ENOTSUP },
  CORRUPT: { exitStatus: 1, nbdErrno: EIO, hint: 'run `vimg check` on the image to see what is damaged' },
  OUT_OF_BOUNDS: { exitStatus: 1, nbdErrno: EINVAL },
  NOT_FOUND: { exitStatus: 1, nbdErrno: EIO },
  EXISTS: { exitStatus: 1, nbdErrno: EIO },
  READ_ONLY: { exitStatus: 1, nbdErrno: EPERM },
  NO_SPACE: { exitStatus: 1, nbdErrno: ENOSPC, hint: 'free some space where the image lives and try again' },
  LOCKED: { exitStatus: 1, nbdErrno: EPERM, hint: 'another process is using this image; stop it first' },
  FENCED: { exitStatus: 1, nbdErrno: ESHUTDOWN },
  STALE_PARENT: {
    exitStatus: 1,
    nbdErrno: EIO,
    hint: '`vimg chain` shows the whole chain; `vimg chain relocate --search DIR` finds moved parents',
  },
  LIMIT: { exitStatus: 1, nbdErrno: EINVAL },
  CANCELLED: { exitStatus: 1, nbdErrno: ESHUTDOWN },
  USAGE: { exitStatus: 1, nbdErrno: EINVAL },
};

/** Where and why an operation failed. All offsets are bytes. */
export interface ErrorDetails {
  /** The operation, in plain words: `open`, `read allocation table page 7`. */
  readonly op?: string;
  /** The file the error is about. */
  readonly path?: string;
  /** Byte offset in that file. */
  readonly offset?: number;
  /** What the reader can do next; replaces the general hint of the code. */
  readonly hint?: string;
  readonly cause?: unknown;
}

/** An operating error: a stable `code`, a sentence, and where it happened. */
export class VimgError extends Error {
  override readonly name = 'VimgError';
  readonly code: ErrorCode;
  readonly op: string | undefined;
  readonly path: string | undefined;
  readonly offset: number | undefined;
  readonly #hint: string | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.op = details.op;
    this.path = details.path;
    this.offset = details.offset;
    this.#hint = details.hint;
  }

  /** The next step for a person, when there is one. */
  get hint(): string | undefined {
    return this.#hint ?? ERROR_CODES[this.code].hint;
  }

  /** This error, told of another file: a user knows the file asked for, not the temporary name it is made under. */
  about(path: string): VimgError {
    const message = this.path === undefined ? this.message : this.message.replaceAll(this.path, path);
    return new VimgError(this.code, message, {
      path,
      cause: this.cause,
      ...(this.op === undefined ? {} : { op: this.op }),
      ...(this.offset === undefined ? {} : { offset: this.offset }),
      ...(this.#hint === undefined ? {} : { hint: this.#hint }),
    });
  }

  /** The stable shape that `--output=json` prints. */
  toJSON(): Record<string, unknown> {
    return {
      code: this.code,
      message: this.message,
      ...(this.op === undefined ? {} : { op: this.op }),
      ...(this.path === undefined ? {} : { path: this.path }),
      ...(this.offset === undefined ? {} : { offset: this.offset }),
      ...(this.hint === undefined ? {} : { hint: this.hint }),
    };
  }
}

/** Whether `error` is a {@link VimgError}, optionally one with this code. */
export function isVimgError(error: unknown, code?: ErrorCode): error is VimgError {
  return error instanceof VimgError && (code === undefined || error.code === code);
}

const CODE_OF_ERRNO: Readonly<Record<string, ErrorCode>> = {
  ENOENT: 'NOT_FOUND',
  ENOTDIR: 'NOT_FOUND',
  EEXIST: 'EXISTS',
  EACCES: 'READ_ONLY',
  EPERM: 'READ_ONLY',
  EROFS: 'READ_ONLY',
  ENOSPC: 'NO_SPACE',
  EDQUOT: 'NO_SPACE',
  EFBIG: 'LIMIT',
  EMFILE: 'LIMIT',
  ENFILE: 'LIMIT',
  ENAMETOOLONG: 'LIMIT',
  ELOOP: 'LIMIT',
  EISDIR: 'USAGE',
  EINVAL: 'IO',
};

const MESSAGE_OF_ERRNO: Readonly<Record<string, string>> = {
  ENOENT: 'No such file or directory',
  ENOTDIR: 'Not a directory',
  EEXIST: 'File exists',
  EACCES: 'Permission denied',
  EPERM: 'Operation not permitted',
  EROFS: 'Read-only file system',
  ENOSPC: 'No space left on device',
  EDQUOT: 'Disk quota exceeded',
  EISDIR: 'Is a directory',
  EIO: 'Input/output error',
  EFBIG: 'File too large',
  EMFILE: 'Too many open files',
  ENFILE: 'Too many open files in system',
  ENAMETOOLONG: 'File name too long',
  ELOOP: 'Too many levels of symbolic links',
  EBUSY: 'Device or resource busy',
  EINVAL: 'Invalid argument',
  ENXIO: 'No such device or address',
};

/**
 * Turns whatever a system call threw into a {@link VimgError}; one that already is passes through unchanged.
 *
 * @param error what was caught
 * @param details the operation and file, for the message
 */
export function fromSystemError(error: unknown, details: ErrorDetails = {}): VimgError {
  if (error instanceof VimgError) return error;
  const errno = (error as NodeJS.ErrnoException | undefined)?.code ?? '';
  const text = MESSAGE_OF_ERRNO[errno] ?? (error instanceof Error ? error.message : String(error));
  return new VimgError(CODE_OF_ERRNO[errno] ?? 'IO', text, { ...details, cause: error });
}

/** Asserts what must be true if the program is right. A failure is a bug in vimg, never the user's doing. */
export function invariant(condition: boolean, what: string): asserts condition {
  if (!condition) throw new TypeError(`vimg bug: ${what}`);
}
