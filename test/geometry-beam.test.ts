import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  type Beam,
  coneBeam,
  coneBeamVectors,
  type ParallelBeamOptions,
  parallelBeam,
  parallelBeamVectors,
  rotate,
  type ZYX,
} from "../lib/geometry/index.ts";
import { assertClose, assertRefuses, randomBeam, randomVector } from "./support/geometry.ts";
import { seededRandom } from "./support/random.ts";

const NONE = [Number.NaN, Number.NaN];
const kinds = ["parallel", "cone"] as const;

const detector = { detectorShape: [2, 3], detectorSize: [4, 9] } as const;
const cone = coneBeam({ ...detector, angleCount: 4, sourceOriginDistance: 10, sourceDetectorDistance: 30 });
const parallel = parallelBeam({ ...detector, angleCount: 2 });

/** The same beam from its own vectors, through the constructors for vectors; some of them exchanged. */
function rebuilt(beam: Beam, changed: { sources?: ZYX[]; centres?: ZYX[] }): Beam {
  const { detectorShape, detectorV, detectorU } = beam;
  const vectors = { detectorShape, detectorV, detectorU, detectorCentres: changed.centres ?? beam.detectorCentres };
  return beam.kind === "cone"
    ? coneBeamVectors({ ...vectors, sourcePositions: changed.sources ?? beam.sourcePositions })
    : parallelBeamVectors({ ...vectors, rayDirections: changed.sources ?? beam.rayDirections });
}

/** a + factor * b, for each entry. */
function along(a: readonly ZYX[], factor: number, b: readonly ZYX[]): ZYX[] {
  return a.map((vector, i) => vector.map((value, axis) => value + factor * b[i]![axis]!) as unknown as ZYX);
}

describe("circular beams: golden numbers", () => {
  it("cone: 4 angles, detector of 2 x 3 pixels in 4 x 9, source at 10, detector at 30", () => {
    assert.equal(cone.kind, "cone");
    assert.equal(cone.viewCount, 4);
    assert.deepEqual([...cone.detectorShape], [2, 3]);
    assertClose(cone.sourcePositions.slice(0, 2), [
      [0, -10, 0],
      [0, 0, 10],
    ]);
    assertClose(cone.detectorCentres.slice(0, 2), [
      [0, 20, 0],
      [0, 0, -20],
    ]);
    assertClose(cone.detectorU.slice(0, 2), [
      [0, 0, 3],
      [0, 3, 0],
    ]);
    assertClose(cone.detectorV, [
      [2, 0, 0],
      [2, 0, 0],
      [2, 0, 0],
      [2, 0, 0],
    ]);
    assertClose(cone.detectorNormals.slice(0, 2), [
      [0, 6, 0],
      [0, 0, -6],
    ]);
    assertClose(cone.corners()[0]!, [
      [-2, 20, -4.5],
      [2, 20, -4.5],
      [-2, 20, 4.5],
      [2, 20, 4.5],
    ]);
    assertClose(cone.vectors.subarray(0, 12), [0, -10, 0, 0, 20, 0, 2, 0, 0, 0, 0, 3]);
    assert.equal(cone.vectors.length, 48);
  });

  it("cone: projected points", () => {
    assertClose(cone.projectPoint([1, 0, 0]), [
      [1.5, 0],
      [1.5, 0],
      [1.5, 0],
      [1.5, 0],
    ]);
    assertClose(
      cone.projectPoint([0, 0, 1]).map(([, u]) => u),
      [1, 0, -1, 0],
    );
    assertClose(cone.projectPoint([0, -10, 0])[0]!, NONE);
    assertClose(cone.projectPoint([1, -20, 0])[0]!, [-1.5, 0]);
  });

  it("parallel: 2 angles, the same detector", () => {
    assertClose(parallel.rayDirections, [
      [0, -1, 0],
      [0, 0, 1],
    ]);
    assertClose(parallel.detectorCentres, [
      [0, 0, 0],
      [0, 0, 0],
    ]);
    assertClose(parallel.projectPoint([1, 0, 1]), [
      [0.5, 1 / 3],
      [0.5, 0],
    ]);
  });

  it("parallel: normals of 3 angles, detector of 10 x 15 pixels in 1 x 1.5", () => {
    const beam = parallelBeam({ angleCount: 3, detectorShape: [10, 15], detectorSize: [1, 1.5] });
    const expected = [
      [0, 0.01, 0],
      [0, 0.005, -0.00866025403784],
      [0, -0.005, -0.00866025403784],
    ];
    assertClose(beam.detectorNormals, expected);
  });

  it("angleCount spreads over a half turn (parallel) and a turn (cone), its end excluded", () => {
    const third = [0, Math.PI / 3, (2 * Math.PI) / 3];
    assert.ok(parallelBeam({ ...detector, angleCount: 3 }).equals(parallelBeam({ ...detector, angles: third })));
    const distances = { sourceOriginDistance: 2, sourceDetectorDistance: 3 };
    const turn = Float64Array.from(third, (angle) => 2 * angle);
    const counted = coneBeam({ ...detector, ...distances, angleCount: 3 });
    assert.ok(counted.equals(coneBeam({ ...detector, ...distances, angles: turn })));
  });

  it("are the view at angle 0, rotated about z", () => {
    const angles = [0.3, -2, 7];
    const turn = rotate({ axis: [1, 0, 0], angles });
    const distances = { sourceOriginDistance: 2, sourceDetectorDistance: 3, detectorOffset: [0.2, -0.7] } as const;
    const turned = coneBeam({ ...detector, ...distances, angles: [0] }).transform(turn);
    assert.ok(turned.equals(coneBeam({ ...detector, ...distances, angles })));
    const { detectorOffset } = distances;
    const ray = parallelBeam({ ...detector, detectorOffset, angles: [0] });
    assert.ok(ray.transform(turn).equals(parallelBeam({ ...detector, detectorOffset, angles })));
  });

  it("take the size of one pixel or of the whole detector; a pixel is 1 by default", () => {
    const sized = (options: object) =>
      parallelBeam({ angles: [0], detectorShape: [2, 3], ...options } as ParallelBeamOptions);
    assertClose([sized({}).detectorV, sized({}).detectorU], [[[1, 0, 0]], [[0, 0, 1]]]);
    assert.ok(sized({ detectorSize: [4, 9] }).equals(sized({ pixelSize: [2, 3] })));
    assert.ok(sized({ pixelSize: 2 }).equals(sized({ pixelSize: [2, 2] })));
    assert.ok(sized({ detectorSize: 6 }).equals(sized({ pixelSize: [3, 2] })));
  });

  it("may have the detector on the axis, or before it", () => {
    const distance = 2.8284271247;
    const beam = coneBeam({
      ...detector,
      angles: [1],
      sourceOriginDistance: distance,
      sourceDetectorDistance: distance,
    });
    assertClose(beam.detectorCentres, [[0, 0, 0]]);
    const before = coneBeam({ ...detector, angles: [0], sourceOriginDistance: 10, sourceDetectorDistance: 5 });
    assertClose(before.detectorCentres, [[0, -5, 0]]);
    assertClose(before.projectPoint([0, 0, 3]), [[0, 0.5]]);
  });
});

describe("detectorOffset", () => {
  it("shifts the detector along +v and +u", () => {
    const offset = { detectorOffset: [0.5, 2] } as const;
    const shifted = parallelBeam({ ...detector, ...offset, angleCount: 2 });
    assertClose(shifted.detectorCentres, [
      [0.5, 0, 2],
      [0.5, 2, 0],
    ]);
    const distances = { sourceOriginDistance: 10, sourceDetectorDistance: 30 };
    const cones = coneBeam({ ...detector, ...offset, ...distances, angleCount: 4 });
    assertClose(cones.detectorCentres.slice(0, 2), [
      [0.5, 20, 2],
      [0.5, 2, -20],
    ]);
  });

  it("puts the rotation axis on the column that it is seen at", () => {
    const [columns, pixelWidth] = [11, 0.3];
    for (const column of [0, 3.25, 5, 9.5]) {
      const options = {
        detectorShape: [1, columns],
        pixelSize: pixelWidth,
        detectorOffset: [0, ((columns - 1) / 2 - column) * pixelWidth],
        angleCount: 5,
      } as const;
      const beams = [
        parallelBeam(options),
        coneBeam({ ...options, sourceOriginDistance: 4, sourceDetectorDistance: 9 }),
      ];
      for (const beam of beams)
        for (const [, u] of beam.projectPoint([0, 0, 0])) assertClose(u + (columns - 1) / 2, column);
    }
  });
});

describe("beams of vectors", () => {
  it("take one vector, n of them or a Float64Array, and broadcast", () => {
    const centres: ZYX[] = [
      [0, 3, 0],
      [1, 3, 0],
    ];
    const lists = { detectorShape: [2, 2], detectorV: [1, 0, 0], detectorU: [[0, 0, 1]] } as const;
    const beam = parallelBeamVectors({ ...lists, rayDirections: [0, 1, 0], detectorCentres: centres });
    assert.equal(beam.viewCount, 2);
    assertClose(beam.vectors, [0, 1, 0, 0, 3, 0, 1, 0, 0, 0, 0, 1, 0, 1, 0, 1, 3, 0, 1, 0, 0, 0, 0, 1]);
    const flat = { rayDirections: Float64Array.of(0, 1, 0), detectorCentres: Float64Array.from(centres.flat()) };
    assert.ok(parallelBeamVectors({ ...lists, ...flat }).equals(beam));
  });

  it("of a beam give the same beam", () => {
    for (const beam of [cone, parallel]) assert.ok(rebuilt(beam, {}).equals(beam, 0));
  });

  it("have rays or sources, never both", () => {
    assertRefuses(() => cone.rayDirections, "sourcePositions");
    assertRefuses(() => parallel.sourcePositions, "rayDirections");
  });

  it("are frozen, and safe against mutation", () => {
    const centre: [number, number, number] = [0, 3, 0];
    const beam = parallelBeamVectors({
      detectorShape: [1, 1],
      rayDirections: [0, 1, 0],
      detectorCentres: centre,
      detectorV: [1, 0, 0],
      detectorU: [0, 0, 1],
    });
    const before = beam.vectors;
    centre[0] = 99;
    beam.vectors.fill(7);
    beam.detectorCentres.pop();
    assertClose(beam.vectors, before, 0);
    const view = beam.views[0]!;
    for (const part of [beam, beam.detectorShape, beam.views, view, ...Object.values(view)])
      assert.ok(Object.isFrozen(part));
  });
});

describe("projectPoint", () => {
  const random = seededRandom(5);
  const trials = kinds.flatMap((kind) => Array.from({ length: 10 }, () => randomBeam(kind, 3, random)));

  it("takes the detector's centre to (0, 0), and steps of v and u on the detector to whole pixels", () => {
    for (const beam of trials)
      for (const [i, centre] of beam.detectorCentres.entries()) {
        assertClose(beam.projectPoint(centre)[i]!, [0, 0]);
        const [moved] = along(along([centre], 3, [beam.detectorV[i]!]), -2, [beam.detectorU[i]!]);
        assertClose(beam.projectPoint(moved!)[i]!, [3, -2]);
      }
  });

  it("moving the detector by v and u takes the same from the result, exactly one pixel each", () => {
    for (const beam of trials) {
      const p = randomVector(random);
      const moved = rebuilt(beam, {
        centres: along(along(beam.detectorCentres, 1, beam.detectorV), 1, beam.detectorU),
      });
      assertClose(
        moved.projectPoint(p),
        beam.projectPoint(p).map(([v, u]) => [v - 1, u - 1]),
        1e-8,
      );
    }
  });

  it("does not change along the ray: detector (parallel), source or point on their line (cone)", () => {
    for (const beam of trials) {
      const p = randomVector(random);
      const points = Array.from({ length: beam.viewCount }, () => p);
      const moved =
        beam.kind === "parallel"
          ? rebuilt(beam, { centres: along(beam.detectorCentres, -1.7, beam.rayDirections) })
          : rebuilt(beam, { sources: along(along(beam.sourcePositions, 0.3, points), -0.3, beam.sourcePositions) });
      assertClose(moved.projectPoint(p), beam.projectPoint(p), 1e-8);
    }
  });

  it("is NaN where the line never meets the detector, and at the source", () => {
    for (const beam of trials.filter(({ kind }) => kind === "cone"))
      for (const [i, source] of beam.sourcePositions.entries()) {
        assertClose(beam.projectPoint(source)[i]!, NONE);
        const [rounded] = along([source], 1e-15, beam.detectorNormals.slice(i));
        assertClose(beam.projectPoint(rounded!)[i]!, NONE);
        const [aside] = along(along([source], 1.3, [beam.detectorV[i]!]), 4, [beam.detectorU[i]!]);
        assertClose(beam.projectPoint(aside!)[i]!, NONE);
      }
  });

  it("refuses what is no point", () => {
    assertRefuses(() => cone.projectPoint([1, 2] as unknown as ZYX), "point [1, 2]");
    assertRefuses(() => cone.projectPoint([1, 2, Number.NaN]), "point [1, 2, NaN]");
  });
});
