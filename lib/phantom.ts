import { DeviceArray } from "./array.ts";
import type { Operator } from "./operator.ts";
import { checkShape } from "./shape.ts";

/**
 * The hollow box, the phantom of tomosipo's examples: 1 between 20 % and 80 % of every axis, 0 elsewhere and inside between 40 % and
 * 60 %. A new array of the operator's domain shape on its device. An axis with one voxel is inside the wall.
 */
export function hollowBox(A: Pick<Operator, "domainShape" | "device">): DeviceArray {
  const [depth = 1, height = 1, width = 1] = checkShape(A?.domainShape, "domainShape");
  const between = (index: number, count: number, low: number, high: number) =>
    count === 1 ? low < 0.3 : index >= Math.floor(low * count) && index < Math.floor(high * count);
  const slice = (low: number, high: number) => {
    const values = new Float32Array(height * width);
    for (let y = 0; y < height; y++)
      if (between(y, height, low, high))
        for (let x = 0; x < width; x++) if (between(x, width, low, high)) values[y * width + x] = 1;
    return values;
  };
  const box = slice(0.2, 0.8);
  const hole = slice(0.4, 0.6);
  const wall = box.map((value, i) => value - hole[i]!);
  const result = DeviceArray.zeros(A.domainShape, { device: A.device });
  for (let z = 0; z < depth; z++) {
    if (!between(z, depth, 0.2, 0.8)) continue;
    const hollow = depth === 1 || between(z, depth, 0.4, 0.6);
    result.writeSync(hollow ? wall : box, z * height * width);
  }
  return result;
}
