/**
 * The examples in the documentation of the library, compiled against the types of the built package and run, each in
 * a folder with the disks that examples speak of.
 */
import { cpSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  changeAttributes,
  cloneImage,
  convertImage,
  createImage,
  createSnapshot,
  openImage,
  sealImage,
} from 'vimg';
import { describe, expect, it } from 'vitest';
import { runShell } from '../cli/session.ts';
import { ROOT } from '../structure/source-files.ts';
import { at, useFolder } from './library-folder.ts';
import { compilePrograms } from './programs.ts';

interface Example {
  readonly name: string;
  readonly text: string;
}

const FOLDER = join(ROOT, 'src/library');
const sources = readdirSync(FOLDER).map((name) => readFileSync(join(FOLDER, name), 'utf8'));
const library = Object.keys(await import('vimg'));

/** The code behind `@example` in the comment right before each function. */
const examples: Example[] = sources.flatMap((source) =>
  [...source.matchAll(/@example\n((?: \*.*\n)+?) \*\/\nexport async function\*? (\w+)/g)].map(
    ([, lines = '', name = '']) => ({ name, text: lines.replaceAll(/^ \* ?/gm, '') }),
  ),
);

/** The example with the imports that it takes for granted. */
function programOf({ text }: Example): string {
  const used = library.filter((name) => new RegExp(`\\b${name}\\b`).test(text));
  return `import { ${used.join(', ')} } from 'vimg';\n${text}`;
}

useFolder();

/** disk.vvd has a snapshot `before`; golden.vvd is sealed; clone.vvd stands on root.vvd. */
async function makeDisks(folder: string): Promise<void> {
  const size = 4 * 1024 * 1024;
  const path = (name: string): string => join(folder, name);
  for (const name of ['disk.vvd', 'root.vvd', 'data.vvd', 'golden.vvd']) {
    await createImage(path(name), { size });
    const disk = await openImage(path(name), { readOnly: false });
    await disk.pwrite(Buffer.from(name), 1024 * 1024);
    await disk.close();
  }
  await createSnapshot(path('disk.vvd'), 'before');
  await sealImage(path('golden.vvd'));
  await cloneImage(path('root.vvd'), path('clone.vvd'));
  await changeAttributes(path('disk.vvd'), { label: 'a disk', 'x-old': 'yes' });
  for (const name of ['disk.qcow2', 'cloud.qcow2', 'upload.img']) {
    await convertImage(path('disk.vvd'), path(name), { format: 'qcow2' });
  }
}

describe('the examples of the library', () => {
  it('are there for every function', () => {
    expect(examples.map(({ name }) => name).sort()).toEqual(
      library
        .filter((name) => sources.some((source) => source.includes(`export async function ${name}(`)))
        .concat('mapImage')
        .sort(),
    );
  });

  it('compile, and run', async () => {
    const programs = new Map(examples.map((example) => [example.name, programOf(example)]));
    expect(await compilePrograms(at(), programs)).toBe('');
    mkdirSync(at('disks'));
    await makeDisks(at('disks'));
    for (const { name, text } of examples) {
      const folder = at(`in-${name}`);
      cpSync(at('disks'), folder, { recursive: true, preserveTimestamps: true });
      const target = /^await c\w+Image\(.*?'(disk\.vvd)', \{/m.exec(text)?.[1];
      const clean = target === undefined ? '' : `rm ${target} && `;
      const run = await runShell(`${clean}node ../${name}.mjs`, folder, process.env);
      expect(run.status, `${name}: ${run.stderr}`).toBe(0);
    }
  });
});
