/** Hostile VVD images in which a place belongs to two: to many entries, or to an entry and to the free list. */
import { expect, it } from 'vitest';
import { entryAt, KIND_DATA, kindOf, setEntry } from '../../formats/vvd/entry.ts';
import { ENTRIES, freeExtentLayout, PAGE, PAGE_HEADER, spaceHeadLayout } from '../../formats/vvd/layout.ts';
import { baseImage } from './base-images.ts';
import { verdict } from './judge.ts';
import { hostileImage, type Mutation } from './mutation.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** The entries of the first table page that hold data, and the page. */
async function dataEntries(): Promise<{ view: DataView; slots: number[] }> {
  const { file, structures } = await baseImage('closed');
  const page = new Uint8Array(PAGE);
  file.pread(page, structures.find(({ kind }) => kind === 'table')?.places[0] ?? 0);
  const view = new DataView(page.buffer);
  const slots = Array.from({ length: ENTRIES }, (_, slot) => slot);
  return { view, slots: slots.filter((slot) => kindOf(view, entryAt(slot)) === KIND_DATA) };
}

it.each([0, 3, 9])('all entries at the place of data block %i', async (which) => {
  const { view, slots } = await dataEntries();
  const at = entryAt(slots[which] as number);
  const entry = new Uint8Array(view.buffer.slice(at, at + 8));
  const lie = `${hex(entry)}ffffffff00000000`;
  const mutations = slots.map(
    (slot): Mutation => ({ structure: 'table', nth: 0, at: entryAt(slot), hex: lie }),
  );
  expect(await verdict(await hostileImage({ base: 'closed', mutations }))).toBeUndefined();
});

it('all entries inside the table page that holds them', async () => {
  const { slots } = await dataEntries();
  const { structures } = await baseImage('closed');
  const place = structures.find(({ kind }) => kind === 'table')?.places[0] ?? 0;
  const entry = new Uint8Array(16);
  setEntry(new DataView(entry.buffer), 0, KIND_DATA, place, 0xffff_ffff, 0);
  const mutations = slots.map(
    (slot): Mutation => ({ structure: 'table', nth: 0, at: entryAt(slot), hex: hex(entry) }),
  );
  expect(await verdict(await hostileImage({ base: 'closed', mutations }))).toBeUndefined();
});

it('a free list that has everything', async () => {
  const { file } = await baseImage('closed');
  const place = 1024 * 1024;
  const extent = freeExtentLayout.encode({
    place,
    length: Math.floor((file.size - place) / PAGE - 16) * PAGE,
  });
  const lie = (at: number, bytes: string): Mutation => ({ structure: 'space', nth: 0, at, hex: bytes });
  const count = spaceHeadLayout.rows.find(({ field }) => field === 'extentCount')?.offset ?? 0;
  const metadataNext = spaceHeadLayout.rows.find(({ field }) => field === 'metadataNext')?.offset ?? 0;
  const mutations = [
    lie(PAGE_HEADER + metadataNext, '00'.repeat(16)),
    lie(PAGE_HEADER + count, '01000000'),
    lie(PAGE_HEADER + spaceHeadLayout.size, hex(extent)),
  ];
  expect(await verdict(await hostileImage({ base: 'closed', mutations }))).toBeUndefined();
});
