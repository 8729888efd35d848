import { checkOptions } from "../options.ts";
import { Beam, type View } from "./beam.ts";
import {
  type AtMostOneOf,
  angleList,
  broadcast,
  count,
  counts,
  numbers,
  type OneOf,
  positive,
  refuse,
  spacing,
  type Vectors,
  vectors,
  vuAxes,
} from "./check.ts";
import { shiftDetector } from "./curved.ts";
import type { VU, ZYX } from "./vector.ts";

/**
 * `detectorShape` counts pixels, [rows, columns]. `detectorSize` is the total [height, width], `pixelSize` the size of
 * one pixel, each [v, u] or a number for both; without either a pixel has size 1. `detectorOffset` [v, u] shifts the
 * detector's centre along +v (up) and +u (sideways), in length units (default [0, 0]).
 *
 * To correct the centre of rotation: if the rotation axis is seen at column c (pixel centres are whole numbers, the
 * first is 0), the offset along u is ((columns - 1) / 2 - c) * pixelWidth.
 */
type Detector = { readonly detectorShape: VU; readonly detectorOffset?: VU } & AtMostOneOf<{
  detectorSize: number | VU;
  pixelSize: number | VU;
}>;

/**
 * A detector of one row of `detectorCount` pixels, for one slice. `detectorSize` is its total width, `pixelSize` the
 * width of one pixel; without either a pixel has width 1. `detectorOffset` shifts the detector along +u. The row is
 * of height 1, at z = 0.
 */
type DetectorRow = { readonly detectorCount: number; readonly detectorOffset?: number } & AtMostOneOf<{
  detectorSize: number;
  pixelSize: number;
}>;

/** `angleCount` equal steps over the whole arc, its end excluded, or the `angles` themselves, in radians. */
type Angles = OneOf<{ angleCount: number; angles: readonly number[] | Float64Array }>;

type Distances = { readonly sourceOriginDistance: number; readonly sourceDetectorDistance: number };

export type ParallelBeamOptions = Angles &
  ((Detector & { readonly detectorCount?: never }) | (DetectorRow & { readonly detectorShape?: never }));

/**
 * `detectorCurvatureRadius` bends the detector to a cylinder, see `View`; 0, the default, leaves it flat. On a curved
 * detector widths, and the offset along u, are measured along the arc.
 */
type Curvature = { readonly detectorCurvatureRadius?: number };

export type ConeBeamOptions = Angles & Detector & Distances & Curvature;

export type FanBeamOptions = Angles & DetectorRow & Distances & Curvature;

type DetectorVectors = {
  readonly detectorShape: VU;
  readonly detectorCentres: Vectors;
  readonly detectorV: Vectors;
  readonly detectorU: Vectors;
};

export type ParallelBeamVectorsOptions = DetectorVectors & { readonly rayDirections: Vectors };

export type ConeBeamVectorsOptions = DetectorVectors & {
  readonly sourcePositions: Vectors;
  readonly detectorCurvatureRadius?: number | readonly number[] | Float64Array;
};

/**
 * A parallel beam that turns about the z axis; `angleCount` spreads over [0, pi). At angle t, in (z, y, x) and ASTRA's
 * convention, the rays run along (0, -cos t, sin t), the columns along (0, sin t, cos t) and the rows along (1, 0, 0);
 * without offset the detector is centred at the origin, and for a parallel beam its distance means nothing.
 *
 * For one slice `detectorCount` pixels take the place of `detectorShape`, as in `fanBeam`.
 *
 * Throws a RaysumError ("argument") for counts that are not positive integers, sizes that are not positive, numbers
 * that are not finite, no angles, unknown options, and options that contradict each other.
 */
export function parallelBeam(options: ParallelBeamOptions): Beam {
  checkOptions("parallelBeam", options, ["detectorShape", "detectorCount", ...circularOptions]);
  return circular("parallel", options, Math.PI, 1, 0);
}

/**
 * A cone beam whose source and detector turn about the z axis; `angleCount` spreads over [0, 2 pi). At angle t, in
 * (z, y, x) and ASTRA's convention, the source is at sourceOriginDistance (0, -cos t, sin t), and the detector across
 * from it, sourceDetectorDistance away; columns run along (0, sin t, cos t) and rows along (1, 0, 0). The detector may
 * stand behind the axis, on it (equal distances: sizes are then those at the axis), or before it.
 *
 * Throws a RaysumError ("argument") as `parallelBeam` does, for distances that are not positive, and for a curved detector
 * that covers half a circle or more or whose inner side the source does not see.
 */
export function coneBeam(options: ConeBeamOptions): Beam {
  checkOptions("coneBeam", options, ["detectorShape", ...circularOptions, ...coneOptions]);
  return cone(options);
}

/**
 * A fan beam: the cone beam of one slice, whose detector is one row of `detectorCount` pixels in the plane z = 0. Angles,
 * distances and errors are those of `coneBeam`; sizes and the offset are numbers along the row.
 */
export function fanBeam(options: FanBeamOptions): Beam {
  checkOptions("fanBeam", options, ["detectorCount", ...circularOptions, ...coneOptions]);
  return cone({ ...options, detectorCount: count("detectorCount", options.detectorCount) });
}

/**
 * A parallel beam from its vectors: `rayDirections` (length and sign mean nothing), `detectorCentres`, and the steps from
 * row to row (`detectorV`) and from column to column (`detectorU`). Each is one [z, y, x] or one for every view, as a
 * list or a Float64Array.
 *
 * Throws a RaysumError ("argument") for numbers that are not finite, counts that differ (and are not 1), vectors of
 * length zero, u parallel to v, rays in the plane of the detector, and unknown options.
 */
export function parallelBeamVectors(options: ParallelBeamVectorsOptions): Beam {
  checkOptions("parallelBeamVectors", options, [...vectorOptions, "rayDirections"]);
  const { rayDirections, ...detector } = options;
  return arbitrary("parallel", "rayDirections", rayDirections, detector);
}

/**
 * A cone beam from its vectors: as `parallelBeamVectors`, with the positions of the source, off the detector's plane.
 * `detectorCurvatureRadius`, one number or one for every view, bends detectors to cylinders, see `View`; 0, the default,
 * leaves them flat. Their u and v must be perpendicular.
 */
export function coneBeamVectors(options: ConeBeamVectorsOptions): Beam {
  checkOptions("coneBeamVectors", options, [...vectorOptions, "sourcePositions"]);
  const { sourcePositions, ...detector } = options;
  return arbitrary("cone", "sourcePositions", sourcePositions, detector);
}

const circularOptions = ["detectorSize", "pixelSize", "detectorOffset", "angleCount", "angles"];
const coneOptions = ["sourceOriginDistance", "sourceDetectorDistance", "detectorCurvatureRadius"];

const vectorOptions = ["detectorShape", "detectorCentres", "detectorV", "detectorU", "detectorCurvatureRadius"];

function cone(options: ConeBeamOptions | FanBeamOptions): Beam {
  const toOrigin = positive("sourceOriginDistance", options.sourceOriginDistance);
  const toDetector = positive("sourceDetectorDistance", options.sourceDetectorDistance);
  return circular("cone", options, 2 * Math.PI, toOrigin, toDetector - toOrigin);
}

/** The shape of a detector, the size of its pixels and its offset, [v, u], in either form. */
function detectorOf(options: Detector | DetectorRow): readonly [shape: VU, pixel: VU, offset: VU] {
  const sizes = [
    ["detectorSize", options.detectorSize],
    ["pixelSize", options.pixelSize],
  ] as const;
  const { detectorShape, detectorCount }: { detectorShape?: VU; detectorCount?: number } = options;
  const { detectorOffset } = options;
  if (detectorCount === undefined) {
    const shape = counts("detectorShape", detectorShape, ["rows", "columns"]);
    const offset = numbers("detectorOffset", detectorOffset === undefined ? [0, 0] : detectorOffset, vuAxes);
    return [shape, spacing(shape, ...sizes, vuAxes), offset];
  }
  if (detectorShape !== undefined)
    refuse("detectorShape and detectorCount", [detectorShape, detectorCount], "give one of the two");
  const columns = count("detectorCount", detectorCount);
  const [width] = spacing([columns], ...sizes, ["u"]);
  const side = detectorOffset === undefined ? 0 : detectorOffset;
  if (!Number.isFinite(side)) refuse("detectorOffset", side, "expected one finite number, along u");
  return [
    [1, columns],
    [1, width],
    [0, side as number],
  ];
}

function circular(
  kind: "parallel" | "cone",
  options: Angles & (Detector | DetectorRow) & Curvature,
  arc: number,
  sourceDistance: number,
  detectorDistance: number,
): Beam {
  const [detectorShape, pixel, [up, side]] = detectorOf(options);
  const { detectorCurvatureRadius = 0 } = options;
  const views = anglesOf(options, arc).map((angle) => {
    const [sin, cos] = [Math.sin(angle), Math.cos(angle)];
    const view: View = {
      source: [0, -sourceDistance * cos, sourceDistance * sin],
      centre: [0, detectorDistance * cos, -detectorDistance * sin],
      v: [pixel[0], 0, 0],
      u: [0, pixel[1] * sin, pixel[1] * cos],
      ...bent(detectorCurvatureRadius),
    };
    return shiftDetector(view, up / pixel[0], side / pixel[1]);
  });
  return new Beam(kind, detectorShape, views);
}

function anglesOf({ angleCount, angles }: Angles, arc: number): number[] {
  if ((angleCount === undefined) === (angles === undefined))
    refuse("angleCount and angles", [angleCount, angles], "give one of the two");
  if (angles !== undefined) return angleList("angles", angles);
  const length = count("angleCount", angleCount);
  return Array.from({ length }, (_, i) => (arc * i) / length);
}

/** What a view of this radius has beside a flat one. The beam checks the radius. */
function bent(radius: number): { readonly curvatureRadius?: number } {
  return radius === 0 ? {} : { curvatureRadius: radius };
}

function arbitrary(
  kind: "parallel" | "cone",
  sourceName: string,
  sources: Vectors,
  detector: DetectorVectors & Pick<ConeBeamVectorsOptions, "detectorCurvatureRadius">,
): Beam {
  const { detectorCurvatureRadius: radius = 0 } = detector;
  const lists = {
    detectorCurvatureRadius: Array.isArray(radius) || radius instanceof Float64Array ? Array.from(radius) : [radius],
    [sourceName]: vectors(sourceName, sources),
    detectorCentres: vectors("detectorCentres", detector.detectorCentres),
    detectorV: vectors("detectorV", detector.detectorV),
    detectorU: vectors("detectorU", detector.detectorU),
  };
  const views = broadcast(lists).map((view) => ({
    source: view[sourceName] as ZYX,
    centre: view.detectorCentres,
    v: view.detectorV,
    u: view.detectorU,
    ...bent(view.detectorCurvatureRadius),
  }));
  return new Beam(kind, counts("detectorShape", detector.detectorShape, ["rows", "columns"]), views);
}
