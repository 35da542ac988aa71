/** Every verb, with the line that the overview shows. A verb's file is loaded only when it is called. */
import type { Verb } from './verb.ts';

export interface ListedVerb {
  readonly name: string;
  readonly summary: string;
  /** Not for people: left out of the overview. */
  readonly hidden?: boolean;
  readonly load: () => Promise<{ readonly verb: Verb }>;
}

export const VERBS: readonly ListedVerb[] = [
  { name: 'create', summary: 'make a new, empty disk', load: () => import('./verbs/create.ts') },
  { name: 'info', summary: 'show what a disk is', load: () => import('./verbs/info.ts') },
  { name: 'map', summary: 'show where each range of a disk is stored', load: () => import('./verbs/map.ts') },
  {
    name: 'check',
    summary: 'look for damage and lost space, and repair it',
    load: () => import('./verbs/check.ts'),
  },
  { name: 'resize', summary: 'change the size of a disk', load: () => import('./verbs/resize.ts') },
  {
    name: 'snapshot',
    summary: 'list, take, return to and delete snapshots',
    load: () => import('./verbs/snapshot.ts'),
  },
  { name: 'convert', summary: 'copy a disk into another format', load: () => import('./verbs/convert.ts') },
  {
    name: 'compare',
    summary: 'tell whether two disks hold the same',
    load: () => import('./verbs/compare.ts'),
  },
  {
    name: 'measure',
    summary: 'tell how much space a converted disk will need',
    load: () => import('./verbs/measure.ts'),
  },
  {
    name: 'attr',
    summary: 'list, read, set and remove attributes of a disk',
    load: () => import('./verbs/attr.ts'),
  },
  { name: 'clone', summary: 'make a linked clone, or a full copy', load: () => import('./verbs/clone.ts') },
  {
    name: 'chain',
    summary: 'show the layers of a disk, and find those that were moved',
    load: () => import('./verbs/chain.ts'),
  },
  { name: 'seal', summary: 'make a disk read-only for good', load: () => import('./verbs/seal.ts') },
  { name: 'unseal', summary: 'make a sealed disk writable again', load: () => import('./verbs/unseal.ts') },
  { name: 'du', summary: 'show what space a disk takes, and for what', load: () => import('./verbs/du.ts') },
  {
    name: 'inspect',
    summary: 'show every structure of a disk image, damaged or not',
    load: () => import('./verbs/inspect.ts'),
  },
  {
    name: 'serve',
    summary: 'serve disks to virtual machines, over NBD',
    load: () => import('./verbs/serve.ts'),
  },
  {
    name: 'resource',
    summary: 'name where storage comes from, and find the devices there',
    load: () => import('./verbs/resource.ts'),
  },
  {
    name: 'device',
    summary: 'list the devices of the resources, and what they carry',
    load: () => import('./verbs/device.ts'),
  },
  {
    name: 'datastore',
    summary: 'make, list, measure and check datastores',
    load: () => import('./verbs/datastore.ts'),
  },
  { name: 'ls', summary: 'list files in a datastore', load: () => import('./verbs/ls.ts') },
  { name: 'mkdir', summary: 'make a folder in a datastore', load: () => import('./verbs/mkdir.ts') },
  { name: 'rm', summary: 'remove files from a datastore', load: () => import('./verbs/rm.ts') },
  { name: 'mv', summary: 'rename a file in a datastore', load: () => import('./verbs/mv.ts') },
  {
    name: 'cp',
    summary: 'copy a file within, into or out of a datastore',
    load: () => import('./verbs/cp.ts'),
  },
  {
    name: 'lock',
    summary: 'show who holds which file of a datastore',
    load: () => import('./verbs/lock.ts'),
  },
  {
    name: 'stats',
    summary: 'show what the process that serves a disk did',
    load: () => import('./verbs/stats.ts'),
  },
  {
    name: 'tour',
    summary: 'show all this in a minute, in a temporary folder',
    load: () => import('./verbs/tour.ts'),
  },
  {
    name: 'completion',
    summary: 'print a completion script for bash, zsh or fish',
    load: () => import('./verbs/completion.ts'),
  },
  {
    name: 'complete',
    summary: 'what a completion script asks',
    hidden: true,
    load: () => import('./verbs/complete.ts'),
  },
];

export function findVerb(name: string): ListedVerb | undefined {
  return VERBS.find((verb) => verb.name === name);
}
