import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { coneBeam, operator, volume } from "../lib/index.ts";
import { layer, upSampling3d } from "../lib/tfjs/index.ts";
import { raysumError } from "./support/errors.ts";
import { sliceOperator } from "./support/operators.ts";
import { dot, norm } from "./support/random.ts";
import { difference, here, on, random, tf, valuesOn } from "./support/tensorflow.ts";

type Of = (x: tf.Tensor) => tf.Tensor;
type Loss = (x: tf.Tensor) => tf.Scalar;

/** The directional derivative of a loss by its gradient and by a central difference, which is exact for what is quadratic in x. */
async function checkFirst(name: string, loss: Loss, x: () => tf.Tensor, step = 0.25, tolerance = 2e-4): Promise<void> {
  const [gradient, direction, plus, minus] = await valuesOn(on, () => {
    const v = random(x().shape, 101);
    const moved = (h: number) => loss(tf.add(x(), tf.mul(v, h)));
    return [tf.grad(loss)(x()), v, moved(step), moved(-step)];
  });
  const slope = (plus![0]! - minus![0]!) / (2 * step);
  const error = Math.abs(dot(gradient!, direction!) - slope);
  assert.ok(
    error <= tolerance * (Math.abs(slope) + norm(gradient!)),
    `${name}: ${dot(gradient!, direction!)} and ${slope}`,
  );
}

/** The Hessian of a loss times a vector, by the gradient of a gradient and by a central difference of gradients. */
async function checkSecond(name: string, loss: Loss, x: () => tf.Tensor, step = 0.25, tolerance = 2e-4): Promise<void> {
  const [product, plus, minus] = await valuesOn(on, () => {
    const v = random(x().shape, 102);
    const slope = (y: tf.Tensor) => tf.sum(tf.mul(tf.grad(loss)(y), v)) as tf.Scalar;
    const moved = (h: number) => tf.grad(loss)(tf.add(x(), tf.mul(v, h)));
    return [tf.grad(slope)(x()), moved(step), moved(-step)];
  });
  const quotient = Float64Array.from(plus!, (value, k) => (value - minus![k]!) / (2 * step));
  assert.ok(norm(product!) > 0, `${name}: the Hessian is zero`);
  const error = difference(product!, quotient);
  assert.ok(error <= tolerance, `${name}: ${error}`);
}

const squares =
  (of: Of): Loss =>
  (x) =>
    tf.sum(tf.square(of(x))) as tf.Scalar;

/** A convolution in both of its arguments. */
interface Case {
  readonly x: readonly number[];
  readonly filter: readonly number[];
  readonly of: (x: tf.Tensor, filter: tf.Tensor) => tf.Tensor;
}

const planar =
  (stride: number, pad: "same" | "valid", dilation: number): Case["of"] =>
  (x, filter) =>
    tf.conv2d(x as tf.Tensor4D, filter as tf.Tensor4D, stride, pad, "NHWC", dilation);
const spatial =
  (stride: number, pad: "same" | "valid", dilation: number): Case["of"] =>
  (x, filter) =>
    tf.conv3d(x as tf.Tensor5D, filter as tf.Tensor5D, stride, pad, "NDHWC", [dilation, dilation, dilation]);

const convolutions: Readonly<Record<string, Case>> = {
  conv2d: { x: [2, 9, 8, 5], filter: [3, 3, 5, 7], of: planar(1, "same", 1) },
  "conv2d with stride": { x: [1, 9, 8, 3], filter: [3, 2, 3, 4], of: planar(2, "same", 1) },
  "conv2d with dilation": { x: [1, 12, 11, 2], filter: [3, 3, 2, 3], of: planar(1, "same", 3) },
  "conv2d with dilation, valid": { x: [1, 12, 11, 2], filter: [3, 3, 2, 3], of: planar(1, "valid", 2) },
  conv2dTranspose: {
    x: [1, 5, 6, 3],
    filter: [3, 3, 2, 3],
    of: (x, filter) => tf.conv2dTranspose(x as tf.Tensor4D, filter as tf.Tensor4D, [1, 10, 12, 2], 2, "same"),
  },
  conv3d: { x: [1, 4, 5, 6, 2], filter: [2, 3, 3, 2, 3], of: spatial(1, "same", 1) },
  "conv3d with dilation": { x: [1, 6, 7, 8, 2], filter: [2, 3, 2, 2, 3], of: spatial(1, "same", 2) },
  conv3dTranspose: {
    x: [1, 3, 4, 3, 3],
    filter: [2, 2, 2, 2, 3],
    of: (x, filter) => tf.conv3dTranspose(x as tf.Tensor5D, filter as tf.Tensor5D, [1, 6, 8, 6, 2], 2, "same"),
  },
  "conv3d with stride": { x: [1, 5, 6, 7, 2], filter: [3, 2, 3, 2, 3], of: spatial(2, "same", 1) },
  depthwiseConv2d: {
    x: [1, 7, 8, 3],
    filter: [3, 3, 3, 2],
    of: (x, filter) => tf.depthwiseConv2d(x as tf.Tensor4D, filter as tf.Tensor4D, 1, "same"),
  },
  "depthwiseConv2d with stride": {
    x: [2, 7, 8, 2],
    filter: [3, 2, 2, 3],
    of: (x, filter) => tf.depthwiseConv2d(x as tf.Tensor4D, filter as tf.Tensor4D, 2, "valid"),
  },
  "a convolution with bias, and no unit": {
    x: [1, 6, 5, 3],
    filter: [3, 3, 3, 2],
    of: (x, filter) =>
      tf.fused.conv2d({
        x: x as tf.Tensor4D,
        filter: filter as tf.Tensor4D,
        strides: 1,
        pad: "same",
        bias: random([2], 9) as tf.Tensor1D,
      }),
  },
};

/** Linear functions of one tensor. */
const linear: Readonly<Record<string, { readonly x: readonly number[]; readonly of: Of }>> = {
  upSampling3d: { x: [1, 2, 3, 2, 2], of: (x) => upSampling3d(x as tf.Tensor5D, [2, 1, 3]) },
  resizeBilinear: { x: [1, 4, 5, 2], of: (x) => tf.image.resizeBilinear(x as tf.Tensor4D, [7, 9]) },
  "resizeBilinear with aligned corners": {
    x: [1, 4, 5, 2],
    of: (x) => tf.image.resizeBilinear(x as tf.Tensor4D, [3, 8], true),
  },
  resizeNearestNeighbor: { x: [1, 3, 4, 2], of: (x) => tf.image.resizeNearestNeighbor(x as tf.Tensor4D, [6, 8]) },
  pad: {
    x: [3, 4],
    of: (x) =>
      tf.pad(x, [
        [1, 2],
        [0, 3],
      ]),
  },
  slice: { x: [4, 5], of: (x) => tf.slice(x, [1, 2], [2, 3]) },
  concat: { x: [3, 4], of: (x) => tf.concat([x, tf.mul(x, 2), x], 1) },
  split: { x: [3, 6], of: (x) => tf.mul(tf.split(x, [1, 2, 3], 1)[2]!, 3) },
  stack: { x: [3, 4], of: (x) => tf.stack([x, x], 1) },
  tile: { x: [3, 4], of: (x) => tf.tile(x, [2, 3]) },
  transpose: { x: [3, 4, 2], of: (x) => tf.transpose(x, [2, 0, 1]) },
  reverse: { x: [3, 4], of: (x) => tf.reverse(x, 1) },
  gather: { x: [4, 3], of: (x) => tf.gather(x, tf.tensor1d([2, 0, 2], "int32")) },
  matMul: { x: [4, 3], of: (x) => tf.matMul(x as tf.Tensor2D, random([3, 5], 11) as tf.Tensor2D) },
  "a sum with what is repeated": { x: [3, 1, 2], of: (x) => tf.add(tf.sub(random([3, 4, 2], 12), x), tf.mul(x, 3)) },
};

describe("gradients of our own agree with differences of what they are gradients of", () => {
  for (const [name, { x, filter, of }] of Object.entries(convolutions)) {
    it(`${name}: first and second order, by input and by filter`, async () => {
      const [input, weights] = [() => random(x, 1), () => random(filter, 2)];
      for (const check of [checkFirst, checkSecond]) {
        await check(
          `${name} by input`,
          squares((t) => of(t, weights())),
          input,
        );
        await check(
          `${name} by filter`,
          squares((t) => of(input(), t)),
          weights,
        );
      }
      // By input, then by filter: quadratic in both, so a small step.
      const mixed: Loss = (w) => tf.sum(tf.square(tf.grad(squares((t) => of(t, w)))(input()))) as tf.Scalar;
      await checkFirst(`${name} mixed`, mixed, weights, 1 / 128, 2e-3);
    });
  }

  it("sums and means over any axes", async () => {
    for (const axis of [undefined, 0, 1, [0, 2]])
      for (const fold of [tf.sum, tf.mean])
        for (const keep of [true, false]) {
          await checkFirst(
            `${fold.name} ${axis}`,
            squares((t) => fold(t, axis, keep)),
            () => random([3, 4, 5], 3),
          );
          await checkSecond(
            `${fold.name} ${axis}`,
            squares((t) => fold(t, axis, keep)),
            () => random([3, 4, 5], 3),
          );
        }
  });

  it("rectified units, away from their bend", async () => {
    // 0.6 <= |x| <= 1, and a step that leaves the signs alone.
    const x = () => tf.mul(tf.sign(random([5, 6], 4)), random([5, 6], 5, 0.6, 1));
    const units: Record<string, Of> = {
      relu: tf.relu,
      leakyRelu: (t) => tf.leakyRelu(t, 0.3),
      prelu: (t) => tf.prelu(t, tf.tensor1d([0.3, 0, -0.5, 0.1, 2, 1])),
    };
    for (const [name, of] of Object.entries(units)) {
      await checkFirst(name, squares(of), x);
      await checkSecond(name, squares(of), x);
      // through a product with x itself, so that the output's gradient depends on x as well
      await checkSecond(`${name} twice`, (t) => tf.sum(tf.mul(tf.square(of(t)), t)) as tf.Scalar, x, 1 / 16);
    }
    for (const shape of [[6], [1], [5, 1]]) {
      const slopes = () => random(shape, 7);
      await checkFirst(
        `prelu by slopes [${shape}]`,
        squares((t) => tf.prelu(x(), t)),
        slopes,
      );
      await checkSecond(
        `prelu by slopes [${shape}]`,
        squares((t) => tf.prelu(x(), t)),
        slopes,
      );
    }
    // By its input, then by the slopes.
    const mixed: Loss = (slopes) => tf.sum(tf.square(tf.grad(squares((t) => tf.prelu(t, slopes)))(x()))) as tf.Scalar;
    await checkFirst("prelu mixed", mixed, () => random([6], 8), 1 / 128, 2e-3);
  });

  for (const [name, { x, of }] of Object.entries(linear))
    it(`${name}: first and second order`, async () => {
      await checkFirst(name, squares(of), () => random(x, 1));
      await checkSecond(name, squares(of), () => random(x, 1));
    });

  it("projections as layers: first and second order, by image and by sinogram", async () => {
    using A = sliceOperator(10, { device: here });
    const P = layer(A, { slice: true });
    for (const [name, of, shape] of [
      ["forward", P, [2, 10, 10, 1]],
      ["back", P.T, [2, 15, 15, 1]],
      ["there and back", (x: tf.Tensor) => P.T(P(x)), [1, 10, 10, 1]],
    ] as const) {
      await checkFirst(name, squares(of), () => random(shape, 1));
      await checkSecond(name, squares(of), () => random(shape, 1));
    }
    using B = operator(
      volume({ shape: [3, 6, 5], size: 1 }),
      coneBeam({
        angleCount: 7,
        detectorShape: [4, 8],
        detectorSize: [2, 3],
        sourceOriginDistance: 2,
        sourceDetectorDistance: 4,
      }),
      { device: here },
    );
    const Q = layer(B);
    await checkFirst("a cone beam", squares(Q), () => random([2, ...B.domainShape], 2));
    await checkSecond("a cone beam, back", squares(Q.T), () => random([1, ...B.rangeShape], 3));
  });

  for (const rank of [2, 3, 4, 5])
    it(`batch normalization of rank ${rank}: first and second order, by everything that goes in`, async () => {
      const shape = [3, 2, 3, 2].slice(0, rank - 1).concat(4);
      const given = () => ({
        x: random(shape, 1),
        mean: random([4], 2),
        variance: random([4], 3, 0.8, 1.2),
        offset: random([4], 4),
        scale: random([4], 5, 0.5, 1),
      });
      type Given = ReturnType<typeof given>;
      const normalized = ({ x, mean, variance, offset, scale }: Given) =>
        tf.batchNorm(x, mean as tf.Tensor1D, variance as tf.Tensor1D, offset as tf.Tensor1D, scale as tf.Tensor1D);
      for (const name of ["x", "mean", "variance", "offset", "scale"] as const) {
        const loss = squares((t) => normalized({ ...given(), [name]: t }));
        const step = name === "variance" ? 1 / 64 : 0.25;
        await checkFirst(`by ${name}`, loss, () => given()[name], step, 1e-3);
        await checkSecond(`by ${name}`, loss, () => given()[name], step, 2e-3);
      }
      const all = (seed: number) => random(shape, seed, 0.8, 1.2);
      const whole = squares((t) => tf.batchNorm(t, all(6), all(7), all(8), all(9)));
      await checkFirst("every element with a mean of its own", whole, () => given().x);
    });

  it("are as those of other backends for batch normalization", async () => {
    const gradients = () => {
      const numbers = (seed: number) => random([3], seed, 0.5, 1) as tf.Tensor1D;
      const loss = (...[x, mean, variance, offset, scale]: tf.Tensor[]) =>
        tf.sum(
          tf.square(
            tf.batchNorm(x!, mean as tf.Tensor1D, variance as tf.Tensor1D, offset as tf.Tensor1D, scale as tf.Tensor1D),
          ),
        );
      return tf.grads(loss as never)([random([2, 4, 5, 3], 1), numbers(2), numbers(3), numbers(4), numbers(5)]);
    };
    const [ours, theirs] = [await valuesOn(on, gradients), await valuesOn("cpu", gradients)];
    for (const [k, values] of theirs.entries()) assert.ok(difference(ours[k]!, values) < 2e-6, `argument ${k}`);
  });

  it("pooling, first order", async () => {
    // Numbers apart, so that no step changes which one is the largest.
    const x = () => tf.reshape(tf.tensor1d(Array.from({ length: 96 }, (_, k) => ((k * 37) % 96) / 8)), [1, 6, 8, 2]);
    const volume5 = () => tf.reshape(x(), [1, 3, 4, 4, 2]);
    await checkFirst(
      "maxPool",
      squares((t) => tf.maxPool(t as tf.Tensor4D, 2, 2, "same")),
      x,
      1 / 64,
      1e-3,
    );
    await checkFirst(
      "avgPool",
      squares((t) => tf.avgPool(t as tf.Tensor4D, 2, 2, "valid")),
      x,
    );
    await checkFirst(
      "maxPool3d",
      squares((t) => tf.maxPool3d(t as tf.Tensor5D, 2, 2, "same")),
      volume5,
      1 / 64,
      1e-3,
    );
    await checkFirst(
      "avgPool3d",
      squares((t) => tf.avgPool3d(t as tf.Tensor5D, 2, 2, "valid")),
      volume5,
    );
  });

  it("and are those of our backends only", async () => {
    const gradient = () => tf.grad(squares(tf.relu))(random([50], 6));
    const [ours] = await valuesOn(on, gradient);
    const [theirs] = await valuesOn("cpu", gradient);
    assert.deepEqual(ours, theirs);
    await tf.setBackend("cpu");
    const dilated = squares((t) =>
      tf.conv2d(t as tf.Tensor4D, random([3, 3, 1, 1], 7) as tf.Tensor4D, 1, "same", "NHWC", 2),
    );
    tf.tidy(() => assert.throws(() => tf.grad(dilated)(random([1, 5, 5, 1], 8)), /dilation rates greater than 1/));
  });
});

describe("upSampling3d", () => {
  it("repeats every voxel along three axes", async () => {
    const [values] = await valuesOn(on, () => upSampling3d(tf.tensor5d([1, 2, 3, 4], [1, 1, 2, 2, 1]), [2, 2, 1]));
    const plane = [1, 2, 1, 2, 3, 4, 3, 4];
    assert.deepEqual([...values!], [...plane, ...plane]);
  });

  it("refuses other tensors and factors", async () => {
    await tf.setBackend(on);
    tf.tidy(() => {
      assert.throws(
        () => upSampling3d(tf.zeros([2, 2, 2, 1]) as never),
        raysumError("shape", /\[2, 2, 2, 1\]: expected/),
      );
      for (const size of [
        [2, 2],
        [0, 1, 1],
        [1.5, 1, 1],
      ])
        assert.throws(
          () => upSampling3d(tf.zeros([1, 2, 2, 2, 1]), size as never),
          raysumError("argument", /^size \[/),
        );
    });
  });
});
