/** Seeded random numbers and geometries for the tests, and the float64 measures that they compare with. */

export { type GeometryKind, geometryKinds, type RandomGeometryOptions, randomGeometry } from "./random_geometry.ts";

export interface SeededRandom {
  /** A number in [lo, hi); [0, 1) by default. */
  uniform(lo?: number, hi?: number): number;
  /** A whole number in [lo, hi], both ends included. */
  integer(lo: number, hi: number): number;
  /** A standard normal number. */
  normal(): number;
  /** `count` uniform numbers, rounded to float32. */
  float32(count: number, lo?: number, hi?: number): Float32Array<ArrayBuffer>;
}

/** Chris Doty-Humphrey's sfc32 (PractRand), started from `seed` and warmed up. The same numbers in every runtime. */
export function seededRandom(seed: number): SeededRandom {
  let [a, b, c, counter] = [seed | 0, (seed / 2 ** 32) | 0, 0x9e3779b9 | 0, 1];
  const next = () => {
    const t = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + t) | 0;
    return t >>> 0;
  };
  for (let k = 0; k < 16; k++) next();
  const unit = () => ((next() >>> 5) * 2 ** 26 + (next() >>> 6)) / 2 ** 53;
  const uniform = (lo = 0, hi = 1) => lo + (hi - lo) * unit();
  return {
    uniform,
    integer: (lo, hi) => lo + Math.floor((hi - lo + 1) * unit()),
    normal: () => Math.sqrt(-2 * Math.log(1 - unit())) * Math.cos(2 * Math.PI * unit()),
    float32: (count, lo, hi) => Float32Array.from({ length: count }, () => uniform(lo, hi)),
  };
}

export function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new Error(`lengths ${a.length} and ${b.length} differ`);
  let sum = 0;
  for (let k = 0; k < a.length; k++) sum += a[k]! * b[k]!;
  return sum;
}

export function norm(a: ArrayLike<number>): number {
  return Math.sqrt(dot(a, a));
}

/** norm(a - b) / norm(b), b the reference. For b = 0: 0 where a is zero too, else Infinity. NaN in either stays NaN. */
export function relativeL2(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new Error(`lengths ${a.length} and ${b.length} differ`);
  const difference = norm(Float64Array.from(a, (value, k) => value - b[k]!));
  return difference === 0 ? 0 : difference / norm(b);
}
