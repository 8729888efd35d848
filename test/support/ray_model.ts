/**
 * An independent float64 model of the exact projector: the tests' reference for every device and code path.
 * It imports nothing, and it is written for reading, not for speed.
 *
 * The law is Joseph's method (P. M. Joseph, "An improved algorithm for reprojecting rays through pixel images",
 * IEEE Trans. Med. Imaging 1, 1982): a ray steps from slice to slice along a main axis, each slice gives one bilinear
 * sample, and the sum is multiplied by the ray's length between two slices. Vectors and volumes are (z, y, x).
 */

type Vector = readonly [number, number, number];
type Axis = 0 | 1 | 2;

export interface ModelGeometry {
  kind: "parallel" | "cone";
  shape: [number, number, number];
  voxelSize: [number, number, number];
  /** The volume's centre. */
  position: [number, number, number];
  /** Rows (along v) and columns (along u). */
  detectorShape: [number, number];
  /** 12 numbers a view: ray direction (parallel) or source (cone), detector centre, v, u. */
  vectors: ArrayLike<number>;
  /** One a view, 0 for a flat detector. Default: all are flat. */
  curvatureRadii?: ArrayLike<number>;
  /** d: a pixel is the mean of d * d rays, of d beside each other where all rays stay in the middle of one slice. Default 1. */
  detectorSupersampling?: number;
}

/** The number of views in `g.vectors`. */
export function viewCount(g: ModelGeometry): number {
  if (g.vectors.length % 12 !== 0) throw new Error(`vectors: ${g.vectors.length} numbers are not 12 per view`);
  return g.vectors.length / 12;
}

/** View `view` as its four vectors: ray direction or source, detector centre, v, u. */
export function viewVectors(g: ModelGeometry, view: number): [Vector, Vector, Vector, Vector] {
  const vector = (k: number): Vector => {
    const at = 12 * view + 3 * k;
    return [g.vectors[at]!, g.vectors[at + 1]!, g.vectors[at + 2]!];
  };
  return [vector(0), vector(1), vector(2), vector(3)];
}

/**
 * The point of view `view`'s detector that is `alongV` rows and `alongU` columns from its centre. A curved detector is a
 * circular cylinder: seen from its axis, which is above the centre on the source's side, the point is turned about v by
 * the arc's length over the radius.
 */
export function detectorPoint(g: ModelGeometry, view: number, alongV: number, alongU: number): Vector {
  const [source, centre, v, u] = viewVectors(g, view);
  const radius = g.curvatureRadii?.[view] ?? 0;
  const level: Vector = [0, 1, 2].map((k) => centre[k]! + alongV * v[k]!) as unknown as Vector;
  if (radius === 0) return [0, 1, 2].map((k) => level[k]! + alongU * u[k]!) as unknown as Vector;
  const scaled = (a: number[]) => a.map((value) => (value * radius) / Math.hypot(...a));
  const across = scaled([...u]);
  const normal = scaled([u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]]);
  const side = Math.sign(normal.reduce((sum, value, k) => sum + value * (source[k]! - centre[k]!), 0));
  const angle = (alongU * Math.hypot(...u)) / radius;
  const [sine, cosine] = [Math.sin(angle), Math.cos(angle)];
  return level.map((value, k) => value + side * normal[k]! * (1 - cosine) + across[k]! * sine) as unknown as Vector;
}

/** The main axis of a view: where its central ray crosses most slices. Ties go to x, then y, then z. */
export function mainAxis(g: ModelGeometry, view: number): Axis {
  const [origin, centre] = viewVectors(g, view);
  const crossed = (k: Axis) => Math.abs((g.kind === "parallel" ? origin[k] : origin[k] - centre[k]) / g.voxelSize[k]);
  if (crossed(2) >= crossed(1) && crossed(2) >= crossed(0)) return 2;
  return crossed(1) >= crossed(0) ? 1 : 0;
}

/** Whether the rays of all pixels run in the middle of the only slice: rays above and below would leave it. */
export function isOneSlice(g: ModelGeometry): boolean {
  if (g.shape[0] > 1 || g.detectorShape[0] > 1) return false;
  return Array.from({ length: viewCount(g) }, (_, view) => viewVectors(g, view)).every(([origin, centre, v, u]) => {
    const level = g.kind === "parallel" ? origin[0] : origin[0] - g.position[0];
    return [level, centre[0] - g.position[0], u[0], v[1], v[2]].every((off) => Math.abs(off) < 1e-12);
  });
}

const otherAxes: readonly (readonly [Axis, Axis])[] = [
  [1, 2],
  [0, 2],
  [0, 1],
];

/**
 * Calls `visit` with every weight of the system matrix that is not zero; a (pixel, voxel) pair may come several times.
 * `pixel` indexes (rows, views, columns) and `voxel` (z, y, x), both in C order.
 */
export function visitWeights(g: ModelGeometry, visit: (pixel: number, voxel: number, weight: number) => void): void {
  const { shape, voxelSize, position } = g;
  const strides: Vector = [shape[1] * shape[2], shape[2], 1];
  const [rows, columns] = g.detectorShape;
  const views = viewCount(g);
  const rays = g.detectorSupersampling ?? 1;
  const rayRows = isOneSlice(g) ? 1 : rays;

  /** The line through `point` (world) along `direction`, of which `share` counts for `pixel`. */
  const visitRay = (pixel: number, main: Axis, point: Vector, direction: Vector, share: number) => {
    if (direction[main] === 0) return;
    const index = (k: Axis) => (point[k] - position[k]) / voxelSize[k] + (shape[k] - 1) / 2;
    const slope = (k: Axis) => direction[k] / voxelSize[k] / (direction[main] / voxelSize[main]);
    const length = Math.hypot(...direction) * Math.abs(voxelSize[main] / direction[main]);
    const [a, b] = otherAxes[main]!;
    const [startA, startB, slopeA, slopeB] = [index(a), index(b), slope(a), slope(b)];
    const start = index(main);
    for (let slice = 0; slice < shape[main]; slice++) {
      const atA = startA + (slice - start) * slopeA;
      const atB = startB + (slice - start) * slopeB;
      const [firstA, firstB] = [Math.floor(atA), Math.floor(atB)];
      for (let ia = Math.max(firstA, 0); ia <= Math.min(firstA + 1, shape[a] - 1); ia++) {
        for (let ib = Math.max(firstB, 0); ib <= Math.min(firstB + 1, shape[b] - 1); ib++) {
          const weight = (1 - Math.abs(atA - ia)) * (1 - Math.abs(atB - ib)) * length * share;
          if (weight !== 0) visit(pixel, slice * strides[main] + ia * strides[a] + ib * strides[b], weight);
        }
      }
    }
  };

  for (let view = 0; view < views; view++) {
    const main = mainAxis(g, view);
    const [origin] = viewVectors(g, view);
    for (let j = 0; j < rows; j++) {
      for (let i = 0; i < columns; i++) {
        for (let kv = 0; kv < rayRows; kv++) {
          for (let ku = 0; ku < rays; ku++) {
            const alongV = j + 0.5 - rows / 2 + ((kv + 0.5) / rayRows - 0.5);
            const alongU = i + 0.5 - columns / 2 + ((ku + 0.5) / rays - 0.5);
            const target = detectorPoint(g, view, alongV, alongU);
            const pixel = (j * views + view) * columns + i;
            if (g.kind === "parallel") visitRay(pixel, main, target, origin, 1 / (rayRows * rays));
            else {
              const direction: Vector = [target[0] - origin[0], target[1] - origin[1], target[2] - origin[2]];
              visitRay(pixel, main, origin, direction, 1 / (rayRows * rays));
            }
          }
        }
      }
    }
  }
}

export function volumeLength(g: ModelGeometry): number {
  return g.shape[0] * g.shape[1] * g.shape[2];
}

export function projectionLength(g: ModelGeometry): number {
  return g.detectorShape[0] * viewCount(g) * g.detectorShape[1];
}

/** Line integrals (rows, views, columns) of the volume `x` (z, y, x). */
export function forwardModel(g: ModelGeometry, x: ArrayLike<number>): Float64Array {
  if (x.length !== volumeLength(g)) throw new Error(`x has ${x.length} values, the volume ${volumeLength(g)}`);
  const y = new Float64Array(projectionLength(g));
  visitWeights(g, (pixel, voxel, weight) => {
    y[pixel]! += weight * x[voxel]!;
  });
  return y;
}

/** The exact transpose of `forwardModel`: a volume (z, y, x) of the projections `y` (rows, views, columns). */
export function backModel(g: ModelGeometry, y: ArrayLike<number>): Float64Array {
  if (y.length !== projectionLength(g)) throw new Error(`y has ${y.length} values, the views ${projectionLength(g)}`);
  const x = new Float64Array(volumeLength(g));
  visitWeights(g, (pixel, voxel, weight) => {
    x[voxel]! += weight * y[pixel]!;
  });
  return x;
}
