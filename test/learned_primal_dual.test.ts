import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { operator, parallelBeam, volume } from "../lib/index.ts";
import { type LearnedPrimalDualOptions, learnedPrimalDual } from "../lib/nets/index.ts";
import { raysumError } from "./support/errors.ts";
import { here, on, random, tf, valuesOn } from "./support/tensorflow.ts";

const N = 12;
const A = operator(
  volume({ shape: [1, N, N], size: [1 / N, 1, 1] }),
  parallelBeam({ angleCount: 10, detectorShape: [1, 16], detectorSize: [1 / N, 1.5] }),
  { device: here },
);
const small = { iterations: 2, channels: 3, hidden: 8 } as const;
const sinograms = () => random([2, 10, 16, 1], 1, 0, 1);

const count = (options: LearnedPrimalDualOptions): number => {
  const network = learnedPrimalDual(A, options);
  const parameters = [...network.variables.values()].reduce((sum, { size }) => sum + size, 0);
  network.dispose();
  return parameters;
};

describe("the learned primal-dual network", () => {
  it("has as many parameters as its options say", async () => {
    await tf.setBackend(on);
    assert.equal(count({}), 250_560);
    assert.equal(count({ shared: true }), 25_056);
    assert.equal(count({ bias: true }), 250_560 + 20 * (32 + 32 + 5));
    assert.equal(count({ activation: "prelu" }), 250_560 + 20 * 64);
    assert.equal(count(small), 2 * 9 * ((5 + 4) * 8 + 2 * 64 + 2 * 8 * 3));
  });

  for (const options of [{}, { bias: true, activation: "prelu" }, { shared: true }] as const)
    it(`learns to reproduce an image with ${JSON.stringify(options)}, without a tensor left over`, async () => {
      await tf.setBackend(on);
      const network = learnedPrimalDual(A, { ...small, ...options, seed: 5 });
      const [data, target] = [sinograms(), tf.tidy(() => tf.mul(random([2, N, N, 1], 2, 0, 1), 0.3))];
      const optimizer = tf.train.adam(3e-3);
      const loss = () => tf.mean(tf.squaredDifference(network(data), target)) as tf.Scalar;
      const step = () => tf.tidy(() => optimizer.minimize(loss, true)!.dataSync()[0]!);
      const first = step();
      const before = tf.memory() as tf.MemoryInfo & { bytesInUse: number };
      let last = first;
      for (let k = 0; k < 20; k++) last = step();
      const after = tf.memory() as tf.MemoryInfo & { bytesInUse: number };
      assert.ok(last < 0.6 * first, `${first} to ${last}`);
      assert.equal(after.numTensors, before.numTensors);
      assert.equal(after.bytesInUse, before.bytesInUse);
      network.dispose();
      optimizer.dispose();
      tf.dispose([data, target]);
    });

  it("hands its weights to another one", async () => {
    await tf.setBackend(on);
    const options = { ...small, bias: true, activation: "prelu" } as const;
    const [a, b] = [learnedPrimalDual(A, { ...options, seed: 1 }), learnedPrimalDual(A, { ...options, seed: 2 })];
    const outputs = () => valuesOn(on, () => [a(sinograms()), b(sinograms())]);
    const [first, other] = await outputs();
    assert.notDeepEqual(first, other);
    const weights = await a.save();
    assert.deepEqual(weights.get("1_primal.block.0.weight")!.shape, [8, 4, 3, 3]);
    b.load(weights);
    const [again, same] = await outputs();
    assert.deepEqual(again, first);
    assert.deepEqual(same, first);
    const lacking = new Map([...weights].slice(1));
    assert.throws(() => b.load(lacking), raysumError("argument", /the weights lack 0_dual\.block\.0\.weight/));
    const foreign = new Map([...weights, ["x", weights.get("0_dual.block.0.bias")!]]);
    assert.throws(() => b.load(foreign), raysumError("argument", /has no weights x/));
    const misshapen = new Map([...weights, ["0_dual.block.0.weight", weights.get("0_dual.block.2.weight")!]]);
    assert.throws(() => b.load(misshapen), raysumError("shape", /\[8, 8, 3, 3\]: expected \[8, 5, 3, 3\]/));
    for (const network of [a, b]) network.dispose();
  });

  it("refuses what makes no network", () => {
    for (const options of [{ iterations: 0 }, { channels: 1.5 }, { hidden: -1 }])
      assert.throws(() => learnedPrimalDual(A, options), raysumError("argument", /expected a positive whole number/));
    const wrong = { activation: "tanh" } as unknown as LearnedPrimalDualOptions;
    assert.throws(() => learnedPrimalDual(A, wrong), raysumError("argument", /"tanh": expected "relu" or "prelu"/));
    using thick = operator(volume({ shape: [2, N, N], size: 1 }), A.beam, { device: here });
    assert.throws(() => learnedPrimalDual(thick), raysumError("shape", /expected one slice and one row/));
  });
});
