import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  coneBeam,
  DeviceArray,
  device,
  type OperatorOptions,
  operator,
  parallelBeam,
  parallelBeamVectors,
  reciprocal,
  rotate,
  sirt,
  volume,
} from "../lib/index.ts";
import { raysumError } from "./support/errors.ts";
import { operatorOf } from "./support/operators.ts";
import { dot, geometryKinds, norm, randomGeometry, relativeL2, seededRandom } from "./support/random.ts";
import { forwardModel } from "./support/ray_model.ts";

const cube = volume({ shape: [12, 14, 16], voxelSize: [1.5, 0.8, 1] });
const round = {
  detectorShape: [13, 19],
  pixelSize: [2.5, 2],
  sourceOriginDistance: 40,
  sourceDetectorDistance: 75,
} as const;
const cone = coneBeam({ ...round, angleCount: 9 });

/** A(x) and A.T(y) of random x and y, on the host. */
function bothWays(options: OperatorOptions): [Float32Array, Float32Array] {
  using A = operator(cube, cone, options);
  using x = DeviceArray.uniform(A.domainShape, { seed: 1 });
  using y = DeviceArray.uniform(A.rangeShape, { seed: 2 });
  using Ax = A(x);
  using ATy = A.T(y);
  return [Ax.readSync(), ATy.readSync()];
}

describe("law astra", () => {
  for (const kind of geometryKinds)
    it(`comes as close to the float64 model as weights of 1/256 allow: ${kind}`, () => {
      const random = seededRandom(geometryKinds.indexOf(kind) + 20);
      for (let trial = 0; trial < 20; trial++) {
        const geometry = randomGeometry(kind, random, { maxViews: 6 });
        using A = operatorOf(geometry, { law: "astra" });
        using x = DeviceArray.uniform(A.domainShape, { seed: trial });
        using Ax = A(x);
        const found = Ax.readSync();
        const expected = forwardModel(geometry, x.readSync());
        // Few rays through few voxels: a weight that is off by 1/256 may be much of a ray that grazes the volume.
        const scale = norm(expected) / Math.sqrt(expected.length);
        const most = found.reduce((worst, value, k) => Math.max(worst, Math.abs(value - expected[k]!)), 0);
        assert.ok(most <= 0.05 * scale, `${most} of ${scale}: trial ${trial}, ${A.domainShape}, ${A.rangeShape}`);
      }
    });

  it("goes back nearly as the transpose would", () => {
    using A = operator(cube, cone, { law: "astra" });
    using x = DeviceArray.uniform(A.domainShape, { seed: 1 });
    using y = DeviceArray.uniform(A.rangeShape, { seed: 2 });
    using Ax = A(x);
    using ATy = A.T(y);
    const gap = dot(Ax.readSync(), y.readSync()) - dot(x.readSync(), ATy.readSync());
    assert.ok(Math.abs(gap) <= 0.05 * norm(Ax.readSync()) * norm(y.readSync()), `${gap}`);
  });

  it("goes back nearly as the transpose would from curved detectors, too", () => {
    const bent = coneBeam({ ...round, angleCount: 9, detectorCurvatureRadius: 60 });
    for (const beam of [bent, bent.transform(rotate({ axis: [0.2, 1, 0], angles: [0.4] }))])
      for (const voxelSupersampling of [1, 2]) {
        using A = operator(cube, beam, { law: "astra", voxelSupersampling });
        using x = DeviceArray.uniform(A.domainShape, { seed: 1 });
        using y = DeviceArray.uniform(A.rangeShape, { seed: 2 });
        using Ax = A(x);
        using ATy = A.T(y);
        const gap = dot(Ax.readSync(), y.readSync()) - dot(x.readSync(), ATy.readSync());
        assert.ok(Math.abs(gap) <= 0.05 * norm(Ax.readSync()) * norm(y.readSync()), `${gap}`);
      }
  });

  it("does not depend on the number of threads", () => {
    const cpu = device("cpu");
    const { threads } = cpu;
    try {
      cpu.threads = 1;
      const one = bothWays({ law: "astra", device: cpu });
      cpu.threads = 3;
      assert.deepEqual(bothWays({ law: "astra", device: cpu }), one);
    } finally {
      cpu.threads = threads;
    }
  });

  it("projects batches item by item, adds, and takes the steps of SIRT", () => {
    using A = operator(cube, cone, { law: "astra", detectorSupersampling: 2, voxelSupersampling: 2 });
    using x = DeviceArray.uniform([2, ...A.domainShape], { seed: 1 });
    using y = DeviceArray.uniform([2, ...A.rangeShape], { seed: 2 });
    using weights = DeviceArray.uniform(A.rangeShape, { seed: 3 });
    using scale = DeviceArray.uniform(A.domainShape, { seed: 4 });
    using Ax = A(x);
    using ATy = A.T(y);
    const [hostX, hostY, hostAx, hostATy] = [x, y, Ax, ATy].map((array) => array.readSync()) as Float32Array[];
    for (const item of [0, 1]) {
      using one = DeviceArray.from(hostX!.slice(item * scale.size, (item + 1) * scale.size), A.domainShape);
      using back = DeviceArray.from(hostY!.slice(item * weights.size, (item + 1) * weights.size), A.rangeShape);
      using forward = A(one);
      using backward = A.T(back);
      assert.deepEqual(forward.readSync(), hostAx!.slice(item * weights.size, (item + 1) * weights.size));
      assert.deepEqual(backward.readSync(), hostATy!.slice(item * scale.size, (item + 1) * scale.size));
    }
    const [hostWeights, hostScale] = [weights.readSync(), scale.readSync()];
    using norms = DeviceArray.empty([4]);
    using r = A.residual(x, y, { weights, norm: norms });
    const difference = hostY!.map((value, k) => value - hostAx![k]!);
    assert.ok(
      relativeL2(
        r.readSync(),
        difference.map((value, k) => value * hostWeights[k % weights.size]!),
      ) < 1e-6,
    );
    const squares = new Float64Array(norms.readSync().buffer);
    for (const item of [0, 1]) {
      const part = difference.slice(item * weights.size, (item + 1) * weights.size);
      assert.ok(Math.abs(squares[item]! / dot(part, part) - 1) < 1e-5);
    }
    A(x, { out: y, accumulate: true });
    assert.ok(
      relativeL2(
        y.readSync(),
        hostY!.map((value, k) => value + hostAx![k]!),
      ) < 1e-6,
    );
    using step = DeviceArray.from(hostY!, r.shape);
    A.update(x, step, { scale, relaxation: 0.5, minimum: 0.2, maximum: 3 });
    const expected = hostX!.map((value, k) =>
      Math.min(3, Math.max(0.2, value + 0.5 * hostScale[k % scale.size]! * hostATy![k]!)),
    );
    assert.ok(relativeL2(x.readSync(), expected) < 1e-6);
  });

  it("reads nothing that nobody wrote, at any size", () => {
    const shapes = [
      [1, 1, 1],
      [1, 5, 1],
      [3, 1, 70],
      [2, 17, 3],
    ] as const;
    for (const shape of shapes) {
      const beam = coneBeam({
        angleCount: 5,
        detectorShape: [2, 66],
        pixelSize: 1,
        sourceOriginDistance: 50,
        sourceDetectorDistance: 60,
      });
      DeviceArray.full([100000], Number.NaN).dispose(); // the workspace comes to lie there
      using A = operator(volume({ shape }), beam, { law: "astra" });
      using Ax = A.rowSums();
      using ATy = A.columnSums();
      assert.ok([...Ax.readSync(), ...ATy.readSync()].every(Number.isFinite), `${shape}`);
    }
  });

  it("SIRT leaves out sums of at most 1e-6, not of a part of the largest", async () => {
    // In a unit this long every sum is far below 1e-6.
    const tiny = volume({ shape: [1, 8, 8], voxelSize: 1e-9 });
    const beam = parallelBeam({ angleCount: 6, detectorShape: [1, 8], pixelSize: 1e-9 });
    for (const law of ["astra", "exact"] as const) {
      using A = operator(tiny, beam, { law });
      using y = DeviceArray.full(A.rangeShape, 1e-9);
      using x = await sirt(A, y, { iterations: 2 });
      const found = Math.max(...(await x.read()));
      if (law === "astra") assert.equal(found, 0);
      else assert.ok(found > 0.05, `${found}`);
    }
  });

  it("reciprocal takes an absolute threshold beside the relative one", () => {
    using sums = DeviceArray.from([0, 1e-6, 2e-6, 4], [4]);
    using absolute = reciprocal(sums, { absolute: 1e-6, relative: 0 });
    using relative = reciprocal(sums);
    assert.deepEqual([...absolute.readSync()].map(Math.round), [0, 0, 500000, 0]);
    assert.deepEqual([...relative.readSync()], [0, 0, 0, 0.25]);
  });
});

describe("law astra2d", () => {
  const slice = volume({ shape: [1, 16, 16] });
  const fan = { angleCount: 7, detectorShape: [1, 24], sourceOriginDistance: 30, sourceDetectorDistance: 45 } as const;

  it("refuses what has no meaning in a plane", () => {
    const law = "astra2d";
    const beam = parallelBeam({ angleCount: 4, detectorShape: [1, 20] });
    assert.throws(
      () => operator(volume({ shape: [2, 8, 8] }), beam, { law }),
      raysumError("argument", /astra2d: 2 slices/),
    );
    assert.throws(
      () => operator(slice, coneBeam({ ...fan, detectorShape: [2, 24] }), { law }),
      raysumError("argument", /2 detector rows/),
    );
    const oblong = volume({ shape: [1, 8, 8], voxelSize: [1, 1, 2] });
    assert.throws(() => operator(oblong, beam, { law }), raysumError("argument", /astra2d: voxels of 1 x 2/));
    const tilted = parallelBeamVectors({
      detectorShape: [1, 20],
      rayDirections: [[0.1, 1, 0]],
      detectorCentres: [0, 0, 0],
      detectorV: [1, 0, 0],
      detectorU: [0, 0, 1],
    });
    assert.throws(() => operator(slice, tilted, { law }), raysumError("argument", /astra2d: view 0 leaves the plane/));
    const bent = coneBeam({ ...fan, detectorCurvatureRadius: 40 });
    assert.throws(
      () => operator(slice, bent, { law }),
      raysumError("argument", /astra2d: view 0 has a curved detector/),
    );
  });

  it("weighs a fan's back projection with the distance, law astra with its square", () => {
    const beam = coneBeam({ ...fan, angleCount: 1 });
    using flat = operator(slice, beam, { law: "astra2d" });
    using deep = operator(slice, beam, { law: "astra" });
    using one = flat.columnSums();
    using two = deep.columnSums();
    // The first view's source is at y = -30.
    const ratio = two.readSync().map((value, k) => value / one.readSync()[k]!);
    for (const y of [0, 7, 15]) {
      const magnification = 45 / (30 + y - 7.5);
      assert.ok(Math.abs(ratio[y * 16 + 8]! / magnification - 1) < 1e-5, `${ratio[y * 16 + 8]} ${magnification}`);
    }
  });
});

describe("ASTRA's faults that law astra does not have", () => {
  it("anisotropic voxels in a tilted parallel beam along y: the ray's length is right", () => {
    // ASTRA leaves the square of the ratio of z to y out of the length there: some percent.
    const random = seededRandom(5);
    for (let trial = 0; trial < 10; trial++) {
      const geometry = randomGeometry("parallelRows", random, { maxViews: 1, detectorSupersampling: 1 });
      const tilt = random.uniform(0.3, 0.6);
      const spacing = random.uniform(0.4, 0.6);
      Object.assign(geometry, {
        shape: [24, 20, 22],
        voxelSize: [spacing, 1, 1.1],
        position: [0, 0, 0],
        detectorShape: [20, 30],
        vectors: [tilt * spacing, 1, random.uniform(-0.5, 0.5), 0, 0, 0, 0.6, -0.1, 0, 0, 0.1, 0.9],
      });
      using A = operatorOf(geometry, { law: "astra" });
      using x = DeviceArray.uniform(A.domainShape, { seed: trial });
      using Ax = A(x);
      const error = relativeL2(Ax.readSync(), forwardModel(geometry, x.readSync()));
      assert.ok(error <= 3e-3, `${error}`);
    }
  });

  it("a voxel whose ray misses the cylinder of a curved detector does not shift those behind it", () => {
    // ASTRA forgets to go on along z there, and gives the voxels that follow what belongs to others.
    const beam = coneBeam({
      angleCount: 5,
      detectorShape: [40, 60],
      pixelSize: 1,
      sourceOriginDistance: 70,
      sourceDetectorDistance: 90,
      detectorCurvatureRadius: 22,
    }).transform(rotate({ axis: [0, 1, 0], angles: [1.2] }));
    const object = volume({ shape: [40, 30, 30], voxelSize: [1.5, 1, 1] });
    using A = operator(object, beam, { law: "astra" });
    using y = DeviceArray.uniform(A.rangeShape, { seed: 1 });
    using back = A.T(y);
    const whole = back.readSync();
    for (const z of [0, 7, 20, 39]) {
      using B = operator(object.crop({ z: { start: z, stop: z + 1 } }), beam, { law: "astra" });
      using slice = B.T(y);
      assert.ok(relativeL2(whole.subarray(z * 900, (z + 1) * 900), slice.readSync()) < 1e-3, `slice ${z}`);
    }
    // In view 0 some columns of voxels miss the cylinder below and meet it further up.
    const first = beam.select({ views: [0] });
    const seen = (z: number, y: number, x: number) =>
      !Number.isNaN(first.projectPoint([1.5 * (z - 19.5), y - 14.5, x - 14.5])[0]![0]);
    const column = Array.from({ length: 40 }, (_, z) => seen(z, 15, 15));
    assert.ok(!column[0] && column.includes(true), "the geometry has such columns");
  });

  it("detector supersampling is not ignored, and only A knows it", () => {
    const [forward, back] = bothWays({ law: "astra" });
    const [fineForward, fineBack] = bothWays({ law: "astra", detectorSupersampling: 2 });
    const change = relativeL2(fineForward, forward);
    assert.ok(change > 1e-3 && change < 0.2, `${change}`);
    assert.ok(relativeL2(fineBack, back) < 1e-5);
  });

  it("voxel supersampling is not ignored, and only A.T knows it", () => {
    const [forward, back] = bothWays({ law: "astra" });
    const [fineForward, fineBack] = bothWays({ law: "astra", voxelSupersampling: 2 });
    const change = relativeL2(fineBack, back);
    assert.ok(change > 1e-3 && change < 0.2, `${change}`);
    assert.deepEqual(fineForward, forward);
  });
});

describe("law exact", () => {
  it("has no voxel supersampling", () => {
    assert.throws(
      () => operator(cube, cone, { voxelSupersampling: 2 }),
      raysumError("argument", /no meaning for an exact transpose/),
    );
    assert.throws(
      () => operator(cube, cone, { law: "astra", voxelSupersampling: 0.5 }),
      raysumError("argument", /voxelSupersampling 0.5/),
    );
  });
});
