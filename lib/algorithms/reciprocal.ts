import { checkArray, type DeviceArray } from "../array.ts";
import { checkOptions } from "../options.ts";

/**
 * 1 / sum where a ray or voxel is seen, and 0 where its sum is at most `relative` times the largest or at most `absolute`: how row and
 * column sums become the weights of SIRT, `R = reciprocal(A.rowSums())` and `C = reciprocal(A.columnSums())`. A new array.
 */
export function reciprocal(sums: DeviceArray, options: { absolute?: number; relative?: number } = {}): DeviceArray {
  checkArray("sums", sums);
  checkOptions("reciprocal", options, ["absolute", "relative"]);
  const { absolute = 0, relative = 1e-6 } = options;
  return sums.reciprocal({ absolute, relative });
}
