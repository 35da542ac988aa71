/** Programs of users of the library: compiled and run as in a project of theirs, against the built package. */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runShell } from '../cli/session.ts';
import { ROOT } from '../structure/source-files.ts';

/**
 * Compiles programs to `folder/NAME.mjs`, with all types checked, those of the package included.
 *
 * @returns what the compiler complains of
 */
export async function compilePrograms(
  folder: string,
  programs: ReadonlyMap<string, string>,
): Promise<string> {
  mkdirSync(join(folder, 'node_modules/@types'), { recursive: true });
  symlinkSync(ROOT, join(folder, 'node_modules/vimg'));
  symlinkSync(join(ROOT, 'node_modules/@types/node'), join(folder, 'node_modules/@types/node'));
  const compilerOptions = { module: 'nodenext', target: 'es2022', strict: true, types: ['node'] };
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['*.mts'] }));
  for (const [name, text] of programs) writeFileSync(join(folder, `${name}.mts`), text);
  const compiler = join(ROOT, 'node_modules/typescript/bin/tsc');
  const { stdout, stderr } = await runShell(`node ${compiler} -p .`, folder, process.env);
  return stdout + stderr;
}
