/** The configuration file: what is refused, and two writers at once. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { withDir } from 'tmp-promise';
import { describe, expect, it } from 'vitest';
import {
  changeConfiguration,
  checkName,
  configurationFile,
  readConfiguration,
} from '../../src/storage/configuration.ts';
import type { Configuration } from '../../src/storage/configuration-schema.ts';
import { BUILT_TOOL } from '../cli/session.ts';

const EMPTY: Configuration = { format: 'vimg-storage', version: 1, resources: [], datastores: [] };

async function inFolder(work: (folder: string) => Promise<void>): Promise<void> {
  await withDir(({ path }) => work(path), { unsafeCleanup: true });
}

describe('the configuration', () => {
  it('is in VIMG_CONFIG, else the XDG place, else the home folder', () => {
    expect(configurationFile({ VIMG_CONFIG: '/c', XDG_CONFIG_HOME: '/x' })).toBe('/c/storage.json');
    expect(configurationFile({ XDG_CONFIG_HOME: '/x' })).toBe('/x/vimg/storage.json');
    expect(configurationFile({ XDG_CONFIG_HOME: 'x' })).toMatch(/\/\.config\/vimg\/storage\.json$/);
  });

  it('is empty where there is no file, and reading makes none', async () => {
    await inFolder(async (folder) => {
      const environment = { VIMG_CONFIG: join(folder, 'none') };
      expect(await readConfiguration(environment)).toEqual(EMPTY);
      expect(existsSync(environment.VIMG_CONFIG)).toBe(false);
    });
  });

  it.each([
    ['', 'CORRUPT'],
    ['null', 'CORRUPT'],
    ['[]', 'CORRUPT'],
    [JSON.stringify({ ...EMPTY, version: 2 }), 'UNSUPPORTED'],
    [JSON.stringify({ ...EMPTY, version: '1' }), 'CORRUPT'],
    [JSON.stringify({ ...EMPTY, datastores: {} }), 'CORRUPT'],
    [JSON.stringify({ ...EMPTY, resources: [{ name: '../x', kind: 'local' }] }), 'CORRUPT'],
    [JSON.stringify({ ...EMPTY, resources: [{ name: 'ab', kind: 'tape' }] }), 'CORRUPT'],
    [
      JSON.stringify({ ...EMPTY, resources: ['ab', 'ab'].map((name) => ({ name, kind: 'local' })) }),
      'CORRUPT',
    ],
    [
      JSON.stringify({ ...EMPTY, datastores: [{ name: 'ab', kind: 'directory', uuid: 'x', devices: [] }] }),
      'CORRUPT',
    ],
  ])('refuses %s', async (text, code) => {
    await inFolder(async (folder) => {
      const environment = { VIMG_CONFIG: folder };
      writeFileSync(join(folder, 'storage.json'), text);
      await expect(readConfiguration(environment)).rejects.toMatchObject({ code });
      await expect(changeConfiguration(environment, (now) => now)).rejects.toMatchObject({ code });
    });
  });

  it('refuses to become what it could not read, and stays what it was', async () => {
    await inFolder(async (folder) => {
      const environment = { VIMG_CONFIG: folder };
      await changeConfiguration(environment, (now) => now);
      const bad = { ...EMPTY, resources: [{ name: 'a b', kind: 'local' as const }] };
      await expect(changeConfiguration(environment, () => bad)).rejects.toMatchObject({ code: 'CORRUPT' });
      expect(await readConfiguration(environment)).toEqual(EMPTY);
      expect(readdirSync(folder).sort()).toEqual(['storage.json', 'storage.lock']);
    });
  });

  it('loses nothing of many writers in one process', async () => {
    await inFolder(async (folder) => {
      const environment = { VIMG_CONFIG: folder };
      const names = Array.from({ length: 12 }, (_, index) => `resource-${index}`);
      await Promise.all(
        names.map((name) =>
          changeConfiguration(environment, (now) => ({
            ...now,
            resources: [...now.resources, { name, kind: 'local' }],
          })),
        ),
      );
      const { resources } = await readConfiguration(environment);
      expect(resources.map(({ name }) => name).sort()).toEqual([...names].sort());
    });
  });

  it('loses nothing of several processes', async () => {
    await inFolder(async (folder) => {
      const env = { ...process.env, VIMG_CONFIG: join(folder, 'config') };
      mkdirSync(env.VIMG_CONFIG);
      const runs = Array.from({ length: 4 }, (_, index) => {
        const child = spawn(process.execPath, [BUILT_TOOL, 'resource', 'add', `r${index}x`, 'local'], {
          env,
        });
        return once(child, 'exit');
      });
      expect((await Promise.all(runs)).map(([status]) => status)).toEqual([0, 0, 0, 0]);
      expect((await readConfiguration(env)).resources).toHaveLength(4);
    });
  });
});

describe('names', () => {
  it('are letters, digits, - and _, and nothing that means something else', () => {
    for (const name of ['ds1', 'a-b_c', 'DS']) expect(() => checkName(name, 'datastore')).not.toThrow();
    for (const name of ['', 'a', '1a', 'a:b', 'a/b', '..', 'nbd', 'FILE', 'x'.repeat(64), 'ä1']) {
      expect(() => checkName(name, 'datastore'), name).toThrow(expect.objectContaining({ code: 'USAGE' }));
    }
  });
});
