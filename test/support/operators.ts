import { Beam, type View } from "../../lib/geometry/beam.ts";
import type { VU, ZYX } from "../../lib/geometry/vector.ts";
import { Volume } from "../../lib/geometry/volume.ts";
import { type Operator, type OperatorOptions, operator } from "../../lib/index.ts";
import type { ModelGeometry } from "./ray_model.ts";

/** The library's operator of a geometry of the float64 model. */
export function operatorOf(geometry: ModelGeometry, options: OperatorOptions = {}): Operator {
  const {
    kind,
    shape,
    voxelSize,
    position,
    detectorShape,
    vectors,
    curvatureRadii,
    detectorSupersampling = 1,
  } = geometry;
  const numbers = Array.from(vectors);
  const views: View[] = [];
  for (let at = 0; at < numbers.length; at += 12) {
    const vector = (k: number) => numbers.slice(at + 3 * k, at + 3 * k + 3) as unknown as ZYX;
    const curvatureRadius = curvatureRadii?.[at / 12] ?? 0;
    views.push({ source: vector(0), centre: vector(1), v: vector(2), u: vector(3), curvatureRadius });
  }
  const object = new Volume(shape as ZYX, voxelSize as ZYX, position as ZYX);
  return operator(object, new Beam(kind, detectorShape as VU, views), { detectorSupersampling, ...options });
}
