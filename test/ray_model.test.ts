/** The float64 model that judges the projectors is itself judged here, by what is known in closed form. */

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { norm, relativeL2, seededRandom } from "./support/random.ts";
import {
  forwardModel,
  type ModelGeometry,
  mainAxis,
  projectionLength,
  viewVectors,
  volumeLength,
} from "./support/ray_model.ts";

function close(actual: number, expected: number, tolerance = 1e-12, what = ""): void {
  const gap = Math.abs(actual - expected);
  assert.ok(gap <= tolerance * Math.max(Math.abs(expected), 1e-300), `${what} ${actual} is not ${expected}`);
}

/** A volume (z, y, x) of f at voxel indices. */
function filled(g: ModelGeometry, f: (z: number, y: number, x: number) => number): Float64Array {
  const [, ny, nx] = g.shape;
  return Float64Array.from({ length: volumeLength(g) }, (_, k) =>
    f(Math.floor(k / (ny * nx)), Math.floor(k / nx) % ny, k % nx),
  );
}

const ones = (g: ModelGeometry) => filled(g, () => 1);

describe("the ray model: parallel beams", () => {
  const box: ModelGeometry = {
    kind: "parallel",
    shape: [4, 5, 6],
    voxelSize: [0.7, 1.3, 0.4],
    position: [3, -20, 11],
    detectorShape: [1, 3],
    vectors: [],
  };

  it("gives the chord of an anisotropic box along z, y and x, whatever the length of the direction", () => {
    for (const axis of [0, 1, 2] as const) {
      const [ray, u] = [
        [0, 0, 0],
        [0, 0, 0],
      ];
      ray[axis] = -17;
      u[(axis + 1) % 3] = 0.3;
      const v = [0, 0, 0];
      v[(axis + 2) % 3] = 1;
      const y = forwardModel({ ...box, vectors: [...ray, ...box.position, ...v, ...u] }, ones(box));
      for (const value of y) close(value, box.shape[axis] * box.voxelSize[axis]);
    }
  });

  it("gives 0 outside the volume, and a ramp within half a voxel of its edge", () => {
    // Columns at y = -1, -0.75, ... voxels from the centre of a single row of voxels.
    const g: ModelGeometry = { ...box, shape: [1, 1, 6], position: [0, 0, 0], detectorShape: [1, 9] };
    g.vectors = [0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1.3 / 4, 0];
    const chord = 6 * 0.4;
    const expected = [0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25, 0].map((share) => share * chord);
    assert.ok(relativeL2(forwardModel(g, ones(g)), expected) < 1e-12);
  });

  it("gives the chord (n - c) sqrt(2) of a square at 45 degrees, c voxels off its diagonal", () => {
    const n = 9;
    const offsets = [-6.5, -3, -0.25, 0, 0.25, 3, 6.5];
    const vectors = offsets.flatMap((c) => [0, 0.5, 0.5, 0, c * 0.2, 0, 0.2, 0, 0, 0, -0.1, 0.1]);
    const g: ModelGeometry = { ...box, shape: [1, n, n], voxelSize: [0.2, 0.2, 0.2], position: [0, 0, 0], vectors };
    const y = forwardModel({ ...g, detectorShape: [1, 1] }, ones(g));
    offsets.forEach((c, k) => {
      close(y[k]!, (n - Math.abs(c)) * Math.SQRT2 * 0.2, 1e-12, `offset ${c}:`);
    });
  });

  it("integrates an affine function exactly along oblique rays, in the order (row, view, column)", () => {
    // Bilinear samples of an affine function are exact, and their sum is the count times the value half way.
    const g: ModelGeometry = { ...box, shape: [15, 13, 10], detectorShape: [2, 3] };
    const centre = g.position;
    g.vectors = [
      ...[0.2, -0.15, 0.8, ...centre, 0.5, 0.1, 0, 0.02, 0.6, 0.1],
      ...[0.3, 2, 0.1, ...centre, 0.6, 0.1, 0.05, 0.1, 0, 0.3],
      ...[-1, 0.2, 0.1, ...centre, 0, 0.4, 0.1, 0, -0.1, 0.2],
    ];
    const f = (z: number, y: number, x: number) => 2 + 0.3 * z - 0.2 * y + 0.5 * x;
    const y = forwardModel(g, filled(g, f));
    const mains = [2, 1, 0] as const;
    for (let j = 0; j < 2; j++) {
      for (const [view, main] of mains.entries()) {
        const [ray, , v, u] = viewVectors(g, view);
        assert.equal(mainAxis(g, view), main);
        for (let i = 0; i < 3; i++) {
          const offset = [0, 1, 2].map((k) => (j - 0.5) * v[k]! + (i - 1) * u[k]!);
          const t = -offset[main]! / ray[main];
          const at = [0, 1, 2].map((k) => (offset[k]! + t * ray[k]!) / g.voxelSize[k]! + (g.shape[k]! - 1) / 2);
          const length = (Math.hypot(...ray) * g.voxelSize[main]) / Math.abs(ray[main]);
          const expected = g.shape[main] * length * f(at[0]!, at[1]!, at[2]!);
          close(y[(j * 3 + view) * 3 + i]!, expected, 1e-12, `row ${j}, view ${view}, column ${i}:`);
        }
      }
    }
  });

  it("agrees with the chords of a sphere within the discretisation", () => {
    const n = 24;
    const [centre, radius] = [[12.3, 11.1, 11.8], 8.5];
    const g: ModelGeometry = { ...box, shape: [n, n, n], voxelSize: [1, 1, 1], position: [11.5, 11.5, 11.5] };
    g.detectorShape = [20, 20];
    const half = Math.SQRT1_2;
    g.vectors = [
      ...[0, 0, 1, ...centre, 1, 0, 0, 0, 1, 0],
      ...[0, half, half, ...centre, 1, 0, 0, 0, -half, half],
      ...[half, 0.5, 0.5, ...centre, half, -0.5, -0.5, 0, half, -half],
    ];
    // Each voxel holds the share of 5^3 points in it that are inside, so a world coordinate is a voxel index here.
    const parts = [-0.4, -0.2, 0, 0.2, 0.4];
    const x = filled(g, (...at) => {
      const squares = at.map((index, k) => parts.map((part) => (index + part - centre[k]!) ** 2));
      let inside = 0;
      for (const z of squares[0]!)
        for (const y of squares[1]!) for (const x of squares[2]!) if (z + y + x < radius ** 2) inside++;
      return inside / parts.length ** 3;
    });
    const chords = Float64Array.from({ length: projectionLength(g) }, (_, k) => {
      const square = (Math.floor(k / 60) - 9.5) ** 2 + ((k % 20) - 9.5) ** 2;
      return 2 * Math.sqrt(Math.max(0, radius ** 2 - square));
    });
    // Near the rim the chord falls like a square root, which no sampling on voxels follows: look inside 0.8 radii.
    const inner = Array.from(chords.keys()).filter((k) => chords[k]! > 2 * radius * 0.6);
    const y = forwardModel(g, x);
    assert.ok(inner.length > 3 * 100);
    const error = relativeL2(
      inner.map((k) => y[k]!),
      inner.map((k) => chords[k]!),
    );
    assert.ok(error < 0.012, `relative error ${error}`);
    y.forEach((value, k) => {
      if (chords[k] === 0 && Math.hypot(Math.floor(k / 60) - 9.5, (k % 20) - 9.5) > radius + 2) assert.equal(value, 0);
    });
  });

  it("breaks ties of the main axis in the order x, y, z, in voxels rather than in lengths", () => {
    const g: ModelGeometry = { ...box, shape: [3, 3, 3], voxelSize: [1, 1, 1], position: [0, 0, 0] };
    g.detectorShape = [1, 1];
    const delta = filled(g, (z, y, x) => (z === 1 && y === 1 && x === 1 ? 1 : 0));
    const value = (ray: number[], centre: number[]) => {
      return forwardModel({ ...g, vectors: [...ray, ...centre, 1, 0, 0, 0, 1, 0] }, delta)[0]!;
    };
    // Each ray passes the central voxel a quarter off in its slice along the winner, and at two offsets along the loser.
    close(value([0.5, 1, 1], [0, 0.25, 0]), 0.75 * 1.5, 1e-12, "x before y:");
    close(value([1, 0.5, 1], [0.25, 0, 0]), 0.75 * 1.5, 1e-12, "x before z:");
    close(value([1, 1, 0.5], [0.25, 0, 0]), 0.75 * 1.5, 1e-12, "y before z:");
    const tilted = [1, 1.5, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0];
    assert.equal(mainAxis({ ...g, voxelSize: [1, 2, 3], vectors: tilted }, 0), 0);
    assert.equal(mainAxis({ ...g, voxelSize: [1, 1, 2], vectors: tilted }, 0), 1);
  });
});

describe("the ray model: cone beams", () => {
  const cube: ModelGeometry = {
    kind: "cone",
    shape: [7, 7, 7],
    voxelSize: [2, 2, 2],
    position: [5, 6, 7],
    detectorShape: [1, 1],
    vectors: [5, 6, 7 - 40, 5, 6, 7 + 60, 5, 0, 0, 0, 5, 0],
  };

  it("gives the chord of a box along the central ray and, longer by 1 / cos, along the oblique ones", () => {
    close(forwardModel(cube, ones(cube))[0]!, 14);
    const g: ModelGeometry = { ...cube, detectorShape: [3, 3] };
    forwardModel(g, ones(g)).forEach((value, k) => {
      const off = Math.hypot(5 * (Math.floor(k / 3) - 1), 5 * ((k % 3) - 1));
      close(value, 14 * Math.hypot(1, off / 100));
    });
  });

  it("magnifies by source-detector over source-origin distance", () => {
    // Pixels of one magnified voxel: each column's ray passes through one voxel centre of the middle plane.
    const magnified = 2 * (100 / 40);
    const vectors = [5, 6, 7 - 40, 5, 6, 7 + 60, magnified, 0, 0, 0, magnified, 0];
    const g: ModelGeometry = { ...cube, detectorShape: [7, 7], vectors };
    const y = forwardModel(
      g,
      filled(g, (row, column, x) => (row === 5 && column === 1 && x === 3 ? 1 : 0)),
    );
    y.forEach((value, k) => {
      const hit = k === 5 * 7 + 1;
      if (hit) close(value, 2 * Math.hypot(1, 4 / 40, 4 / 40));
      else assert.ok(Math.abs(value) < 1e-13, `pixel ${k} sees ${value}`);
    });
  });

  it("follows the infinite line: the detector may stand before, inside or behind the volume", () => {
    const x = seededRandom(1).float32(volumeLength(cube));
    const at = (distance: number) => {
      const pitch = 0.05 * distance;
      const vectors = [5, 6, 7 - 40, 5, 6, 7 - 40 + distance, pitch, 0, 0, 0, pitch, 0];
      return forwardModel({ ...cube, detectorShape: [5, 4], vectors }, x);
    };
    const far = at(100);
    assert.ok(norm(far) > 0);
    for (const distance of [10, 40, -10]) assert.ok(relativeL2(at(distance), far) < 1e-12, `distance ${distance}`);
  });

  it("is close to a parallel beam when the source is far away", () => {
    const x = seededRandom(2).float32(volumeLength(cube));
    const detector = [5, 6, 7, 1.1, 0, 0, 0, 1.3, 0];
    const ray = [0.1, 0.3, 1];
    const source = ray.map((value, k) => cube.position[k]! - 1e9 * value);
    const g: ModelGeometry = { ...cube, detectorShape: [9, 9] };
    const cone = forwardModel({ ...g, vectors: [...source, ...detector] }, x);
    const parallel = forwardModel({ ...g, kind: "parallel", vectors: [...ray, ...detector] }, x);
    assert.ok(relativeL2(cone, parallel) < 1e-7);
  });

  it("chooses the main axis once a view, and gives 0 for a ray without a part along it", () => {
    // Column 0 is the ray (0, -1, 0) from the source, column 1 the central one.
    const vectors = [5, 6, -33, 5, 6, 7, 1, 0, 0, 0, 1, 40];
    const g: ModelGeometry = { ...cube, detectorShape: [1, 3], vectors };
    const y = forwardModel(g, ones(g));
    assert.equal(mainAxis(g, 0), 2);
    assert.equal(y[0], 0);
    close(y[1]!, 14);
  });
});
