/** Random geometries for the tests: valid, varied, and never where float32 rounding could choose another main axis. */

import type { SeededRandom } from "./random.ts";
import { detectorPoint, type ModelGeometry, mainAxis, viewCount, viewVectors } from "./ray_model.ts";

type Vector = [number, number, number];

/** a + scale b. */
const plus = (a: Vector, b: Vector, scale = 1): Vector => [
  a[0] + scale * b[0],
  a[1] + scale * b[1],
  a[2] + scale * b[2],
];
const times = (a: Vector, scale: number): Vector => [scale * a[0], scale * a[1], scale * a[2]];
const unitVector = (a: Vector): Vector => times(a, 1 / Math.hypot(...a));
const cross = (a: Vector, b: Vector): Vector => [
  a[1] * b[2] - a[2] * b[1],
  a[2] * b[0] - a[0] * b[2],
  a[0] * b[1] - a[1] * b[0],
];

/**
 * - `parallelAxis`: rays and u in the xy plane, v along z, and detector rows that coincide with the volume's slices;
 * - `parallelRows`: the same with rows of any number, height, sign and offset;
 * - `parallelVectors`: rays from anywhere, the detector tilted and skewed;
 * - `coneCircular`: a rigid source and detector turn around an axis along z, v along z;
 * - `coneUpright`: v along z, u in the xy plane, any source and detector for each view, moving along z, tilted rays;
 * - `coneVectors`: sources anywhere, the detector tilted and skewed;
 * - `coneCurvedUpright`: as `coneUpright`, the detectors curved, u perpendicular to v;
 * - `coneCurvedVectors`: as `coneVectors`, the detectors curved, some of them flat, u perpendicular to v.
 */
export type GeometryKind =
  | "parallelAxis"
  | "parallelRows"
  | "parallelVectors"
  | "coneCircular"
  | "coneUpright"
  | "coneVectors"
  | "coneCurvedUpright"
  | "coneCurvedVectors";

export const geometryKinds: readonly GeometryKind[] = [
  "parallelAxis",
  "parallelRows",
  "parallelVectors",
  "coneCircular",
  "coneUpright",
  "coneVectors",
  "coneCurvedUpright",
  "coneCurvedVectors",
];

export interface RandomGeometryOptions {
  /** The most voxels along an axis, detector rows and detector columns. Default 24. */
  maxCount?: number;
  /** Default 14. */
  maxViews?: number;
  /** Drawn from 1, 2, 3 when left out. */
  detectorSupersampling?: number;
}

/** A random valid geometry. Every cone source is at least 1.5 times the volume's half diagonal from its centre. */
export function randomGeometry(
  kind: GeometryKind,
  rng: SeededRandom,
  options: RandomGeometryOptions = {},
): ModelGeometry {
  const { maxCount = 24, maxViews = 14 } = options;
  const chance = (probability: number) => rng.uniform() < probability;
  const pick = <T>(values: readonly T[]): T => values[rng.integer(0, values.length - 1)]!;
  const count = () => (chance(0.15) ? 1 : rng.integer(1, maxCount));
  /** Zero as often as not: offsets, shifts and skews. */
  const sometimes = (reach: number) => (chance(0.5) ? 0 : rng.uniform(-reach, reach));

  const unit = pick([1, 1, 1e-3, 1e3, 0.37]);
  const side = () => unit * rng.uniform(0.5, 2);
  const inPlane = side();
  const voxelSize: Vector = pick<() => Vector>([
    () => [inPlane, inPlane, inPlane],
    () => [side(), inPlane, inPlane],
    () => [side(), side(), side()],
  ])();
  const shape: Vector = [count(), count(), count()];
  const extent = shape.map((n, k) => n * voxelSize[k]!) as Vector;
  const radius = Math.hypot(...extent) / 2;
  const position: Vector = chance(0.5) ? [0, 0, 0] : (extent.map(() => rng.uniform(-3, 3) * radius) as Vector);

  const rows = kind === "parallelAxis" ? shape[0] : count();
  const columns = count();
  // A pixel is about a voxel, or the detector is narrower or wider than the volume's shadow.
  const pitch = (across: number, pixels: number, voxel: number) =>
    chance(0.5) ? voxel * 2 ** rng.uniform(-1, 1) : (across * rng.uniform(0.4, 1.6)) / pixels;
  const width = pitch(Math.hypot(extent[1], extent[2]), columns, voxelSize[2]) * pick([1, -1]);
  const anyHeight = pitch(extent[0], rows, voxelSize[0]) * pick([1, -1]);
  const height = kind === "parallelAxis" ? voxelSize[0] : anyHeight;
  const rayLength = pick([1, 1, unit, rng.uniform(0.1, 10)]);

  const views = rng.integer(1, maxViews);
  const angles = pick([
    () => Array.from({ length: views }, (_, k) => (k * Math.PI) / views),
    () => Array.from({ length: views }, (_, k) => (k * 2 * Math.PI) / views),
    () => Array.from({ length: views }, () => (rng.integer(0, 4) * Math.PI) / 4),
    () => Array.from({ length: views }, () => (chance(0.3) ? Math.PI / 4 : rng.uniform(-Math.PI, 2 * Math.PI))),
  ])();

  /** Ray and u in the xy plane. Odd multiples of 45 degrees get equal components: a tie of x and y that is exact. */
  const planar = (angle: number): [Vector, Vector] => {
    const eighths = angle / (Math.PI / 4);
    const diagonal = Math.abs(eighths - Math.round(eighths)) < 1e-9 && Math.round(eighths) % 2 !== 0;
    const component = (value: number) => (diagonal ? Math.sign(value) * Math.SQRT1_2 : value);
    const [cosine, sine] = [component(Math.cos(angle)), component(Math.sin(angle))];
    return [
      [0, cosine, sine],
      [0, -sine, cosine],
    ];
  };
  const anyDirection = (): Vector => {
    const axes: Vector = [rng.integer(-1, 1), rng.integer(-1, 1), rng.integer(-1, 1)];
    return chance(0.3) && Math.hypot(...axes) > 0 ? axes : unitVector([rng.normal(), rng.normal(), rng.normal()]);
  };
  /** v and u of a detector that faces `ray` with any roll, then tilted and skewed. */
  const facing = (ray: Vector): [Vector, Vector] => {
    const u = unitVector(cross(ray, [rng.normal(), rng.normal(), rng.normal()]));
    const v = unitVector(cross(u, ray));
    const bent = (a: Vector) => plus(a, [sometimes(0.3), sometimes(0.3), sometimes(0.3)]);
    return [times(bent(v), height * rng.uniform(0.8, 1.25)), times(bent(u), width * rng.uniform(0.8, 1.25))];
  };

  // What all views of one geometry share.
  const skew = sometimes(0.4);
  const [shiftU, shiftV, axisShift] = [sometimes(3 * width), sometimes(3 * height), sometimes(0.2 * radius)];
  const [sourceDistance, detectorDistance] = [radius * rng.uniform(1.9, 4), radius * rng.uniform(0, 3)];
  const helix = sometimes(extent[0] / views);

  /** One view: ray direction or source, detector centre, v, u. */
  const draw: Record<GeometryKind, (angle: number, view: number) => [Vector, Vector, Vector, Vector]> = {
    parallelAxis(angle) {
      const [[ray, across], u] = [planar(angle), planar(angle + skew)[1]];
      const centre = plus(plus(position, ray, radius * rng.uniform(-2, 2)), across, shiftU);
      return [times(ray, rayLength), [position[0], centre[1], centre[2]], [height, 0, 0], times(u, width)];
    },
    parallelRows(angle, view) {
      const [ray, centre, v, u] = draw.parallelAxis(angle, view);
      return [ray, plus(centre, [shiftV + sometimes(2 * height), 0, 0]), v, u];
    },
    parallelVectors() {
      const ray = anyDirection();
      const [v, u] = facing(ray);
      const centre = plus(plus(position, ray, radius * rng.uniform(-2, 2)), u, sometimes(3));
      return [times(ray, rayLength), plus(centre, v, sometimes(3)), v, u];
    },
    coneCircular(angle) {
      const [ray, across] = planar(angle);
      const axis = plus(position, [0, axisShift, axisShift / 2]);
      const magnification = 1 + detectorDistance / sourceDistance;
      const centre = plus(plus(axis, ray, detectorDistance), across, shiftU);
      return [
        plus(axis, ray, -sourceDistance),
        plus(centre, [shiftV, 0, 0]),
        [height * magnification, 0, 0],
        times(across, width * magnification),
      ];
    },
    coneUpright(angle, view) {
      const [ray, u] = [planar(angle)[0], planar(angle + sometimes(0.4))[1]];
      const [nearer, farther] = [radius * rng.uniform(1.6, 4), radius * rng.uniform(0, 3)];
      const level = plus(position, [helix * (view - (views - 1) / 2), 0, 0]);
      const source = plus(plus(level, ray, -nearer), [sometimes(0.5 * radius), 0, 0]);
      const centre = plus(plus(level, ray, farther), [sometimes(0.5 * radius), sometimes(radius / 4), 0]);
      const magnification = 1 + farther / nearer;
      return [source, centre, [height * magnification, 0, 0], times(u, width * magnification)];
    },
    coneVectors() {
      const ray = unitVector(anyDirection());
      const [v, u] = facing(ray);
      const [nearer, farther] = [radius * rng.uniform(1.6, 4), radius * rng.uniform(0, 3)];
      const centre = plus(plus(plus(position, ray, farther), u, sometimes(3)), v, sometimes(3));
      return [plus(position, ray, -nearer), centre, times(v, 1 + farther / nearer), times(u, 1 + farther / nearer)];
    },
    coneCurvedUpright: (angle, view) => draw.coneUpright(angle, view),
    coneCurvedVectors() {
      const [source, centre, v, u] = draw.coneVectors(0, 0);
      const square =
        u.reduce((sum, value, k) => sum + value * v[k]!, 0) / u.reduce((sum, value) => sum + value ** 2, 0);
      return [source, centre, plus(v, u, -square), u];
    },
  };

  const g: ModelGeometry = {
    kind: kind.startsWith("cone") ? "cone" : "parallel",
    shape,
    voxelSize,
    position,
    detectorShape: [rows, columns],
    vectors: [],
    detectorSupersampling: options.detectorSupersampling ?? rng.integer(1, 3),
  };
  const drawn = angles.map((angle, view) => {
    let vectors = draw[kind](angle, view);
    for (let turn = 0.01; nearTie({ ...g, vectors: vectors.flat() }); turn += 0.01) {
      vectors = draw[kind](angle + turn, view);
    }
    return vectors;
  });
  if (kind.startsWith("coneCurved"))
    g.curvatureRadii = drawn.map(([source, centre]) => {
      const distance = Math.hypot(...plus(source, centre, -1));
      return kind === "coneCurvedVectors" && chance(0.2) ? 0 : distance * pick([1, 0.6, rng.uniform(0.5, 4)]);
    });
  while (g.kind === "cone" && !fanIsNarrow({ ...g, vectors: drawn.flat(2) })) {
    for (const vectors of drawn) {
      vectors[2] = times(vectors[2], 0.7);
      vectors[3] = times(vectors[3], 0.7);
    }
  }
  return { ...g, vectors: Float64Array.from(drawn.flat(2)) };
}

/** Whether rounding could choose another main axis for the one view of `g`: two axes that tie, but not exactly. */
function nearTie(g: ModelGeometry): boolean {
  const [origin, centre] = viewVectors(g, 0);
  const exactIsSafe = g.kind === "parallel" || g.position.every((value) => value === 0);
  const crossed = origin.map((value, k) =>
    Math.abs((g.kind === "parallel" ? value : value - centre[k]!) / g.voxelSize[k]!),
  );
  const most = crossed[mainAxis(g, 0)]!;
  return crossed.some(
    (value, k) => k !== mainAxis(g, 0) && most - value < 1e-6 * most && !(value === most && exactIsSafe),
  );
}

/**
 * Whether every ray of a cone keeps a fair part along its view's main axis, in voxels: no weight grows past 4. A curved
 * detector covers less than 2.4 radians, and the source is at least a tenth of the radius above all its tangents.
 */
function fanIsNarrow(g: ModelGeometry): boolean {
  return Array.from({ length: viewCount(g) }, (_, view) => view).every((view) => {
    const [source, , , u] = viewVectors(g, view);
    const [main, [rows, columns]] = [mainAxis(g, view), g.detectorShape];
    const point = (j: number, i: number) => detectorPoint(g, view, (j * rows) / 2, (i * columns) / 2);
    const ray = (j: number, i: number) => source.map((s, k) => (point(j, i)[k]! - s) / g.voxelSize[k]!);
    const radius = g.curvatureRadii?.[view] ?? 0;
    if (radius > 0) {
      if (columns * Math.hypot(...u) > 2.4 * radius) return false;
      for (let i = -1; i <= 1; i += 0.25) {
        // From the axis to the detector, radially: a quarter turn further on is where its points go as i rises.
        const [before, at, after] = [point(0, i - 1e-3), point(0, i), point(0, i + 1e-3)];
        const inwards = [0, 1, 2].map((k) => before[k]! + after[k]! - 2 * at[k]!);
        const above =
          inwards.reduce((sum, value, k) => sum + value * (source[k]! - at[k]!), 0) / Math.hypot(...inwards);
        if (above < 0.1 * radius) return false;
      }
    }
    const along = Math.sign(ray(0, 0)[main]!);
    const corners = [ray(-1, -1), ray(-1, 1), ray(1, -1), ray(1, 1)];
    const longest = Math.max(...corners.map((corner) => Math.hypot(...corner)));
    return corners.every((corner) => corner[main]! * along >= longest / 4);
  });
}
