/** `-l` of convert and measure: a snapshot's name or ID, also as `snapshot.name=…` or `snapshot.id=…`. */
import { VimgError } from '../base/errors.ts';

/** The name or ID that the parameter means. @throws VimgError `USAGE` for other keys */
export function snapshotParameter(text: string | undefined): string | undefined {
  if (text === undefined || !text.startsWith('snapshot.')) return text;
  const match = /^snapshot\.(?:id|name)=(.+)$/.exec(text);
  if (match?.[1] === undefined) {
    throw new VimgError('USAGE', `Invalid snapshot parameter '${text}'`, {
      hint: 'write a name, or snapshot.name=NAME, or snapshot.id=ID',
    });
  }
  return match[1];
}
