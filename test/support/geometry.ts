import assert from "node:assert/strict";
import { RaysumError } from "../../lib/errors.ts";
import {
  type Beam,
  coneBeamVectors,
  parallelBeamVectors,
  rotate,
  type Volume,
  volume,
  type ZYX,
} from "../../lib/geometry/index.ts";
import type { SeededRandom } from "./random.ts";

/** Nested lists of numbers. */
export type Nested = number | ArrayLike<Nested>;

/** Asserts the same nesting and, within `tolerance`, the same numbers; NaN equals NaN. */
export function assertClose(actual: Nested, expected: Nested, tolerance = 1e-9, path = "value"): void {
  if (typeof actual === "number" || typeof expected === "number") {
    const close = Object.is(actual, expected) || Math.abs((actual as number) - (expected as number)) <= tolerance;
    assert.ok(close, `${path}: ${String(actual)} is not ${String(expected)} within ${tolerance}`);
    return;
  }
  assert.equal(actual.length, expected.length, `${path}: lengths`);
  for (let i = 0; i < expected.length; i++) assertClose(actual[i]!, expected[i]!, tolerance, `${path}[${i}]`);
}

/** Asserts that `action` throws a RaysumError of code "argument" whose sentence contains all of `fragments`. */
export function assertRefuses(action: () => unknown, ...fragments: string[]): void {
  assert.throws(action, (error: unknown) => {
    assert.ok(error instanceof RaysumError, `${String(error)} is not a RaysumError`);
    assert.equal(error.code, "argument");
    for (const fragment of fragments)
      assert.ok(error.message.includes(fragment), `"${error.message}" does not contain "${fragment}"`);
    return true;
  });
}

/** A vector with components in [-3, 3). */
export function randomVector(random: SeededRandom): ZYX {
  return [random.uniform(-3, 3), random.uniform(-3, 3), random.uniform(-3, 3)];
}

/** A beam in a random pose, its detector sheared a little and its source or rays well off the detector's plane. */
export function randomBeam(kind: "parallel" | "cone", viewCount: number, random: SeededRandom): Beam {
  const list = (make: () => ZYX) => Array.from({ length: viewCount }, make);
  const near = (vector: ZYX): ZYX => {
    const shift = randomVector(random);
    return [vector[0] + shift[0] / 20, vector[1] + shift[1] / 20, vector[2] + shift[2] / 20];
  };
  const detector = {
    detectorShape: [random.integer(1, 9), random.integer(1, 9)],
    detectorCentres: list(() => near([0, 4, 0])),
    detectorV: list(() => near([1.2, 0, 0])),
    detectorU: list(() => near([0, 0, 0.7])),
  } as const;
  const sources = list(() => near([0, -8, 0]));
  const beam =
    kind === "cone"
      ? coneBeamVectors({ ...detector, sourcePositions: sources })
      : parallelBeamVectors({ ...detector, rayDirections: sources });
  return beam.transform(
    rotate({ axis: randomVector(random), angles: [random.uniform(-3, 3)], position: randomVector(random) }),
  );
}

/** A volume and a beam, each random. */
export function randomPair(random: SeededRandom): { volume: Volume; beam: Beam } {
  const size = (): ZYX => [random.uniform(0.1, 3), random.uniform(0.1, 3), random.uniform(0.1, 3)];
  return {
    volume: volume({
      shape: [random.integer(1, 9), random.integer(1, 9), random.integer(1, 9)],
      voxelSize: size(),
      position: randomVector(random),
    }),
    beam: randomBeam(random.uniform() < 0.5 ? "parallel" : "cone", random.integer(1, 5), random),
  };
}

/** The same record without one of its fields. */
export function without(record: object, field: string): object {
  return Object.fromEntries(Object.entries(record).filter(([name]) => name !== field));
}
