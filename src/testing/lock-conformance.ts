/** The rules of locks on disk files as tests: of every place where disk files live and others may use them too. */
import { rejects, strictEqual } from 'node:assert/strict';
import type { MaybePromise } from '../base/maybe-promise.ts';
import type { DiskFile, FileSystem } from '../device/file-system.ts';
import type { TestApi } from './test-api.ts';

/** A place with a file in it that nobody has open. */
export interface MadePlace {
  readonly files: FileSystem;
  readonly path: string;
  readonly cleanup?: () => MaybePromise<void>;
}

type Mode = 'none' | 'read' | 'write';

/** Defines the suite. `make` is called for every test. */
export function lockConformance(api: TestApi, name: string, make: () => MaybePromise<MadePlace>): void {
  const test = (rule: string, body: (open: (mode: Mode) => Promise<DiskFile>) => Promise<void>): void => {
    api.it(rule, async () => {
      const { files, path, cleanup } = await make();
      const opened: DiskFile[] = [];
      try {
        await body(async (lock) => {
          const file = await files.open(path, { readOnly: lock !== 'write', lock });
          opened.push(file);
          return file;
        });
      } finally {
        for (const file of opened) await file.close();
        await cleanup?.();
      }
    });
  };
  const locked = { code: 'LOCKED' };
  api.describe(`${name} keeps the rules of locks`, () => {
    test('many read together', async (open) => {
      for (let i = 0; i < 3; i++) strictEqual((await open('read')).locked, true);
    });
    test('who writes is alone', async (open) => {
      strictEqual((await open('write')).locked, true);
      await rejects(open('write'), locked);
      await rejects(open('read'), locked);
    });
    test('nobody writes while someone reads', async (open) => {
      await open('read');
      await rejects(open('write'), locked);
    });
    test('who asks for no lock is let in, and keeps nobody out', async (open) => {
      await open('write');
      await open('none');
    });
    test('a lock ends with its file, and a refusal leaves none', async (open) => {
      const writer = await open('write');
      await rejects(open('read'), locked);
      await writer.close();
      const reader = await open('read');
      await rejects(open('write'), locked);
      await reader.close();
      await open('write');
    });
    test('a change that is refused leaves the lock as it was', async (open) => {
      const one = await open('read');
      const other = await open('read');
      await rejects(one.changeLock('write'), locked);
      await rejects(open('write'), locked);
      await other.close();
      await one.close();
      await open('write');
    });
    test('a lock that is changed to none is free for others', async (open) => {
      const writer = await open('write');
      await writer.changeLock('none');
      await open('read');
    });
  });
}
