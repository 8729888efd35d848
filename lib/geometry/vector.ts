/**
 * Three numbers in the order z, y, x: a point, a direction, a shape or a spacing.
 * z points up; read backwards, as (x, y, z), the frame is the usual right-handed one.
 */
export type ZYX = readonly [z: number, y: number, x: number];

/** Two numbers in the order y, x: of one slice. */
export type YX = readonly [y: number, x: number];

/** Two numbers in the order of the detector's axes: v counts rows and points up, u counts columns and points sideways. */
export type VU = readonly [v: number, u: number];

/** The vector whose component on axis 0 (z), 1 (y) and 2 (x) is `component(axis)`. */
export function zyx(component: (axis: 0 | 1 | 2) => number): ZYX {
  return [component(0), component(1), component(2)];
}

export function add(...vectors: readonly ZYX[]): ZYX {
  return zyx((axis) => vectors.reduce((sum, vector) => sum + vector[axis], 0));
}

export function subtract(a: ZYX, b: ZYX): ZYX {
  return zyx((axis) => a[axis] - b[axis]);
}

export function multiply(a: ZYX, factor: number): ZYX {
  return zyx((axis) => a[axis] * factor);
}

export function dot(a: ZYX, b: ZYX): number {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

export function norm(a: ZYX): number {
  return Math.hypot(...a);
}

/** The cross product of the components as they are listed; read as (x, y, z) it is the usual one with the sign changed. */
export function cross(a: ZYX, b: ZYX): ZYX {
  return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
}
