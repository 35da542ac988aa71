/** Inspection: every structure is shown, and a damaged one hides no other. */
import { describe, expect, it } from 'vitest';
import { vvdDriver } from '../../../formats/vvd/driver.ts';
import { readHeader } from '../../../formats/vvd/header.ts';
import { HEADER_OFFSETS, PAGE } from '../../../formats/vvd/layout.ts';
import { SeededRandom } from '../../../src/base/random.ts';
import type { BlockDevice } from '../../../src/device/block-device.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import type { InspectedStructure } from '../../../src/image/format-driver.ts';
import { flipBit, sampleImage, tablePlaces } from './sample-image.ts';

async function inspect(file: BlockDevice): Promise<InspectedStructure[]> {
  const found: InspectedStructure[] = [];
  for await (const structure of vvdDriver.inspect?.(file) ?? []) found.push(structure);
  return found;
}

describe('inspect', () => {
  it('shows every structure of a sound image, with its fields', async () => {
    const { file, crashed } = await sampleImage(1);
    for (const image of [file, crashed]) {
      const found = await inspect(image);
      const journaled = found.filter(({ name }) => name.startsWith('journal'));
      expect(found.filter(({ name, state }) => state !== 'ok' && !name.startsWith('journal'))).toEqual([]);
      if (image === crashed) expect(journaled.map(({ state }) => state)).toEqual(['ok', 'ok']);
      const names = found.map(({ name }) => name.replace(/ page \d+$/, ' page').replace(/ at \d+$/, ''));
      expect(new Set(names)).toEqual(
        new Set([
          'header copy',
          'attributes, slot 0',
          'journal slot 0',
          'journal slot 1',
          'space list page',
          'directory page',
          'table page',
        ]),
      );
      const tables = found.filter(({ name }) => name.startsWith('table page'));
      expect(tables.map(({ offset }) => offset)).toEqual(
        (await tablePlaces(image)).map(({ place }) => place),
      );
      for (const { fields } of tables) {
        const kinds = ['unallocated', 'data', 'compressed', 'zero', 'unknown'].map((kind) =>
          Number(fields[kind]),
        );
        expect(kinds.reduce((sum, count) => sum + count)).toBe(252);
      }
      expect(found[0]?.fields).toMatchObject({ magic: 'VVDIMAGE', blockShift: 16, reserved: 'zero' });
    }
  });

  it('says what is wrong with a page, and shows the others', async () => {
    const { file } = await sampleImage(2);
    const whole = await inspect(file);
    const random = new SeededRandom(1);
    for (const { name, offset, length } of whole) {
      if (name.startsWith('journal') || length === 0) continue;
      const damaged = file.fork();
      await flipBit(damaged, offset + random.below(Math.min(length, PAGE)), random.below(8));
      const found = await inspect(damaged);
      expect(found.find((structure) => structure.name === name)?.state).not.toBe('ok');
    }
  });

  it('searches for pages when no header is whole', async () => {
    const { file } = await sampleImage(3);
    const { directoryOffset } = await readHeader(file);
    for (const offset of HEADER_OFFSETS) await flipBit(file, offset + 90, 0);
    const found = await inspect(file);
    expect(found.slice(0, 2).map(({ state }) => state)).toEqual([
      'checksum does not match',
      'checksum does not match',
    ]);
    expect(found[0]?.fields).toMatchObject({ magic: 'VVDIMAGE' });
    expect(found.find(({ offset }) => offset === directoryOffset)).toMatchObject({
      name: 'directory page 0',
      state: 'ok',
    });
  });

  it('survives any bytes', async () => {
    const { file } = await sampleImage(4);
    const random = new SeededRandom(4);
    for (let round = 0; round < 50; round++) {
      const damaged = file.fork();
      const length = 1 + random.below(PAGE);
      await damaged.pwrite(random.fill(new Uint8Array(length)), random.below(file.size - length));
      if (random.oneIn(4)) damaged.resize(random.below(file.size));
      expect((await inspect(damaged)).length).toBeGreaterThan(0);
    }
    expect(await inspect(MemoryDevice.create(0))).toHaveLength(2);
  });
});
