/** Elements that arithmetic is tested with, and the comparison with float64. */
import assert from "node:assert/strict";
import { seededRandom } from "./random.ts";

/** One element, fewer than a vector, a whole chunk, one more, and several chunks with a rest. */
export const sizes: readonly number[] = [1, 7, 32768, 32769, 100_003];

/** The values where arithmetic has edges; every ordered pair is in `pairs`. */
export const edges: readonly number[] = [
  0,
  -0,
  1,
  -1,
  2.5,
  -3e-39,
  1e-30,
  3e38,
  -3e38,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  Number.NaN,
].map(Math.fround);

export const pairs: readonly [a: Float32Array, b: Float32Array] = [
  Float32Array.from(edges.flatMap((a) => edges.map(() => a))),
  Float32Array.from(edges.flatMap(() => edges)),
];

/** `count` float32 numbers of either sign and many magnitudes. */
export function numbers(count: number, seed: number): Float32Array<ArrayBuffer> {
  const random = seededRandom(seed);
  return Float32Array.from({ length: count }, () => random.normal() * 2 ** random.integer(-8, 8));
}

/**
 * Compares float32 results with float64 ones: within `ulps` units in the last place of the expected number (0: correctly rounded).
 * Infinities and NaN must be where they are expected; the sign of zero is left open.
 */
export function assertElements(
  actual: Float32Array,
  expected: (index: number) => number,
  ulps: number,
  what: string,
): void {
  for (let k = 0; k < actual.length; k++) {
    const [value, wanted] = [actual[k]!, Math.fround(expected(k))];
    if (value === wanted || (Number.isNaN(value) && Number.isNaN(wanted))) continue;
    const unit = Math.max(2 ** -149, 2 ** (Math.floor(Math.log2(Math.abs(wanted))) - 23));
    if (!(Math.abs(value - wanted) <= ulps * unit))
      assert.fail(`${what}: element ${k} is ${value}, expected ${wanted}`);
  }
}
