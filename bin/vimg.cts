#!/usr/bin/env node
/** The command `vimg`. Everything it does is in src/cli. */
const { load } = require('./program.cjs') as {
  load(): { program: { main(argv: string[]): Promise<number> } };
};

/** Exit status of work that a signal ended. */
const INTERRUPTED = 130;

/** Known once the work is over. Until then signals are the program's; from then on they change nothing any more. */
let ended: number | undefined;
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(name, () => {
    if (ended !== undefined) process.exit(ended);
  });
}

void load()
  .program.main(process.argv)
  .then((status: number) => {
    ended = status;
    process.exitCode = status;
    // whoever presses Ctrl-C does it again: what is left of the process must not die of that with another status
    if (status === INTERRUPTED) process.exit(status);
  });
