#!/usr/bin/env node
/** The command `vimg`. Everything it does is in src/cli. */
const { load } = require('./program.cjs') as {
  load(): { program: { main(argv: string[]): Promise<number> } };
};

void load()
  .program.main(process.argv)
  .then((status: number) => {
    process.exitCode = status;
  });
