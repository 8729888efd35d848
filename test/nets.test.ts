import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { coneBeam, hollowBox, operator, parallelBeam, volume } from "../lib/index.ts";
import { fbpUnet, filteredBackProjection, learnedGradientDescent } from "../lib/nets/index.ts";
import { adam, capture, layer, tensorOf } from "../lib/tfjs/index.ts";
import { raysumError } from "./support/errors.ts";
import { dot } from "./support/random.ts";
import { difference, here, on, random, tf, valuesOn } from "./support/tensorflow.ts";

/** One slice of n x n voxels and enough views. */
const slice = (n: number, views: number, columns: number) =>
  operator(
    volume({ shape: [1, n, n], size: [1 / n, 1, 1] }),
    parallelBeam({ angleCount: views, detectorShape: [1, columns], detectorSize: [1 / n, 1.5] }),
    { device: here },
  );
const A = slice(13, 12, 18); // odd, so that halves are rounded
const P = layer(A, { slice: true });

describe("filtered back projection of tensors", () => {
  it("reconstructs, at any number of columns", async () => {
    await tf.setBackend(on);
    for (const columns of [60, 96, 150]) {
      using B = slice(64, 128, columns);
      using box = hollowBox(B);
      const fbp = filteredBackProjection(B);
      const [image, truth] = await valuesOn(on, () => {
        const target = tf.reshape(tensorOf(box), [1, 64, 64, 1]);
        return [fbp(layer(B, { slice: true })(target)), target];
      });
      fbp.dispose();
      assert.ok(difference(image!, truth!) < 0.25, `${columns} columns: ${difference(image!, truth!)}`);
      const mean = (values: Float64Array) => values.reduce((sum, value) => sum + value, 0) / values.length;
      assert.ok(Math.abs(mean(image!) / mean(truth!) - 1) < 0.02, `${columns}: ${mean(image!)} and ${mean(truth!)}`);
    }
  });

  it("is linear, with the gradient that its transpose gives", async () => {
    await tf.setBackend(on);
    const fbp = filteredBackProjection(A);
    const [value, gradient, x, dy] = await valuesOn(on, () => {
      const [sinogram, image] = [random([2, 12, 18, 1], 1), random([2, 13, 13, 1], 2)];
      return [fbp(sinogram), tf.grad(fbp)(sinogram, image), sinogram, image];
    });
    fbp.dispose();
    assert.ok(Math.abs(dot(value!, dy!) / dot(gradient!, x!) - 1) < 1e-4);
  });

  it("refuses cone beams", () => {
    using fan = operator(
      A.volume,
      coneBeam({
        angleCount: 4,
        detectorShape: [1, 18],
        pixelSize: 0.1,
        sourceOriginDistance: 3,
        sourceDetectorDistance: 4,
      }),
      { device: here },
    );
    assert.throws(() => filteredBackProjection(fan), raysumError("argument", /a cone beam: .* expects a parallel one/));
  });
});

const networks = {
  "learned gradient descent": (seed: number) =>
    learnedGradientDescent(A, { iterations: 3, memory: 2, hidden: 8, seed }),
  "learned gradient descent, recomputed": (seed: number) =>
    learnedGradientDescent(A, { iterations: 3, memory: 2, hidden: 8, recompute: true, seed }),
  "filtered back projection and a U-Net": (seed: number) => fbpUnet(A, { levels: 2, channels: 4, seed }),
};
for (const [name, make] of Object.entries(networks))
  describe(name, () => {
    it("learns, in captured steps too, without a tensor left over", async () => {
      await tf.setBackend(on);
      const images = tf.tidy(() => tf.image.resizeBilinear(random([2, 4, 4, 1], 2, 0, 3) as tf.Tensor4D, [13, 13]));
      const sinograms = P(images);
      const before = { ...(tf.memory() as tf.MemoryInfo & { bytesInUse: number }) };
      const network = make(1);
      const optimizer = adam(1e-2);
      const loss = () => tf.mean(tf.squaredDifference(network(sinograms), images)) as tf.Scalar;
      const step = capture(() => optimizer.minimize(loss, true, [...network.variables.values()])!);
      const first = step.outputs.dataSync()[0]!;
      for (let k = 0; k < 80; k++) step.run();
      const last = step.outputs.dataSync()[0]!;
      assert.ok(last < 0.9 * first, `${first} to ${last}`);
      for (const one of [step, optimizer, network]) one.dispose();
      const after = tf.memory() as tf.MemoryInfo & { bytesInUse: number };
      assert.equal(after.numTensors, before.numTensors);
      assert.equal(after.bytesInUse, before.bytesInUse);
      tf.dispose([images, sinograms]);
    });

    it("hands its weights to another one", async () => {
      await tf.setBackend(on);
      const [a, b] = [make(1), make(50)];
      b.load(await a.save());
      const [first, second] = await valuesOn(on, () => {
        const sinograms = random([1, 12, 18, 1], 3);
        return [a(sinograms), b(sinograms)];
      });
      assert.deepEqual(first, second);
      for (const network of [a, b]) network.dispose();
    });
  });

it("networks refuse counts that make none", () => {
  assert.throws(
    () => learnedGradientDescent(A, { memory: 0 }),
    raysumError("argument", /memory 0: expected a positive/),
  );
  assert.throws(() => fbpUnet(A, { levels: 1.5 }), raysumError("argument", /levels 1.5: expected a positive/));
});
