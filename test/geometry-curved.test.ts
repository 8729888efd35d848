import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  type Beam,
  type ConeBeamVectorsOptions,
  concatenate,
  coneBeam,
  coneBeamVectors,
  fromAstra,
  geometryFromJson,
  parallelBeamVectors,
  reflect,
  rotate,
  scale,
  toAstra,
  translate,
  volume,
  type ZYX,
} from "../lib/geometry/index.ts";
import { calls, refused } from "./support/boundary.ts";
import { assertClose, assertRefuses, randomVector, without } from "./support/geometry.ts";
import { seededRandom } from "./support/random.ts";
import { detectorPoint, type ModelGeometry } from "./support/ray_model.ts";

const random = seededRandom(31);
const round = {
  detectorShape: [4, 6],
  pixelSize: [2, 3],
  sourceOriginDistance: 20,
  sourceDetectorDistance: 30,
} as const;

/** Three views in random poses, of radii from a third of the distance of the source to three times that. */
function randomCurved(): Beam {
  const list = (make: () => ZYX) => Array.from({ length: 3 }, make);
  const near = (vector: ZYX): ZYX => {
    const shift = randomVector(random);
    return [vector[0] + shift[0] / 6, vector[1] + shift[1] / 6, vector[2] + shift[2] / 6];
  };
  const beam = coneBeamVectors({
    detectorShape: [random.integer(1, 5), random.integer(1, 7)],
    sourcePositions: list(() => near([0, -8, 0])),
    detectorCentres: list(() => near([0, 4, 0])),
    detectorV: list(() => [random.uniform(-2, 2) || 1, 0, 0]),
    detectorU: list(() => [0, 0, random.uniform(0.4, 1)]),
    detectorCurvatureRadius: list(() => [0, 0, 0]).map(() => random.uniform(4, 36)),
  });
  return beam.transform(rotate({ axis: randomVector(random), angles: [3], position: randomVector(random) }));
}

/** Where the tests' own model sees the point `up` rows and `side` columns from the centre of every detector. */
function modelPoints(beam: Beam, up: number, side: number): number[][] {
  const curvatureRadii = beam.detectorCurvatureRadii;
  const g = { kind: "cone", vectors: beam.vectors, curvatureRadii } as Partial<ModelGeometry> as ModelGeometry;
  return beam.views.map((_, view) => [...detectorPoint(g, view, up, side)]);
}

describe("curved detectors", () => {
  it("centred on the source have columns at equal angles, all at the same distance", () => {
    const beam = coneBeam({ ...round, angles: [0, 1, 4], detectorCurvatureRadius: 30 });
    assert.deepEqual(beam.detectorCurvatureRadii, [30, 30, 30]);
    for (let i = -3; i <= 3; i++) {
      const [, y, x] = modelPoints(beam, 0, i)[0]!;
      assertClose([y!, x!], [-20 + 30 * Math.cos(i / 10), 30 * Math.sin(i / 10)]);
    }
    assertClose(
      beam.corners().map((corners) => corners[3]),
      modelPoints(beam, 2, 3),
    );
    assertClose(beam.corners()[0]![3], [4, -20 + 30 * Math.cos(0.3), 30 * Math.sin(0.3)]);
  });

  it("are flat ones in the limit", () => {
    const flat = coneBeam({ ...round, angleCount: 3 });
    const nearly = coneBeam({ ...round, angleCount: 3, detectorCurvatureRadius: 1e9 });
    assertClose(nearly.corners(), flat.corners(), 1e-6);
    assertClose(nearly.projectPoint([1, 2, 3]), flat.projectPoint([1, 2, 3]), 1e-6);
    assert.ok(coneBeam({ ...round, angleCount: 3, detectorCurvatureRadius: 0 }).equals(flat, 0));
    assert.ok(!nearly.equals(flat));
    assert.deepEqual(flat.detectorCurvatureRadii, [0, 0, 0]);
  });

  it("are shifted along the arc by detectorOffset, so that it corrects the centre of rotation", () => {
    const column = 1.25;
    const beam = coneBeam({
      ...round,
      angleCount: 5,
      detectorCurvatureRadius: 25,
      detectorOffset: [1, (2.5 - column) * 3],
    });
    for (const [v, u] of beam.projectPoint([0, 0, 0])) assertClose([v, u + 2.5], [-0.5, column]);
  });

  it("projectPoint finds the points of the detector again, from anywhere on the ray", () => {
    for (let trial = 0; trial < 40; trial++) {
      const beam = randomCurved();
      const [up, side] = [random.uniform(-3, 3), random.uniform(-3, 3)];
      for (const [i, point] of modelPoints(beam, up, side).entries()) {
        const source = beam.sourcePositions[i]!;
        for (const way of [1, 0.3, 2, -1]) {
          const on = source.map((value, k) => value + way * (point[k]! - value)) as unknown as ZYX;
          assertClose(beam.projectPoint(on)[i]!, [up, side], 1e-6);
        }
        assertClose(beam.projectPoint(source)[i]!, [Number.NaN, Number.NaN]);
      }
    }
    const narrow = coneBeam({ ...round, angles: [0], detectorCurvatureRadius: 8 });
    assertClose(narrow.projectPoint([0, 0, 9])[0]!, [Number.NaN, Number.NaN]);
  });

  it("keep every pixel where it is when they are cropped, and widths along the arc when binned", () => {
    for (let trial = 0; trial < 40; trial++) {
      const beam = randomCurved();
      const [rows, columns] = beam.detectorShape;
      const [row, column] = [random.integer(0, rows - 1), random.integer(0, columns - 1)];
      const pixel = beam.select({ rows: { start: row, stop: row + 1 }, columns: { start: column, stop: column + 1 } });
      const [up, side] = [row - rows / 2, column - columns / 2];
      const corners = [
        [0, 0],
        [1, 0],
        [0, 1],
        [1, 1],
      ] as const;
      for (const [k, [i, j]] of corners.entries())
        assertClose(
          pixel.corners().map((all) => all[k]!),
          modelPoints(beam, up + i, side + j),
        );
      const binned = beam.bin({ rows, columns });
      assertClose(binned.corners(), beam.corners());
      assert.ok(
        beam
          .select({ views: [2, 0] })
          .select({ views: [1] })
          .equals(beam.select({ views: [0] }), 0),
      );
    }
  });

  it("move with space, and grow with it", () => {
    for (let trial = 0; trial < 20; trial++) {
      const beam = randomCurved();
      const vectors = Array.from({ length: 3 }, () => randomVector(random));
      const angles = [random.uniform(-4, 4)];
      for (const [motion, factor] of [
        [translate(vectors), 1],
        [rotate({ axis: vectors, angles, position: vectors }), 1],
        [reflect({ axis: vectors, position: vectors }), 1],
        [scale(2.5, { about: vectors }), 2.5],
      ] as const) {
        const moved = beam.transform(motion);
        assertClose(
          moved.detectorCurvatureRadii,
          beam.detectorCurvatureRadii.map((radius) => factor * radius),
        );
        for (const k of [0, 1, 2, 3])
          assertClose(
            moved.corners().map((corners) => corners[k]!),
            motion.applyToPoint(beam.corners().map((corners) => corners[k]!)),
          );
        assert.ok(moved.transform(motion.inverse()).equals(beam));
      }
    }
    // One view and n steps; stretching along the axis of the cylinder leaves it circular.
    const one = coneBeam({ ...round, angles: [0], detectorCurvatureRadius: 25 });
    assert.deepEqual(one.transform(translate([[0, 0, 0], [1, 2, 3]])).detectorCurvatureRadii, [25, 25]); // biome-ignore format: short
    assertClose(one.transform(scale([3, 1, 1])).detectorCurvatureRadii, [25]);
    assertRefuses(() => one.transform(scale([1, 1.5, 1])), "view 0", "curvatureRadius of 25", "not circular");
    const turned = one.transform(rotate({ axis: [0, 1, 0], angles: [0.5] }));
    assertRefuses(() => turned.transform(scale([2, 1, 1])), "not circular");
  });

  it("come back from JSON and from ASTRA's dictionaries", () => {
    for (let trial = 0; trial < 20; trial++) {
      const beam = randomCurved();
      assert.ok(beam.equals(geometryFromJson(JSON.stringify(beam)), 0));
      const dictionaries = toAstra({ volume: volume({ shape: [2, 3, 4] }), beam });
      assert.equal(dictionaries.projectionGeometry.type, "cyl_cone_vec");
      assert.ok(fromAstra(JSON.parse(JSON.stringify(dictionaries))).beam.equals(beam, 0));
    }
    const view = { source: [0, -3, 0], centre: [0, 4, 0], v: [1, 0, 0], u: [0, 0, 1], curvatureRadius: 7 };
    const plain = { kind: "cone", detectorShape: [2, 3], views: [view, without(view, "curvatureRadius")] };
    assert.deepEqual(JSON.parse(JSON.stringify(geometryFromJson(plain))), plain);
    const mixed = geometryFromJson(plain) as Beam;
    assert.deepEqual(mixed.detectorCurvatureRadii, [7, 0]);
    assert.ok(concatenate([mixed.select({ views: [0] }), mixed.select({ views: [1] })]).equals(mixed, 0));
    const object = volume({ shape: [1, 2, 2] });
    assertRefuses(() => toAstra({ volume: object, beam: mixed }), "1 of 2 detectors are curved");
    const fan = coneBeam({ ...round, detectorShape: [1, 6], angles: [0], detectorCurvatureRadius: 25 });
    assertRefuses(() => toAstra({ volume: object, beam: fan }, { dimensions: 2 }), "views[0]", "its detector flat");
    const json = (curvatureRadius: unknown) => () =>
      geometryFromJson({ ...plain, views: [{ ...view, curvatureRadius }] });
    for (const radius of [-7, "7", null, Number.NaN]) assertRefuses(json(radius), "detectorCurvatureRadius[0]");
  });

  it("that are none are refused, in TypeScript", () => {
    const right = {
      detectorShape: [2, 3],
      sourcePositions: [0, -5, 0],
      detectorCentres: [0, 5, 0],
      detectorV: [2, 0, 0],
      detectorU: [0, 0, 1],
      detectorCurvatureRadius: 10,
    } satisfies ConeBeamVectorsOptions;
    const refuses = (changed: object, ...fragments: string[]) =>
      assertRefuses(() => coneBeamVectors({ ...right, ...changed }), ...fragments);
    assert.equal(coneBeamVectors({ ...right, detectorCurvatureRadius: Float64Array.of(10, 0) }).viewCount, 2);
    for (const radius of [-1, Number.NaN, Number.POSITIVE_INFINITY, "10", null])
      refuses({ detectorCurvatureRadius: radius }, "detectorCurvatureRadius[0]", "expected a positive length");
    refuses({ detectorCurvatureRadius: [10, -1] }, "detectorCurvatureRadius[1] -1");
    const counts = { detectorCurvatureRadius: [1, 2], sourcePositions: new Float64Array(9) };
    refuses(counts, "2 detectorCurvatureRadius, 3 sourcePositions");
    refuses({ detectorU: [0.01, 0, 1] }, "detectorU[0]", "perpendicular to detectorV [2, 0, 0]");
    refuses({ detectorCurvatureRadius: 0.95 }, "3 columns of 1 cover 3.15", "less than pi");
    // The source is far aside: it sees the outermost column's back.
    refuses({ detectorCurvatureRadius: 1, sourcePositions: [0, 4, 3] }, "sourcePositions[0] [0, 4, 3]", "inner side");
    refuses({ sourcePositions: [0, 5, 0] }, "plane of the detector");
    const { sourcePositions: rayDirections, ...detector } = right;
    assertRefuses(
      () => parallelBeamVectors({ rayDirections, ...detector } as never),
      "only the detector of a cone beam",
    );
    assertRefuses(
      () => coneBeam({ ...round, angles: [0], detectorCurvatureRadius: -3 }),
      "detectorCurvatureRadius[0] -3",
    );
  });

  it("that are none are refused, in C", () => {
    const header = [1, 4, 4, 4, 1, 1, 1, 0, 0, 0, 1, 2, 3, 1, 0, 1, 0];
    const view = [0, -5, 0, 0, 5, 0, 2, 0, 0, 0, 0, 1, 10];
    const create = (at: number, value: number, kind = 1) => {
      const numbers = Float64Array.from([kind, ...header.slice(1), ...view.with(at, value)]);
      return calls.rs_plan_create(0, numbers, BigInt(numbers.length), new BigInt64Array(1));
    };
    refused(create(12, -1), "EARGUMENT", /radius of the detector is -1/);
    refused(create(12, Number.NaN), "EARGUMENT", /number 12 is (-?)nan/);
    refused(
      create(12, 10, 0),
      "EARGUMENT",
      /radius of the detector is 10: expected 0 \(flat\), or above 0 in a cone beam/,
    );
    refused(create(9, 0.01), "EARGUMENT", /must be perpendicular/);
    refused(create(12, 0.95), "EARGUMENT", /less than half a circle/);
    const aside = Float64Array.from([...header, ...view.with(1, 4).with(2, 3).with(12, 1)]);
    const status = calls.rs_plan_create(0, aside, BigInt(aside.length), new BigInt64Array(1));
    refused(status, "EARGUMENT", /does not see the inner side/);
  });
});
