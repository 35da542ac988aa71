#!/usr/bin/env node
/** The command `vimg`. Everything it does is in src/cli. */
const { load } = require('./program.cjs') as {
  load(): { program: { main(argv: string[]): Promise<number> } };
};

/** Exit status of work that a signal ended. */
const INTERRUPTED = 130;

const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;

/**
 * Known once the work is over: from then on signals change nothing any more. Until then they are the program's, as soon
 * as it listens; before that they end the process with the status by which a shell tells a signal.
 */
let ended: number | undefined;
for (const [name, number] of Object.entries(SIGNALS)) {
  process.on(name, () => {
    if (ended !== undefined) process.exit(ended);
    if (process.listenerCount(name) === 1) process.exit(128 + number);
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
