/** TLS of both sides, against nbdkit, libnbd and QEMU: certificates and keys made here, by OpenSSL. */
import { execFileSync, spawn } from 'node:child_process';
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { type DirectoryResult, dir } from 'tmp-promise';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { NbdDevice } from '../../src/nbd/client/nbd-device.ts';
import {
  FLAG_FIXED_NEWSTYLE,
  OPT_EXPORT_NAME,
  OPT_LIST,
  OPT_STARTTLS,
  OPTION_HEADER,
  OPTION_MAGIC,
  OPTION_REPLY,
  OPTION_REPLY_MAGIC,
  REP_ACK,
  REP_ERR_TLS_REQD,
  SERVER_GREETING,
  SERVER_MAGIC,
} from '../../src/nbd/protocol.ts';
import { readServerTls } from '../../src/nbd/tls-server.ts';
import { requireTool } from '../reference-tools.ts';
import { exported, memory, withServer } from './served-device.ts';

let folder: DirectoryResult;
let at: (name: string) => string;

/** A new authority in a folder, and a certificate of it for `server` and `client`. */
function makeCertificates(into: string): void {
  mkdirSync(into);
  const openssl = (...args: readonly string[]): unknown =>
    execFileSync('openssl', args, { cwd: into, stdio: 'pipe' });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  openssl(
    'req',
    '-x509',
    ...key,
    '-keyout',
    'ca-key.pem',
    '-out',
    'ca-cert.pem',
    '-subj',
    '/CN=authority',
    '-days',
    '2',
  );
  for (const side of ['server', 'client']) {
    openssl('req', ...key, '-keyout', `${side}-key.pem`, '-out', `${side}.csr`, '-subj', `/CN=${side}`);
    writeFileSync(join(into, 'names.ext'), 'subjectAltName=DNS:localhost,IP:127.0.0.1\n');
    const signed = [
      '-CA',
      'ca-cert.pem',
      '-CAkey',
      'ca-key.pem',
      '-CAcreateserial',
      '-days',
      '2',
      '-extfile',
      'names.ext',
    ];
    openssl('x509', '-req', '-in', `${side}.csr`, ...signed, '-out', `${side}-cert.pem`);
  }
}

beforeAll(async () => {
  folder = await dir({ unsafeCleanup: true, prefix: 'vimg-tls' });
  at = (name) => join(folder.path, name);
  if (requireTool('openssl')) return;
  makeCertificates(at('pki'));
  makeCertificates(at('other'));
  writeFileSync(at('keys.psk'), `alice:${'6b'.repeat(32)}\n`);
  writeFileSync(at('wrong.psk'), `alice:${'6c'.repeat(32)}\n`);
});
afterAll(() => folder.cleanup());

/** Serves 8 MiB of memory by nbdkit while `work` runs. */
async function withNbdkit(
  options: readonly string[],
  work: (socket: string) => Promise<void>,
): Promise<void> {
  const socket = at(`${Math.random().toString(36).slice(2)}.sock`);
  const pidFile = `${socket}.pid`;
  const child = spawn('nbdkit', ['-f', '-U', socket, '-P', pidFile, ...options, 'memory', '8M'], {
    stdio: 'ignore',
  });
  const ended = new Promise((resolve) => child.once('close', resolve));
  try {
    for (let tries = 0; tries < 400; tries++) {
      if (execFileSync('sh', ['-c', `test -s ${pidFile} && echo yes || true`]).length > 0) break;
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    await work(socket);
  } finally {
    child.kill();
    await ended;
  }
}

function uri(socket: string, parameters: string, user = ''): string {
  return `nbds+unix://${user}/?socket=${encodeURIComponent(socket)}&${parameters}`;
}

async function roundTrip(name: string): Promise<void> {
  const device = await NbdDevice.open(name, { readOnly: false });
  try {
    await device.pwrite(Buffer.from('protected'), 4095);
    await device.flush();
    const buffer = Buffer.alloc(11);
    await device.pread(buffer, 4094);
    expect(buffer.toString()).toBe('\0protected\0');
  } finally {
    await device.close();
  }
}

describe.skipIf(requireTool('nbdkit', 'openssl'))('TLS', () => {
  it('with certificates: reads and writes; refuses another authority, and another name', async () => {
    const options = ['--tls=require', `--tls-certificates=${at('pki')}`, '--tls-verify-peer'];
    await withNbdkit(options, async (socket) => {
      await roundTrip(uri(socket, `tls-certificates=${at('pki')}`));
      await expect(NbdDevice.open(uri(socket, `tls-certificates=${at('other')}`))).rejects.toMatchObject({
        code: 'IO',
      });
      const elsewhere = uri(socket, `tls-certificates=${at('pki')}&tls-hostname=elsewhere.example`);
      await expect(NbdDevice.open(elsewhere)).rejects.toMatchObject({ code: 'IO' });
      const plain = `nbd+unix:///?socket=${encodeURIComponent(socket)}`;
      await expect(NbdDevice.open(plain)).rejects.toMatchObject({
        code: 'UNSUPPORTED',
        hint: expect.stringMatching('nbds'),
      });
    });
  });

  it('with a key that both know: reads and writes; refuses another key', async () => {
    await withNbdkit(['--tls=require', `--tls-psk=${at('keys.psk')}`], async (socket) => {
      await roundTrip(uri(socket, `tls-psk-file=${at('keys.psk')}`));
      const wrong = uri(socket, `tls-psk-file=${at('wrong.psk')}`);
      await expect(NbdDevice.open(wrong)).rejects.toMatchObject({ code: 'IO' });
    });
  });

  it('is not given up when the server has none', async () => {
    await withNbdkit(['--tls=off'], async (socket) => {
      const secured = uri(socket, `tls-certificates=${at('pki')}`);
      await expect(NbdDevice.open(secured)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    });
  });

  it('takes nothing that was sent in the clear behind the consent', async () => {
    const socketPath = at('injecting.sock');
    const sockets: Socket[] = [];
    const server = createServer((socket) => {
      sockets.push(socket);
      socket.on('error', () => undefined);
      socket.write(
        SERVER_GREETING.encode({
          magic: SERVER_MAGIC,
          optionMagic: OPTION_MAGIC,
          flags: FLAG_FIXED_NEWSTYLE,
        }),
      );
      socket.once('data', () => {
        const reply = { magic: OPTION_REPLY_MAGIC, type: REP_ACK, length: 0 };
        const consent = OPTION_REPLY.encode({ ...reply, option: OPT_STARTTLS });
        socket.write(Buffer.concat([consent, OPTION_REPLY.encode({ ...reply, option: 11 })]));
      });
    });
    await new Promise<void>((resolve) => server.listen(socketPath, resolve));
    const secured = uri(socketPath, `tls-certificates=${at('pki')}`);
    await expect(NbdDevice.open(secured)).rejects.toMatchObject({
      message: expect.stringMatching('in the clear'),
    });
    for (const socket of sockets) socket.destroy();
    server.close();
  });
});

/** Runs a program to its end, without holding up the server in this process. */
function run(program: string, args: readonly string[]): Promise<{ status: number | null; output: string }> {
  return new Promise((resolve) => {
    const child = spawn(program, args);
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.once('close', (status) => resolve({ status, output }));
  });
}

async function serving(tlsFolder: string, work: (socket: string) => Promise<void>): Promise<void> {
  const tls = await readServerTls(tlsFolder, 5000);
  await withServer(
    [exported(memory())],
    ({ server }) => work('socketPath' in server.address ? server.address.socketPath : ''),
    { tls },
  );
}

describe.skipIf(requireTool('nbdinfo', 'qemu-img', 'openssl'))('a server with TLS', () => {
  it('lets in who has a certificate of the authority, and nobody else', () =>
    serving(at('pki'), async (socket) => {
      await roundTrip(uri(socket, `tls-certificates=${at('pki')}`));
      const noCertificate = at('no-certificate');
      mkdirSync(noCertificate, { recursive: true });
      copyFileSync(join(at('pki'), 'ca-cert.pem'), join(noCertificate, 'ca-cert.pem'));
      for (const folderOfClient of ['other', 'no-certificate']) {
        const device = NbdDevice.open(uri(socket, `tls-certificates=${at(folderOfClient)}`));
        await expect(device).rejects.toMatchObject({ name: 'VimgError' });
      }
      const plain = `nbd+unix:///?socket=${encodeURIComponent(socket)}`;
      await expect(NbdDevice.open(plain)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
      const info = await run('nbdinfo', [
        '--size',
        `nbds+unix:///?socket=${socket}&tls-certificates=${at('pki')}&tls-hostname=localhost`,
      ]);
      expect(info.output).toBe('4194304\n');
      expect((await run('nbdinfo', ['--size', plain])).status).not.toBe(0);
      const credentials = `tls-creds-x509,id=tls0,dir=${at('pki')},endpoint=client`;
      const image = `driver=nbd,path=${socket},tls-creds=tls0,tls-hostname=localhost`;
      const qemu = await run('qemu-img', ['info', '--object', credentials, '--image-opts', image]);
      expect(qemu.output).toContain('4194304 bytes');
    }));

  it('lets in who knows the key, and nobody else', async () => {
    mkdirSync(at('keys'), { recursive: true });
    copyFileSync(at('keys.psk'), join(at('keys'), 'keys.psk'));
    await serving(at('keys'), async (socket) => {
      await roundTrip(uri(socket, `tls-psk-file=${at('keys.psk')}`));
      await expect(NbdDevice.open(uri(socket, `tls-psk-file=${at('wrong.psk')}`))).rejects.toMatchObject({
        code: 'IO',
      });
      const info = await run('nbdinfo', [
        '--size',
        `nbds+unix://alice@/?socket=${socket}&tls-psk-file=${at('keys.psk')}`,
      ]);
      expect(info.output).toBe('4194304\n');
    });
  });

  it('answers nothing in the clear, and reads nothing that follows the consent in the clear', () =>
    serving(at('pki'), async (path) => {
      const raw = connect(path);
      const chunks: Buffer[] = [];
      raw.on('data', (chunk: Buffer) => chunks.push(chunk));
      raw.on('error', () => undefined);
      const ended = new Promise((resolve) => raw.once('close', resolve));
      const option = (number: number): Uint8Array =>
        OPTION_HEADER.encode({ magic: OPTION_MAGIC, option: number, length: 0 });
      const until = async (length: number): Promise<Buffer> => {
        while (Buffer.concat(chunks).length < length) await new Promise((resolve) => setTimeout(resolve, 5));
        return Buffer.concat(chunks);
      };
      raw.write(Buffer.concat([Buffer.from([0, 0, 0, FLAG_FIXED_NEWSTYLE]), option(OPT_LIST)]));
      const refused = await until(SERVER_GREETING.size + OPTION_REPLY.size);
      expect(OPTION_REPLY.decode(refused, SERVER_GREETING.size).type).toBe(REP_ERR_TLS_REQD);
      raw.write(Buffer.concat([option(OPT_STARTTLS), option(OPT_EXPORT_NAME)]));
      await ended; // the option behind STARTTLS is never answered
      const { length } = Buffer.concat(chunks);
      expect(length).toBeLessThanOrEqual(SERVER_GREETING.size + 2 * OPTION_REPLY.size);
    }));

  it('is not made without what it needs', async () => {
    mkdirSync(at('empty'), { recursive: true });
    await expect(readServerTls(at('empty'), 1000)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});
