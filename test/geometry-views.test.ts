import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  type Beam,
  compose,
  concatenate,
  coneBeam,
  parallelBeam,
  parallelBeamVectors,
  reflect,
  rotate,
  scale,
  type Transform,
  translate,
  type VU,
  type ZYX,
} from "../lib/geometry/index.ts";
import { assertClose, assertRefuses, randomBeam, randomVector } from "./support/geometry.ts";
import { seededRandom } from "./support/random.ts";

const kinds = ["parallel", "cone"] as const;
const random = seededRandom(11);

/** Where the centre of pixel [row, column] is, in every view: counted from the detector's first corner. */
function pixelCentre(beam: Beam, row: number, column: number): number[][] {
  const corners = beam.corners();
  return beam.views.map(({ v, u }, i) =>
    corners[i]![0].map((value, axis) => value + (row + 0.5) * v[axis]! + (column + 0.5) * u[axis]!),
  );
}

/** A beam of `n` views whose detector has [rows, columns]. */
function sample(kind: "parallel" | "cone", n: number, detectorShape: VU): Beam {
  const options = { angleCount: n, detectorShape, pixelSize: [0.4, 0.7], detectorOffset: [0.3, -0.2] } as const;
  return kind === "parallel"
    ? parallelBeam(options)
    : coneBeam({ ...options, sourceOriginDistance: 20, sourceDetectorDistance: 27 });
}

function motions(n: number): Transform[] {
  const vectors = () => Array.from({ length: n }, () => randomVector(random));
  const angles = Array.from({ length: n }, () => random.uniform(-4, 4));
  return [
    translate(vectors()),
    rotate({ axis: vectors(), angles, position: vectors() }),
    scale([1.2, 0.8, 1.1], { about: vectors() }),
    reflect({ axis: vectors(), position: vectors() }),
  ];
}

describe("select", () => {
  it("crops in place: every pixel that stays is where it was", () => {
    for (const kind of kinds)
      for (let trial = 0; trial < 25; trial++) {
        const beam = randomBeam(kind, 2, random);
        const [rows, columns] = beam.detectorShape.map((n) => {
          const start = random.integer(0, n - 1);
          return { start, stop: random.integer(start + 1, n) };
        });
        const cropped = beam.select({ rows: rows!, columns: columns! });
        const shape = [rows!.stop - rows!.start, columns!.stop - columns!.start];
        assert.deepEqual([...cropped.detectorShape], shape);
        for (const [i, j] of [
          [0, 0],
          [shape[0]! - 1, shape[1]! - 1],
        ] as const)
          assertClose(pixelCentre(cropped, i, j), pixelCentre(beam, i + rows!.start, j + columns!.start));
      }
  });

  it("a window that reaches a corner keeps that corner", () => {
    const beam = sample("cone", 3, [4, 6]);
    const low = beam.select({ rows: { stop: 1 }, columns: { stop: 2 } });
    const high = beam.select({ rows: { start: 1 }, columns: { start: 5 } });
    for (const i of [0, 1, 2]) {
      assertClose(low.corners()[i]![0], beam.corners()[i]![0]);
      assertClose(high.corners()[i]![3], beam.corners()[i]![3]);
    }
  });

  it("keeps views by index, by mask and by range with a step, each as it was", () => {
    const beam = sample("parallel", 6, [1, 2]);
    const kept = (views: number[]) => views.map((i) => beam.rayDirections[i]!);
    const rays = (views: Parameters<Beam["select"]>[0]["views"] & object) => beam.select({ views }).rayDirections;
    assertClose(rays([3]), kept([3]));
    assertClose(rays([5, 0, 0]), kept([5, 0, 0]));
    assertClose(rays([true, false, false, true, false, true]), kept([0, 3, 5]));
    assertClose(rays({ start: 2 }), kept([2, 3, 4, 5]));
    assertClose(rays({ start: 1, stop: 5 }), kept([1, 2, 3, 4]));
    assertClose(rays({ start: 1, step: 2 }), kept([1, 3, 5]));
    assertClose(rays({ stop: 5, step: 4 }), kept([0, 4]));
    assert.ok(beam.select({}).equals(beam));
    assert.ok(
      beam
        .select({ views: { step: 2 } })
        .select({ views: [1] })
        .equals(beam.select({ views: [2] })),
    );
  });

  it("of a moved beam is the moved selection", () => {
    for (const kind of kinds)
      for (const motion of motions(1)) {
        const beam = sample(kind, 5, [4, 6]);
        const part = { views: [4, 2], rows: { start: 1, stop: 4 }, columns: { stop: 3 } };
        assert.ok(beam.transform(motion).select(part).equals(beam.select(part).transform(motion)));
        assert.ok(
          beam
            .transform(motion)
            .bin({ rows: 2 })
            .equals(beam.bin({ rows: 2 }).transform(motion)),
        );
      }
  });

  it("refuses what is empty, outside, backwards, fractional or of another kind", () => {
    const beam = sample("parallel", 3, [4, 6]);
    const refuses = (selection: object, ...fragments: string[]) =>
      assertRefuses(() => beam.select(selection), ...fragments);
    refuses({ views: [3] }, "views [3]: expected indexes from 0 to 2");
    refuses({ views: [-1] }, "views [-1]");
    refuses({ views: [0.5] }, "views [0.5]");
    refuses({ views: [] }, "views []");
    refuses({ views: [true, false] }, "views [true, false]", "3 booleans");
    refuses({ views: [false, false, false] }, "one view at least");
    refuses({ views: [0, true, 1] }, "views [0, true, 1]");
    refuses({ views: 1 }, "views 1");
    refuses({ views: { step: -1 } }, "step of views -1");
    refuses({ views: { step: 0 } }, "step of views 0");
    refuses({ views: { stop: 4 } }, "views { stop: 4 }", "0 <= start < stop <= 3");
    refuses({ views: { from: 1 } }, "views { from: 1 }", "{ start, stop, step }");
    refuses({ rows: { start: 4 } }, "rows { start: 4 }", "0 <= start < stop <= 4");
    refuses({ rows: { start: 3, stop: 1 } }, "rows { start: 3, stop: 1 }");
    refuses({ rows: { step: -1 } }, "rows { step: -1 }: expected { start, stop }");
    refuses({ rows: [0, 2] }, "rows [0, 2]");
    refuses({ columns: { stop: 7 } }, "columns { stop: 7 }", "<= 6");
    refuses({ columns: { start: -2 } }, "columns { start: -2 }");
    refuses({ columns: null }, "columns null");
  });
});

describe("bin", () => {
  it("makes larger pixels on the same detector", () => {
    for (const kind of kinds) {
      const beam = sample(kind, 3, [4, 6]);
      const binned = beam.bin({ rows: 2, columns: 3 });
      assert.deepEqual([...binned.detectorShape], [2, 2]);
      assertClose(binned.corners(), beam.corners());
      assertClose(pixelCentre(binned, 0, 0), pixelCentre(beam, 0.5, 1));
      assertClose(pixelCentre(binned, 1, 1), pixelCentre(beam, 2.5, 4));
      assert.ok(beam.bin({}).equals(beam));
      assert.ok(beam.bin({ rows: 2 }).bin({ columns: 3 }).equals(binned));
    }
  });

  it("refuses factors that do not divide the shape, and those that are no counts", () => {
    const beam = sample("parallel", 2, [5, 6]);
    assertRefuses(() => beam.bin({ rows: 2 }), "rows 2: must divide the 5 rows");
    assertRefuses(() => beam.bin({ columns: 4 }), "columns 4: must divide the 6 columns");
    assertRefuses(() => beam.bin({ rows: 0 }), "rows 0");
    assertRefuses(() => beam.bin({ columns: 1.5 }), "columns 1.5");
    assertRefuses(() => beam.bin({ columns: -3 }), "columns -3");
  });
});

describe("transform of a beam", () => {
  it("moves sources, detectors and pixels, but rays only turn", () => {
    const moved = sample("cone", 3, [4, 6]).transform(translate([1, 2, 3]));
    const cone = sample("cone", 3, [4, 6]);
    for (const i of [0, 1, 2]) {
      assertClose(
        moved.sourcePositions[i]!,
        cone.sourcePositions[i]!.map((value, axis) => value + axis + 1),
      );
      assertClose(
        moved.detectorCentres[i]!,
        cone.detectorCentres[i]!.map((value, axis) => value + axis + 1),
      );
    }
    assertClose(moved.detectorV, cone.detectorV);
    assertClose(moved.detectorU, cone.detectorU);
    const parallel = sample("parallel", 3, [4, 6]);
    assertClose(parallel.transform(translate([1, 2, 3])).rayDirections, parallel.rayDirections);
    assertClose(parallel.transform(scale(2)).detectorV, [
      [0.8, 0, 0],
      [0.8, 0, 0],
      [0.8, 0, 0],
    ]);
  });

  it("follows compose, and is undone by the inverse", () => {
    for (const kind of kinds) {
      const beam = randomBeam(kind, 4, random);
      const all = [...motions(1), ...motions(4)];
      for (const [i, a] of all.entries()) {
        const b = all[(i + 3) % all.length]!;
        assert.ok(
          beam
            .transform(b)
            .transform(a)
            .equals(beam.transform(compose(a, b))),
        );
        assert.ok(beam.transform(a).transform(a.inverse()).equals(beam));
      }
    }
  });

  it("space moved as a whole: projections of moved points in the moved beam do not change", () => {
    for (const kind of kinds)
      for (const motion of motions(3)) {
        const beam = randomBeam(kind, 3, random);
        const p = randomVector(random);
        const moved = beam.transform(motion);
        const seen = motion.applyToPoint(p).map((q, i) => moved.projectPoint(q)[i]!);
        assertClose(seen, beam.projectPoint(p), 1e-8);
      }
  });

  it("a volume that moves by T is a beam that moves by the inverse of T", () => {
    for (const kind of kinds)
      for (const motion of motions(3)) {
        const beam = randomBeam(kind, 3, random);
        const p = randomVector(random);
        const seen = motion.applyToPoint(p).map((q, i) => beam.projectPoint(q)[i]!);
        assertClose(beam.transform(motion.inverse()).projectPoint(p), seen, 1e-8);
      }
  });

  it("golden numbers of a volume rotated by 0.3 about z through (0, 0.1, 0.2)", () => {
    const motion = rotate({ axis: [1, 0, 0], angles: [0.3], position: [0, 0.1, 0.2] });
    const beam = parallelBeamVectors({
      detectorShape: [1, 1],
      rayDirections: [0, 1, 0],
      detectorCentres: [0, 2, 0],
      detectorV: [1, 0, 0],
      detectorU: [0, 0, 1],
    }).transform(motion.inverse());
    assertClose(beam.rayDirections, [[0, 0.9553364891, 0.2955202067]]);
    assertClose(beam.detectorCentres, [[0, 1.9742433707, 0.5704210948]]);
    assertClose(beam.detectorV, [[1, 0, 0]]);
    assertClose(beam.detectorU, [[0, -0.2955202067, 0.9553364891]]);
  });

  it("golden numbers of a helix: 5 steps, radius 2, pitch 1", () => {
    const heights = [-1, -0.5, 0, 0.5, 1];
    const helix = compose(
      translate(heights.map((height): ZYX => [height, 0, 0])),
      rotate({ axis: [1, 0, 0], angles: heights.map((height) => 2 * Math.PI * height) }),
    );
    const first = coneBeam({ angles: [0], detectorShape: [2, 2], sourceOriginDistance: 2, sourceDetectorDistance: 4 });
    const beam = first.transform(helix);
    assertClose(beam.sourcePositions, [
      [-1, -2, 0],
      [-0.5, 2, 0],
      [0, -2, 0],
      [0.5, 2, 0],
      [1, -2, 0],
    ]);
    assertClose(
      beam.detectorCentres.map((centre) => centre[1]),
      [2, -2, 2, -2, 2],
    );
  });

  it("tilts and rotations make tensor tomography: 46 x 50 views", () => {
    const [tilts, turns] = [46, 50];
    const pairs = Array.from({ length: tilts * turns }, (_, i) => [Math.floor(i / turns), i % turns] as const);
    const tilt = rotate({ axis: [0, 0, 1], angles: pairs.map(([k]) => (k / tilts) * (Math.PI / 4)) });
    const turn = rotate({ axis: [1, 0, 0], angles: pairs.map(([, k]) => (k / turns) * 2 * Math.PI) });
    const beam = sample("parallel", 1, [122, 160]).transform(compose(tilt, turn).inverse());
    assert.equal(beam.viewCount, 2300);
    // The ray (0, -1, 0) of the first view, tilted back by 45 degrees * 23 / 46 about x, then turned back by 180 about z.
    const [sin, cos] = [Math.sin(Math.PI / 8), Math.cos(Math.PI / 8)];
    assertClose(beam.rayDirections[23 * turns + 25]!, [sin, cos, 0]);
  });

  it("refuses counts that differ", () => {
    const three = translate(Array.from({ length: 3 }, () => randomVector(random)));
    assertRefuses(() => sample("cone", 2, [1, 1]).transform(three), "3 steps, 2 points");
    assert.equal(sample("cone", 1, [1, 1]).transform(three).viewCount, 3);
  });
});

describe("concatenate", () => {
  it("joins views in order, and slices back", () => {
    for (const kind of kinds) {
      const [a, b] = [sample(kind, 2, [4, 6]), sample(kind, 3, [4, 6])];
      const joined = concatenate([a, b, a]);
      assert.equal(joined.viewCount, 7);
      assert.ok(joined.select({ views: { stop: 2 } }).equals(a));
      assert.ok(joined.select({ views: { start: 2, stop: 5 } }).equals(b));
      assert.ok(joined.select({ views: [5, 6] }).equals(a));
    }
  });

  it("refuses nothing, unequal shapes and mixed kinds", () => {
    const beam = sample("cone", 2, [4, 6]);
    assertRefuses(() => concatenate([]), "beams []");
    assertRefuses(() => concatenate([beam, sample("cone", 2, [4, 5])]), "cone [4, 6]", "cone [4, 5]");
    assertRefuses(() => concatenate([beam, sample("parallel", 2, [4, 6])]), "cone [4, 6]", "parallel [4, 6]");
  });
});

describe("equals", () => {
  it("compares kind, counts and vectors within a tolerance", () => {
    const beam = sample("cone", 2, [4, 6]);
    assert.ok(beam.equals(sample("cone", 2, [4, 6])));
    assert.ok(beam.equals(beam.transform(translate([5e-9, 0, 0]))));
    assert.ok(!beam.equals(beam.transform(translate([5e-8, 0, 0]))));
    assert.ok(beam.equals(beam.transform(translate([5e-8, 0, 0])), 1e-7));
    assert.ok(!beam.equals(beam.bin({ rows: 2 })));
    assert.ok(!sample("parallel", 2, [4, 6]).equals(beam));
  });

  it("is false, and never throws, for other numbers of angles and for anything else", () => {
    for (const kind of kinds) assert.ok(!sample(kind, 2, [4, 6]).equals(sample(kind, 3, [4, 6])));
    for (const other of [undefined, null, 1, "beam", [], {}, { kind: "cone", viewCount: 2, detectorShape: [4, 6] }])
      assert.ok(!sample("cone", 2, [4, 6]).equals(other));
  });
});
