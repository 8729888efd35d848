/** The float64 model on every kind of random geometry, and the promises of the random geometries themselves. */

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { dot, geometryKinds, norm, randomGeometry, relativeL2, seededRandom } from "./support/random.ts";
import {
  backModel,
  forwardModel,
  isOneSlice,
  type ModelGeometry,
  mainAxis,
  projectionLength,
  viewCount,
  viewVectors,
  volumeLength,
} from "./support/ray_model.ts";

/** Random geometries of every kind, the same in every run. */
function* manyGeometries(each: number, maxCount: number): Generator<[string, ModelGeometry, number]> {
  for (const kind of geometryKinds) {
    for (let seed = 0; seed < each; seed++) {
      yield [`${kind}, seed ${seed}:`, randomGeometry(kind, seededRandom(seed), { maxCount, maxViews: 6 }), seed];
    }
  }
}

describe("the ray model: every kind of geometry", () => {
  it("has a back projection that is the exact transpose", () => {
    for (const [name, g, seed] of manyGeometries(12, 16)) {
      const rng = seededRandom(1000 + seed);
      const x = Float64Array.from({ length: volumeLength(g) }, () => rng.normal());
      const y = Float64Array.from({ length: projectionLength(g) }, () => rng.normal());
      const Ax = forwardModel(g, x);
      const gap = Math.abs(dot(Ax, y) - dot(x, backModel(g, y)));
      assert.ok(gap <= 1e-13 * norm(Ax) * norm(y), `${name} gap ${gap}`);
    }
  });

  it("scales with the unit of length", () => {
    for (const [name, g, seed] of manyGeometries(6, 12)) {
      const x = seededRandom(seed).float32(volumeLength(g));
      const larger: ModelGeometry = {
        ...g,
        voxelSize: [1000 * g.voxelSize[0], 1000 * g.voxelSize[1], 1000 * g.voxelSize[2]],
        position: [1000 * g.position[0], 1000 * g.position[1], 1000 * g.position[2]],
        vectors: Float64Array.from(g.vectors, (value) => 1000 * value),
        ...(g.curvatureRadii && { curvatureRadii: Array.from(g.curvatureRadii, (radius) => 1000 * radius) }),
      };
      const expected = forwardModel(g, x).map((value) => 1000 * value);
      const error = relativeL2(forwardModel(larger, x), expected);
      assert.ok(error < 1e-11, `${name} error ${error}`);
    }
  });

  it("does not change when everything is shifted", () => {
    let compared = 0;
    for (const [name, g, seed] of manyGeometries(6, 12)) {
      const x = seededRandom(seed).float32(volumeLength(g));
      const shift = [0.3, -1.7, 2.9].map((value) => value * Math.max(...g.voxelSize));
      const position = g.position.map((value, k) => value + shift[k]!) as ModelGeometry["position"];
      // A direction, v and u stay; a source and a detector centre move.
      const vectors = Float64Array.from(g.vectors, (value, k) => {
        const which = Math.floor((k % 12) / 3);
        return value + (which === 1 || (which === 0 && g.kind === "cone") ? shift[k % 3]! : 0);
      });
      // The shift may round an exact tie of axes in a cone to another axis, and then the law itself jumps.
      const moved = { ...g, position, vectors };
      const sameAxes = Array.from({ length: viewCount(g) }, (_, view) => mainAxis(g, view) === mainAxis(moved, view));
      if (g.kind === "cone" && sameAxes.includes(false)) continue;
      compared++;
      const error = relativeL2(forwardModel(moved, x), forwardModel(g, x));
      assert.ok(error < 1e-11, `${name} error ${error}`);
    }
    assert.ok(compared >= 30, `only ${compared} of 36 geometries were compared`);
  });

  it("averages d * d rays spread evenly over a pixel", () => {
    for (const [name, g, seed] of manyGeometries(3, 8)) {
      const d = 3;
      const dRows = isOneSlice(g) ? 1 : d;
      const [rows, columns] = g.detectorShape;
      const x = seededRandom(seed).float32(volumeLength(g));
      const finer = Float64Array.from(g.vectors, (value, k) =>
        k % 12 >= 9 ? value / d : k % 12 >= 6 ? value / dRows : value,
      );
      const fine = forwardModel(
        { ...g, detectorShape: [rows * dRows, columns * d], vectors: finer, detectorSupersampling: 1 },
        x,
      );
      const mean = new Float64Array(projectionLength(g));
      const perRow = viewCount(g) * columns * d;
      fine.forEach((value, k) => {
        const [row, rest] = [Math.floor(k / perRow), k % perRow];
        mean[Math.floor(row / dRows) * viewCount(g) * columns + Math.floor(rest / d)]! += value / (dRows * d);
      });
      const error = relativeL2(forwardModel({ ...g, detectorSupersampling: d }, x), mean);
      assert.ok(error < 1e-11, `${name} error ${error}`);
    }
  });
});

describe("random geometries", () => {
  it("are the same for the same seed, and others for another", () => {
    const drawn = (seed: number) => JSON.stringify(randomGeometry("coneVectors", seededRandom(seed)));
    assert.equal(drawn(7), drawn(7));
    assert.notEqual(drawn(7), drawn(8));
  });

  it("keep the promises of their kind", () => {
    for (const [name, g] of manyGeometries(40, 24)) {
      const [rows, columns] = g.detectorShape;
      assert.ok(
        [...g.shape, rows, columns].every((n) => Number.isInteger(n) && n >= 1 && n <= 24),
        name,
      );
      assert.ok(viewCount(g) >= 1 && viewCount(g) <= 6, name);
      const radius = Math.hypot(...g.shape.map((n, k) => n * g.voxelSize[k]!)) / 2;
      for (let view = 0; view < viewCount(g); view++) {
        const [origin, centre, v, u] = viewVectors(g, view);
        const upright = v[1] === 0 && v[2] === 0 && u[0] === 0;
        if (!name.includes("Vectors")) assert.ok(upright, `${name} v along z, u in the xy plane`);
        if (name.startsWith("parallelAxis") || name.startsWith("parallelRows")) assert.equal(origin[0], 0, name);
        if (name.startsWith("parallelAxis")) {
          assert.deepEqual([rows, v[0], centre[0]], [g.shape[0], g.voxelSize[0], g.position[0]], name);
        }
        if (g.kind === "cone") {
          assert.ok(Math.hypot(...origin.map((value, k) => value - g.position[k]!)) >= 1.5 * radius, name);
        }
      }
    }
  });

  it("see the volume nearly always, with finite values", () => {
    let [blind, all] = [0, 0];
    for (const [name, g] of manyGeometries(20, 12)) {
      const y = forwardModel(g, new Float32Array(volumeLength(g)).fill(1));
      assert.ok(y.every(Number.isFinite), name);
      all++;
      if (norm(y) === 0) blind++;
    }
    assert.ok(blind <= 0.1 * all, `${blind} of ${all} geometries miss the volume`);
  });
});

describe("seeded random numbers and measures", () => {
  it("have the moments of their distributions", () => {
    const rng = seededRandom(42);
    const count = 20000;
    const moments = (draw: () => number) => {
      const values = Array.from({ length: count }, draw);
      const mean = values.reduce((sum, value) => sum + value, 0) / count;
      return [mean, values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / count, values] as const;
    };
    const [mean, variance] = moments(() => rng.normal());
    assert.ok(Math.abs(mean) < 0.03 && Math.abs(variance - 1) < 0.05, `normal: ${mean}, ${variance}`);
    const [middle, spread, values] = moments(() => rng.uniform(-1, 3));
    assert.ok(Math.abs(middle - 1) < 0.05 && Math.abs(spread - 16 / 12) < 0.05, `uniform: ${middle}, ${spread}`);
    assert.ok(values.every((value) => value >= -1 && value < 3));
    assert.deepEqual([...new Set(moments(() => rng.integer(2, 4))[2])].sort(), [2, 3, 4]);
    assert.ok(rng.float32(9, 5, 6).every((value) => value >= 5 && value <= 6));
  });

  it("measure the relative L2 distance, also to zero", () => {
    assert.equal(relativeL2([3, 4.5], [3, 4]), 0.1);
    assert.equal(relativeL2([0, 0], [0, 0]), 0);
    assert.equal(relativeL2([0, 1e-9], [0, 0]), Number.POSITIVE_INFINITY);
    assert.ok(Number.isNaN(relativeL2([Number.NaN], [1])));
    assert.throws(() => relativeL2([1], [1, 2]), /lengths 1 and 2 differ/);
  });
});
