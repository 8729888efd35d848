import { checkOptions } from "../options.ts";
import {
  type AtMostOneOf,
  bounds,
  counts,
  type IndexRange,
  numbers,
  positives,
  refuse,
  spacing,
  yxAxes,
  zyxAxes,
} from "./check.ts";
import { add, subtract, type YX, type ZYX, zyx } from "./vector.ts";

/** The lowest and the highest coordinate on z, y and x. */
export type Extent = readonly [
  z: readonly [number, number],
  y: readonly [number, number],
  x: readonly [number, number],
];

type Box<Axes, Sides> = { readonly shape: Axes } & AtMostOneOf<{
  size: number | Axes;
  voxelSize: number | Axes;
  extent: Sides;
}> &
  AtMostOneOf<{ extent: Sides; position: Axes }>;

/** Along [z, y, x], or along [y, x] for one slice. */
export type VolumeOptions =
  | Box<ZYX, Extent>
  | Box<YX, readonly [y: readonly [number, number], x: readonly [number, number]]>;

/** A box of voxels along the axes; frozen. Voxel [0, 0, 0] is at the low end of every axis. */
export class Volume {
  /** Voxel counts [z, y, x]. */
  readonly shape: ZYX;
  /** Edges of one voxel [z, y, x], in length units. */
  readonly voxelSize: ZYX;
  /** The centre [z, y, x], in length units. */
  readonly position: ZYX;

  constructor(shape: ZYX, voxelSize: ZYX, position: ZYX) {
    this.shape = Object.freeze(shape);
    this.voxelSize = Object.freeze(voxelSize);
    this.position = Object.freeze(position);
    Object.freeze(this);
  }

  /** Total extent [z, y, x]: shape times voxel size. */
  get size(): ZYX {
    return zyx((axis) => this.shape[axis] * this.voxelSize[axis]);
  }

  /** The lowest and the highest coordinate on each axis. */
  get extent(): Extent {
    const { position, size } = this;
    const side = (axis: 0 | 1 | 2): [number, number] => [
      position[axis] - size[axis] / 2,
      position[axis] + size[axis] / 2,
    ];
    return [side(0), side(1), side(2)];
  }

  /** The same box, moved by [z, y, x]. Throws a RaysumError ("argument") unless these are three finite numbers. */
  translate(offset: ZYX): Volume {
    return new Volume(this.shape, this.voxelSize, add(this.position, numbers("offset", offset, zyxAxes)));
  }

  /**
   * The box with all distances to the point `about` multiplied by `factor`, a number for all axes or [z, y, x]. Throws a
   * RaysumError ("argument") unless the factors are positive.
   */
  scale(factor: number | ZYX, about: ZYX = [0, 0, 0]): Volume {
    const factors = positives("factor", factor, zyxAxes);
    const fixed = numbers("about", about, zyxAxes);
    const reach = subtract(this.position, fixed);
    return new Volume(
      this.shape,
      zyx((axis) => this.voxelSize[axis] * factors[axis]),
      zyx((axis) => fixed[axis] + reach[axis] * factors[axis]),
    );
  }

  /**
   * The box of the voxels in these index ranges, each where it was: `crop({ z: { start: 96, stop: 160 } })`. Throws a
   * RaysumError ("argument") for a range that is empty or reaches outside.
   */
  crop(ranges: { readonly z?: IndexRange; readonly y?: IndexRange; readonly x?: IndexRange }): Volume {
    checkOptions("crop", ranges, zyxAxes);
    const cut = zyxAxes.map((name, axis) => bounds(name, ranges[name], this.shape[axis]!));
    return new Volume(
      zyx((axis) => cut[axis]![1] - cut[axis]![0]),
      this.voxelSize,
      zyx((axis) => {
        const [start, stop] = cut[axis]!;
        return this.position[axis] + ((start + stop - this.shape[axis]) / 2) * this.voxelSize[axis];
      }),
    );
  }

  /** What JSON.stringify writes: plain data that `geometryFromJson` reads back. */
  toJSON(): { readonly kind: "volume"; readonly shape: ZYX; readonly voxelSize: ZYX; readonly position: ZYX } {
    return { kind: "volume", shape: this.shape, voxelSize: this.voxelSize, position: this.position };
  }

  /** Whether `other` is a volume of the same shape and, within `tolerance`, voxel size and position. Never throws. */
  equals(other: unknown, tolerance = 1e-8): boolean {
    if (!(other instanceof Volume)) return false;
    return [0, 1, 2].every(
      (axis) =>
        this.shape[axis] === other.shape[axis] &&
        Math.abs(this.voxelSize[axis]! - other.voxelSize[axis]!) <= tolerance &&
        Math.abs(this.position[axis]! - other.position[axis]!) <= tolerance,
    );
  }
}

/**
 * A box of voxels along the axes.
 *
 * `shape` counts the voxels, [z, y, x]. At most one of these says how large they are: `size` is the total extent and
 * `voxelSize` the spacing, each a number for all axes or [z, y, x]; `extent` gives the lowest and the highest
 * coordinate of each axis, [[z0, z1], [y0, y1], [x0, x1]]. Without one a voxel has size 1. `position` is the centre
 * (default: the origin), unless `extent` fixes it. Lengths are in any one unit, the same as for the beam.
 *
 * With a `shape` of [y, x] the box is one slice of height 1 at z = 0, and all that is given is along y and x.
 *
 * Throws a RaysumError ("argument") for counts that are not positive integers, sizes that are not positive, numbers
 * that are not finite, unknown options, and options that contradict each other.
 */
export function volume(options: VolumeOptions): Volume {
  checkOptions("volume", options, ["shape", "size", "voxelSize", "extent", "position"]);
  const { size, voxelSize, extent, position } = options;
  const axes: readonly string[] = options.shape?.length === 2 ? yxAxes : zyxAxes;
  const shape = counts("shape", options.shape, axes);
  const solid = (slice: number, plane: readonly number[]) => (axes === yxAxes ? [slice, ...plane] : plane) as ZYX;
  if (extent === undefined) {
    const voxel = spacing(shape, ["size", size], ["voxelSize", voxelSize], axes);
    const centre = numbers("position", position === undefined ? axes.map(() => 0) : position, axes);
    return new Volume(solid(1, shape), solid(1, voxel), solid(0, centre));
  }
  for (const [name, value] of Object.entries({ size, voxelSize, position }))
    if (value !== undefined) refuse(name, value, "extent already says so: give one of the two");
  const sides: readonly unknown[] = Array.isArray(extent) && extent.length === axes.length ? extent : [];
  const ranges = sides.map((side, axis) => numbers(`extent[${axis}]`, side, ["low", "high"]));
  if (ranges.length === 0 || ranges.some(([low, high]) => low >= high))
    refuse(
      "extent",
      extent,
      `expected [${axes.map((axis) => `[${axis}0, ${axis}1]`).join(", ")}], each from low to high`,
    );
  const voxel = ranges.map(([low, high], axis) => (high - low) / shape[axis]!);
  const centre = ranges.map(([low, high]) => (low + high) / 2);
  return new Volume(solid(1, shape), solid(1, voxel), solid(0, centre));
}
