import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import {
  type AstraGeometry,
  type AstraProjectionGeometry,
  type AstraVolumeGeometry,
  type Beam,
  coneBeam,
  coneBeamVectors,
  fromAstra,
  parallelBeam,
  parallelBeamVectors,
  toAstra,
  type Volume,
  volume,
  type ZYX,
} from "../lib/geometry/index.ts";
import { readNpy } from "../lib/io/npy.ts";
import { assertClose, assertRefuses, randomPair, without } from "./support/geometry.ts";
import { relativeL2, type SeededRandom, seededRandom } from "./support/random.ts";
import { forwardModel, type ModelGeometry } from "./support/ray_model.ts";

type Case = AstraGeometry & {
  readonly name: string;
  readonly options: { readonly DetectorSuperSampling?: number };
  readonly x: string;
  readonly Ax: string;
};

const reference = (name: string) => fileURLToPath(new URL(`reference/astra/${name}`, import.meta.url));
const cases: Case[] = JSON.parse(readFileSync(reference("manifest.json"), "utf8")).cases.filter(
  ({ kind }: { kind: string }) => kind.startsWith("projection"),
);

const grid3d: AstraVolumeGeometry = {
  GridRowCount: 3,
  GridColCount: 4,
  GridSliceCount: 2,
  option: { WindowMinX: -1, WindowMaxX: 7, WindowMinY: 10, WindowMaxY: 13, WindowMinZ: -2, WindowMaxZ: -1 },
};
const grid2d: AstraVolumeGeometry = {
  GridRowCount: 3,
  GridColCount: 4,
  option: { WindowMinX: -1, WindowMaxX: 7, WindowMinY: 10, WindowMaxY: 13 },
};
const angles = [0, 0.4, 2, -3];
const cone: AstraProjectionGeometry = {
  type: "cone",
  DetectorRowCount: 5,
  DetectorColCount: 6,
  DetectorSpacingX: 0.5,
  DetectorSpacingY: 2,
  ProjectionAngles: angles,
  DistanceOriginSource: 30,
  DistanceOriginDetector: 12,
};
const fan: AstraProjectionGeometry = {
  type: "fanflat",
  DetectorCount: 6,
  DetectorWidth: 0.5,
  ProjectionAngles: angles,
  DistanceOriginSource: 30,
  DistanceOriginDetector: 12,
};

type Geometry = { volume: Volume; beam: Beam };

/** The float64 model's view of a pair. */
function modelOf({ volume, beam }: Geometry, detectorSupersampling = 1): ModelGeometry {
  return {
    kind: beam.kind,
    shape: [...volume.shape],
    voxelSize: [...volume.voxelSize],
    position: [...volume.position],
    detectorShape: [...beam.detectorShape],
    vectors: beam.vectors,
    curvatureRadii: beam.detectorCurvatureRadii,
    detectorSupersampling,
  };
}

/** Whether all rays of a fan run closer to the same axis, x or y, on square pixels: then so does each of them alone. */
function hasOneMainAxis(beam: Beam, view: number): boolean {
  const { source } = beam.views[view]!;
  const alongX = beam.corners()[view]!.map((corner) => {
    return Math.abs(corner[2] - source[2]) > Math.abs(corner[1] - source[1]);
  });
  return alongX.every((along) => along === alongX[0]);
}

/** A pair in the plane z = 0. */
function randomFlatPair(random: SeededRandom): Geometry {
  const inPlane = (near: ZYX): ZYX => [0, near[1] + random.uniform(-1, 1), near[2] + random.uniform(-1, 1)];
  const list = (near: ZYX) => Array.from({ length: 3 }, () => inPlane(near));
  const detector = {
    detectorShape: [1, random.integer(1, 9)],
    detectorCentres: list([0, 6, 0]),
    detectorV: [1, 0, 0],
    detectorU: list([0, 0, 3]),
  } as const;
  const sources = list([0, -9, 0]);
  return {
    volume: volume({
      shape: [1, random.integer(1, 9), random.integer(1, 9)],
      voxelSize: [1, random.uniform(0.1, 3), random.uniform(0.1, 3)],
      position: inPlane([0, 0, 0]),
    }),
    beam:
      random.uniform() < 0.5
        ? coneBeamVectors({ ...detector, sourcePositions: sources })
        : parallelBeamVectors({ ...detector, rayDirections: sources }),
  };
}

function assertEqual(actual: Geometry, expected: Geometry, tolerance = 1e-9): void {
  assert.ok(actual.volume.equals(expected.volume, tolerance), JSON.stringify([actual.volume, expected.volume]));
  assert.ok(actual.beam.equals(expected.beam, tolerance), JSON.stringify([actual.beam, expected.beam]));
}

describe("ASTRA's dictionaries: what ASTRA itself projected", () => {
  for (const entry of cases) {
    it(`${entry.name} (${entry.projectionGeometry.type})`, async () => {
      const geometry = fromAstra(entry);
      const { beam } = geometry;
      const [x, expected] = [await readNpy(reference(entry.x)), await readNpy(reference(entry.Ax))];
      const is2d = expected.shape.length === 2;
      const [rows, columns] = beam.detectorShape;
      assert.deepEqual(expected.shape, is2d ? [beam.viewCount, columns] : [rows, beam.viewCount, columns]);
      const y = forwardModel(modelOf(geometry, entry.options.DetectorSuperSampling), x.data);
      const error = relativeL2(y, expected.data);
      // ASTRA rounds interpolation weights to 1/256.
      assert.ok(error <= 3e-3, `relative L2 ${error}`);
      if (beam.kind === "parallel" || !is2d) return;
      // Its fan projector also chooses the main axis ray by ray, the model view by view.
      const views = Array.from({ length: beam.viewCount }, (_, view) => view).filter((view) =>
        hasOneMainAxis(beam, view),
      );
      const part = (data: ArrayLike<number>) =>
        views.flatMap((view) => Array.from({ length: columns }, (_, i) => data[view * columns + i]!));
      assert.ok(views.length > beam.viewCount / 3, `${views.length} views of one main axis`);
      const closeError = relativeL2(part(y), part(expected.data));
      assert.ok(closeError <= 5e-4, `relative L2 ${closeError} in views of one main axis`);
    });
  }
});

describe("ASTRA's dictionaries: what they mean", () => {
  it("a 3D grid: (x, y, z) windows to a (z, y, x) extent", () => {
    const { volume: found } = fromAstra({ volumeGeometry: grid3d, projectionGeometry: cone });
    assert.deepEqual(found.shape, [2, 3, 4]);
    assertClose(found.extent, [
      [-2, -1],
      [10, 13],
      [-1, 7],
    ]);
  });

  it("circular 3D scans are those of parallelBeam and coneBeam", () => {
    const detector = { detectorShape: [5, 6], pixelSize: [2, 0.5], angles } as const;
    const expected = coneBeam({ ...detector, sourceOriginDistance: 30, sourceDetectorDistance: 30 + 12 });
    assert.ok(fromAstra({ volumeGeometry: grid3d, projectionGeometry: cone }).beam.equals(expected, 1e-12));
    const { DistanceOriginSource: _, DistanceOriginDetector: __, ...circle } = cone;
    const parallel = { ...circle, type: "parallel3d" } as const;
    assert.ok(
      fromAstra({ volumeGeometry: grid3d, projectionGeometry: parallel }).beam.equals(parallelBeam(detector), 0),
    );
  });

  it("the detector may stand on the axis or before it", () => {
    for (const DistanceOriginDetector of [0, -10]) {
      const { beam } = fromAstra({ volumeGeometry: grid3d, projectionGeometry: { ...cone, DistanceOriginDetector } });
      assertClose(beam.detectorCentres[0]!, [0, DistanceOriginDetector, 0]);
    }
  });

  it("rows of Vectors are (x, y, z): ray or source, detector centre, u, v", () => {
    const detector = { DetectorRowCount: 5, DetectorColCount: 6, Vectors: [[1, -20, 2, 3, 9, 4, 5, 0, 1, -1, 0, 6]] };
    for (const type of ["cone_vec", "parallel3d_vec"] as const) {
      const { beam } = fromAstra({ volumeGeometry: grid3d, projectionGeometry: { type, ...detector } });
      assert.equal(beam.kind, type === "cone_vec" ? "cone" : "parallel");
      assert.deepEqual(beam.views, [{ source: [2, -20, 1], centre: [4, 9, 3], v: [6, 0, -1], u: [1, 0, 5] }]);
    }
  });

  it("a 2D grid becomes a slice of which row 0 is the row of highest y", () => {
    const { volume: found } = fromAstra({ volumeGeometry: grid2d, projectionGeometry: fan });
    assert.deepEqual(found.shape, [1, 3, 4]);
    assertClose(found.extent, [
      [-0.5, 0.5],
      [-13, -10],
      [-1, 7],
    ]);
  });

  it("2D scans turn as in ASTRA: its point (x, y) is seen at the same place, here as [0, -y, x]", () => {
    const random = seededRandom(1);
    for (const type of ["parallel", "fanflat"] as const) {
      const { DistanceOriginSource, DistanceOriginDetector, ...circle } = fan;
      const projectionGeometry = type === "fanflat" ? fan : ({ ...circle, type } as const);
      const { beam } = fromAstra({ volumeGeometry: grid2d, projectionGeometry });
      for (let trial = 0; trial < 20; trial++) {
        const [x, y] = [random.uniform(-9, 9), random.uniform(-9, 9)];
        for (const [view, [, column]] of beam.projectPoint([0, -y, x]).entries()) {
          const [sin, cos] = [Math.sin(angles[view]!), Math.cos(angles[view]!)];
          // In the scanner's own frame: sideways along u, and from the source to the detector.
          const [aside, along] = [x * cos + y * sin, y * cos - x * sin];
          const distance = DistanceOriginSource + DistanceOriginDetector;
          const magnification = type === "fanflat" ? distance / (DistanceOriginSource + along) : 1;
          assertClose(column, (magnification * aside) / 0.5);
        }
      }
    }
  });

  it("2D vectors are (x, y), mirrored likewise", () => {
    const vectors = { DetectorCount: 6, Vectors: [[1, -20, 3, 9, 5, 1]] };
    for (const type of ["parallel_vec", "fanflat_vec"] as const) {
      const { beam } = fromAstra({ volumeGeometry: grid2d, projectionGeometry: { type, ...vectors } });
      assert.deepEqual(beam.detectorShape, [1, 6]);
      assertClose(beam.vectors, [0, 20, 1, 0, -9, 3, 1, 0, 0, 0, -1, 5]);
    }
  });
});

describe("ASTRA's dictionaries: there and back", () => {
  it("100 random volumes and beams in 3D, through JSON", () => {
    const random = seededRandom(2);
    for (let trial = 0; trial < 100; trial++) {
      const pair = randomPair(random);
      const dictionaries = toAstra(pair);
      assert.equal(dictionaries.projectionGeometry.type, pair.beam.kind === "cone" ? "cone_vec" : "parallel3d_vec");
      const back = fromAstra(JSON.parse(JSON.stringify(dictionaries)));
      assertEqual(back, pair);
      assert.ok(back.beam.equals(pair.beam, 0), "vectors are exact");
    }
  });

  it("100 random slices in 2D, through JSON", () => {
    const random = seededRandom(3);
    for (let trial = 0; trial < 100; trial++) {
      const pair = randomFlatPair(random);
      const dictionaries = toAstra(pair, { dimensions: 2 });
      assert.equal(dictionaries.projectionGeometry.type, pair.beam.kind === "cone" ? "fanflat_vec" : "parallel_vec");
      assertEqual(fromAstra(JSON.parse(JSON.stringify(dictionaries))), pair);
    }
  });

  it("ASTRA's own dictionaries: windows, counts and vectors come back", () => {
    for (const entry of cases) {
      const written = toAstra(fromAstra(entry), { dimensions: entry.volumeGeometry.GridSliceCount ? 3 : 2 });
      const [from, to] = [entry.volumeGeometry, written.volumeGeometry];
      assert.deepEqual({ ...to, option: null }, { ...from, option: null });
      assert.deepEqual(Object.keys(to.option).sort(), Object.keys(from.option).sort());
      for (const [limit, value] of Object.entries(from.option))
        assertClose((to.option as Record<string, number>)[limit]!, value);
      if (!("Vectors" in entry.projectionGeometry)) continue;
      assert.ok("Vectors" in written.projectionGeometry);
      assertClose(written.projectionGeometry.Vectors, entry.projectionGeometry.Vectors, 0);
      assert.equal(written.projectionGeometry.type, entry.projectionGeometry.type);
    }
  });

  it("2D is refused for what does not lie in the plane z = 0", () => {
    const flat = randomFlatPair(seededRandom(4));
    const refuses = (pair: Partial<Geometry>, ...fragments: string[]) =>
      assertRefuses(() => toAstra({ ...flat, ...pair }, { dimensions: 2 }), ...fragments);
    refuses({ volume: volume({ shape: [2, 3, 4] }) }, "shape [2, 3, 4]", "one slice");
    refuses({ volume: flat.volume.translate([1, 0, 0]) }, "position [1, ", "z = 0");
    refuses({ beam: parallelBeam({ angleCount: 2, detectorShape: [2, 3] }) }, "detectorShape [2, 3]", "one row");
    const raised = { angleCount: 2, detectorShape: [1, 3], detectorOffset: [0.5, 0] } as const;
    refuses({ beam: parallelBeam(raised) }, "views[0] ", "z = 0");
    assertRefuses(() => toAstra(flat, { dimensions: 4 as 3 }), "dimensions 4: expected 2 or 3");
  });
});

describe("what is no pair of ASTRA's dictionaries is refused, with the value in the sentence", () => {
  /** Asserts that the cone scan on the 3D grid, right but for these fields, is refused. */
  const refuses = (changed: { volume?: object; option?: object; beam?: object }, ...fragments: string[]) => {
    const volumeGeometry: object = { ...grid3d, option: { ...grid3d.option, ...changed.option }, ...changed.volume };
    const projectionGeometry: object = { ...cone, ...changed.beam };
    const pair: object = { volumeGeometry, projectionGeometry };
    assertRefuses(() => fromAstra(pair as AstraGeometry), ...fragments);
  };

  it("types", () => {
    const supported = "expected one of parallel3d, parallel3d_vec, cone, cone_vec, cyl_cone_vec,";
    for (const type of ["cyl_parallel_vec", "sparse_matrix", "constructor", 3, undefined])
      refuses({ beam: { type } }, "type of projectionGeometry", String(type), supported);
    assertRefuses(() => fromAstra({ volumeGeometry: grid3d } as AstraGeometry), "type of projectionGeometry undefined");
  });

  it("2D and 3D together", () => {
    const pair = (volumeGeometry: AstraVolumeGeometry, projectionGeometry: AstraProjectionGeometry) => () =>
      fromAstra({ volumeGeometry, projectionGeometry });
    assertRefuses(pair(grid2d, cone), 'type "cone"', "is 3D, and volumeGeometry is 2D: it has no GridSliceCount");
    assertRefuses(pair(grid3d, fan), 'type "fanflat"', "is 2D, and volumeGeometry is 3D: it has a GridSliceCount");
  });

  it("fields that are missing or unknown", () => {
    for (const field of Object.keys(cone).slice(1)) {
      const pair: object = { volumeGeometry: grid3d, projectionGeometry: without(cone, field) };
      assertRefuses(() => fromAstra(pair as AstraGeometry), `projectionGeometry has no ${field}: expected type,`);
    }
    for (const field of ["GridRowCount", "GridColCount", "option"]) {
      const pair: object = { volumeGeometry: without(grid3d, field), projectionGeometry: cone };
      assertRefuses(() => fromAstra(pair as AstraGeometry), `volumeGeometry has no ${field}: expected GridRowCount,`);
    }
    refuses({ volume: { option: without(grid3d.option, "WindowMaxZ") } }, "option of volumeGeometry has no WindowMaxZ");
    refuses({ volume: { option: null } }, "option of volumeGeometry null: expected an object");
    refuses({ beam: { ExtraDetectorOffset: [1] } }, "projectionGeometry.ExtraDetectorOffset [1]: unknown");
    const none: object = { volumeGeometry: null, projectionGeometry: cone };
    assertRefuses(() => fromAstra(none as AstraGeometry), "volumeGeometry null: expected an object");
  });

  it("counts, sizes and windows", () => {
    refuses({ volume: { GridRowCount: 0 } }, "GridRowCount 0: expected one positive integer");
    refuses({ volume: { GridColCount: "4" } }, 'GridColCount "4"');
    refuses({ volume: { GridSliceCount: 1.5 } }, "GridSliceCount 1.5");
    refuses({ option: { WindowMinY: 13 } }, "WindowMinY and WindowMaxY [13, 13]: the maximum must be above");
    refuses({ option: { WindowMaxZ: -3 } }, "WindowMinZ and WindowMaxZ [-2, -3]");
    refuses({ option: { WindowMinX: Number.NaN } }, "WindowMinX and WindowMaxX [NaN, 7]");
    refuses({ beam: { DetectorRowCount: -1 } }, "DetectorRowCount -1");
    refuses({ beam: { DetectorColCount: 2.5 } }, "DetectorColCount 2.5");
    refuses({ beam: { DetectorSpacingX: 0 } }, "DetectorSpacingX 0: expected one positive number");
    refuses({ beam: { DetectorSpacingY: "1" } }, 'DetectorSpacingY "1"');
    refuses({ beam: { ProjectionAngles: [] } }, "ProjectionAngles []");
    refuses({ beam: { ProjectionAngles: [0, null] } }, "ProjectionAngles [0, null]");
    refuses({ beam: { DistanceOriginSource: 0 } }, "DistanceOriginSource 0");
    refuses({ beam: { DistanceOriginDetector: Number.NaN } }, "DistanceOriginDetector [NaN]");
    refuses({ beam: { DistanceOriginDetector: -30 } }, "DistanceOriginDetector -30", "above -DistanceOriginSource");
  });

  it("vectors", () => {
    const detector = { type: "cone_vec", DetectorRowCount: 5, DetectorColCount: 6 };
    const row = [0, -20, 0, 0, 9, 0, 1, 0, 0, 0, 0, 1];
    const vectors = (Vectors: unknown) => () =>
      fromAstra({ volumeGeometry: grid3d, projectionGeometry: { ...detector, Vectors } as AstraProjectionGeometry });
    assert.equal(vectors([row])().beam.viewCount, 1);
    for (const nothing of [[], 3, null, {}]) assertRefuses(vectors(nothing), "Vectors ", "a list of one or more");
    assertRefuses(vectors([row, row.slice(1)]), "Vectors[1] [-20, 0, ", "[srcX, srcY, srcZ, dX,", "12 finite numbers");
    assertRefuses(vectors([[...row, 40]]), "Vectors[0] ", "12 finite numbers");
    const curved = (radius: number[]) => () => {
      const projectionGeometry = { ...detector, type: "cyl_cone_vec", Vectors: [[...row, ...radius]] } as const;
      return fromAstra({ volumeGeometry: grid3d, projectionGeometry });
    };
    assert.deepEqual(curved([40])().beam.detectorCurvatureRadii, [40]);
    assertRefuses(curved([]), "Vectors[0] ", "vZ, radius], 13 finite numbers");
    assertRefuses(curved([0]), "radius of Vectors[0] 0: expected one positive number");
    assertRefuses(vectors([row.with(3, Number.POSITIVE_INFINITY)]), "Vectors[0] ", "12 finite numbers");
    assertRefuses(vectors([row, row.with(6, 0)]), "detectorU[1] [0, 0, 0]");
    const flat = { type: "fanflat_vec", DetectorCount: 6, Vectors: [row] } as const;
    const pair = { volumeGeometry: grid2d, projectionGeometry: flat };
    assertRefuses(() => fromAstra(pair), "Vectors[0] ", "[srcX, srcY, dX, dY, uX, uY], 6 finite numbers");
  });
});
