/** How large a qcow2 file gets: the numbers of `qemu-img measure -O qcow2`. */
import { roundUp } from '../../src/base/size.ts';
import type { OptionValues } from '../../src/image/format-driver.ts';
import { parseCreateOptions } from './create-options.ts';
import { l2EntriesPerTable } from './header.ts';
import { refcountClusters } from './refcount.ts';

/**
 * Bytes of a new image for a disk of `virtualSize` bytes.
 *
 * `fullyAllocated` is the image with every cluster allocated; `required` the one with `dataBytes` of data. As
 * qemu-img does it, `required` counts the metadata of the full image, so it errs on the large side.
 *
 * @param dataBytes guest bytes with data, counted in whole clusters
 * @throws VimgError `USAGE`, `UNSUPPORTED` for options
 */
export function measureQcow2(
  virtualSize: number,
  dataBytes: number,
  values: OptionValues,
): { required: number; fullyAllocated: number } {
  const options = parseCreateOptions(values);
  const { clusterSize, refcountBits } = options;
  const aligned = roundUp(virtualSize, clusterSize);
  const l2Tables = Math.ceil(aligned / clusterSize / l2EntriesPerTable(options));
  const l1Bytes = roundUp(l2Tables * 8, clusterSize);
  const mapping = clusterSize + l2Tables * clusterSize + l1Bytes;
  const refcounts = refcountClusters((mapping + aligned) / clusterSize, clusterSize, refcountBits);
  const metadata = mapping + (refcounts.blocks + refcounts.table) * clusterSize;
  return {
    required: metadata + Math.min(roundUp(dataBytes, clusterSize), aligned),
    fullyAllocated: metadata + aligned,
  };
}
