/**
 * Loads the command line tool as one script, with the code that V8 compiled when it was built.
 *
 * Loading some hundred modules one by one takes longer than most verbs; one script whose functions need not be
 * compiled again takes a few milliseconds. A cache made by another version of Node is rejected by V8, and the script
 * is compiled as usual.
 */
const fs = require('node:fs') as typeof import('node:fs');
const path = require('node:path') as typeof import('node:path');
const vm = require('node:vm') as typeof import('node:vm');
const nodeModule = require('node:module') as typeof import('node:module');

/** The whole tool in one file, and what V8 made of it; bundle.mjs writes both. */
const PROGRAM: string = path.join(__dirname, 'program.bundle');
const CACHE: string = path.join(__dirname, 'program.cache');

interface Program {
  /** Runs one command line. @returns the exit status */
  main(argv: readonly string[]): Promise<number>;
}

function load(): { program: Program; script: import('node:vm').Script } {
  const cachedData = fs.existsSync(CACHE) ? fs.readFileSync(CACHE) : undefined;
  const source = nodeModule.wrap(fs.readFileSync(PROGRAM, 'utf8'));
  const script = new vm.Script(source, { filename: PROGRAM, ...(cachedData ? { cachedData } : {}) });
  const loaded = { exports: {} };
  const run = script.runInThisContext() as (...scope: unknown[]) => void;
  run(loaded.exports, nodeModule.createRequire(__filename), loaded, __filename, __dirname);
  return { program: loaded.exports as Program, script };
}

module.exports = { load, CACHE };
