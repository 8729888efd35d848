import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { dot, norm } from "./support/random.ts";
import { difference, on, random, tf, valuesOn } from "./support/tensorflow.ts";

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
  depthwiseConv2d: {
    x: [1, 7, 8, 3],
    filter: [3, 3, 3, 2],
    of: (x, filter) => tf.depthwiseConv2d(x as tf.Tensor4D, filter as tf.Tensor4D, 1, "same"),
  },
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
    for (const [name, of] of Object.entries({ relu: tf.relu, leakyRelu: (t: tf.Tensor) => tf.leakyRelu(t, 0.3) })) {
      await checkFirst(name, squares(of), x);
      await checkSecond(name, squares(of), x);
      // through a product with x itself, so that the output's gradient depends on x as well
      await checkSecond(`${name} twice`, (t) => tf.sum(tf.mul(tf.square(of(t)), t)) as tf.Scalar, x, 1 / 16);
    }
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
