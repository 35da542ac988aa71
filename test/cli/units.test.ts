/** The parts of the command line that need no process: names, options, errors, progress lines. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { withDir } from 'tmp-promise';
import { describe, expect, it } from 'vitest';
import { formats } from '../../formats/index.ts';
import { VimgError } from '../../src/base/errors.ts';
import { diskReference, filePath } from '../../src/cli/disk-reference.ts';
import { describeError, reportError } from '../../src/cli/error-report.ts';
import { asksForOptionHelp, parseFormatOptions } from '../../src/cli/format-options.ts';
import { progressText } from '../../src/cli/progress-display.ts';
import { snapshotParameter } from '../../src/cli/snapshot-parameter.ts';
import { type OutputStream, Terminal } from '../../src/cli/terminal.ts';
import { checkJson, checkText } from '../../src/cli/text/check-text.ts';
import { printable } from '../../src/cli/text/printable.ts';
import type { CheckReport } from '../../src/image/check-report.ts';

describe('names of disks', () => {
  it('are files, unless they are told to be something else', async () => {
    for (const name of ['a/b.vvd', './ds1:x', '/a:b', 'c:x']) expect(await filePath(name)).toBe(name);
    expect(await filePath('file:a:b')).toBe('a:b');
    for (const name of ['json:{}', 'ssh://h/x']) {
      await expect(filePath(name), name).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    }
    expect(await filePath('nbd://h/x')).toBe('nbd://h:10809/x');
    expect(await filePath('nbds://h')).toBe('nbds://h:10809/');
    await expect(filePath('nbd+unix:///x')).rejects.toMatchObject({ code: 'USAGE' });
    for (const name of ['ds1:x', 'my-store:x']) {
      await expect(filePath(name), name).rejects.toMatchObject({ code: 'NOT_FOUND' });
    }
    await expect(filePath('')).rejects.toMatchObject({ code: 'USAGE' });
  });

  it('name a snapshot behind the last @, when there is no such file', async () => {
    await withDir(
      async ({ path }) => {
        for (const name of ['disk.vvd', 'disk@one.vvd', 'a@b']) writeFileSync(join(path, name), '');
        mkdirSync(join(path, 'c@d'));
        expect(await diskReference(join(path, 'disk.vvd@one'))).toEqual({
          path: join(path, 'disk.vvd'),
          snapshot: 'one',
        });
        expect(await diskReference(join(path, 'disk@one.vvd'))).toEqual({ path: join(path, 'disk@one.vvd') });
        expect(await diskReference(join(path, 'a@b@c'))).toEqual({ path: join(path, 'a@b'), snapshot: 'c' });
        expect(await diskReference(join(path, 'none@x'))).toEqual({ path: join(path, 'none@x') });
        expect(await diskReference(join(path, 'disk.vvd@'))).toEqual({ path: join(path, 'disk.vvd@') });
      },
      { unsafeCleanup: true },
    );
  });

  it('of snapshots, as qemu-img writes them', () => {
    expect(snapshotParameter('one')).toBe('one');
    expect(snapshotParameter('snapshot.name=one')).toBe('one');
    expect(snapshotParameter('snapshot.id=1')).toBe('1');
    expect(() => snapshotParameter('snapshot.size=1')).toThrow(expect.objectContaining({ code: 'USAGE' }));
  });
});

describe('-o', () => {
  const qcow2 = formats.get('qcow2');

  it('reads pairs by the type of the option', () => {
    expect(parseFormatOptions(['cluster_size=4k,lazy_refcounts', 'refcount_bits=8'], qcow2).values).toEqual({
      cluster_size: 4096,
      lazy_refcounts: true,
      refcount_bits: 8,
    });
    expect(parseFormatOptions(['lazy_refcounts=on,lazy_refcounts=off'], qcow2).values).toEqual({
      lazy_refcounts: false,
    });
    expect(parseFormatOptions([], qcow2)).toEqual({ common: {}, values: {} });
  });

  it('takes names as they are: commas doubled, quotes, spaces, equals signs, dashes', () => {
    for (const name of ['a,b', '"a"', "'a b'", 'a=b', '--a', '-', ' a ', '1e3', 'true', '0x10']) {
      const text = `backing_file=${name.replaceAll(',', ',,')},backing_fmt=raw`;
      expect(parseFormatOptions([text], qcow2).common).toEqual({ backingFile: name, backingFormat: 'raw' });
    }
  });

  it('refuses what the format has not', () => {
    const texts = [
      '__proto__=x',
      'constructor=x',
      '=x',
      'x',
      'cluster_size=big',
      'lazy_refcounts=2',
      'compat=9',
    ];
    for (const text of texts) {
      expect(() => parseFormatOptions([text], qcow2), text).toThrow(
        expect.objectContaining({ code: 'USAGE' }),
      );
    }
    expect(() => parseFormatOptions(['backing_file=x'], formats.get('raw'))).toThrow(
      expect.objectContaining({ code: 'USAGE' }),
    );
  });

  it('asks for help', () => {
    expect(asksForOptionHelp(['size=1,help'])).toBe(true);
    expect(asksForOptionHelp(['?'])).toBe(true);
    expect(asksForOptionHelp(['backing_file=help'])).toBe(false);
  });
});

/** A stream that keeps what it was given; `fail` makes it report an error as a pipe does. */
class MemoryStream implements OutputStream {
  text = '';
  readonly isTTY: boolean;
  #listeners: ((error: NodeJS.ErrnoException) => void)[] = [];

  constructor(isTTY = false) {
    this.isTTY = isTTY;
  }

  write(text: string): boolean {
    this.text += text;
    return true;
  }

  on(_event: 'error', listener: (error: NodeJS.ErrnoException) => void): void {
    this.#listeners.push(listener);
  }

  off(_event: 'error', listener: (error: NodeJS.ErrnoException) => void): void {
    this.#listeners = this.#listeners.filter((each) => each !== listener);
  }

  listenerCount(): number {
    return this.#listeners.length;
  }

  fail(code: string): void {
    for (const listener of this.#listeners) listener(Object.assign(new Error(code), { code }));
  }
}

describe('errors', () => {
  it('are one line: what failed, and why', () => {
    const about = (op: string | undefined, path: string | undefined, offset?: number): string =>
      describeError(
        new VimgError('IO', 'why', {
          ...(op ? { op } : {}),
          ...(path ? { path } : {}),
          ...(offset === undefined ? {} : { offset }),
        }),
      );
    expect(about('open', 'a')).toBe("Could not open 'a': why");
    expect(about('read the header', 'a')).toBe('a: could not read the header: why');
    expect(about('read', 'a', 512)).toBe("Could not read 'a': why (at byte 512)");
    expect(about('read', undefined)).toBe('Could not read: why');
    expect(about(undefined, 'a')).toBe('a: why');
    expect(about(undefined, undefined)).toBe('why');
    expect(describeError(new VimgError('IO', 'two\nlines\u001b[31m'))).toBe('two lines\\x1b[31m');
  });

  it('are JSON when JSON was asked for, and never a stack trace', () => {
    const [out, err] = [new MemoryStream(), new MemoryStream()];
    const terminal = new Terminal(out, err, () => undefined);
    const options = { program: 'vimg', likeQemuImg: false };
    reportError(terminal, new VimgError('NO_SPACE', 'full', { path: 'a' }), { ...options, json: true });
    expect(JSON.parse(err.text)).toEqual({
      code: 'NO_SPACE',
      message: 'full',
      path: 'a',
      hint: 'free some space where the image lives and try again',
    });
    err.text = '';
    reportError(terminal, new TypeError('x is not a function'), { ...options, json: false });
    expect(err.text).toMatch(/^vimg: Internal error: x is not a function\nhint: .*\n$/);
    expect(out.text).toBe('');
  });
});

describe('Terminal', () => {
  it('keeps the order of stdout and stderr, and gathers small writes', () => {
    const [out, err] = [new MemoryStream(), new MemoryStream(true)];
    const terminal = new Terminal(out, err, () => undefined);
    terminal.line('one');
    expect(out.text).toBe('');
    terminal.note('two');
    expect(out.text).toBe('one\n');
    terminal.json({ big: 5n, bytes: Uint8Array.of(255) });
    terminal.flush();
    expect(out.text).toBe('one\n{\n    "big": 5,\n    "bytes": "ff"\n}\n');
    expect(terminal.interactive).toBe(process.env['TERM'] !== 'dumb');
  });

  it('tells once that nobody reads, and throws for any other failure', async () => {
    let told = 0;
    const out = new MemoryStream();
    const terminal = new Terminal(out, new MemoryStream(), () => told++);
    out.fail('EPIPE');
    out.fail('EPIPE');
    terminal.line('lost');
    await terminal.finish();
    expect([told, terminal.brokenPipe, out.text]).toEqual([1, true, '']);
    const full = new MemoryStream();
    const other = new Terminal(full, new MemoryStream(), () => told++);
    full.fail('ENOSPC');
    await expect(other.finish()).rejects.toMatchObject({ code: 'IO' });
    other.dispose();
    expect(full.listenerCount()).toBe(1);
  });
});

describe('what is shown', () => {
  it('of progress: how far, how fast, how long still', () => {
    const report = {
      phase: 'copying',
      bytesDone: 512 * 1024 ** 2,
      bytesTotal: 1024 ** 3,
      fraction: 0.5,
      bytesPerSecond: 100 * 1024 ** 2,
      secondsLeft: 5.12,
      secondsElapsed: 5,
    } as const;
    expect(progressText(report)).toBe('50% copying 512 MiB of 1 GiB, 100 MiB/s, 6 s left');
    expect(progressText({ ...report, secondsLeft: 100 })).toContain('1 min 40 s left');
    expect(progressText({ ...report, secondsLeft: 7500 })).toContain('2 h 5 min left');
    expect(progressText({ ...report, phase: 'flushing' })).toBe('50% flushing to the disk');
  });

  it('of names from a file: nothing that moves the cursor', () => {
    expect(printable('a\u001b]0;x\u0007\u202eb\n')).toBe('a\\x1b]0;x\\x07\\u202eb\\x0a');
    expect(printable('snäpshot 1 ✓')).toBe('snäpshot 1 ✓');
  });

  it('of a check: the words and the rounding of qemu-img', () => {
    const report: CheckReport = {
      format: 'qcow2',
      findings: [],
      corruptions: 2,
      leaks: 1,
      corruptionsFixed: 0,
      leaksFixed: 3,
      checkErrors: 0,
      imageEndOffset: 720896,
      totalClusters: 160,
      allocatedClusters: 1,
      fragmentedClusters: 0,
      compressedClusters: 0,
    };
    expect(checkText(report)).toContain(
      '1/160 = 0.62% allocated, 0.00% fragmented, 0.00% compressed clusters\n',
    );
    expect(checkText(report)).toContain('    3 leaked clusters\n    0 corruptions\n');
    expect(checkJson(report, 'x')).toEqual({
      'image-end-offset': 720896,
      'total-clusters': 160,
      corruptions: 2,
      'check-errors': 0,
      leaks: 1,
      'leaks-fixed': 3,
      'allocated-clusters': 1,
      filename: 'x',
      format: 'qcow2',
    });
  });
});
