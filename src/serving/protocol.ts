/** What the owner of open disks and its clients say to each other over a control socket. All sizes are bytes. */
import { VimgError } from '../base/errors.ts';
import type { CacheStatistics } from '../image/cache-statistics.ts';
import type { ExportStatistics } from '../nbd/request-statistics.ts';

/** The disks that a process has open: `[]` → {@link DiskDescription}[]. */
export const DISKS = 'disks';
/** {@link SnapshotRequest} → null. */
export const SNAPSHOT = 'snapshot';
/** {@link CloneBaseRequest} → null. */
export const CLONE_BASE = 'clone-base';
/** {@link DeleteSnapshotRequest} → `DeletePlan`; reports {@link Progress}. */
export const DELETE_SNAPSHOT = 'delete-snapshot';
/** {@link ResizeRequest} → null. */
export const RESIZE = 'resize';
/** {@link AttributesRequest} → null. */
export const ATTRIBUTES = 'attributes';
/** {@link MapRequest} → null; reports `MapExtent[]`. */
export const MAP = 'map';
/** {@link DiskRequest} → `DiskUsage`. */
export const USAGE = 'usage';

/** `{}` → {@link ServingStatistics}. */
export const STATISTICS = 'statistics';

export interface ServingStatistics {
  readonly pid: number;
  readonly 'uptime-seconds': number;
  /** Clients that are connected. */
  readonly connections: number;
  readonly exports: readonly ServedDiskStatistics[];
}

export interface ServedDiskStatistics extends ExportStatistics {
  readonly name: string;
  readonly disk: string;
  readonly caches: CacheStatistics;
}

export interface DiskDescription {
  readonly path: string;
  /** Of the file that is the disk now, as `FileStatus` has it. */
  readonly identity: string;
  readonly format: string;
  readonly size: number;
  readonly readOnly: boolean;
}

/** Names a disk by any path of its file. */
export interface DiskRequest {
  readonly disk: string;
}

/** Disks that the process has open, and others that nobody has. */
export interface SnapshotRequest {
  readonly disks: readonly string[];
  readonly name: string;
}

/** A snapshot `name` for a clone to stand on, which the client makes then. */
export interface CloneBaseRequest extends DiskRequest {
  readonly name: string;
  /** Whole path of the clone. */
  readonly clone: string;
}

export interface DeleteSnapshotRequest extends DiskRequest {
  readonly name: string;
  /** Only tell what would be done. */
  readonly plan: boolean;
}

/** Bytes. */
export interface Progress {
  readonly done: number;
  readonly total: number;
}

export interface ResizeRequest extends DiskRequest {
  /** The size that the client saw; the disk must still have it. */
  readonly from: number;
  readonly to: number;
  readonly preallocation: 'off' | 'falloc' | 'full';
}

export interface AttributesRequest extends DiskRequest {
  /** Keys with their new values; null removes. */
  readonly change: readonly (readonly [string, string | null])[];
}

export interface MapRequest extends DiskRequest {
  readonly offset: number;
  readonly length: number | null;
}

type Check = (value: unknown) => boolean;

export const isText: Check = (value) => typeof value === 'string' && value !== '';
export const isBytes: Check = (value) => Number.isSafeInteger(value) && (value as number) >= 0;
export const isFlag: Check = (value) => typeof value === 'boolean';
export const isOneOf =
  (...choices: readonly string[]): Check =>
  (value) =>
    choices.includes(value as string);
export const isNullOr =
  (check: Check): Check =>
  (value) =>
    value === null || check(value);
export const isListOf =
  (check: Check): Check =>
  (value) =>
    Array.isArray(value) && value.length > 0 && value.length <= 1024 && value.every(check);
export const isChange: Check = (value) =>
  Array.isArray(value) &&
  value.length === 2 &&
  isText(value[0]) &&
  isNullOr((v) => typeof v === 'string')(value[1]);

/** The parameters of a request. @throws VimgError `USAGE` when they are not what the method takes */
export function readParameters<T extends object>(
  value: unknown,
  checks: Readonly<Record<keyof T, Check>>,
): T {
  const fields = (value ?? {}) as Record<string, unknown>;
  for (const [key, check] of Object.entries<Check>(checks)) {
    if (!check(fields[key])) throw new VimgError('USAGE', `The request has no right '${key}'`);
  }
  return fields as T;
}
