import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { fallbacks, nativeKernels, register } from "../lib/tfjs/index.ts";
import { raysumError } from "./support/errors.ts";
import { difference, type Made, on, random, tf, valuesOn } from "./support/tensorflow.ts";

/** Our kernels and the stock ones give the same; strict mode makes sure that ours have run. */
async function agree(name: string, body: () => Made, tolerance = 2e-6): Promise<void> {
  const ours = await valuesOn(on, body);
  const theirs = await valuesOn("cpu", body);
  assert.equal(ours.length, theirs.length);
  for (const [k, values] of ours.entries()) {
    const error = difference(values, theirs[k]!);
    assert.ok(error <= tolerance, `${name}, output ${k}: ${error}`);
  }
}

type Unary = (x: tf.Tensor) => tf.Tensor;
const unary: Record<string, Unary> = {
  abs: tf.abs,
  ceil: tf.ceil,
  clip: (x) => tf.clipByValue(x, -0.3, 0.4),
  cos: tf.cos,
  elu: tf.elu,
  erf: tf.erf,
  exp: tf.exp,
  expm1: tf.expm1,
  floor: tf.floor,
  leakyRelu: (x) => tf.leakyRelu(x, 0.1),
  neg: tf.neg,
  relu: tf.relu,
  relu6: (x) => tf.relu6(tf.mul(x, 10)),
  round: tf.round,
  selu: tf.selu,
  sigmoid: tf.sigmoid,
  sign: tf.sign,
  sin: tf.sin,
  softplus: tf.softplus,
  square: tf.square,
  step: (x) => tf.step(x, 0.2),
  tan: tf.tan,
  tanh: tf.tanh,
};
const positive: Record<string, Unary> = {
  log: tf.log,
  log1p: tf.log1p,
  reciprocal: tf.reciprocal,
  rsqrt: tf.rsqrt,
  sqrt: tf.sqrt,
};

type Binary = (a: tf.Tensor, b: tf.Tensor) => tf.Tensor;
const binary: Record<string, Binary> = {
  add: tf.add,
  atan2: tf.atan2,
  div: tf.div,
  equal: tf.equal,
  floorDiv: tf.floorDiv,
  greater: tf.greater,
  greaterEqual: tf.greaterEqual,
  less: tf.less,
  lessEqual: tf.lessEqual,
  maximum: tf.maximum,
  minimum: tf.minimum,
  mod: tf.mod,
  mul: tf.mul,
  notEqual: tf.notEqual,
  prelu: tf.prelu,
  squaredDifference: tf.squaredDifference,
  sub: tf.sub,
};

describe("kernels on the device agree with the stock ones", () => {
  it("for functions of one tensor", async () => {
    const shape = [3, 1000, 17]; // more than one task
    for (const [name, of] of Object.entries(unary)) await agree(name, () => of(random(shape, 1, -2, 2)));
    for (const [name, of] of Object.entries(positive)) await agree(name, () => of(random(shape, 1, 0.1, 2)));
    for (const op of [tf.abs, tf.neg, tf.sign, tf.square, tf.relu])
      await agree(op.name, () => op(tf.cast(random([50], 2, -9, 9), "int32")), 0);
    await agree("logicalNot", () => tf.logicalNot(tf.greater(random([50], 3), 0)), 0);
  });

  it("for functions of two tensors, with every way to broadcast", async () => {
    const shapes = [
      [
        [4, 5, 6],
        [4, 5, 6],
      ],
      [[40000], []],
      [[], [7]],
      [[4, 5, 6], [6]],
      [[6], [4, 5, 6]],
      [
        [4, 1, 6],
        [4, 5, 1],
      ],
      [
        [2, 1, 3, 1, 2],
        [1, 4, 1, 5, 1],
      ],
      [
        [2, 2, 1, 3, 2, 2],
        [2, 1, 2, 1, 2, 1],
      ],
    ] as const;
    for (const [a, b] of shapes)
      for (const [name, of] of Object.entries(binary))
        await agree(`${name} [${a}] [${b}]`, () => of(random(a, 4), random(b, 5)));
    for (const op of [tf.add, tf.sub, tf.mul, tf.floorDiv, tf.mod, tf.maximum, tf.greater, tf.notEqual]) {
      const integers = (seed: number) => tf.cast(random([4, 30], seed, 1, 9), "int32");
      await agree(op.name, () => op(tf.neg(integers(6)), integers(7)), 0);
    }
    await agree("pow", () => tf.pow(random([9, 9], 8, 0.1, 2), random([9], 9, -2, 2)));
    const truths = (seed: number) => tf.greater(random([40], seed), 0);
    await agree("logical", () => [tf.logicalAnd(truths(1), truths(2)), tf.logicalOr(truths(1), truths(2))], 0);
  });

  it("for reductions over any axes", async () => {
    const shape = [3, 4, 5, 6];
    const axes = [undefined, 0, 1, 3, [0, 1], [1, 2], [2, 3], [0, 2], [1, 3], [0, 1, 2, 3]];
    for (const axis of axes)
      for (const op of [tf.sum, tf.mean, tf.max, tf.min, tf.prod])
        for (const keep of [true, false]) await agree(`${op.name} [${axis}]`, () => op(random(shape, 10), axis, keep));
    for (const [outer, axis, inner] of [
      [1, 300000, 1],
      [1, 90000, 3],
      [2, 40000, 5],
      [300, 7, 300],
    ] as const)
      await agree(
        `sum of [${outer}, ${axis}, ${inner}]`,
        () => tf.sum(random([outer, axis, inner], 11, 0, 1), 1),
        1e-4,
      );
    for (const axis of [0, 1, 2]) {
      await agree("arg", () => [tf.argMax(random([5, 6, 7], 12), axis), tf.argMin(random([5, 6, 7], 12), axis)], 0);
      const truths = () => tf.greater(random([5, 6, 7], 13, -0.2, 1), 0);
      await agree("all, any", () => [tf.all(truths(), axis), tf.any(tf.logicalNot(truths()), axis)], 0);
    }
    await agree("softmax", () => tf.softmax(random([7, 30], 14, -9, 9)));
  });

  it("for everything that moves elements", async () => {
    const x = () => random([3, 4, 5, 6], 15);
    const cases: Record<string, () => Made> = {
      concat: () => [0, 1, 3].map((axis) => tf.concat([x(), x(), tf.neg(x())], axis)),
      mirrorPad: () =>
        (["reflect", "symmetric"] as const).map((mode) =>
          tf.mirrorPad(
            x(),
            [
              [1, 2],
              [0, 0],
              [2, 0],
              [3, 3],
            ],
            mode,
          ),
        ),
      pad: () =>
        tf.pad(
          x(),
          [
            [1, 2],
            [0, 0],
            [2, 0],
            [3, 4],
          ],
          7,
        ),
      reverse: () => [tf.reverse(x()), tf.reverse(x(), [1, 3])],
      slice: () => [tf.slice(x(), [1, 0, 2, 1], [2, 4, 1, 5]), tf.slice(x(), [2], [1])],
      split: () => tf.split(x(), [1, 2, 3], 3),
      stack: () => [0, 2, 4].map((axis) => tf.stack([x(), tf.neg(x())], axis)),
      stridedSlice: () => tf.stridedSlice(x(), [0, 3, 4, 5], [3, 0, 0, 0], [2, -1, -2, -3]),
      tile: () => [tf.tile(x(), [2, 1, 3, 1]), tf.tile(random([4], 1), [5])],
      transpose: () =>
        [
          [3, 2, 1, 0],
          [0, 2, 1, 3],
          [1, 0, 3, 2],
        ].map((order) => tf.transpose(x(), order)),
      unstack: () => [0, 2, -1].flatMap((axis) => tf.unstack(x(), axis)),
      where: () => tf.where(tf.greater(x(), 0), x(), tf.square(x())),
    };
    for (const [name, body] of Object.entries(cases)) await agree(name, body, 0);
    for (const dtype of ["int32", "bool", "float32"] as const)
      await agree(
        `cast to ${dtype}`,
        () => [tf.cast(random([99], 2, -3, 3), dtype), tf.cast(tf.tensor1d([2, 0, -1], "int32"), dtype)],
        0,
      );
    const picks = tf.tensor2d(
      [
        [3, 0, 1],
        [2, 2, 3],
      ],
      [2, 3],
      "int32",
    );
    await agree("gather", () => [tf.gather(x(), picks, 1), tf.gather(x(), tf.tensor1d([5, 0], "int32"), 3)], 0);
    await agree("segments", () =>
      tf.unsortedSegmentSum(random([6, 4], 3), tf.tensor1d([2, 0, 2, 1, 0, 2], "int32"), 4),
    );
    picks.dispose();
  });

  it("for products of matrices", async () => {
    for (const [m, n, k] of [
      [1, 1, 1],
      [3, 5, 7],
      [13, 33, 300],
      [100, 70, 20],
    ] as const)
      for (const left of [false, true])
        for (const right of [false, true])
          await agree(`${m} x ${n} x ${k}`, () => {
            const a = random(left ? [2, k, m] : [2, m, k], 16);
            const b = random(right ? [n, k] : [k, n], 17);
            const first = tf.reshape(tf.slice(a, 0, 1), a.shape.slice(1));
            return [tf.matMul(a, tf.expandDims(b, 0), left, right), tf.matMul(first, b, left, right)];
          });
    await agree("fused", () =>
      tf.fused.matMul({
        a: random([4, 5], 1) as tf.Tensor2D,
        b: random([5, 6], 2) as tf.Tensor2D,
        bias: random([6], 3),
        activation: "sigmoid",
      }),
    );
  });

  it("for pooling, resizing and normalization", async () => {
    const image = () => random([2, 9, 8, 19], 18) as tf.Tensor4D;
    const volume = () => random([2, 5, 6, 7, 3], 19) as tf.Tensor5D;
    for (const [size, stride, pad] of [
      [2, 2, "valid"],
      [3, 2, "same"],
      [3, 1, "same"],
    ] as const) {
      await agree("pool", () => [tf.maxPool(image(), size, stride, pad), tf.avgPool(image(), size, stride, pad)]);
      await agree("pool 3D", () => [
        tf.maxPool3d(volume(), size, stride, pad),
        tf.avgPool3d(volume(), size, stride, pad),
      ]);
      for (const pool of [tf.maxPool, tf.avgPool])
        await agree("gradient of pool", () =>
          tf.grad((x) => tf.sum(tf.square(pool(x as tf.Tensor4D, size, stride, pad))))(image()),
        );
      for (const pool of [tf.maxPool3d, tf.avgPool3d])
        await agree("gradient of pool 3D", () =>
          tf.grad((x) => tf.sum(tf.square(pool(x as tf.Tensor5D, size, stride, pad))))(volume()),
        );
    }
    for (const resize of [tf.image.resizeBilinear, tf.image.resizeNearestNeighbor])
      for (const [align, half] of [
        [false, false],
        [true, false],
        [false, true],
      ] as const)
        for (const size of [
          [4, 5],
          [18, 16],
          [9, 20],
        ] as [number, number][]) {
          await agree(`${resize.name} ${size}`, () => resize(image(), size, align, half));
          // Not compared with the stock gradients, which take rows for columns and know no half pixels.
          const shape = [2, ...size, 19];
          const [left, right] = await valuesOn(on, () => {
            const up = (x: tf.Tensor) => resize(x as tf.Tensor4D, size, align, half);
            const back = tf.grad(up)(image(), random(shape, 20));
            return [tf.sum(tf.mul(up(image()), random(shape, 20))), tf.sum(tf.mul(image(), back))];
          });
          assert.ok(Math.abs(left![0]! - right![0]!) < 1e-4 * Math.abs(left![0]!), `${resize.name} ${size}`);
        }
    const channels = (seed: number) => random([19], seed, 0.1, 1) as tf.Tensor1D;
    await agree("batchNorm", () => [
      tf.batchNorm(image(), channels(1), channels(2)),
      tf.batchNorm(image(), channels(1), channels(2), channels(3), channels(4), 0.01),
    ]);
  });
});

describe("leaving the device", () => {
  it("throws in strict mode, naming kernel, device and operands", async () => {
    await tf.setBackend(on);
    tf.tidy(() =>
      assert.throws(
        () => tf.cumsum(tf.tensor1d([1, 2, 3])),
        raysumError("device", /kernel Cumsum does not run on c[a-z:0-9]+ for float32 \[3\]/),
      ),
    );
  });

  it("happens through the host otherwise, and is counted", async () => {
    register(tf);
    try {
      const [sum] = await valuesOn(on, () => tf.cumsum(tf.tensor1d([1, 2, 3])));
      assert.deepEqual([...sum!], [1, 3, 6]);
      assert.equal(fallbacks().get("Cumsum"), 1);
    } finally {
      register(tf, { strict: true, convPrecision: "float32" });
    }
  });

  it("is not done by what networks for imaging need", () => {
    const needed =
      "Conv2D Conv2DBackpropFilter Conv3D Conv3DBackpropInputV2 FusedConv2D MaxPool PadV2 Prelu Relu RaysumMap".split(
        " ",
      );
    assert.deepEqual(
      needed.filter((name) => !nativeKernels.includes(name)),
      [],
    );
    assert.ok(nativeKernels.length >= 100, `${nativeKernels.length} native kernels`);
  });
});

describe("the memory of tensors", () => {
  it("is given back when they are disposed", async () => {
    await tf.setBackend(on);
    const round = () => tf.tidy(() => void tf.sum(tf.mul(random([100, 100], 1), tf.ones([100, 100]))).dataSync());
    round();
    const before = tf.memory() as tf.MemoryInfo & { bytesInUse: number };
    for (let k = 0; k < 100; k++) round();
    const after = tf.memory() as tf.MemoryInfo & { bytesInUse: number };
    assert.equal(after.bytesInUse, before.bytesInUse);
    assert.equal(after.numTensors, before.numTensors);
  });

  it("is copied on writing, so the caller's array may change", async () => {
    await tf.setBackend(on);
    for (const count of [10, 5000]) {
      const values = new Float32Array(count).fill(3);
      const x = tf.tensor1d(values);
      values.fill(4);
      assert.equal((await tf.sum(x).data())[0], 3 * count);
      assert.deepEqual(x.dataSync(), new Float32Array(count).fill(3));
      x.dispose();
    }
  });

  it("moves between backends with the tensor", async () => {
    await tf.setBackend("cpu");
    const x = random([3000], 1);
    const [first] = await valuesOn("cpu", () => tf.square(x));
    const [second] = await valuesOn(on, () => tf.square(x));
    const [third] = await valuesOn("cpu", () => tf.square(x));
    x.dispose();
    assert.deepEqual(second, first);
    assert.deepEqual(third, first);
  });
});
