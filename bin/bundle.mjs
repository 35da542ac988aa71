/**
 * The last step of the build: puts the tool into one script, runs its common verbs once, and keeps the code that V8
 * compiled for them beside it (program.cts loads both).
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { rolldown } from 'rolldown';

const DIST = resolve(import.meta.dirname, '../dist/bin');
const PROGRAM = join(DIST, 'program.bundle');
/** Packages with native code: loaded from node_modules when first needed. */
const EXTERNAL = ['koffi', '@node-rs/crc32', '@toondepauw/node-zstd'];
/** Parts of Node that few verbs need and that take a millisecond or more to load. */
const LATE = [
  'assert',
  'crypto',
  'zlib',
  'fs/promises',
  'timers/promises',
  'child_process',
  'http',
  'net',
  'tls',
  'os',
  'readline',
  'url',
];

await bundle();
await compile();

async function bundle() {
  const build = await rolldown({
    input: resolve(DIST, '../src/cli/main.js'),
    platform: 'node',
    external: (id) => EXTERNAL.some((name) => id === name || id.startsWith(`${name}/`)),
  });
  const { output } = await build.generate({ format: 'cjs', codeSplitting: false, comments: false });
  writeFileSync(PROGRAM, loadLate(output[0].code));
}

/** Moves `require` of the parts in LATE from the start of the program to where they are used. */
function loadLate(code) {
  let late = code;
  for (const part of LATE) {
    const declared = new RegExp(`^\\s*(?:let|const|var) (\\w+) = require\\("(?:node:)?${part}"\\);$`, 'gm');
    for (const [line, name] of code.matchAll(declared)) {
      if (name === undefined || !/^node_|^childProcess$/.test(name)) continue;
      late = late
        .replace(line, '')
        .replace(`${name} = __toESM(${name}, 1);`, '')
        .replaceAll(new RegExp(`\\b${name}(?:\\.default)?\\b`, 'g'), `require("node:${part}")`);
    }
  }
  return late;
}

/** Runs verbs in this process, so that the cache holds the functions that they use. */
async function compile() {
  rmSync(join(DIST, 'program.cache'), { force: true });
  const { load, CACHE } = createRequire(import.meta.url)(join(DIST, 'program.cjs'));
  const { program, script } = load();
  const folder = mkdtempSync(join(tmpdir(), 'vimg-build-'));
  const disk = join(folder, 'disk.vvd');
  const { stdout, stderr } = process;
  const writes = [stdout.write, stderr.write];
  stdout.write = () => true;
  stderr.write = () => true;
  try {
    for (const line of [
      ['create', disk, '1G'],
      ['info', disk],
      ['snapshot', '-c', 'one', disk],
      ['clone', disk, join(folder, 'clone.vvd')],
      ['resize', disk, '2G'],
      ['attr', disk, 'label=x'],
      ['check', disk],
      ['map', disk],
      ['chain', disk],
      ['convert', disk, join(folder, 'disk.raw')],
      ['convert', join(folder, 'disk.raw'), '-f', 'raw', join(folder, 'disk.qcow2')],
      ['info', join(folder, 'disk.qcow2')],
      ['compare', '-f', 'raw', join(folder, 'disk.raw'), join(folder, 'disk.raw'), '-F', 'raw'],
    ]) {
      await program.main(['node', 'vimg', ...line]); // what it says and whether it works, the tests ask
    }
  } finally {
    [stdout.write, stderr.write] = writes;
    rmSync(folder, { recursive: true, force: true });
  }
  writeFileSync(CACHE, script.createCachedData());
}
