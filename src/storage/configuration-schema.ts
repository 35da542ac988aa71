/** The form of the configuration file, checked with valibot: everything that knows that package is in this file. */
import {
  array,
  check,
  literal,
  maxLength,
  minLength,
  number,
  object,
  optional,
  picklist,
  pipe,
  regex,
  safeParse,
  string,
  uuid,
} from 'valibot';
import { VimgError } from '../base/errors.ts';

/** Where storage physically comes from. */
export const RESOURCE_KINDS = ['local', 'nas', 'ip-san', 'fc-san', 'pool'] as const;
export type ResourceKind = (typeof RESOURCE_KINDS)[number];

/** A resource that the user named. */
export interface ResourceEntry {
  readonly name: string;
  readonly kind: ResourceKind;
  /** A folder, or an NBD server (`nbd://host:port`); without it, the block devices of this host of that kind. */
  readonly location?: string | undefined;
}

/** A device that a datastore is built on. */
export interface DeviceEntry {
  /** A folder, a file standing for a LUN, a block device, an NBD export. */
  readonly path: string;
  /** WWN or serial of a block device: how it is found when its path changes. */
  readonly identity?: string | undefined;
}

/** Percent of the capacity in use at which a datastore warns, and how far it has to fall again. */
export interface Thresholds {
  readonly warning: number;
  readonly critical: number;
  readonly recovery: number;
}

export type Alarm = 'normal' | 'warning' | 'critical';

export interface DatastoreEntry {
  readonly name: string;
  readonly kind: 'directory' | 'vims';
  readonly uuid: string;
  readonly devices: readonly DeviceEntry[];
  readonly thresholds?: Thresholds | undefined;
  /** As `df` or a serving process last saw it: leaving it takes more than falling below the threshold. */
  readonly alarm?: Alarm | undefined;
}

export interface Configuration {
  readonly format: 'vimg-storage';
  readonly version: 1;
  readonly resources: readonly ResourceEntry[];
  readonly datastores: readonly DatastoreEntry[];
}

const VERSION = 1;

const name = pipe(string(), regex(/^[A-Za-z][A-Za-z0-9_-]{1,62}$/, 'is not a name'));
const path = pipe(string(), minLength(1), maxLength(4096));
const percent = pipe(
  number(),
  check((value) => value >= 0 && value <= 100, 'is not a percentage'),
);

const schema = object({
  format: literal('vimg-storage'),
  version: literal(VERSION),
  resources: array(object({ name, kind: picklist(RESOURCE_KINDS), location: optional(path) })),
  datastores: array(
    object({
      name,
      kind: picklist(['directory', 'vims']),
      uuid: pipe(string(), uuid('is not a UUID')),
      devices: pipe(array(object({ path, identity: optional(string()) })), minLength(1)),
      thresholds: optional(object({ warning: percent, critical: percent, recovery: percent })),
      alarm: optional(picklist(['normal', 'warning', 'critical'])),
    }),
  ),
});

/** @throws VimgError `CORRUPT`, telling where; `UNSUPPORTED` for a later version */
export function parseConfiguration(text: string, file: string): Configuration {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw damaged(file, error instanceof Error ? error.message : 'it is no JSON');
  }
  const version = (value as { version?: unknown } | null)?.version;
  if (typeof version === 'number' && version > VERSION) {
    throw new VimgError(
      'UNSUPPORTED',
      `The configuration has version ${version}; this release knows ${VERSION}`,
      {
        path: file,
        hint: 'use the release that wrote it, or a later one',
      },
    );
  }
  return checkConfiguration(value, file);
}

/** @throws VimgError `CORRUPT`, telling where */
export function checkConfiguration(value: unknown, file: string): Configuration {
  const result = safeParse(schema, value);
  if (!result.success) {
    const [issue] = result.issues;
    const at = issue.path?.map((part) => String(part.key)).join('.') ?? 'the file';
    throw damaged(file, `${at}: ${issue.message}`);
  }
  for (const list of [result.output.resources, result.output.datastores]) {
    const names = list.map((entry) => entry.name);
    const twice = names.find((each, index) => names.indexOf(each) !== index);
    if (twice !== undefined) throw damaged(file, `'${twice}' is there twice`);
  }
  return result.output;
}

function damaged(file: string, why: string): VimgError {
  return new VimgError('CORRUPT', `The configuration cannot be used: ${why}`, {
    path: file,
    hint: 'mend the file by hand, or move it away and register the datastores again: vimg datastore add',
  });
}
