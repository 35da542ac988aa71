/**
 * What the conformance suites need of a test runner. They import none: the caller hands in its own, so that a driver
 * in another repository runs the same suites with vitest, jest or mocha.
 */
import type * as FastCheck from 'fast-check';

export interface TestApi {
  describe(name: string, body: () => void): unknown;
  it(name: string, body: () => Promise<void> | void): unknown;
  /** The module `fast-check`, for the tests with random operations. */
  readonly fc: typeof FastCheck;
}
