import { Beam, type View } from "../../lib/geometry/beam.ts";
import type { VU, ZYX } from "../../lib/geometry/vector.ts";
import { Volume } from "../../lib/geometry/volume.ts";
import { type Operator, type OperatorOptions, operator, parallelBeam, volume } from "../../lib/index.ts";
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

/** One slice of a unit cube of N^3 voxels, seen by 3N/2 parallel views of 3N/2 columns: tomosipo's case for learned primal-dual. */
export function sliceOperator(N: number, options: OperatorOptions = {}): Operator {
  const views = (3 * N) / 2;
  return operator(
    volume({ shape: [1, N, N], size: [1 / N, 1, 1] }),
    parallelBeam({ angleCount: views, detectorShape: [1, views], detectorSize: [1 / N, 1.5] }),
    options,
  );
}
