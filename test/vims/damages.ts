/** Damage to every structure of the sample volume. */
import type { Damage } from './damage.ts';
import { FILE_DAMAGES } from './file-damages.ts';
import { SPACE_DAMAGES } from './space-damages.ts';

export const DAMAGES: readonly Damage[] = [...SPACE_DAMAGES, ...FILE_DAMAGES];
