/** An image with something of everything, and the tools to damage single entries and findings to expect. */
import { expect } from 'vitest';
import { checkVvd } from '../../../formats/vvd/check.ts';
import { SeededRandom } from '../../../src/base/random.ts';
import type { MemoryDevice } from '../../../src/device/memory-device.ts';
import type { CheckFinding, CheckReport } from '../../../src/image/check-report.ts';
import { editPage, KiB, MiB, openDisk, readPage, sampleImage, tablePlaces } from './sample-image.ts';

export const BLOCK: number = 64 * KiB;
export const TABLE_SPAN: number = 252 * BLOCK;
export const SIZE: number = 40 * MiB + 512;
const KIND_DATA = 1;
export const KIND_COMPRESSED = 2;
export const KIND_ZERO = 3;

/** A disk with 100 data blocks, some compressed, none written twice: no leaks. */
export async function cleanImage(): Promise<MemoryDevice> {
  made ??= makeCleanImage();
  return (await made).fork();
}

let made: Promise<MemoryDevice> | undefined;

async function makeCleanImage(): Promise<MemoryDevice> {
  const { file } = await sampleImage(1, { steps: 0 });
  const disk = await openDisk(file);
  await disk.pwrite(new SeededRandom(1).fill(new Uint8Array(100 * BLOCK)), 0);
  for (let block = 300; block < 310; block++) await disk.writeCompressed(block * BLOCK, compressible(block));
  await disk.writeZeroes(320 * BLOCK, BLOCK, { keepAllocated: true });
  await disk.close();
  expect((await checkVvd(file)).findings).toEqual([]);
  return file;
}

/** A block that compresses to an eighth. */
function compressible(seed: number): Uint8Array {
  const block = new Uint8Array(BLOCK);
  new SeededRandom(seed).fill(block.subarray(0, BLOCK / 8));
  return block;
}

/** Writes one entry, with a right checksum. */
export async function editEntry(
  file: MemoryDevice,
  block: number,
  edit: (view: DataView, at: number) => void,
): Promise<void> {
  const table = (await tablePlaces(file)).find(({ index }) => index === Math.floor(block / 252));
  await editPage(file, table?.place ?? 0, (view) => edit(view, 64 + (block % 252) * 16));
}

/** Its table page must exist. */
export async function entryOf(file: MemoryDevice, block: number): Promise<{ place: number; length: number }> {
  const table = (await tablePlaces(file)).find(({ index }) => index === Math.floor(block / 252));
  const view = new DataView((await readPage(file, table?.place ?? 0)).buffer);
  const at = 64 + (block % 252) * 16;
  return { place: view.getUint32(at, true) & ~0xf, length: view.getUint32(at + 8, true) };
}

export function setPlace(view: DataView, at: number, place: number, kind: number = KIND_DATA): void {
  view.setUint32(at, (place & ~0xf) | kind, true);
  view.setUint32(at + 4, Math.floor(place / 2 ** 32), true);
}

export function expectOnly(report: CheckReport, kind: string, ...findings: Partial<CheckFinding>[]): void {
  expect(report.findings.map((finding) => finding.kind)).toEqual(findings.map(() => kind));
  expect(report.findings).toMatchObject(findings);
  expect(report.corruptions).toBe(findings.length);
  expect(report.leaks).toBe(0);
}
