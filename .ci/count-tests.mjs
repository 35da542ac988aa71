/**
 * Prints `PASSED FAILED` for a report of vitest (--reporter=json). A file that could not be loaded, and a run that
 * failed although every test passed, count as one failure each.
 *
 * Arguments: the report, and the exit status of the run.
 */
import { readFileSync } from 'node:fs';

const [, , report = '', status = '1'] = process.argv;
const { numPassedTests, numFailedTests, testResults } = JSON.parse(readFileSync(report, 'utf8'));
const unloaded = testResults.filter(
  ({ status, assertionResults }) =>
    status === 'failed' && !assertionResults.some((result) => result.status === 'failed'),
);
for (const { name, message } of unloaded) console.error(`${name}: ${message}`);
const failed = numFailedTests + unloaded.length;
console.log(numPassedTests, failed === 0 && status !== '0' ? 1 : failed);
