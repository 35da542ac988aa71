/**
 * The C library's functions that Node does not offer, bound on first use.
 *
 * Loading koffi costs 6 to 18 ms of start-up, so nothing here happens at import, and a run that needs no native call
 * never pays for it. Where koffi has no build for the machine, `libc()` is undefined, and each caller in this folder
 * has a portable fallback.
 *
 * Numbers that are flags or commands stand in the file that uses them, with the name Linux gives them.
 */
import { createRequire } from 'node:module';
import { getSystemErrorMap } from 'node:util';

/** The bound functions. Each returns −1 on failure, with the reason in `errno()`; offsets and lengths are bytes. */
export interface Libc {
  fallocate(fd: number, mode: number, offset: number, length: number): number;
  lseek(fd: number, offset: number, whence: number): number;
  /** Returns the errno itself, 0 for success. */
  posixFadvise(fd: number, offset: number, length: number, advice: number): number;
  fcntl(fd: number, command: number, argument: Uint8Array): number;
  ioctl(fd: number, request: number, argument: Uint8Array): number;
  setsockopt(fd: number, level: number, option: number, value: Int32Array, length: number): number;
  getsockopt(fd: number, level: number, option: number, value: Int32Array, length: Int32Array): number;
  preadv2(fd: number, vectors: BigUint64Array, count: number, offset: number, flags: number): number;
  copyFileRange(
    sourceFd: number,
    sourceOffset: BigInt64Array,
    targetFd: number,
    targetOffset: BigInt64Array,
    length: number,
    flags: number,
  ): number;
  /** `fallocate` on a thread of its own. Resolves to 0 or the errno. */
  fallocateAsync(fd: number, mode: number, offset: number, length: number): Promise<number>;
  /** `copy_file_range` on a thread of its own. Resolves to the bytes copied, or to −errno. */
  copyFileRangeAsync(...args: Parameters<Libc['copyFileRange']>): Promise<number>;
  /** The address of a buffer's first byte. The caller keeps the buffer alive while the address is used. */
  address(buffer: Uint8Array): bigint;
  errno(): number;
}

type Callback = (error: unknown, result: number) => void;

interface KoffiFunction {
  (...args: readonly unknown[]): number;
  async(...argsThenCallback: readonly unknown[]): void;
}

interface Koffi {
  load(path: string | null): { func(declaration: string): KoffiFunction };
  address(value: Uint8Array): bigint;
  errno(): number;
}

let bound: Libc | undefined;
let tried = false;
let enabled = true;

/** The C library, or undefined where it cannot be called. */
export function libc(): Libc | undefined {
  if (!enabled) return undefined;
  if (!tried) {
    tried = true;
    bound = bind();
  }
  return bound;
}

/** Switches native calls off, so that tests see the portable fallbacks, and on again. */
export function setNativeCalls(on: boolean): void {
  enabled = on;
}

function bind(): Libc | undefined {
  if (process.platform !== 'linux') return undefined; // flags and structures here are Linux's
  let koffi: Koffi;
  try {
    koffi = createRequire(import.meta.url)('koffi') as Koffi;
  } catch {
    return undefined; // no build for this machine: portable fallbacks
  }
  const here = koffi.load(null);
  const fallocate = here.func('int fallocate(int fd, int mode, int64_t offset, int64_t length)');
  const copyFileRange = here.func(
    'int64_t copy_file_range(int source, void *sourceOffset, int target, void *targetOffset, uint64_t length, uint32_t flags)',
  );
  return {
    fallocate,
    lseek: here.func('int64_t lseek(int fd, int64_t offset, int whence)'),
    posixFadvise: here.func('int posix_fadvise(int fd, int64_t offset, int64_t length, int advice)'),
    fcntl: here.func('int fcntl(int fd, int command, void *argument)'),
    ioctl: here.func('int ioctl(int fd, uint64_t request, void *argument)'),
    setsockopt: here.func('int setsockopt(int fd, int level, int option, void *value, uint32_t length)'),
    getsockopt: here.func('int getsockopt(int fd, int level, int option, void *value, void *length)'),
    preadv2: here.func('int64_t preadv2(int fd, void *vectors, int count, int64_t offset, int flags)'),
    copyFileRange,
    fallocateAsync: async (...args) => Math.abs(Math.min(await callAsync(koffi, fallocate, args), 0)),
    copyFileRangeAsync: (...args) => callAsync(koffi, copyFileRange, args),
    address: (buffer) => koffi.address(buffer),
    errno: () => koffi.errno(),
  };
}

/** Calls on a thread of its own. Resolves to the result, or to −errno when that was −1. */
function callAsync(koffi: Koffi, call: KoffiFunction, args: readonly unknown[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const done: Callback = (error, result) => {
      if (error) reject(error);
      else resolve(result === -1 ? -koffi.errno() : result);
    };
    call.async(...args, done);
  });
}

/** What a failed system call left behind; shaped like the errors of `node:fs`. */
export class SystemCallError extends Error {
  override readonly name = 'SystemCallError';
  readonly code: string;
  readonly errno: number;
  readonly syscall: string;

  constructor(syscall: string, errno: number) {
    const [code, text] = getSystemErrorMap().get(-errno) ?? [`E${errno}`, `error ${errno}`];
    super(`${code}: ${text}, ${syscall}`);
    this.code = code;
    this.errno = -errno;
    this.syscall = syscall;
  }
}

/** The errno of an error from `node:fs` or of a {@link SystemCallError}, as a name; undefined for anything else. */
export function errnoName(error: unknown): string | undefined {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  return error instanceof Error && typeof code === 'string' ? code : undefined;
}

/** Linux errno values that callers decide on. */
export const EPERM = 1;
export const EINTR = 4;
export const ENXIO = 6;
export const EAGAIN = 11;
export const EACCES = 13;
export const EXDEV = 18;
export const ENODEV = 19;
export const EINVAL = 22;
export const ENOTTY = 25;
export const ENOLCK = 37;
export const ENOSYS = 38;
export const EOPNOTSUPP = 95;
