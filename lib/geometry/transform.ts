import { checkOptions } from "../options.ts";
import { angleList, broadcast, fail, positives, refuse, type Vectors, vectors, zyxAxes } from "./check.ts";
import { add, cross, dot, multiply, norm, subtract, type ZYX, zyx } from "./vector.ts";

/** One affine map: where it takes the three unit vectors and the origin. These are the columns of its matrix. */
type Step = { readonly z: ZYX; readonly y: ZYX; readonly x: ZYX; readonly origin: ZYX };

/**
 * A motion: one affine map of space for each of its steps. Frozen.
 *
 * Wherever lists meet (the steps of two transforms, steps and points, the parameters of `rotate`) their counts must be
 * equal or 1, and a single entry serves every step. A moving volume needs no type of its own: what counts is where the
 * beam is, seen from the volume, so `T` applied to the volume is `beam.transform(T.inverse())`.
 */
export class Transform {
  readonly stepCount: number;
  readonly #steps: readonly Step[];

  constructor(steps: readonly Step[]) {
    this.#steps = steps;
    this.stepCount = steps.length;
    Object.freeze(this);
  }

  /** The homogeneous 4 x 4 matrices, row after row, 16 numbers a step; they act on columns (z, y, x, 1). A copy. */
  get matrices(): Float64Array {
    const rows = (step: Step) => zyxAxes.map((_, row) => [step.z[row]!, step.y[row]!, step.x[row]!, step.origin[row]!]);
    return Float64Array.from(this.#steps.flatMap((step) => [...rows(step).flat(), 0, 0, 0, 1]));
  }

  /** Where points go: n points, one a step; or one point at every step, or every point at the only step. */
  applyToPoint(points: Vectors): ZYX[] {
    return broadcast({ steps: this.#steps, points: vectors("points", points) }).map(({ steps: step, points: p }) =>
      add(multiply(step.z, p[0]), multiply(step.y, p[1]), multiply(step.x, p[2]), step.origin),
    );
  }

  /** As `applyToPoint`, for directions: these turn, stretch and mirror with the space, but a shift leaves them alone. */
  applyToDirection(directions: Vectors): ZYX[] {
    const lists = { steps: this.#steps, directions: vectors("directions", directions) };
    return broadcast(lists).map(({ steps: step, directions: d }) =>
      add(multiply(step.z, d[0]), multiply(step.y, d[1]), multiply(step.x, d[2])),
    );
  }

  /** The transform that undoes this one. Throws a RaysumError ("argument") if a scale is too extreme to be undone. */
  inverse(): Transform {
    return new Transform(
      this.#steps.map(({ z, y, x, origin }) => {
        const determinant = dot(z, cross(y, x));
        if (!Number.isFinite(1 / determinant))
          fail(`determinant ${determinant} of the transform: it is out of range, there is no inverse`);
        // Cramer's rule: the rows of the inverse matrix are cross products of the columns.
        const rows = [cross(y, x), cross(x, z), cross(z, y)];
        return affine((v) => zyx((axis) => dot(rows[axis]!, v) / determinant), origin, [0, 0, 0]);
      }),
    );
  }
}

/** Throws RaysumError "argument" for anything but a Transform. */
export function checkTransform(name: string, value: unknown): void {
  if (!(value instanceof Transform)) refuse(name, value, "expected a Transform, such as rotate() gives");
}

/** The affine map with the linear part `linear` that takes the point `from` to the point `to`. */
function affine(linear: (vector: ZYX) => ZYX, from: ZYX, to: ZYX): Step {
  const [z, y, x] = [linear([1, 0, 0]), linear([0, 1, 0]), linear([0, 0, 1])];
  return { z, y, x, origin: subtract(to, linear(from)) };
}

/** The transforms in one, applied from right to left: `compose(a, b)` is b, then a. Without any, nothing moves. */
export function compose(...transforms: readonly Transform[]): Transform {
  for (const [i, transform] of transforms.entries()) checkTransform(`transforms[${i}]`, transform);
  return transforms.reduce(
    (left, right) => {
      const columns = {
        z: left.applyToDirection(right.applyToDirection([1, 0, 0])),
        y: left.applyToDirection(right.applyToDirection([0, 1, 0])),
        x: left.applyToDirection(right.applyToDirection([0, 0, 1])),
        origin: left.applyToPoint(right.applyToPoint([0, 0, 0])),
      };
      return new Transform(broadcast(columns));
    },
    translate([0, 0, 0]),
  );
}

/** A shift by one [z, y, x] in length units, or by one for each step. */
export function translate(offsets: Vectors): Transform {
  return new Transform(vectors("offsets", offsets).map((offset) => affine((v) => v, [0, 0, 0], offset)));
}

/**
 * Rotations by `angles` (a list, in radians) about the line through `position` (default: the origin) along `axis`
 * (any length but zero). They are right-handed in (x, y, z): about z, +90 degrees takes x to y; about x, y to z; about
 * y, z to x. Rodrigues' formula, in the form with the double cross product, which leaves the axis exactly as it is.
 * Throws a RaysumError ("argument") for an axis of zero, no angles, and counts that differ.
 */
export function rotate(options: {
  readonly axis: Vectors;
  readonly angles: readonly number[] | Float64Array;
  readonly position?: Vectors;
}): Transform {
  checkOptions("rotate", options, ["axis", "angles", "position"]);
  const { position = [0, 0, 0] } = options;
  const angles = angleList("angles", options.angles);
  const lists = { axes: unitVectors("axis", options.axis), angles, positions: vectors("position", position) };
  return new Transform(
    broadcast(lists).map(({ axes: axis, angles: angle, positions: fixed }) => {
      const turn = (v: ZYX): ZYX => {
        const aside = cross(v, axis);
        return add(v, multiply(aside, Math.sin(angle)), multiply(cross(aside, axis), 2 * Math.sin(angle / 2) ** 2));
      };
      return affine(turn, fixed, fixed);
    }),
  );
}

/** Multiplies distances to the point `about` (default: the origin) by a positive factor, for all axes or [z, y, x]. */
export function scale(factor: number | ZYX, options: { readonly about?: Vectors } = {}): Transform {
  checkOptions("scale", options, ["about"]);
  const { about = [0, 0, 0] } = options;
  const factors = positives("factor", factor, zyxAxes);
  const stretch = (v: ZYX): ZYX => zyx((axis) => v[axis] * factors[axis]);
  return new Transform(vectors("about", about).map((fixed) => affine(stretch, fixed, fixed)));
}

/** Mirrors at the plane through `position` (default: the origin) whose normal is `axis` (any length but zero). */
export function reflect(options: { readonly axis: Vectors; readonly position?: Vectors }): Transform {
  checkOptions("reflect", options, ["axis", "position"]);
  const { axis, position = [0, 0, 0] } = options;
  return new Transform(
    broadcast({ axes: unitVectors("axis", axis), positions: vectors("position", position) }).map(
      ({ axes: normal, positions: fixed }) =>
        affine((v) => subtract(v, multiply(normal, 2 * dot(normal, v))), fixed, fixed),
    ),
  );
}

function unitVectors(name: string, value: Vectors): ZYX[] {
  return vectors(name, value).map((vector) => {
    const length = norm(vector);
    if (length === 0) refuse(name, vector, "expected a direction, its length must not be zero");
    return multiply(vector, 1 / length);
  });
}
