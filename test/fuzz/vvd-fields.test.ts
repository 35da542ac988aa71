/** Hostile VVD headers, with right checksums: each field zeroed and maximised ends in data or in a `VimgError`. */
import { expect, it } from 'vitest';
import { encodeHeader, readHeader } from '../../formats/vvd/header.ts';
import { HEADER_OFFSETS } from '../../formats/vvd/layout.ts';
import { isVimgError } from '../../src/base/errors.ts';
import { sampleImage } from '../formats/vvd/sample-image.ts';

it('refuses a header whose block size is impossible', async () => {
  const { file } = await sampleImage(1, { steps: 0 });
  const header = await readHeader(file);
  for (const offset of HEADER_OFFSETS) {
    const generation = header.generation - (header.generation % 2) + (offset === 0 ? 0 : 1);
    await file.pwrite(encodeHeader({ ...header, generation, blockShift: 63 }), offset);
  }
  await expect(readHeader(file)).rejects.toSatisfy((error) => isVimgError(error, 'CORRUPT'));
});
