#!/usr/bin/env node
/** The entry of the command line tool. Everything it does is in src/cli. */
import { main } from '../src/cli/main.ts';

void main(process.argv).then((status) => {
  process.exitCode = status;
});
