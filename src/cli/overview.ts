/** What `vimg --help` shows: every verb, and how disks are named. */
import { VERBS } from './verb-list.ts';

export function overview(program: string): string {
  const verbs = VERBS.filter((verb) => !verb.hidden);
  const width = Math.max(...verbs.map((verb) => verb.name.length));
  const rows = verbs.map((verb) => `  ${verb.name.padEnd(width)}  ${verb.summary}`);
  return `${program}: disk images for virtual machines

Usage: ${program} VERB [options] DISK…

Verbs:
${rows.join('\n')}

Disks:
  disk.vvd, ./a/b.qcow2   a file; its format is told from its content, or named with -f
  disk.vvd@before         the snapshot "before" of that disk, read-only

Examples:
  ${program} create disk.vvd 20G
  ${program} convert -p cloud-image.qcow2 disk.vvd
  ${program} snapshot -c before disk.vvd

\`${program} VERB --help\` explains a verb; \`${program} --version\` shows the version.
`;
}
