/** Convert with compression, at the levels that qemu-img has: zstd 3, deflate 6 (their libraries' defaults). */
import { makeCompressibleDisk } from '../images/content.ts';
import {
  type Bout,
  type Contestant,
  GiB,
  MiB,
  type Size,
  sizeLabel,
  threeSizes,
  type Work,
} from '../work.ts';
import { convert } from './convert.ts';

interface Codec {
  readonly name: string;
  readonly ours: string;
  readonly peer: string;
}

const CODECS: readonly Codec[] = [
  { name: 'zstd', ours: 'compression=zstd', peer: 'compression_type=zstd' },
  { name: 'deflate', ours: 'compression=deflate', peer: 'compression_type=zlib' },
];

export const convertCompressedWorks: readonly Work[] = CODECS.map((codec) => ({
  name: `convert-${codec.name}`,
  title: `convert -c raw → vvd, ${codec.ours}; peer raw → qcow2, ${codec.peer}`,
  metric: 'ms',
  sizes: threeSizes((units) => sizeLabel(bytesOf(units)), { kind: 'ratio at most', value: 1 }),
  async prepare(shop, { units }: Size): Promise<Bout> {
    const source = await shop.stock(`compressible-${units}.raw`, (path) =>
      makeCompressibleDisk(path, bytesOf(units)),
    );
    const common = ['-c', '-t', 'unsafe', '-f', 'raw'];
    const ours = [...common, '-O', 'vvd', '-o', codec.ours, source];
    const peer = [...common, '-O', 'qcow2', '-o', codec.peer, source];
    return {
      ours: convert(shop, 'vimg', ours, 'out.vvd') as Contestant,
      peer: convert(shop, 'qemu-img', peer, 'out.qcow2'),
    };
  },
}));

/** 100 units are 1 GiB. */
function bytesOf(units: number): number {
  return Math.round((GiB * units) / 100 / MiB) * MiB;
}
