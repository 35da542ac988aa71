/** Control sockets: requests and their bounds, and who may use them. */
import { execFile, execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { dir } from 'tmp-promise';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { VimgError } from '../../src/base/errors.ts';
import { ControlClient } from '../../src/control/control-client.ts';
import { controlFolders, controlPathsOf, ownControlPath } from '../../src/control/control-place.ts';
import { type ControlMethod, ControlServer } from '../../src/control/control-server.ts';
import { MESSAGE_MAX, MessageReader } from '../../src/control/message.ts';
import { peerUser } from '../../src/host/peer-user.ts';
import { requireMount } from '../reference-tools.ts';

const UID = process.getuid?.() ?? -1;
let folder: string;
let cleanup: () => Promise<void>;
let server: ControlServer | undefined;

beforeEach(async () => {
  const made = await dir({ unsafeCleanup: true, prefix: 'vimg-control-' });
  folder = made.path;
  cleanup = made.cleanup;
});
afterEach(async () => {
  await server?.close();
  server = undefined;
  await cleanup();
});

async function serve(methods: Record<string, ControlMethod>): Promise<string> {
  server = await ControlServer.listen(join(folder, 'c.sock'), new Map(Object.entries(methods)));
  return server.path;
}

/** Sends bytes as they are; resolves to what came back when the other side hung up, or answered once. */
function raw(path: string, bytes: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(path);
    let got = '';
    socket.on('data', (chunk) => {
      got += chunk.toString();
      if (got.endsWith('\n')) socket.end();
    });
    socket.on('error', () => undefined);
    socket.on('close', () => resolve(got));
    socket.write(bytes);
  });
}

describe('a request', () => {
  it('is answered, in parts where it has some', async () => {
    const path = await serve({
      count: async (parameters, { report }) => {
        for (let i = 0; i < Number(parameters); i++) await report({ i, filler: 'x'.repeat(10_000) });
        return 'done';
      },
    });
    const client = await ControlClient.connect(path);
    const parts: number[] = [];
    const answer = await client.request('count', 200, {
      onReport: (value) => parts.push((value as { i: number }).i),
    });
    expect(answer).toBe('done');
    expect(parts).toEqual(Array.from({ length: 200 }, (_, i) => i));
    client.close();
  });

  it('fails as it failed there', async () => {
    const path = await serve({
      fail: () =>
        Promise.reject(
          new VimgError('NO_SPACE', 'full', { op: 'write', path: '/a', offset: 7, hint: 'buy more' }),
        ),
      bug: () => Promise.reject(new TypeError('a bug')),
      long: () => Promise.resolve('x'.repeat(MESSAGE_MAX)),
    });
    const client = await ControlClient.connect(path);
    const failure = {
      code: 'NO_SPACE',
      message: 'full',
      op: 'write',
      path: '/a',
      offset: 7,
      hint: 'buy more',
    };
    await expect(client.request('fail', {})).rejects.toMatchObject(failure);
    await expect(client.request('bug', {})).rejects.toMatchObject({ code: 'IO', message: 'a bug' });
    await expect(client.request('long', {})).rejects.toMatchObject({ code: 'LIMIT' });
    await expect(client.request('none', {})).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    client.close();
  });

  it('is cancelled by its client, and by the end of either side', async () => {
    let aborted = 0;
    const path = await serve({
      wait: (_parameters, { signal }) =>
        new Promise((_resolve, reject) =>
          signal.addEventListener('abort', () => {
            aborted++;
            reject(signal.reason as Error);
          }),
        ),
    });
    const client = await ControlClient.connect(path);
    const controller = new AbortController();
    const waiting = client.request('wait', {}, { signal: controller.signal });
    controller.abort();
    await expect(waiting).rejects.toMatchObject({ code: 'CANCELLED' });
    const left = client.request('wait', {}).catch((error: VimgError) => error.code);
    await delay(20);
    client.close();
    expect(await left).toBe('IO');
    const other = await ControlClient.connect(path);
    const last = other.request('wait', {}).catch((error: VimgError) => error.code);
    await delay(20);
    await server?.close();
    expect(['CANCELLED', 'IO']).toContain(await last);
    expect(aborted).toBe(3);
    await expect(other.request('wait', {})).rejects.toMatchObject({ code: 'IO' });
  });
});

describe('a control server', () => {
  it('hangs up on what is no message, or too long', async () => {
    const path = await serve({});
    expect(await raw(path, 'GET / HTTP/1.1\r\n\r\n')).toBe('');
    expect(await raw(path, '[]\n')).toBe('');
    expect(await raw(path, '{"id":"x","method":"hello"}\n')).toBe('');
    expect(await raw(path, 'x'.repeat(MESSAGE_MAX + 1))).toBe('');
  });

  it('wants to be greeted first, in its own version', async () => {
    const path = await serve({ secret: () => Promise.resolve('told') });
    expect(await raw(path, '{"jsonrpc":"2.0","id":1,"method":"secret"}\n')).toContain('hello');
    const hello = { id: 1, method: 'hello', params: { protocol: 'vimg-control', version: 2 } };
    expect(await raw(path, `${JSON.stringify(hello)}\n`)).toContain('UNSUPPORTED');
    const odd = createServer((socket) =>
      socket.end('{"id":1,"result":{"protocol":"vimg-control","version":9}}\n'),
    );
    const other = join(folder, 'odd.sock');
    await new Promise<void>((resolve) => odd.listen(other, resolve));
    await expect(ControlClient.connect(other)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    odd.close();
  });

  it('lets nobody in but its user', async () => {
    const path = await serve({});
    expect(statSync(path).mode & 0o777).toBe(0o600);
    if (UID !== 0) return;
    chmodSync(folder, 0o755); // the socket's own mode is enough
    const script = `require('net').connect(${JSON.stringify(path)}).on('error', (e) => console.log(e.code))`;
    const code = execFileSync(process.execPath, ['-e', script], { uid: 65534, gid: 65534, encoding: 'utf8' });
    expect(code.trim()).toBe('EACCES');
  });
});

describe('the place of control sockets', () => {
  it('is the first folder that is the user\u2019s alone', async () => {
    const place = (name: string): string => join(folder, name);
    mkdirSync(place('open'), { mode: 0o755 });
    mkdirSync(place('real'), { mode: 0o700 });
    symlinkSync(place('real'), place('link'));
    writeFileSync(place('file'), '');
    const folders = [place('missing/below'), place('file'), place('open'), place('link'), place('own')];
    expect(await ownControlPath(folders, UID)).toBe(place(`own/${process.pid}.sock`));
    expect(statSync(place('own')).mode & 0o777).toBe(0o700);
    await expect(ownControlPath(folders.slice(0, 4), UID)).rejects.toMatchObject({ op: expect.any(String) });
    await expect(ownControlPath([place('own')], UID + 1)).rejects.toMatchObject({ code: 'READ_ONLY' });
  });

  it('is found again by the process ID, and cleaned of the dead', async () => {
    const own = join(folder, 'own');
    mkdirSync(own, { mode: 0o700 });
    writeFileSync(join(own, '4194303.sock'), '');
    const path = await ownControlPath([own], UID);
    expect(existsSync(join(own, '4194303.sock'))).toBe(false);
    server = await ControlServer.listen(path, new Map());
    expect(await controlPathsOf(process.pid, ['/nowhere', own], UID)).toEqual([path]);
    expect(await controlPathsOf(process.pid, [own], UID + 1)).toEqual([]);
    chmodSync(own, 0o777);
    expect(await controlPathsOf(process.pid, [own], UID)).toEqual([]);
  });

  it('follows the environment, and has room for the path', () => {
    expect(controlFolders({ XDG_RUNTIME_DIR: '/x' }, 7)).toEqual([
      '/x/vimg',
      '/run/user/7/vimg',
      '/tmp/vimg-7',
    ]);
    const long = `/${'x'.repeat(100)}`;
    expect(controlFolders({ XDG_RUNTIME_DIR: long }, 0)).toEqual([
      '/run/user/0/vimg',
      '/run/vimg',
      '/tmp/vimg-0',
    ]);
    expect(controlFolders({ XDG_RUNTIME_DIR: 'relative' }, 7)).toEqual(['/run/user/7/vimg', '/tmp/vimg-7']);
  });
});

it('messages are put together from pieces of any size', () => {
  const reader = new MessageReader();
  const bytes = Buffer.from('{"id":1,"result":"é"}\n{"id":2,"result":"ü"}\n');
  const found = [...bytes].flatMap((byte) => reader.push(Buffer.from([byte])));
  expect(found).toEqual([
    { id: 1, result: 'é' },
    { id: 2, result: 'ü' },
  ]);
});

/** Tries to connect as another user, who may enter the folder. @returns what the server said, and `closed` */
async function askAsAnotherUser(path: string): Promise<string> {
  const script = `
    const socket = require('node:net').connect(${JSON.stringify(path)});
    socket.on('data', (data) => { process.stdout.write(data); socket.end(); });
    socket.on('error', () => undefined);
    socket.on('close', () => process.stdout.write('closed'));
    socket.write('{"jsonrpc":"2.0","id":1,"method":"nonsense"}\\n');
  `;
  const user = { uid: 65534, gid: 65534 };
  return (await promisify(execFile)(process.execPath, ['-e', script], user)).stdout;
}

it('the kernel tells who connected', async () => {
  const path = join(folder, 'peer.sock');
  const asked = new Promise<number | undefined>((resolve) => {
    const listening = createServer((socket) => {
      resolve(peerUser(socket));
      socket.destroy();
      listening.close();
    });
    listening.listen(path, () => connect(path).on('error', () => undefined));
  });
  expect(await asked).toBe(UID);
});

it.skipIf(requireMount())('another user is hung up on, though the socket let him in', async () => {
  const path = await serve({});
  chmodSync(folder, 0o755);
  chmodSync(path, 0o666);
  expect(await raw(path, '{"jsonrpc":"2.0","id":1,"method":"nonsense"}\n')).toContain('hello');
  expect(await askAsAnotherUser(path)).toBe('closed');
});
