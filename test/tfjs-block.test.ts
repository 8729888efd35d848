import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { devices, operator, parallelBeam, volume } from "../lib/index.ts";
import { native } from "../lib/native/library.ts";
import { BlockOperand, Status } from "../lib/native/symbols.ts";
import { learnedPrimalDual } from "../lib/nets/index.ts";
import { hasResidualBlock, residualBlock } from "../lib/tfjs/block.ts";
import { backendName, type ConvPrecision, register, variableGradients } from "../lib/tfjs/index.ts";
import { precisionOn } from "../lib/tfjs/precision.ts";
import { raysumError } from "./support/errors.ts";
import { dot, norm, seededRandom } from "./support/random.ts";
import { difference, peakOf, random, tf, valuesOn } from "./support/tensorflow.ts";

const choose = (convPrecision: ConvPrecision) => register(tf, { strict: true, convPrecision });

/** Small whole numbers, `share` of them not 0: every precision holds them, and their sums, so that results are equal bit by bit. */
function wholeNumbers(shape: readonly number[], seed: number, share: number): tf.Tensor {
  const random = seededRandom(seed);
  const count = shape.reduce((a, b) => a * b, 1);
  const values = Float32Array.from({ length: count }, () =>
    random.uniform() < share ? (random.uniform() < 0.5 ? -1 : 1) : 0,
  );
  return tf.tensor(values, [...shape]);
}

interface Case {
  readonly batch: number;
  readonly size: readonly [number, number];
  readonly x: readonly number[];
  readonly hidden: readonly number[];
  readonly bias?: boolean;
}

const cases: readonly Case[] = [
  { batch: 1, size: [9, 37], x: [5, 1, 1], hidden: [32, 32] },
  { batch: 2, size: [17, 20], x: [5, 1], hidden: [32, 32], bias: true },
  { batch: 1, size: [3, 2], x: [4], hidden: [40, 7, 3] },
  { batch: 1, size: [8, 33], x: [3, 2], hidden: [], bias: true },
];

function tensorsOf({ batch, size, x, hidden, bias = false }: Case): { all: tf.Tensor[]; dy: tf.Tensor } {
  let seed = 1;
  const inputs = x.map((channels) => wholeNumbers([batch, ...size, channels], seed++, 0.5));
  const widths = [x.reduce((a, b) => a + b), ...hidden, x[0]!];
  const filters = widths
    .slice(1)
    .map((width, k) => wholeNumbers([3, 3, widths[k]!, width], seed++, 3 / Math.sqrt(9 * widths[k]!) / 4));
  const biases = bias ? widths.slice(1).map((width) => wholeNumbers([width], seed++, 0.5)) : [];
  return { all: [...inputs, ...filters, ...biases], dy: wholeNumbers([batch, ...size, x[0]!], seed++, 0.5) };
}

type Lists = { x: tf.Tensor[]; filters: tf.Tensor[]; biases: tf.Tensor[] };

function listsOf({ x, hidden }: Case, all: readonly tf.Tensor[]): Lists {
  const [first, second] = [x.length, x.length + hidden.length + 1];
  return { x: all.slice(0, first), filters: all.slice(first, second), biases: all.slice(second) };
}

function plainBlock({ x, filters, biases }: Lists): tf.Tensor {
  let value = tf.concat(x, 3) as tf.Tensor4D;
  for (const [k, filter] of filters.entries()) {
    value = tf.conv2d(value, filter as tf.Tensor4D, 1, "same");
    if (biases[k]) value = tf.add(value, biases[k]);
    if (k < filters.length - 1) value = tf.relu(value);
  }
  return tf.add(x[0]!, value);
}

describe("residual blocks", () => {
  after(() => choose("float32"));

  it("are left to plain operations on the CPU, and in float32", async () => {
    for (const device of devices())
      for (const precision of ["float32", "tf32", "bf16"] as const) {
        choose(precision);
        await tf.setBackend(backendName(device));
        assert.equal(hasResidualBlock(), device.id > 0 && precision !== "float32");
      }
  });

  it("take no other precision", () => {
    const wrong = "half" as ConvPrecision;
    assert.throws(() => choose(wrong), raysumError("argument", /convPrecision "half": expected float32, tf32, bf16/));
  });

  for (const device of devices().slice(1)) {
    const on = backendName(device);
    for (const precision of ["tf32", "bf16"] as const)
      describe(`on ${on} in ${precision}`, () => {
        before(() => choose(precision));
        for (const recompute of [false, true])
          for (const one of cases)
            it(`are what plain operations are, with all gradients: ${JSON.stringify(one)}, recompute ${recompute}`, async () => {
              const gradients = (f: (lists: Lists) => tf.Tensor) => () => {
                const { all, dy } = tensorsOf(one);
                const { value, grads } = tf.valueAndGrads((...given: tf.Tensor[]) => f(listsOf(one, given)))(all, dy);
                return [value, ...grads];
              };
              const got = await valuesOn(
                on,
                gradients((lists) => residualBlock({ ...lists, recompute })),
              );
              const expected = await valuesOn("cpu", gradients(plainBlock));
              assert.equal(got.length, expected.length);
              assert.ok(expected.every((values) => values.some((value) => value !== 0)));
              assert.deepEqual(got, expected);
            });

        it("have gradients that agree with differences of what they are gradients of", async () => {
          // Biases far from 0 hold every unit on one side of its bend: the block is then linear in each argument. With whole numbers
          // nothing is rounded, so both are the same.
          const one: Case = { batch: 2, size: [6, 7], x: [3, 2], hidden: [8], bias: true };
          const { all, dy } = tensorsOf(one);
          all[4] = tf.tidy(() => tf.mul(wholeNumbers([8], 4, 1), 32));
          for (const recompute of [false, true])
            for (const k of all.keys()) {
              const [gradient, direction, plus, minus] = await valuesOn(on, () => {
                const loss = (x: tf.Tensor) => {
                  const lists = listsOf(
                    one,
                    all.map((tensor, n) => (n === k ? x : tensor)),
                  );
                  return tf.sum(tf.mul(residualBlock({ ...lists, recompute }), dy)) as tf.Scalar;
                };
                const v = wholeNumbers(all[k]!.shape, 30 + k, 0.2);
                return [tf.grad(loss)(all[k]!), v, loss(tf.add(all[k]!, v)), loss(tf.sub(all[k]!, v))];
              });
              assert.ok(norm(gradient!) > 0);
              assert.equal(dot(gradient!, direction!), (plus![0]! - minus![0]!) / 2, `argument ${k}`);
            }
          tf.dispose([...all, dy]);
        });

        it("and plain convolutions differ from float32 by what docs/decisions.md says", async () => {
          const numbers = () => {
            const [x, filter] = [random([1, 24, 40, 32], 1), random([3, 3, 32, 32], 2)] as [tf.Tensor4D, tf.Tensor4D];
            const of = (a: tf.Tensor, b: tf.Tensor) => tf.conv2d(a as tf.Tensor4D, b as tf.Tensor4D, 1, "same");
            return [of(x, filter), ...tf.grads(of)([x, filter], random([1, 24, 40, 32], 3))];
          };
          const rounded = await valuesOn(on, numbers);
          choose("float32");
          const exact = await valuesOn(on, numbers);
          choose(precision);
          const stated = precision === "tf32" ? 2.6e-4 : 2.1e-3;
          const errors = rounded.map((values, k) => difference(values, exact[k]!));
          for (const error of errors) assert.ok(error > 0.8 * stated && error < 1.25 * stated, `${errors}`);
        });

        it("take no memory on the way back beside what the way there has kept, or computes again", async () => {
          await tf.setBackend(on);
          const one: Case = { batch: 1, size: [40, 32], x: [5, 1, 1], hidden: [32, 32] };
          const { all } = tensorsOf(one);
          const variables = all.map((tensor) => tf.variable(tensor));
          const channel = 4 * 40 * 32;
          const filters = variables.slice(3).reduce((sum, { size }) => sum + 4 * size, 0);
          // The result, its square and its gradient have 5 channels, the gradients of the inputs 7.
          const most = (precision === "bf16" ? 32 : 64) * channel + 22 * channel + filters + 8 * 256;
          for (const recompute of [false, true]) {
            const loss = () => tf.sum(tf.square(residualBlock({ ...listsOf(one, variables), recompute }))) as tf.Scalar;
            const peak = peakOf(() => {
              const { value, grads } = variableGradients(loss, variables);
              tf.dispose([value, ...Object.values(grads)]);
            });
            assert.ok(peak <= most, `${peak} bytes of ${most}, recompute ${recompute}`);
          }
          tf.dispose([...all, ...variables]);
        });

        it("take memory for nothing but the result where one kernel computes them", async () => {
          await tf.setBackend(on);
          const one: Case = { batch: 1, size: [40, 32], x: [5, 1, 1], hidden: [32, 32] };
          const table = new BigInt64Array(BlockOperand.BLOCK_NUMBERS);
          table.set([1n, 40n, 32n, BigInt(precisionOn(device)), 5n, 1n, 1n, 32n, 32n]);
          const fits = new Int32Array(1);
          assert.equal(native().rs_tensor_residual_block_fits(device.id, table, fits), Status.OK);
          const { all } = tensorsOf(one);
          tf.dispose(residualBlock({ ...listsOf(one, all), recompute: false })); // uploads
          const channel = 4 * 40 * 32;
          const peak = peakOf(() => tf.dispose(residualBlock({ ...listsOf(one, all), recompute: false })));
          const between = precision === "bf16" ? 32 * channel : 64 * channel;
          assert.equal(peak, (fits[0] === 1 ? 0 : between) + 5 * channel);
          tf.dispose(all);
        });

        it("leave activations alone that somebody else looks at", async () => {
          await tf.setBackend(on);
          const one = cases[0]!;
          const { all, dy } = tensorsOf(one);
          const [x, filter] = [listsOf(one, all).x, listsOf(one, all).filters];
          const named = (name: string, list: readonly tf.Tensor[]) =>
            Object.fromEntries(list.map((tensor, k) => [`${name}${k}`, tensor]));
          const inputs = { ...named("x", x), ...named("filter", filter) };
          const run = (name: string, given: object, attributes: object) =>
            tf.engine().runKernel(name, given as tf.NamedTensorMap, attributes as never) as unknown as tf.Tensor[];
          const [, ...kept] = run("RaysumBlock", inputs, { keep: true });
          const others = kept.map((tensor) => tf.clone(tensor));
          const before = others.map((tensor) => tensor.dataSync());
          const gradients = run("RaysumBlockGrad", { dy, ...inputs, ...named("kept", kept) }, {});
          for (const [k, values] of before.entries()) assert.deepEqual(others[k]!.dataSync(), values);
          tf.dispose(others);
          const again = run("RaysumBlockGrad", { dy, ...inputs, ...named("kept", kept) }, {});
          for (const [k, gradient] of gradients.entries()) assert.deepEqual(again[k]!.dataSync(), gradient.dataSync());
          for (const [k, values] of before.entries()) assert.notDeepEqual(kept[k]!.dataSync(), values);
          tf.dispose([...all, dy, ...kept, ...gradients, ...again]);
        });

        it("are kin to a convolution with bias and ReLU, which is one kernel", async () => {
          const run = () => {
            const [x, filter] = [wholeNumbers([2, 11, 35, 19], 1, 0.5), wholeNumbers([3, 2, 19, 10], 2, 0.3)];
            const bias = wholeNumbers([10], 3, 1) as tf.Tensor1D;
            const one = { x: x as tf.Tensor4D, filter: filter as tf.Tensor4D, strides: 1, bias } as const;
            return (["linear", "relu", "elu"] as const).flatMap((activation) =>
              (["same", "valid"] as const).map((pad) => tf.fused.conv2d({ ...one, pad, activation })),
            );
          };
          const [got, expected] = [await valuesOn(on, run), await valuesOn("cpu", run)];
          assert.deepEqual(got.slice(0, 4), expected.slice(0, 4));
          for (const k of [4, 5]) assert.ok(difference(got[k]!, expected[k]!) < 1e-6);
        });

        it("make the learned primal-dual network what plain operations make it, to the precision's rounding", async () => {
          using A = operator(
            volume({ shape: [1, 12, 12], size: [1 / 12, 1, 1] }),
            parallelBeam({ angleCount: 10, detectorShape: [1, 16], detectorSize: [1 / 12, 1.5] }),
            { device },
          );
          const run = async (options: { readonly precision: ConvPrecision; readonly recompute?: boolean }) => {
            choose(options.precision);
            await tf.setBackend(on);
            const network = learnedPrimalDual(A, { iterations: 2, seed: 3, recompute: options.recompute ?? false });
            const data = tf.tensor(seededRandom(1).float32(160, 0, 1), [1, 10, 16, 1]);
            const values = await valuesOn(on, () => {
              const { value, grads } = tf.variableGrads(() => tf.sum(tf.square(network(data))));
              return [network(data), value, ...Object.values(grads)];
            });
            network.dispose();
            data.dispose();
            return values;
          };
          const expected = await run({ precision: "float32" });
          const kept = await run({ precision });
          const recomputed = await run({ precision, recompute: true });
          assert.deepEqual(recomputed, kept);
          const bound = precision === "tf32" ? 2e-2 : 1e-1;
          const errors = kept.map((values, k) => difference(values, expected[k]!));
          assert.ok(
            errors.some((error) => error > 0),
            "nothing was rounded",
          );
          for (const error of errors) assert.ok(error < bound, `${errors}`);
        });
      });
  }
});
