import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { DeviceArray, operator, parallelBeam, volume } from "../lib/index.ts";
import { arrayOf, layer, tensorOf } from "../lib/tfjs/index.ts";
import { raysumError } from "./support/errors.ts";
import { dot } from "./support/random.ts";
import { difference, here, on, random, tf, valuesOn } from "./support/tensorflow.ts";

const A = operator(
  volume({ shape: [4, 9, 8], size: 1 }),
  parallelBeam({ angleCount: 7, detectorShape: [5, 11], detectorSize: 1.5 }),
  { device: here },
);
const S = operator(
  volume({ shape: [1, 9, 8], voxelSize: 1 }),
  parallelBeam({ angleCount: 6, detectorShape: [1, 13], pixelSize: 1 }),
  { device: here },
);
const P = layer(A);
const Q = layer(S, { slice: true });

describe("layer(A)", () => {
  it("projects what the operator projects, forward and back, in batches", async () => {
    for (const lead of [[], [3], [2, 3]]) {
      const [x, y, Px, PTy] = await valuesOn(on, () => {
        const volumes = random([...lead, ...A.domainShape], 1);
        const projections = random([...lead, ...A.rangeShape], 2);
        assert.deepEqual(P(volumes).shape, [...lead, ...A.rangeShape]);
        assert.deepEqual(P.T(projections).shape, [...lead, ...A.domainShape]);
        return [volumes, projections, P(volumes), P.T(projections)];
      });
      using xs = DeviceArray.from(Float32Array.from(x!), [...lead, ...A.domainShape], { device: here });
      using ys = DeviceArray.from(Float32Array.from(y!), [...lead, ...A.rangeShape], { device: here });
      using Ax = A(xs);
      using ATy = A.T(ys);
      assert.deepEqual(Float32Array.from(Px!), Ax.readSync());
      assert.deepEqual(Float32Array.from(PTy!), ATy.readSync());
      const gap = Math.abs(dot(Px!, y!) - dot(x!, PTy!));
      assert.ok(gap <= 1e-6 * Math.sqrt(dot(Px!, Px!) * dot(y!, y!)), `${gap}`);
    }
    assert.equal(P.T.T, P);
  });

  it("maps images [batch, y, x, 1] with slice", async () => {
    const [whole, sliced] = await valuesOn(on, () => {
      const image = random([2, 9, 8, 1], 3);
      const sinogram = Q(image);
      assert.deepEqual(sinogram.shape, [2, 6, 13, 1]);
      assert.deepEqual(Q.T(sinogram).shape, [2, 9, 8, 1]);
      return [layer(S)(tf.reshape(image, [2, 1, 9, 8])), sinogram];
    });
    assert.deepEqual(sliced, whole);
  });

  it("has the transpose for a gradient, exactly, in every order", async () => {
    const [gradient, expected, back, forward] = await valuesOn(on, () => {
      const [x, y] = [random([2, ...A.domainShape], 4), random([2, ...A.rangeShape], 5)];
      return [tf.grad(P)(x, y), P.T(y), tf.grad(P.T)(y, x), P(x)];
    });
    assert.deepEqual(gradient, expected);
    assert.deepEqual(back, forward);
    // The Hessian of |P x|^2 / 2 is P.T P, and third derivatives of x -> |P x|^4 exist too.
    const [product, normal, third] = await valuesOn(on, () => {
      const [x, v] = [random(A.domainShape, 6), random(A.domainShape, 7)];
      const half = (t: tf.Tensor) => tf.mul(tf.sum(tf.square(P(t))), 0.5) as tf.Scalar;
      const along = (f: (t: tf.Tensor) => tf.Scalar) => (t: tf.Tensor) => tf.sum(tf.mul(tf.grad(f)(t), v)) as tf.Scalar;
      const quartic = (t: tf.Tensor) => tf.square(half(t)) as tf.Scalar;
      return [tf.grad(along(half))(x), P.T(P(v)), along(along(along(along(quartic))))(x)];
    });
    assert.ok(difference(product!, normal!) < 1e-6);
    // along v four times: (|P v|^2 / 2)^2 has the fourth derivative 4! times itself
    const [fourth] = await valuesOn(on, () => {
      const half = tf.mul(tf.sum(tf.square(P(random(A.domainShape, 7)))), 0.5);
      return tf.mul(tf.square(half), 24);
    });
    assert.ok(Math.abs(third![0]! / fourth![0]! - 1) < 1e-5, `${third} ${fourth}`);
  });

  it("trains what comes before it, without a tensor left over", async () => {
    await tf.setBackend(on);
    const weight = tf.variable(tf.fill([1, 1, 1, 1], 0.2)) as tf.Variable<tf.Rank.R4>;
    const image = random([1, 9, 8, 1], 8) as tf.Tensor4D;
    const target = Q(tf.tidy(() => tf.mul(image, 0.7)));
    const optimizer = tf.train.sgd(3e-3);
    const step = () =>
      tf.tidy(() => {
        const loss = () => tf.sum(tf.squaredDifference(Q(tf.conv2d(image, weight, 1, "same")), target)) as tf.Scalar;
        return optimizer.minimize(loss, true)!.dataSync()[0]!;
      });
    const first = step();
    const { numTensors, bytesInUse } = tf.memory() as tf.MemoryInfo & { bytesInUse: number };
    let last = first;
    for (let k = 0; k < 50; k++) last = step();
    const after = tf.memory() as tf.MemoryInfo & { bytesInUse: number };
    assert.ok(last < 1e-6 * first, `${first} to ${last}`);
    assert.equal(after.numTensors, numTensors);
    assert.equal(after.bytesInUse, bytesInUse);
    for (const tensor of [weight, image, target]) tensor.dispose();
    optimizer.dispose();
  });

  it("refuses tensors of another shape, rank, type or backend, and a disposed operator", async () => {
    await tf.setBackend("cpu");
    const foreign = random(A.domainShape, 9);
    assert.throws(
      () => P(foreign),
      raysumError("device", /the tensor is on another backend, the operator is on raysum-/),
    );
    await tf.setBackend(on);
    assert.throws(() => P(foreign), raysumError("device", /the tensor is on another backend/));
    foreign.dispose();
    tf.tidy(() => {
      assert.throws(
        () => P(random([9, 8], 1)),
        raysumError("shape", /\[9, 8\]: expected \[4, 9, 8\], with any leading/),
      );
      assert.throws(() => P(random([4, 8, 9], 1)), raysumError("shape", /\[4, 8, 9\]/));
      assert.throws(() => P.T(random([4, 9, 8], 1)), raysumError("shape", /expected \[5, 7, 11\]/));
      assert.throws(() => P(tf.zeros([4, 9, 8], "int32")), raysumError("argument", /int32: expected float32/));
      assert.throws(() => Q(random([9, 8, 1], 1)), raysumError("shape", /expected \[batch, 9, 8, 1\]/));
      assert.throws(() => Q(random([1, 2, 9, 8, 1], 1)), raysumError("shape", /expected \[batch, 9, 8, 1\]/));
      assert.throws(() => P([1] as unknown as tf.Tensor), raysumError("argument", /a layer maps tensors/));
      const gone = operator(A.volume, A.beam, { device: here });
      const stale = layer(gone);
      gone.dispose();
      assert.throws(() => stale(random(A.domainShape, 1)), raysumError("disposed", /operator was disposed/));
    });
    await tf.setBackend(on);
    const x = random(A.domainShape, 1);
    await tf.setBackend("cpu");
    assert.throws(() => P(x), raysumError("device", /the active backend is cpu, the operator is on raysum-/));
    x.dispose();
    assert.throws(() => layer(A, { slice: true }), raysumError("shape", /expected one slice and one row/));
  });
});

describe("tensors and arrays", () => {
  it("share device memory one way, and are copied on the device the other way", async () => {
    await tf.setBackend(on);
    const x = random(A.domainShape, 10);
    const view = arrayOf(x);
    using y = A(view);
    const t = tensorOf(y);
    assert.deepEqual(t.dataSync(), y.readSync());
    assert.deepEqual(t.shape, [...y.shape]);
    y.fill(0);
    assert.notEqual(t.dataSync()[60], 0);
    t.dispose();
    x.dispose();
    assert.throws(() => view.readSync(), raysumError("disposed", /was disposed/));
    await tf.setBackend("cpu");
    const foreign = tf.scalar(1);
    assert.throws(() => arrayOf(foreign), raysumError("device", /another backend/));
    assert.throws(() => tensorOf(y), raysumError("device", /the active backend is cpu/));
    foreign.dispose();
  });
});
