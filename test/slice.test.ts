// One slice, or a few with a detector row on each: the kernels that share weights between views which are the same after a turn.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { DeviceArray, device } from "../lib/index.ts";
import { operatorOf } from "./support/operators.ts";
import { dot, norm, relativeL2, type SeededRandom, seededRandom } from "./support/random.ts";
import { backModel, forwardModel, type ModelGeometry } from "./support/ray_model.ts";

interface Case {
  slices?: number;
  shape: [number, number];
  voxelSize?: [number, number];
  columns: number;
  angles: number[];
  pixel?: number;
  /** Of the detector along u. */
  offset?: number;
}

function geometryOf({ slices = 1, shape, voxelSize = [1, 1], columns, angles, pixel = 1, offset = 0 }: Case) {
  const vectors = angles.flatMap((angle) => {
    const [cosine, sine] = [Math.cos(angle), Math.sin(angle)];
    return [0, -cosine, sine, 0, offset * sine, offset * cosine, 1, 0, 0, 0, pixel * sine, pixel * cosine];
  });
  return {
    kind: "parallel",
    shape: [slices, ...shape],
    voxelSize: [1, ...voxelSize],
    position: [0, 0, 0],
    detectorShape: [slices, columns],
    vectors,
  } as ModelGeometry;
}

/** `count` angles over `arc`. Half a step from 0 they are closed under all turns, and no main axis is a tie. */
const spread = (count: number, arc: number, first = 0): number[] =>
  Array.from({ length: count }, (_, k) => first + (k * arc) / count);

const cases: Record<string, Case> = {
  "all four turns of a square": { shape: [70, 70], columns: 105, angles: spread(40, Math.PI, 0.01) },
  "angles at 0 and 90 degrees": { shape: [40, 40], columns: 50, angles: [0, Math.PI / 2, Math.PI, 0.3, 1.1] },
  "a closed set of angles": { shape: [64, 64], columns: 96, angles: spread(36, Math.PI, Math.PI / 72) },
  "a full turn": { shape: [33, 33], columns: 47, angles: spread(36, 2 * Math.PI, Math.PI / 36) },
  "a detector off the centre": { shape: [50, 50], columns: 61, angles: spread(36, 2 * Math.PI, 0.03), offset: 7.3 },
  "angles of no symmetry": { shape: [50, 50], columns: 61, angles: [0.1, 0.2, 0.5, 0.9, 1.3, 2, 2.2, 2.9, 3.1] },
  "an oblong image": { shape: [37, 90], columns: 110, angles: spread(24, Math.PI, Math.PI / 48) },
  "a tall image, oblong voxels": { shape: [90, 37], voxelSize: [1, 0.8], columns: 100, angles: spread(20, 3, 0.02) },
  "wide pixels": { shape: [60, 60], columns: 70, angles: spread(24, Math.PI, Math.PI / 48), pixel: 1.35 },
  "pixels that run backwards": { shape: [60, 60], columns: 70, angles: spread(24, Math.PI, 0.1), pixel: -1.1 },
  "a detector beside the image": { shape: [20, 20], columns: 30, angles: spread(8, Math.PI, 0.1), offset: 21 },
  "a detector far away": { shape: [20, 20], columns: 30, angles: spread(8, Math.PI, 0.1), offset: 1e9 },
  "a detector much wider than the image": { shape: [9, 9], columns: 400, angles: spread(8, Math.PI, 0.1) },
  "more columns than the threads of a block have at a time": {
    shape: [60, 60],
    columns: 2200,
    angles: spread(8, Math.PI, 0.1),
  },
  "as many, off the centre": {
    slices: 2,
    shape: [31, 40],
    columns: 2300,
    angles: spread(5, Math.PI, 0.1),
    offset: 3.2,
  },
  "a detector much narrower than the image": { shape: [200, 200], columns: 5, angles: spread(8, Math.PI, 0.1) },
  "an image of which neighbouring views see little in common": {
    shape: [720, 720],
    columns: 48,
    angles: spread(24, Math.PI, Math.PI / 48),
  },
  "one voxel, one column": { shape: [1, 1], columns: 1, angles: [0.2, 1.9] },
  "one row of voxels": { shape: [1, 50], columns: 60, angles: spread(8, Math.PI, 0.1) },
  "three slices": { slices: 3, shape: [45, 45], columns: 64, angles: spread(24, Math.PI, Math.PI / 48) },
};

function check(what: string, geometry: ModelGeometry, batch: number, family?: RegExp): void {
  using A = operatorOf(geometry);
  if (family) assert.match(A.description, family, what);
  using x = DeviceArray.uniform([batch, ...A.domainShape], { seed: 3 });
  using y = DeviceArray.uniform([batch, ...A.rangeShape], { seed: 4 });
  using Ax = A(x);
  using ATy = A.T(y);
  const [hostX, hostY, hostAx, hostATy] = [x, y, Ax, ATy].map((array) => array.readSync()) as Float32Array[];
  for (let item = 0; item < batch; item++) {
    const part = (values: Float32Array) =>
      values.subarray((item * values.length) / batch, ((item + 1) * values.length) / batch);
    const forwardError = relativeL2(part(hostAx!), forwardModel(geometry, part(hostX!)));
    const backError = relativeL2(part(hostATy!), backModel(geometry, part(hostY!)));
    assert.ok(forwardError <= 1e-6, `forward error ${forwardError}: ${what}, item ${item}`);
    assert.ok(backError <= 1e-6, `back error ${backError}: ${what}, item ${item}`);
  }
  const gap = Math.abs(dot(hostAx!, hostY!) - dot(hostX!, hostATy!));
  assert.ok(gap <= 2e-7 * norm(hostAx!) * norm(hostY!), `adjoint gap ${gap}: ${what}`);
}

describe("one slice, or a few", () => {
  for (const [what, some] of Object.entries(cases))
    it(`agrees with the float64 ray model and is its own transpose: ${what}`, () => {
      const onCpu = device().name === "cpu" && (some.slices ?? 1) === 1;
      check(what, geometryOf(some), 1, onCpu ? /^slice/ : undefined);
    });

  it("agrees where rays diverge or cross the slice at an angle", () => {
    const views = spread(14, 2 * Math.PI, 0.05);
    const [ringZ, tilt] = [0.3, 0.02];
    // Source, detector's centre, v and u of a view; `z` lifts both, `tilt` the source alone.
    const turned = (angle: number, source: number, detector: number, z: number, tilted: number) => {
      const [cosine, sine] = [Math.cos(angle), Math.sin(angle)];
      const [from, to] = [
        [z + tilted * source, -source * cosine, -source * sine],
        [z - tilted * detector, detector * cosine, detector * sine],
      ];
      return [...from, ...to, 1.2, 0, 0, 0, -1.4 * sine, 1.4 * cosine];
    };
    const fan = (rows: number, z: number, tilted: number, more: Partial<ModelGeometry> = {}) =>
      ({
        kind: "cone",
        shape: [1, 37, 41],
        voxelSize: [1, 1, 0.9],
        position: [0.1, 0.4, -0.7],
        detectorShape: [rows, 60],
        vectors: views.flatMap((angle) => turned(angle, 90, 40, z, tilted)),
        ...more,
      }) as ModelGeometry;
    check("a fan", fan(1, 0.1, 0), 2, /^general/);
    check("a fan above the middle of the slice", fan(1, ringZ, 0), 1, /^general/);
    check("a fan across the slice", fan(1, ringZ, tilt), 1, /^general/);
    check("a fan beside the slice", fan(1, 1.2, tilt), 1, /^general/);
    check("a cone beam of three rows", fan(3, ringZ, tilt), 1, /^general/);
    check("curved detectors", fan(1, 0.1, 0, { curvatureRadii: views.map((_, i) => 100 + 5 * i) }), 1, /^general/);
    check("a source near the slice", fan(1, 0.1, 0, { vectors: views.flatMap((a) => turned(a, 24, 40, 0, 0)) }), 1);
    const parallel = views.flatMap((angle) => {
      const [cosine, sine] = [Math.cos(angle), Math.sin(angle)];
      return [tilt, -cosine, sine, ringZ, 0, 0, 1, 0, 0, 0, sine, cosine];
    });
    check("parallel rays across the slice", fan(1, 0, 0, { kind: "parallel", vectors: parallel }), 1, /^general/);
  });

  it("treats every item of a batch alike, with channels to spare and without, and a batch that fills the lanes of `stack`", () => {
    const shape: [number, number] = [30, 30];
    for (const batch of [2, 3, 5, 17]) {
      check("closed", geometryOf({ shape, columns: 40, angles: spread(12, Math.PI, Math.PI / 24) }), batch);
      check("not closed", geometryOf({ shape, columns: 40, angles: [0.1, 0.2, 0.5, 0.9, 1.3, 2, 2.2] }), batch);
      check("slices", geometryOf({ slices: 2, shape, columns: 40, angles: spread(12, 3, 0.1) }), batch);
    }
  });

  it("agrees at random", () => {
    const random: SeededRandom = seededRandom(11);
    for (let trial = 0; trial < 30; trial++) {
      const side = random.integer(1, 50);
      const count = random.integer(1, 30);
      const square = random.uniform() < 0.5;
      const geometry = geometryOf({
        slices: random.integer(1, 4),
        shape: [side, square ? side : random.integer(1, 50)],
        columns: random.integer(1, 100),
        angles: spread(count, random.uniform() < 0.5 ? Math.PI : 2 * Math.PI, random.uniform(0, 0.1)),
        pixel: random.uniform(1, 1.4) * (random.uniform() < 0.5 ? 1 : -1),
        offset: random.uniform() < 0.5 ? 0 : random.uniform(-20, 20),
      });
      check(`trial ${trial}`, geometry, random.integer(1, 3));
    }
  });

  for (const what of ["three slices", "as many, off the centre"])
    it(`stores, adds, and takes SIRT's residual and update per item, with weights per slice: ${what}`, () => {
      const geometry = geometryOf({ ...cases[what]!, slices: 2 });
      using A = operatorOf(geometry);
      const batch = 3;
      using x = DeviceArray.uniform([batch, ...A.domainShape], { seed: 1 });
      using y = DeviceArray.uniform([batch, ...A.rangeShape], { seed: 2 });
      using weights = DeviceArray.uniform(A.rangeShape, { seed: 5 });
      using scale = DeviceArray.uniform(A.domainShape, { seed: 6 });
      using Ax = A(x);
      using ATy = A.T(y);
      const [hostX, hostY, w, s, forward, back] = [x, y, weights, scale, Ax, ATy].map((a) =>
        a.readSync(),
      ) as Float32Array[];
      using sum = A(x, { out: y.clone(), accumulate: true });
      assert.ok(
        relativeL2(
          sum.readSync(),
          forward!.map((value, k) => value + hostY![k]!),
        ) < 1e-6,
      );
      using backSum = A.T(y, { out: x.clone(), accumulate: true });
      assert.ok(
        relativeL2(
          backSum.readSync(),
          back!.map((value, k) => value + hostX![k]!),
        ) < 1e-6,
      );
      using squares = DeviceArray.zeros([2 * batch]);
      using residual = A.residual(x, y, { weights, norm: squares });
      const norms = new Float64Array(squares.readSync().buffer.slice(0));
      norms.forEach((value, item) => {
        const from = item * w!.length;
        let expected = 0;
        for (let k = from; k < from + w!.length; k++) expected += (hostY![k]! - forward![k]!) ** 2;
        assert.ok(Math.abs(value - expected) <= 1e-5 * expected, `norm of item ${item}: ${value}, not ${expected}`);
      });
      assert.ok(
        relativeL2(
          residual.readSync(),
          forward!.map((value, k) => w![k % w!.length]! * (hostY![k]! - value)),
        ) < 1e-5,
      );
      using next = x.clone();
      A.update(next, y, { scale, minimum: 0.1, maximum: 9 });
      const expected = back!.map((value, k) => Math.min(9, Math.max(0.1, hostX![k]! + s![k % s!.length]! * value)));
      assert.ok(relativeL2(next.readSync(), expected) < 1e-6);
    });

  it("gives the same bits for every number of threads", () => {
    const cpu = device("cpu");
    const threads = cpu.threads;
    using A = operatorOf(geometryOf(cases["all four turns of a square"]!), { device: cpu });
    using x = DeviceArray.uniform([2, ...A.domainShape], { seed: 5, device: cpu });
    const results = [1, 2, 3].map((count) => {
      cpu.threads = count;
      using y = A(x);
      using back = A.T(y);
      return [y.readSync(), back.readSync()];
    });
    cpu.threads = threads;
    assert.deepEqual(results[1], results[0]);
    assert.deepEqual(results[2], results[0]);
  });
});
