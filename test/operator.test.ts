import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  coneBeam,
  DeviceArray,
  device,
  operator,
  parallelBeam,
  rotate,
  scope,
  translate,
  volume,
} from "../lib/index.ts";
import { raysumError } from "./support/errors.ts";
import { operatorOf } from "./support/operators.ts";
import { dot, geometryKinds, norm, randomGeometry, relativeL2, seededRandom } from "./support/random.ts";
import { backModel, forwardModel } from "./support/ray_model.ts";

/** Arrays on the device are checked to be gone after each test of this file. */
function balanced(body: () => void): () => void {
  return () => {
    const before = device().memory();
    body();
    const after = device().memory();
    assert.equal(after.arrays, before.arrays, "arrays left behind");
    assert.equal(after.operators, before.operators, "operators left behind");
  };
}

describe("the exact projector", () => {
  for (const kind of geometryKinds)
    it(
      `agrees with the float64 ray model and is its own transpose: ${kind}`,
      balanced(() => {
        const random = seededRandom(geometryKinds.indexOf(kind) + 1);
        for (let trial = 0; trial < 60; trial++) {
          const geometry = randomGeometry(kind, random, {});
          using A = operatorOf(geometry);
          // Positive data: a relative error says nothing where a sum cancels to zero.
          using x = DeviceArray.uniform(A.domainShape, { seed: trial });
          using y = DeviceArray.uniform(A.rangeShape, { seed: trial + 1000 });
          using Ax = A(x);
          using ATy = A.T(y);
          const [hostX, hostY, hostAx, hostATy] = [x, y, Ax, ATy].map((array) => array.readSync()) as Float32Array[];
          const what = `trial ${trial}, ${A.description}, volume ${A.domainShape}, projections ${A.rangeShape}`;
          const forwardError = relativeL2(hostAx!, forwardModel(geometry, hostX!));
          const backError = relativeL2(hostATy!, backModel(geometry, hostY!));
          assert.ok(forwardError <= 2e-6, `forward error ${forwardError}: ${what}`);
          assert.ok(backError <= 2e-6, `back error ${backError}: ${what}`);
          const gap = Math.abs(dot(hostAx!, hostY!) - dot(hostX!, hostATy!));
          assert.ok(gap <= 1e-6 * norm(hostAx!) * norm(hostY!), `adjoint gap ${gap}: ${what}`);
        }
      }),
    );

  it(
    "agrees with the model at sizes that take several tiles and blocks",
    balanced(() => {
      const views = 7;
      const cases = [
        { beam: parallelBeam({ angleCount: views, detectorShape: [70, 150], pixelSize: [1, 0.9] }), depth: 70 },
        { beam: parallelBeam({ angleCount: views, detectorShape: [3, 150] }), depth: 3 },
        { beam: parallelBeam({ angleCount: views, detectorShape: [40, 150], pixelSize: [1.7, 1] }), depth: 70 },
        {
          beam: coneBeam({
            angleCount: views,
            detectorShape: [60, 90],
            pixelSize: 3,
            sourceOriginDistance: 250,
            sourceDetectorDistance: 500,
          }),
          depth: 67,
        },
        {
          beam: coneBeam({
            angleCount: 3,
            detectorShape: [90, 70],
            pixelSize: [2.5, 4.5],
            sourceOriginDistance: 200,
            sourceDetectorDistance: 350,
            detectorCurvatureRadius: 350,
          }).transform(rotate({ axis: [0.1, 1, 0.2], angles: [0.8] })),
          depth: 80,
        },
        {
          beam: coneBeam({
            angleCount: views,
            detectorShape: [70, 90],
            pixelSize: 3,
            sourceOriginDistance: 250,
            sourceDetectorDistance: 500,
            detectorCurvatureRadius: 400,
          }),
          depth: 67,
        },
      ];
      for (const { beam, depth } of cases) {
        const geometry = {
          kind: beam.kind,
          shape: [depth, 101, 97],
          voxelSize: [1, 1, 1],
          position: [0, 0, 0],
          detectorShape: [...beam.detectorShape],
          vectors: beam.vectors,
          curvatureRadii: beam.detectorCurvatureRadii,
        } as unknown as Parameters<typeof forwardModel>[0];
        using A = operatorOf(geometry);
        using x = DeviceArray.uniform(A.domainShape, { seed: 1 });
        using y = DeviceArray.uniform(A.rangeShape, { seed: 2 });
        using Ax = A(x);
        using ATy = A.T(y);
        assert.ok(relativeL2(Ax.readSync(), forwardModel(geometry, x.readSync())) <= 2e-6, A.description);
        assert.ok(relativeL2(ATy.readSync(), backModel(geometry, y.readSync())) <= 2e-6, A.description);
      }
    }),
  );

  it(
    "gives the same bits for every number of threads and every run",
    balanced(() => {
      const cpu = device("cpu");
      const threads = cpu.threads;
      const object = volume({ shape: [20, 40, 40] });
      const round = { detectorShape: [20, 60], angleCount: 17 } as const;
      const beams = [
        parallelBeam(round),
        coneBeam({ ...round, sourceOriginDistance: 100, sourceDetectorDistance: 150 }),
        parallelBeam(round).transform(translate([0.3, 0, 0])),
        coneBeam({
          ...round,
          sourceOriginDistance: 100,
          sourceDetectorDistance: 150,
          detectorCurvatureRadius: 150,
        }).transform(rotate({ axis: [0, 1, 0], angles: [0.1] })),
      ];
      for (const beam of beams) {
        using A = operator(object, beam, { device: cpu });
        using x = DeviceArray.uniform(A.domainShape, { seed: 5, device: cpu });
        const results = [1, 2, 3].map((count) => {
          cpu.threads = count;
          using y = A(x);
          using back = A.T(y);
          return [y.readSync(), back.readSync()];
        });
        assert.deepEqual(results[1], results[0]);
        assert.deepEqual(results[2], results[0]);
      }
      cpu.threads = threads;
    }),
  );
});

describe("laws of the operator", () => {
  const angles = [0, Math.PI / 4, Math.PI / 2, (3 * Math.PI) / 4, Math.PI, 1];
  const object = volume({ shape: [9, 20, 21], voxelSize: [1, 0.8, 1.1] });
  const beams = {
    parallel: parallelBeam({ angles, detectorShape: [9, 27] }),
    cone: coneBeam({
      angles,
      detectorShape: [12, 31],
      pixelSize: 1.5,
      sourceOriginDistance: 60,
      sourceDetectorDistance: 90,
    }),
  };

  for (const [name, beam] of Object.entries(beams)) {
    it(
      `is linear: ${name}`,
      balanced(() => {
        using A = operator(object, beam);
        using a = DeviceArray.uniform(A.domainShape, { seed: 1 });
        using b = DeviceArray.uniform(A.domainShape, { seed: 2 });
        using left = scope(() => A(a.mul(2).sub(b)));
        using right = scope(() => A(a).mul(2).sub(A(b)));
        assert.ok(relativeL2(left.readSync(), right.readSync()) < 2e-6);
      }),
    );

    it(
      `scales with the unit of length, metres included, and does not depend on where the scene is: ${name}`,
      balanced(() => {
        using A = operator(object, beam);
        using x = DeviceArray.uniform(A.domainShape, { seed: 3 });
        using y = A(x);
        for (const factor of [1e-6, 1000]) {
          const scaled = operatorOf({
            kind: beam.kind,
            shape: object.shape,
            voxelSize: object.voxelSize.map((size) => size * factor),
            position: [0, 0, 0],
            detectorShape: beam.detectorShape,
            vectors: beam.vectors.map((value) => value * factor),
          } as unknown as Parameters<typeof operatorOf>[0]);
          using B = scaled;
          using z = B(x);
          z.mulAssign(1 / factor);
          assert.ok(relativeL2(z.readSync(), y.readSync()) < 2e-6, `factor ${factor}`);
        }
        const offset = [1000, -1000, 1000] as const;
        using moved = operator(object.translate(offset), beam.transform(translate(offset)));
        using z = moved(x);
        assert.ok(relativeL2(z.readSync(), y.readSync()) < 2e-6);
      }),
    );

    it(
      `moving the volume equals moving the beam the other way: ${name}`,
      balanced(() => {
        const offset = [0.5, 1.25, -2] as const;
        using A = operator(object.translate(offset), beam);
        using B = operator(object, beam.transform(translate(offset).inverse()));
        using x = DeviceArray.uniform(A.domainShape, { seed: 4 });
        using a = A(x);
        using b = B(x);
        assert.ok(relativeL2(a.readSync(), b.readSync()) < 2e-6);
      }),
    );

    it(
      `treats batch items alike, whatever the leading dimensions: ${name}`,
      balanced(() => {
        using A = operator(object, beam);
        using x = DeviceArray.uniform([2, 3, ...A.domainShape], { seed: 6 });
        using y = A(x);
        using back = A.T(y);
        assert.deepEqual(y.shape, [2, 3, ...A.rangeShape]);
        assert.deepEqual(back.shape, x.shape);
        const flat = {
          x: x.reshape([6, ...A.domainShape]),
          y: y.reshape([6, ...A.rangeShape]),
          back: back.reshape([6, ...A.domainShape]),
        };
        for (let item = 0; item < 6; item++) {
          using one = A(flat.x.part(item, item + 1).reshape(A.domainShape));
          using oneBack = A.T(one);
          assert.ok(relativeL2(flat.y.part(item, item + 1).readSync(), one.readSync()) < 1e-6);
          assert.ok(relativeL2(flat.back.part(item, item + 1).readSync(), oneBack.readSync()) < 1e-6);
        }
      }),
    );

    it(
      `writes to out, adds to it, and has the fused halves of SIRT: ${name}`,
      balanced(() => {
        using A = operator(object, beam);
        using x = DeviceArray.uniform(A.domainShape, { seed: 7 });
        using y = DeviceArray.uniform(A.rangeShape, { seed: 8 });
        using Ax = A(x);
        using ATy = A.T(y);
        using out = DeviceArray.full(A.rangeShape, Number.NaN);
        assert.equal(A(x, { out }), out);
        assert.deepEqual(out.readSync(), Ax.readSync());
        A(x, { out, accumulate: true });
        using twice = Ax.mul(2);
        assert.ok(relativeL2(out.readSync(), twice.readSync()) < 1e-6);
        using volumeOut = ATy.clone();
        A.T(y, { out: volumeOut, accumulate: true });
        using twiceBack = ATy.mul(2);
        assert.ok(relativeL2(volumeOut.readSync(), twiceBack.readSync()) < 1e-6);

        using weights = scope(() => DeviceArray.uniform(A.rangeShape, { seed: 9, minimum: -0.5 }).clamp(0, 1));
        using norm = DeviceArray.empty([2]);
        using residual = A.residual(x, y, { weights, norm });
        using expected = scope(() => y.sub(Ax).mul(weights));
        assert.ok(relativeL2(residual.readSync(), expected.readSync()) < 1e-6);
        const difference = scope(() => y.sub(Ax).readSync());
        const seen = weights.readSync();
        const squares = difference.reduce((sum, value, i) => sum + (seen[i]! > 0 ? value * value : 0), 0);
        const told = new Float64Array(norm.readSync().buffer)[0]!;
        assert.ok(Math.abs(told - squares) <= 1e-5 * squares, `${told} against ${squares}`);

        using scale = DeviceArray.uniform(A.domainShape, { seed: 10 });
        using updated = x.clone();
        A.update(updated, y, { scale, relaxation: 0.01, minimum: 0.2, maximum: 0.9 });
        using wanted = scope(() => x.add(ATy.mul(scale).mul(0.01)).clamp(0.2, 0.9));
        assert.ok(relativeL2(updated.readSync(), wanted.readSync()) < 1e-6);
      }),
    );
  }

  for (const precision of ["float32", "high", "half"] as const)
    it(
      `takes the weights of one row or slice for all where these are alike, ${precision}`,
      balanced(() => {
        const beam = parallelBeam({ angleCount: 7, detectorShape: [40, 22] });
        for (const [rows, slices, shape, law] of [
          [true, true, [40, 9, 15], "exact"],
          [true, true, [40, 9, 15], "astra"], // on a GPU: kernels of the CPU do not know
          [false, true, [34, 9, 15], "exact"], // three rows above the volume and three below see nothing
          [true, false, [44, 9, 15], "exact"],
        ] as const) {
          using A = operator(volume({ shape }), beam, { precision, law });
          if (law === "exact" || A.device.name !== "cpu") assert.deepEqual(A.alike, { rows, slices });
          else assert.deepEqual(A.alike, { rows: false, slices: false });
          using x = DeviceArray.uniform([2, ...A.domainShape], { seed: 1 });
          using y = DeviceArray.uniform([2, ...A.rangeShape], { seed: 2 });
          using weights = DeviceArray.uniform(A.rangeShape.slice(1), { seed: 3, minimum: -0.5 });
          using scale = DeviceArray.uniform(A.domainShape.slice(1), { seed: 4 });
          using zeros = DeviceArray.zeros(A.rangeShape);
          using zeroVolume = DeviceArray.zeros(A.domainShape);
          using allWeights = zeros.add(weights);
          using allScale = zeroVolume.add(scale);
          const residual = (given: DeviceArray) => {
            using norm = DeviceArray.zeros([4]);
            using r = A.residual(x, y, { weights: given, norm });
            return [...r.readSync(), ...new Float64Array(norm.readSync().buffer)];
          };
          const update = (given: DeviceArray) => {
            using updated = x.clone();
            A.update(updated, y, { scale: given, relaxation: 0.1, minimum: 0.2 });
            return updated.readSync();
          };
          if (A.alike.rows) assert.deepEqual(residual(weights), residual(allWeights));
          else assert.throws(() => residual(weights), raysumError("shape", /expected \[40, 7, 22\]/));
          if (A.alike.slices) assert.deepEqual(update(scale), update(allScale));
          else assert.throws(() => update(scale), raysumError("shape", /expected \[4[04], 9, 15\]/));
        }
        using cone = operator(object, beams.cone);
        assert.deepEqual(cone.alike, { rows: false, slices: false });
      }),
    );

  it(
    "sees a cropped volume and a cropped beam as parts of the whole",
    balanced(() => {
      const beam = beams.cone;
      using A = operator(object, beam);
      using B = operator(
        object,
        beam.select({ views: { start: 1, stop: 4 }, rows: { start: 2, stop: 9 }, columns: { start: 5 } }),
      );
      using x = DeviceArray.uniform(A.domainShape, { seed: 11 });
      using whole = A(x);
      using part = B(x);
      const all = whole.readSync();
      const [, views, columns] = A.rangeShape as [number, number, number];
      const expected: number[] = [];
      for (let row = 2; row < 9; row++)
        for (let view = 1; view < 4; view++)
          for (let column = 5; column < columns; column++) expected.push(all[(row * views + view) * columns + column]!);
      assert.ok(relativeL2(part.readSync(), expected) < 1e-6);
      using cropped = operator(object.crop({ z: { start: 2, stop: 7 }, y: { start: 3 } }), beam);
      using y = DeviceArray.uniform(A.rangeShape, { seed: 12 });
      using back = A.T(y);
      using backPart = cropped.T(y);
      const full = back.readSync();
      const inside: number[] = [];
      for (let z = 2; z < 7; z++)
        for (let j = 3; j < 20; j++) for (let i = 0; i < 21; i++) inside.push(full[(z * 20 + j) * 21 + i]!);
      assert.ok(relativeL2(backPart.readSync(), inside) < 2e-6);
    }),
  );

  it(
    "knows its transpose, shapes and sums",
    balanced(() => {
      using A = operator(object, beams.parallel);
      assert.equal(A.T.T, A);
      assert.deepEqual(
        [A.domainShape, A.rangeShape],
        [
          [9, 20, 21],
          [9, 6, 27],
        ],
      );
      assert.deepEqual([A.T.domainShape, A.T.rangeShape], [A.rangeShape, A.domainShape]);
      using ones = DeviceArray.ones(A.domainShape);
      using expected = A(ones);
      using sums = A.rowSums();
      assert.deepEqual(sums.readSync(), expected.readSync());
      using columnSums = A.columnSums();
      assert.ok(Math.min(...columnSums.readSync()) > 0);
    }),
  );

  it(
    "integrates a box exactly along the axes, at 0 and at 90 degrees",
    balanced(() => {
      const box = volume({ shape: [4, 6, 8], voxelSize: [0.5, 0.25, 2] });
      using A = operator(
        box,
        parallelBeam({ angles: [0, Math.PI / 2], detectorShape: [4, 3], pixelSize: [0.5, 0.25] }),
      );
      using y = A.rowSums();
      const values = y.readSync();
      for (let row = 0; row < 4; row++)
        for (let column = 0; column < 3; column++) {
          assert.equal(values[row * 6 + column], 1.5);
          assert.equal(values[row * 6 + 3 + column], 16);
        }
    }),
  );

  it(
    "gives zeros for rays that miss the volume, and nothing back from them",
    balanced(() => {
      const aside = parallelBeam({ angleCount: 5, detectorShape: [4, 6], detectorOffset: [0, 1000] });
      using A = operator(volume({ shape: [4, 6, 8] }), aside);
      using y = A.rowSums();
      using x = A.columnSums();
      assert.ok(y.readSync().every((value) => value === 0));
      assert.ok(x.readSync().every((value) => value === 0));
    }),
  );
});

describe("the life of an operator", () => {
  it(
    "ends in queue order, and so does that of its arrays",
    balanced(() => {
      const A = operator(volume({ shape: [30, 60, 60] }), parallelBeam({ angleCount: 60, detectorShape: [30, 90] }));
      using expected = A.rowSums();
      const wanted = expected.readSync();
      const ones = DeviceArray.ones(A.domainShape);
      using y = A(ones);
      ones.dispose();
      A.dispose();
      A.dispose();
      assert.ok(A.disposed);
      using _other = DeviceArray.full([30, 60, 60], 7); // may get the memory of `ones`
      assert.deepEqual(y.readSync(), wanted);
    }),
  );
});
