import type { View } from "./beam.ts";
import { fail, refuse } from "./check.ts";
import { add, cross, dot, multiply, norm, subtract, type VU, type ZYX } from "./vector.ts";

/** Up to this cosine of an angle two directions count as perpendicular. */
const PERPENDICULAR = 1e-6;

/** The unit normal of the detector in its centre, on the side of the source. */
function inward({ source, centre, v, u }: View): ZYX {
  const normal = cross(u, v);
  return multiply(normal, Math.sign(dot(normal, subtract(source, centre))) / norm(normal));
}

/** u as a unit vector, the radius, and the angle seen from the cylinder's axis of `side` columns. */
function arc(view: View, side: number): { along: ZYX; radius: number; angle: number } {
  const [width, radius] = [norm(view.u), view.curvatureRadius ?? 0];
  return { along: multiply(view.u, 1 / width), radius, angle: (side * width) / radius };
}

/** The point of the detector that is `up` rows and `side` columns from its centre. */
export function detectorPoint(view: View, up: number, side: number): ZYX {
  const level = add(view.centre, multiply(view.v, up));
  if (!view.curvatureRadius) return add(level, multiply(view.u, side));
  const { along, radius, angle } = arc(view, side);
  const rise = 2 * radius * Math.sin(angle / 2) ** 2;
  return add(level, multiply(along, radius * Math.sin(angle)), multiply(inward(view), rise));
}

/** The view whose detector's centre is `up` rows and `side` columns further on the same plane or cylinder. */
export function shiftDetector(view: View, up: number, side: number): View {
  const centre = detectorPoint(view, up, side);
  if (!view.curvatureRadius) return { ...view, centre };
  const { angle } = arc(view, side);
  const rise = multiply(inward(view), norm(view.u) * Math.sin(angle));
  return { ...view, centre, u: add(multiply(view.u, Math.cos(angle)), rise) };
}

/** Where a line from the source with the direction `ray` leaves the cylinder, in [rows, columns] from its centre; or NaN. */
export function meetCylinder(view: View, ray: ZYX): VU {
  const { along, radius } = arc(view, 0);
  const normal = inward(view);
  const fromAxis = subtract(subtract(view.source, view.centre), multiply(normal, radius));
  const [s, p] = [fromAxis, ray].map((vector) => [dot(vector, along), dot(vector, normal)] as const) as [VU, VU];
  const [square, middle] = [p[0] ** 2 + p[1] ** 2, s[0] * p[0] + s[1] * p[1]];
  const root = Math.sqrt(middle ** 2 - square * (s[0] ** 2 + s[1] ** 2 - radius ** 2));
  const way = (p[1] < 0 ? root - middle : -root - middle) / square;
  const rise = dot(add(subtract(view.source, view.centre), multiply(ray, way)), view.v);
  const angle = Math.atan2(s[0] + way * p[0], -(s[1] + way * p[1]));
  return [rise / dot(view.v, view.v), (angle * radius) / norm(view.u)];
}

/**
 * The radius of a detector that a transform moved to `view`, which still has the old one: `normal` is where the transform
 * takes the unit normal of the old detector. A circular cylinder has to come out.
 */
function scaledRadius(view: View, normal: ZYX, width: number, i: number): number {
  const [{ v, u, curvatureRadius = 0 }, size] = [view, norm(normal)];
  const oblique = [u, v].some((w) => !(Math.abs(dot(normal, w)) <= PERPENDICULAR * size * norm(w)));
  if (oblique || !(Math.abs((size * width) / norm(u) - 1) <= PERPENDICULAR))
    fail(
      `view ${i} has a curvatureRadius of ${curvatureRadius}: the transform makes its cylinder one that is not circular`,
    );
  return size * curvatureRadius;
}

/** The views with the radii of `before` where these are curved, each as the transform `move` of directions scales it. */
export function bendViews(views: readonly View[], before: readonly View[], move: (directions: ZYX[]) => ZYX[]): View[] {
  if (!before.some((view) => view.curvatureRadius)) return [...views];
  const normals = move(before.map(inward));
  return views.map((view, i) => {
    const old = before[before.length === 1 ? 0 : i]!;
    if (!old.curvatureRadius) return view;
    const { curvatureRadius } = old;
    return { ...view, curvatureRadius: scaledRadius({ ...view, curvatureRadius }, normals[i]!, norm(old.u), i) };
  });
}

/** Refuses a curved detector that is none, or that the source does not see from inside. */
export function checkCurvature(kind: "parallel" | "cone", view: View, columns: number, i: number): void {
  if (!("curvatureRadius" in view) || view.curvatureRadius === 0) return;
  const { source, centre, v, u, curvatureRadius: radius } = view as Required<View>;
  const name = `detectorCurvatureRadius[${i}]`;
  if (!(Number.isFinite(radius) && radius > 0))
    refuse(name, radius, "expected a positive length, or 0 for a flat detector");
  if (kind !== "cone") refuse(name, radius, "only the detector of a cone beam may be curved");
  if (!(Math.abs(dot(u, v)) <= PERPENDICULAR * norm(u) * norm(v)))
    refuse(`detectorU[${i}]`, u, `must be perpendicular to detectorV [${v.join(", ")}] where the detector is curved`);
  const { along, angle: half } = arc(view, columns / 2);
  if (!(half < Math.PI / 2))
    refuse(
      name,
      radius,
      `${columns} columns of ${norm(u)} cover ${2 * half} radians: expected less than pi, half a circle`,
    );
  // The source is above the tangent of the column at an angle while across sin - above cos < radius. The worst column:
  const way = subtract(source, centre);
  const [across, above] = [dot(way, along), dot(way, inward(view)) - radius];
  const worst = Math.max(-half, Math.min(half, Math.atan2(across, -above)));
  if (!(across * Math.sin(worst) - above * Math.cos(worst) < radius))
    refuse(`sourcePositions[${i}]`, source, "must be on the inner side of every column of the curved detector");
}
