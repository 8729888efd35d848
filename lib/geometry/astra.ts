import { Beam, type View } from "./beam.ts";
import { angleList, count, fail, listOf, numbers, positive, record, refuse } from "./check.ts";
import { coneBeam, parallelBeam } from "./trajectory.ts";
import { reflect } from "./transform.ts";
import type { VU, ZYX } from "./vector.ts";
import { Volume, volume } from "./volume.ts";

/** ASTRA's volume dictionary, as `astra.create_vol_geom` makes it. One without GridSliceCount is two-dimensional. */
export type AstraVolumeGeometry = {
  readonly GridRowCount: number;
  readonly GridColCount: number;
  readonly GridSliceCount?: number;
  readonly option: {
    readonly WindowMinX: number;
    readonly WindowMaxX: number;
    readonly WindowMinY: number;
    readonly WindowMaxY: number;
    readonly WindowMinZ?: number;
    readonly WindowMaxZ?: number;
  };
};

type Angles = { readonly ProjectionAngles: readonly number[] };
type Distances = { readonly DistanceOriginSource: number; readonly DistanceOriginDetector: number };
type Vectors = { readonly Vectors: readonly (readonly number[])[] };
type Detector2d = { readonly DetectorCount: number };
type Detector3d = { readonly DetectorRowCount: number; readonly DetectorColCount: number };
type Width = { readonly DetectorWidth: number };
type Spacing = { readonly DetectorSpacingX: number; readonly DetectorSpacingY: number };

/**
 * ASTRA's projection dictionary, as `astra.create_proj_geom` makes it. A row of Vectors holds 12 numbers, in 2D 6; a
 * curved detector has its radius as the 13th.
 */
export type AstraProjectionGeometry =
  | ({ readonly type: "parallel3d" } & Detector3d & Spacing & Angles)
  | ({ readonly type: "cone" } & Detector3d & Spacing & Angles & Distances)
  | ({ readonly type: "parallel3d_vec" | "cone_vec" | "cyl_cone_vec" } & Detector3d & Vectors)
  | ({ readonly type: "parallel" } & Detector2d & Width & Angles)
  | ({ readonly type: "fanflat" } & Detector2d & Width & Angles & Distances)
  | ({ readonly type: "parallel_vec" | "fanflat_vec" } & Detector2d & Vectors);

/** The two dictionaries of an ASTRA projector, `vol_geom` and `proj_geom`. */
export type AstraGeometry = {
  readonly volumeGeometry: AstraVolumeGeometry;
  readonly projectionGeometry: AstraProjectionGeometry;
};

const detector2d = ["type", "DetectorCount"];
const detector3d = ["type", "DetectorRowCount", "DetectorColCount"];
const circle2d = [...detector2d, "DetectorWidth", "ProjectionAngles"];
const circle3d = [...detector3d, "DetectorSpacingX", "DetectorSpacingY", "ProjectionAngles"];
const distances = ["DistanceOriginSource", "DistanceOriginDetector"];

/** What each type is, and all of its fields. */
const forms = {
  parallel3d: { kind: "parallel", dimensions: 3, fields: circle3d },
  parallel3d_vec: { kind: "parallel", dimensions: 3, fields: [...detector3d, "Vectors"] },
  cone: { kind: "cone", dimensions: 3, fields: [...circle3d, ...distances] },
  cone_vec: { kind: "cone", dimensions: 3, fields: [...detector3d, "Vectors"] },
  cyl_cone_vec: { kind: "cone", dimensions: 3, fields: [...detector3d, "Vectors"] },
  parallel: { kind: "parallel", dimensions: 2, fields: circle2d },
  parallel_vec: { kind: "parallel", dimensions: 2, fields: [...detector2d, "Vectors"] },
  fanflat: { kind: "cone", dimensions: 2, fields: [...circle2d, ...distances] },
  fanflat_vec: { kind: "cone", dimensions: 2, fields: [...detector2d, "Vectors"] },
} as const;

/**
 * The volume and the beam of a pair of ASTRA's dictionaries, of any type with a detector, in 3D or 2D. ASTRA's (x, y, z)
 * become (z, y, x); its float64 numbers are kept, where ASTRA itself rounds those of a circular scan to float32. Arrays
 * mean the same on both sides: 3D volumes (z, y, x) and projections (row, angle, column); 2D volumes (y, x) and
 * sinograms (angle, column) are here of one slice and one detector row.
 *
 * Row 0 of ASTRA's 2D volume is the one of highest y, row 0 of a `Volume` that of lowest y. So that rows keep their
 * indexes, the whole 2D scene, window and beam, is mirrored in y: its point (x, y) is here at [0, -y, x]. Slice and
 * detector row are of height 1, at z = 0.
 *
 * Throws a RaysumError ("argument") for an unknown type, fields that are missing, unknown
 * or of the wrong type or length, windows whose limits are not in order, a 2D and a 3D dictionary together, and all that
 * `volume`, `parallelBeam`, `coneBeam`, `parallelBeamVectors` and `coneBeamVectors` refuse.
 */
export function fromAstra(dictionaries: AstraGeometry): { volume: Volume; beam: Beam } {
  const { volumeGeometry, projectionGeometry }: Partial<AstraGeometry> = dictionaries ?? {};
  const dimensions = volumeGeometry?.GridSliceCount === undefined ? 2 : 3;
  const volume = volumeFrom(volumeGeometry, dimensions);
  const type: unknown = projectionGeometry?.type;
  if (!isType(type)) refuse("type of projectionGeometry", type, `expected one of ${Object.keys(forms).join(", ")}`);
  const { fields, dimensions: beamDimensions } = forms[type];
  if (beamDimensions !== dimensions)
    fail(
      `type "${type}" of projectionGeometry is ${beamDimensions}D, and volumeGeometry is ${dimensions}D: ` +
        `it has ${dimensions === 2 ? "no" : "a"} GridSliceCount`,
    );
  const read = type.endsWith("_vec") ? beamFromVectors : beamOnCircle;
  const beam = read(type, record("projectionGeometry", projectionGeometry, fields));
  return { volume, beam: dimensions === 2 ? beam.transform(mirror()) : beam };
}

/**
 * ASTRA's dictionaries of a volume and a beam: plain data for JSON, the beam in the form of vectors
 * (`parallel3d_vec`, `cone_vec`, or `cyl_cone_vec` for curved detectors), which is exact in float64. With `dimensions: 2` they are the 2D ones (`parallel_vec` or
 * `fanflat_vec`), mirrored in y as in `fromAstra`; the heights of the slice and of the detector row, which mean nothing
 * there, are dropped.
 *
 * Throws a RaysumError ("argument") if some detectors are curved and others are not, and if 2D is asked for and there is
 * more than one slice or detector row, a curved detector, or anything outside the plane z = 0.
 */
export function toAstra(
  pair: { readonly volume: Volume; readonly beam: Beam },
  { dimensions = 3 }: { readonly dimensions?: 2 | 3 } = {},
): AstraGeometry {
  const { volume, beam }: Partial<typeof pair> = pair ?? {};
  if (!(volume instanceof Volume)) refuse("volume", volume, "expected a volume");
  if (!(beam instanceof Beam)) refuse("beam", beam, "expected a beam");
  if (dimensions !== 2 && dimensions !== 3) refuse("dimensions", dimensions, "expected 2 or 3");
  if (dimensions === 2) checkFlat(volume, beam);
  const [[minZ, maxZ], [minY, maxY], [minX, maxX]] = volume.extent;
  const [slices, rows, columns] = volume.shape;
  const grid = { GridRowCount: rows, GridColCount: columns };
  const windowX = { WindowMinX: minX, WindowMaxX: maxX };
  if (dimensions === 2)
    return {
      volumeGeometry: { ...grid, option: { ...windowX, WindowMinY: -maxY, WindowMaxY: -minY } },
      projectionGeometry: {
        type: beam.kind === "cone" ? "fanflat_vec" : "parallel_vec",
        DetectorCount: beam.detectorShape[1],
        Vectors: beam.transform(mirror()).views.map(({ source, centre, u }) => {
          return [source, centre, u].flatMap(([, y, x]) => [x, y]);
        }),
      },
    };
  const option = { ...windowX, WindowMinY: minY, WindowMaxY: maxY, WindowMinZ: minZ, WindowMaxZ: maxZ };
  const curved = beam.views.filter((view) => view.curvatureRadius).length;
  if (curved !== 0 && curved !== beam.viewCount)
    fail(
      `${curved} of ${beam.viewCount} detectors are curved: ASTRA's cyl_cone_vec has a radius above 0 for all of them`,
    );
  return {
    volumeGeometry: { ...grid, GridSliceCount: slices, option },
    projectionGeometry: {
      type: curved ? "cyl_cone_vec" : beam.kind === "cone" ? "cone_vec" : "parallel3d_vec",
      DetectorRowCount: beam.detectorShape[0],
      DetectorColCount: beam.detectorShape[1],
      Vectors: beam.views.map(({ source, centre, v, u, curvatureRadius }) => {
        const row = [source, centre, u, v].flatMap(([z, y, x]) => [x, y, z]);
        return curvatureRadius ? [...row, curvatureRadius] : row;
      }),
    },
  };
}

function isType(type: unknown): type is keyof typeof forms {
  return typeof type === "string" && Object.hasOwn(forms, type);
}

const Z: ZYX = [1, 0, 0];

/** Between the 2D world of ASTRA and ours, either way. */
const mirror = () => reflect({ axis: [0, 1, 0] });

function volumeFrom(dictionary: unknown, dimensions: 2 | 3): Volume {
  const slices = dimensions === 3 ? ["GridSliceCount"] : [];
  const grid = record("volumeGeometry", dictionary, ["GridRowCount", "GridColCount", ...slices, "option"]);
  const axes = dimensions === 3 ? ["X", "Y", "Z"] : ["X", "Y"];
  const limits = axes.flatMap((axis) => [`WindowMin${axis}`, `WindowMax${axis}`]);
  const option = record("option of volumeGeometry", grid["option"], limits);
  const side = (axis: "X" | "Y" | "Z") => {
    const name = `WindowMin${axis} and WindowMax${axis}`;
    const window = numbers(name, [option[`WindowMin${axis}`], option[`WindowMax${axis}`]], ["min", "max"]);
    if (!(window[0] < window[1])) refuse(name, window, "the maximum must be above the minimum");
    return window;
  };
  const [rows, columns] = [count("GridRowCount", grid["GridRowCount"]), count("GridColCount", grid["GridColCount"])];
  const [x, y] = [side("X"), side("Y")];
  if (dimensions === 2) return volume({ shape: [1, rows, columns], extent: [[-0.5, 0.5], [-y[1], -y[0]], x] });
  return volume({ shape: [count("GridSliceCount", grid["GridSliceCount"]), rows, columns], extent: [side("Z"), y, x] });
}

/** The beam in ASTRA's own world, not mirrored yet. */
function beamOnCircle(type: keyof typeof forms, fields: Record<string, unknown>): Beam {
  const { kind, dimensions } = forms[type];
  const read = (name: string) => positive(name, fields[name]);
  const options = {
    detectorShape: detectorShape(dimensions, fields),
    pixelSize:
      dimensions === 2
        ? ([1, read("DetectorWidth")] as const)
        : ([read("DetectorSpacingY"), read("DetectorSpacingX")] as const),
    angles: angleList("ProjectionAngles", fields["ProjectionAngles"]),
  };
  if (kind === "parallel") return parallelBeam(options);
  const toSource = read("DistanceOriginSource");
  const [toDetector] = numbers("DistanceOriginDetector", [fields["DistanceOriginDetector"]], ["distance"]);
  if (toSource + toDetector <= 0)
    refuse("DistanceOriginDetector", toDetector, `must be above -DistanceOriginSource, which is ${-toSource}`);
  return coneBeam({ ...options, sourceOriginDistance: toSource, sourceDetectorDistance: toSource + toDetector });
}

/** The beam in ASTRA's own world, not mirrored yet. */
function beamFromVectors(type: keyof typeof forms, fields: Record<string, unknown>): Beam {
  const { kind, dimensions } = forms[type];
  const axes = dimensions === 2 ? ["X", "Y"] : ["X", "Y", "Z"];
  const vectors = [kind === "cone" ? "src" : "ray", "d", "u", ...(dimensions === 2 ? [] : ["v"])];
  const names = vectors.flatMap((vector) => axes.map((axis) => vector + axis));
  const curved = type === "cyl_cone_vec";
  if (curved) names.push("radius");
  const views = listOf("Vectors", fields["Vectors"], (name, entry): View => {
    const row = numbers(name, entry, names);
    const vector = (k: number): ZYX =>
      dimensions === 2 ? [0, row[2 * k + 1]!, row[2 * k]!] : [row[3 * k + 2]!, row[3 * k + 1]!, row[3 * k]!];
    const view = { source: vector(0), centre: vector(1), u: vector(2), v: dimensions === 2 ? Z : vector(3) };
    // A radius of 0 would be a flat detector here, and is none in ASTRA.
    return curved ? { ...view, curvatureRadius: positive(`radius of ${name}`, row[12]) } : view;
  });
  return new Beam(kind, detectorShape(dimensions, fields), views);
}

function detectorShape(dimensions: 2 | 3, fields: Record<string, unknown>): VU {
  const read = (name: string) => count(name, fields[name]);
  return dimensions === 2 ? [1, read("DetectorCount")] : [read("DetectorRowCount"), read("DetectorColCount")];
}

function checkFlat(volume: Volume, beam: Beam): void {
  if (volume.shape[0] !== 1) refuse("shape", volume.shape, "a two-dimensional volume has one slice");
  if (volume.position[0] !== 0) refuse("position", volume.position, "a two-dimensional volume is at z = 0");
  if (beam.detectorShape[0] !== 1) refuse("detectorShape", beam.detectorShape, "a two-dimensional beam has one row");
  for (const [i, { source, centre, v, u, curvatureRadius = 0 }] of beam.views.entries())
    if ([curvatureRadius, source[0], centre[0], u[0], v[1], v[2]].some((part) => part !== 0))
      refuse(
        `views[${i}]`,
        beam.views[i],
        "a two-dimensional beam lies in the plane z = 0, its detector flat and v along z",
      );
}
