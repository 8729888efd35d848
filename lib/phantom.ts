import { DeviceArray } from "./array.ts";
import type { Operator } from "./operator.ts";
import { checkShape } from "./shape.ts";

/** Parts of an axis that are left out at either end, in whole voxels: around the box, and around its hole. */
const OUTSIDE = 0.2;
const INSIDE = 0.4;

/**
 * The hollow box, the phantom of tomosipo's examples: 1 between 20 % and 80 % of every axis, 0 elsewhere and inside between 40 % and
 * 60 %; margins are rounded down to whole voxels, so it is symmetric. A new array of the operator's domain shape on its device. An
 * axis with one voxel is inside the wall.
 */
export function hollowBox(A: Pick<Operator, "domainShape" | "device">): DeviceArray {
  const [depth = 1, height = 1, width = 1] = checkShape(A?.domainShape, "domainShape");
  const within = (index: number, count: number, margin: number) =>
    count === 1
      ? margin === OUTSIDE
      : index >= Math.floor(margin * count) && index < count - Math.floor(margin * count);
  const slice = (margin: number) => {
    const values = new Float32Array(height * width);
    for (let y = 0; y < height; y++)
      if (within(y, height, margin))
        for (let x = 0; x < width; x++) if (within(x, width, margin)) values[y * width + x] = 1;
    return values;
  };
  const box = slice(OUTSIDE);
  const hole = slice(INSIDE);
  const wall = box.map((value, i) => value - hole[i]!);
  const result = DeviceArray.zeros(A.domainShape, { device: A.device });
  for (let z = 0; z < depth; z++) {
    if (!within(z, depth, OUTSIDE)) continue;
    const hollow = depth === 1 || within(z, depth, INSIDE);
    result.writeSync(hollow ? wall : box, z * height * width);
  }
  return result;
}
