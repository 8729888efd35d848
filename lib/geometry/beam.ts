import { checkOptions } from "../options.ts";
import { bounds, broadcast, count, fail, type IndexRange, numbers, refuse, zyxAxes } from "./check.ts";
import { bendViews, checkCurvature, detectorPoint, meetCylinder, shiftDetector } from "./curved.ts";
import { checkTransform, type Transform } from "./transform.ts";
import { add, cross, dot, multiply, norm, subtract, type VU, type ZYX } from "./vector.ts";

/**
 * One view. `source` is the position of the point source (cone), or the direction of the rays (parallel): the source
 * infinitely far away. `centre` is the centre of the detector, `v` the step from one row to the next, its length the
 * height of a pixel, and `u` the step from one column to the next, its length the width.
 *
 * With a `curvatureRadius` R above 0 (cone beams only) the detector is curved: part of a cylinder of that radius which
 * touches the plane of u and v in the detector's centre. Its axis is parallel to v and on the side of the source; columns
 * are |u| apart along the arc. With the unit vectors e along u and n from the centre to the axis, a pixel i columns and
 * j rows from the centre is at centre + j v + R sin(i |u| / R) e + R (1 - cos(i |u| / R)) n. That is ASTRA's
 * `cyl_cone_vec`; with R = |source - centre| it is the equiangular detector of medical scanners (A. C. Kak and M. Slaney,
 * Principles of Computerized Tomographic Imaging, 1988, section 3.4).
 */
export type View = {
  readonly source: ZYX;
  readonly centre: ZYX;
  readonly v: ZYX;
  readonly u: ZYX;
  readonly curvatureRadius?: number;
};

/** Views to keep: their indexes, in any order; a mask with one boolean a view; or a range, of which every `step`-th. */
export type ViewSelection = readonly number[] | readonly boolean[] | (IndexRange & { readonly step?: number });

/** Below this sine of an angle two directions count as parallel: rounding alone reaches some 1e-16. */
const PARALLEL = 1e-12;

/**
 * The rays of a scan: for each view a source (or a ray direction) and a detector, all in (z, y, x). Frozen; its getters
 * return fresh lists, one entry a view. Pixel [i, j] of a flat detector of [rows, columns] pixels is centred at
 * `centre + (i + 1/2 - rows/2) v + (j + 1/2 - columns/2) u`; curved ones are explained at `View`. Made by `parallelBeam`, `coneBeam`, `parallelBeamVectors`
 * and `coneBeamVectors`: whichever way it came about, a beam is its vectors, and beams of equal vectors are equal.
 */
export class Beam {
  readonly kind: "parallel" | "cone";
  /** Pixel counts [rows, columns]. */
  readonly detectorShape: VU;
  readonly viewCount: number;
  readonly #views: readonly View[];

  /** The numbers were checked by the caller; here the geometry is: no view may be degenerate. */
  constructor(kind: "parallel" | "cone", detectorShape: VU, views: readonly View[]) {
    for (const [i, view] of views.entries()) {
      checkView(kind, view, i);
      checkCurvature(kind, view, detectorShape[1], i);
      for (const vector of Object.values(Object.freeze(view))) Object.freeze(vector);
    }
    this.kind = kind;
    this.detectorShape = Object.freeze(detectorShape);
    this.viewCount = views.length;
    this.#views = Object.freeze(views);
    Object.freeze(this);
  }

  /** The views as they are stored: frozen, so not copied. */
  get views(): readonly View[] {
    return this.#views;
  }

  /** All vectors, 12 numbers a view: ray direction or source position, detector centre, v, u. A copy at every call. */
  get vectors(): Float64Array {
    return Float64Array.from(this.#views.flatMap(({ source, centre, v, u }) => [...source, ...centre, ...v, ...u]));
  }

  /** The direction of the rays, of any length and either sign. Throws a RaysumError ("argument") on a cone beam. */
  get rayDirections(): ZYX[] {
    if (this.kind !== "parallel") fail("a cone beam has no rayDirections: its rays start at sourcePositions");
    return this.#views.map(({ source }) => source);
  }

  /** The position of the point source. Throws a RaysumError ("argument") on a parallel beam. */
  get sourcePositions(): ZYX[] {
    if (this.kind !== "cone") fail("a parallel beam has no sourcePositions: its rays run along rayDirections");
    return this.#views.map(({ source }) => source);
  }

  get detectorCentres(): ZYX[] {
    return this.#views.map(({ centre }) => centre);
  }

  /** One row up; the length is the height of a pixel. */
  get detectorV(): ZYX[] {
    return this.#views.map(({ v }) => v);
  }

  /** One column sideways; the length is the width of a pixel. */
  get detectorU(): ZYX[] {
    return this.#views.map(({ u }) => u);
  }

  /** The radius of the cylinder that the detector is part of; 0: it is flat. */
  get detectorCurvatureRadii(): number[] {
    return this.#views.map(({ curvatureRadius = 0 }) => curvatureRadius);
  }

  /** Normal to the detector in its centre; the length is the area of a pixel. For circular cone beams it points away from the source. */
  get detectorNormals(): ZYX[] {
    return this.#views.map(({ v, u }) => cross(u, v));
  }

  /** The outer corners of the detector, for each view in the order (-u -v), (-u +v), (+u -v), (+u +v). */
  corners(): [ZYX, ZYX, ZYX, ZYX][] {
    const [rows, columns] = this.detectorShape;
    return this.#views.map((view) => {
      const corner = (up: number, side: number) => detectorPoint(view, (up * rows) / 2, (side * columns) / 2);
      return [corner(-1, -1), corner(1, -1), corner(-1, 1), corner(1, 1)];
    });
  }

  /**
   * Where the line of the ray through `point` ([z, y, x], length units) meets the plane of the detector, for each view
   * as [v, u] in pixels from the detector's centre. It is the whole line: a point behind the source counts too. NaN
   * where that line is parallel to the plane, or where the point is the source. A curved detector stands for its
   * cylinder, which the line meets where it leaves it in the direction of the detector, or nowhere: then NaN.
   */
  projectPoint(point: ZYX): VU[] {
    const target = numbers("point", point, zyxAxes);
    return this.#views.map((view) => {
      const { source, centre, v, u } = view;
      const normal = cross(u, v);
      const ray = this.kind === "cone" ? subtract(target, source) : source;
      // Near the source the length of `ray` is no measure of its rounding error, the distances here are.
      const reach = this.kind === "cone" ? Math.max(norm(ray), norm(subtract(centre, source))) : norm(ray);
      const approach = dot(normal, ray);
      if (Math.abs(approach) <= PARALLEL * norm(normal) * reach) return [Number.NaN, Number.NaN];
      if (view.curvatureRadius) return meetCylinder(view, ray);
      const hit = add(subtract(target, centre), multiply(ray, dot(normal, subtract(centre, target)) / approach));
      // hit = a v + b u, so cross(u, hit) = a normal and cross(hit, v) = b normal.
      const area = dot(normal, normal);
      return [dot(normal, cross(u, hit)) / area, dot(normal, cross(hit, v)) / area];
    });
  }

  /**
   * The beam of some views (default: all) and of a window of detector rows and columns (default: all), in which every
   * pixel stays where it is. Throws a RaysumError ("argument") for a selection that is empty, reaches outside, or has a
   * step that is not a positive integer.
   */
  select(selection: {
    readonly views?: ViewSelection;
    readonly rows?: IndexRange;
    readonly columns?: IndexRange;
  }): Beam {
    checkOptions("select", selection, ["views", "rows", "columns"]);
    const [rows, columns] = this.detectorShape;
    const [row, rowStop] = bounds("rows", selection.rows, rows);
    const [column, columnStop] = bounds("columns", selection.columns, columns);
    const [up, side] = [(row + rowStop - rows) / 2, (column + columnStop - columns) / 2];
    const views = viewIndexes(selection.views, this.viewCount).map((i) => shiftDetector(this.#views[i]!, up, side));
    return new Beam(this.kind, [rowStop - row, columnStop - column], views);
  }

  /**
   * The beam of larger pixels, each `rows` by `columns` (default 1) of these, on the same detector. Throws a
   * RaysumError ("argument") unless the factors are positive integers that divide the detector's shape: crop first.
   */
  bin(factors: { readonly rows?: number; readonly columns?: number }): Beam {
    checkOptions("bin", factors, ["rows", "columns"]);
    const { rows = 1, columns = 1 } = factors;
    const shape: VU = [this.detectorShape[0] / count("rows", rows), this.detectorShape[1] / count("columns", columns)];
    if (!Number.isInteger(shape[0]))
      refuse("rows", rows, `must divide the ${this.detectorShape[0]} rows of the detector`);
    if (!Number.isInteger(shape[1]))
      refuse("columns", columns, `must divide the ${this.detectorShape[1]} columns of the detector`);
    return new Beam(
      this.kind,
      shape,
      this.#views.map((view) => ({ ...view, v: multiply(view.v, rows), u: multiply(view.u, columns) })),
    );
  }

  /**
   * The beam moved by `transform`: source, detector and pixels. The counts of views and steps must be equal or one of
   * them 1: one view and n steps make a beam of n views. Throws a RaysumError ("argument") otherwise, and where scaling
   * makes the circular cylinder of a curved detector an elliptic one.
   */
  transform(transform: Transform): Beam {
    checkTransform("transform", transform);
    const source =
      this.kind === "cone"
        ? transform.applyToPoint(this.sourcePositions)
        : transform.applyToDirection(this.rayDirections);
    const centre = transform.applyToPoint(this.detectorCentres);
    const v = transform.applyToDirection(this.detectorV);
    const u = transform.applyToDirection(this.detectorU);
    const views = broadcast({ source, centre, v, u });
    const move = (directions: ZYX[]) => transform.applyToDirection(directions);
    return new Beam(this.kind, this.detectorShape, bendViews(views, this.#views, move));
  }

  /** What JSON.stringify writes: plain data that `geometryFromJson` reads back, number for number. */
  toJSON(): { readonly kind: "parallel" | "cone"; readonly detectorShape: VU; readonly views: readonly View[] } {
    return { kind: this.kind, detectorShape: this.detectorShape, views: this.#views };
  }

  /** Whether `other` is a beam of the same kind, counts and, within `tolerance`, the same vectors and radii. Never throws. */
  equals(other: unknown, tolerance = 1e-8): boolean {
    if (!(other instanceof Beam) || other.kind !== this.kind || other.viewCount !== this.viewCount) return false;
    if (other.detectorShape.some((n, axis) => n !== this.detectorShape[axis])) return false;
    const all = (beam: Beam) => [...beam.vectors, ...beam.detectorCurvatureRadii];
    const numbers = all(other);
    return all(this).every((value, i) => Math.abs(value - numbers[i]!) <= tolerance);
  }
}

/**
 * The views of all these beams, one beam after the other. Throws a RaysumError ("argument") for an empty list, and for
 * beams of different kinds or detector shapes.
 */
export function concatenate(beams: readonly Beam[]): Beam {
  if (!Array.isArray(beams)) refuse("beams", beams, "expected a list of beams");
  for (const [i, beam] of beams.entries()) if (!(beam instanceof Beam)) refuse(`beams[${i}]`, beam, "expected a beam");
  const first = beams[0] ?? fail("beams []: expected one or more beams to concatenate");
  const describe = ({ kind, detectorShape }: Beam) => `${kind} [${detectorShape.join(", ")}]`;
  for (const beam of beams)
    if (describe(beam) !== describe(first))
      fail(`beams ${describe(first)} and ${describe(beam)}: the kinds and the detector shapes must be the same`);
  return new Beam(
    first.kind,
    first.detectorShape,
    beams.flatMap((beam) => beam.views),
  );
}

function checkView(kind: "parallel" | "cone", { source, centre, v, u }: View, i: number): void {
  const sourceName = kind === "cone" ? `sourcePositions[${i}]` : `rayDirections[${i}]`;
  const nonZero = {
    [`detectorV[${i}]`]: v,
    [`detectorU[${i}]`]: u,
    ...(kind === "parallel" && { [sourceName]: source }),
  };
  for (const [name, vector] of Object.entries(nonZero))
    if (norm(vector) === 0) refuse(name, vector, "expected a direction, its length must not be zero");
  // The negated forms refuse NaN too, which comes of numbers too large for a cross product.
  const normal = cross(u, v);
  if (!(norm(normal) > PARALLEL * norm(u) * norm(v)))
    refuse(`detectorU[${i}]`, u, `must not be parallel to detectorV [${v.join(", ")}]`);
  const ray = kind === "cone" ? subtract(centre, source) : source;
  if (!(Math.abs(dot(normal, ray)) > PARALLEL * norm(normal) * norm(ray)))
    refuse(
      sourceName,
      source,
      kind === "cone" ? "must not lie in the plane of the detector" : "must not run in the plane of the detector",
    );
}

function viewIndexes(views: ViewSelection | undefined, viewCount: number): number[] {
  const all = Array.from({ length: viewCount }, (_, i) => i);
  if (!Array.isArray(views)) {
    const range = views as Exclude<ViewSelection, readonly unknown[]> | undefined;
    const [start, stop] = bounds("views", range, viewCount, ["start", "stop", "step"]);
    const { step = 1 } = range ?? {};
    count("step of views", step);
    return all.slice(start, stop).filter((i) => (i - start) % step === 0);
  }
  const isMask = views.length === viewCount && views.every((entry) => typeof entry === "boolean");
  const indexes = isMask ? all.filter((i) => views[i]) : views;
  if (indexes.length === 0 || !indexes.every((i) => Number.isInteger(i) && i >= 0 && i < viewCount))
    refuse(
      "views",
      views,
      `expected indexes from 0 to ${viewCount - 1}, or ${viewCount} booleans, and one view at least`,
    );
  return indexes;
}
