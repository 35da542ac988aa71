/** Every `.session` file beside this one. See session.ts for the form. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { withDir } from 'tmp-promise';
import { describe, expect, it } from 'vitest';
import { runSession } from './session.ts';

const sessions: string[] = readdirSync(import.meta.dirname).filter((name) => name.endsWith('.session'));

describe.concurrent('command line sessions', () => {
  it.each(sessions)('%s', async (name) => {
    await withDir(
      async ({ path }) => {
        expect(await runSession(join(import.meta.dirname, name), path)).toBeGreaterThan(0);
      },
      { unsafeCleanup: true, prefix: 'vimg-session' },
    );
  });
});
