import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { DeviceArray, operator, parallelBeam, volume } from "../lib/index.ts";
import { learnedPrimalDual } from "../lib/nets/index.ts";
import { adam, arrayOf, capture, layer, momentum, sgd } from "../lib/tfjs/index.ts";
import { raysumError } from "./support/errors.ts";
import { here, on, random, tf } from "./support/tensorflow.ts";

const memory = () => tf.memory() as tf.MemoryInfo & { bytesInUse: number; bytesPeak: number };

const N = 12;
const A = operator(
  volume({ shape: [1, N, N], size: [1 / N, 1, 1] }),
  parallelBeam({ angleCount: 10, detectorShape: [1, 16], detectorSize: [1 / N, 1.5] }),
  { device: here },
);
const small = { iterations: 2, channels: 3, hidden: 8 } as const;

/** Batches of data and targets, different ones for different seeds. */
const batch = (seed: number) => ({
  data: random([2, 10, 16, 1], seed, 0, 1),
  target: random([2, N, N, 1], seed + 100, 0, 0.3),
});

describe("a captured step", () => {
  const optimizers = {
    adam: () => adam(3e-3),
    sgd: () => sgd(0.02),
    momentum: () => momentum(0.01, 0.9),
    nesterov: () => momentum(0.01, 0.9, true),
  };
  for (const [name, make] of Object.entries(optimizers))
    it(`trains as eager steps do, to the last bit, with ${name}`, async () => {
      await tf.setBackend(on);
      const train = (captured: boolean) => {
        const network = learnedPrimalDual(A, { ...small, seed: 3 });
        const optimizer = make();
        const inputs = batch(0);
        const loss = () => tf.mean(tf.squaredDifference(network(inputs.data), inputs.target)) as tf.Scalar;
        const minimize = () => optimizer.minimize(loss, true, [...network.variables.values()])!;
        const step = captured ? capture(minimize, { inputs }) : undefined;
        const losses: number[] = [];
        for (let k = 0; k < 6; k++) {
          if (k === 3) Object.assign(optimizer, { learningRate: 1e-3 });
          const given = batch(k);
          let cost: tf.Scalar | undefined;
          if (step && k === 0) cost = step.outputs;
          else if (step) cost = step.run(given);
          else {
            for (const key of ["data", "target"] as const) arrayOf(inputs[key]).assign(arrayOf(given[key]));
            cost = minimize();
          }
          losses.push(cost.dataSync()[0]!);
          if (!step) cost.dispose();
          tf.dispose(given);
        }
        const result = [losses, optimizer.iterations, ...[...network.variables.values()].map((v) => [...v.dataSync()])];
        step?.dispose();
        network.dispose();
        optimizer.dispose();
        tf.dispose(inputs);
        return result;
      };
      assert.deepEqual(train(true), train(false));
    });

  it("takes tensors and numbers of the host, and keeps inputs that it is not given", async () => {
    await tf.setBackend(on);
    const inputs = { x: tf.tensor1d([1, 2, 3]), k: tf.scalar(2, "int32"), gain: tf.scalar(10) };
    using step = capture(() => ({ y: tf.add(tf.mul(inputs.x, inputs.gain), tf.cast(inputs.k, "float32")) }), {
      inputs,
    });
    assert.deepEqual([...step.outputs.y.dataSync()], [12, 22, 32]);
    assert.deepEqual([...step.run({ x: Float32Array.of(4, 5, 6) }).y.dataSync()], [42, 52, 62]);
    assert.deepEqual([...step.run({ k: Int32Array.of(1) }).y.dataSync()], [41, 51, 61]);
    const gain = tf.scalar(-1);
    assert.deepEqual([...step.run({ gain }).y.dataSync()], [-3, -4, -5]);
    assert.deepEqual([...inputs.gain.dataSync()], [-1]);
    const wrong: [() => unknown, RegExp][] = [
      [() => step.run({ z: gain }), /no input z/],
      [() => step.run({ x: gain }), /input x is given float32 \[\]: expected float32 \[3\]/],
      [
        () => step.run({ x: Float32Array.of(1) }),
        /input x is given 1 numbers in a Float32Array: expected 3 numbers of/,
      ],
      [
        () => step.run({ k: Float32Array.of(1) }),
        /input k is given 1 numbers in a Float32Array: expected 1 numbers of int32/,
      ],
    ];
    for (const [call, pattern] of wrong) assert.throws(call, pattern);
    const shared = tf.clone(inputs.x);
    assert.throws(
      () => step.run({ x: Float32Array.of(0, 0, 0) }),
      raysumError("argument", /input x shares its memory/),
    );
    assert.throws(() => tf.grad((x) => tf.add(x, step.run().y))(shared), raysumError("argument", /inside a gradient/));
    tf.dispose([inputs as never, gain, shared]);
  });

  it("keeps the memory and the operator that it uses, and gives everything back", async () => {
    await tf.setBackend(on);
    const before = { ...memory() };
    const { operators } = here.memory();
    const B = operator(A.volume, A.beam, { device: here });
    const P = layer(B, { slice: true });
    const x = random([1, N, N, 1], 1);
    const step = capture(() => {
      const projected = P(x);
      return tf.sum(tf.square(P.T(projected)));
    });
    const expected = step.outputs.dataSync()[0]!;
    assert.ok(expected > 0);
    x.dispose();
    B.dispose();
    const others = Array.from({ length: 20 }, (_, k) => tf.fill([1, N, N, 1], k)); // would get the memory of x
    assert.equal(step.run().dataSync()[0], expected);
    tf.dispose(others);
    step.dispose();
    step.dispose();
    assert.throws(() => step.run(), raysumError("disposed", /was disposed/));
    assert.equal(memory().bytesInUse, before.bytesInUse);
    assert.equal(memory().numTensors, before.numTensors);
    assert.equal(here.memory().operators, operators);
  });

  it("uses the memory that it has freed again, and no one else gets it", async () => {
    await tf.setBackend(on);
    const x = random([1000], 2);
    const { bytesInUse } = memory();
    const step = capture(() => {
      let y = tf.clone(x);
      for (let k = 0; k < 50; k++) y = tf.tidy(() => tf.add(tf.mul(y, 0.5), x));
      return y;
    });
    assert.ok(memory().bytesInUse < bytesInUse + 70 * 4096 + 10 * 4096, `${memory().bytesInUse - bytesInUse} bytes`);
    const expected = step.outputs.dataSync().slice();
    const others = Array.from({ length: 60 }, () => tf.fill([1000], 7));
    for (let k = 0; k < 2; k++) assert.deepEqual(step.run().dataSync(), expected);
    for (const other of others) assert.ok(other.dataSync().every((value) => value === 7));
    tf.dispose([x, ...others]);
    step.dispose();
  });

  it("leaves nothing in the device's memory after 1,000 runs that was not there after 10", async () => {
    await tf.setBackend(on);
    const variable = tf.variable(random([40], 3));
    const optimizer = adam(1e-2);
    using step = capture(() => optimizer.minimize(() => tf.sum(tf.square(variable)) as tf.Scalar, true)!);
    const used: object[] = [];
    for (let k = 2; k <= 1000; k++) {
      if (k % 100 === 0) Object.assign(optimizer, { learningRate: 1 / k });
      step.run();
      const { inUse, cached, arrays, operators } = here.memory();
      if (k === 10 || k === 1000) used.push({ inUse, cached, arrays, operators, tensors: memory().numTensors });
    }
    assert.deepEqual(used[1], used[0]);
    assert.ok(step.outputs.dataSync()[0]! < 1);
    assert.equal(optimizer.iterations, 1000);
    optimizer.dispose();
    variable.dispose();
  });

  describe("refuses", () => {
    const x = () => random([4, 4], 1);
    let calls = 0;
    const cases: Record<string, [body: (x: tf.Tensor) => tf.Tensor, RegExp]> = {
      "a download": [(t) => tf.scalar(tf.sum(t).dataSync()[0]!), /a download inside a capture/],
      "random numbers": [
        (t) => {
          using noise = DeviceArray.normal([16], { device: here, seed: 1 });
          arrayOf(t).addAssign(noise.reshape([4, 4]));
          return t;
        },
        /random numbers inside a capture/,
      ],
      "numbers of the host that change": [
        (t) => tf.mul(t, ++calls),
        /a number of the host was (\d+) when the step ran and \d+ when it was captured/,
      ],
      "attributes that change": [
        () => tf.fill([3], ++calls),
        /a kernel was Fill of \(\) with {.*"value":(\d+).*} when the step ran and Fill of .* when it was captured: every run/,
      ],
      "shapes that the host decides": [
        (t) => tf.slice(t, [0, 0], [4, (++calls % 2) + 1]),
        /a kernel was Slice of \(float32 \[4, 4\]\) with .*"size":\[4,(1|2)\]} when the step ran and Slice of/,
      ],
      "kernels that the host leaves out, or adds": [
        (t) => (++calls % 2 ? tf.square(t) : t),
        /a kernel was (Square|Reshape|Identity|not there).* when the step ran and (Square|not there)/,
      ],
      "large tensors of the host": [() => tf.zeros([2000]), /an upload of 8000 bytes inside a capture/],
      "waiting for the device": [
        (t) => {
          here.finishedSync();
          return t;
        },
        /(asking how far the device is|waiting for the device) inside a capture/,
      ],
      "a new operator": [
        () => {
          using B = operator(A.volume, A.beam, { device: here });
          return layer(B, { slice: true })(tf.zeros([1, N, N, 1]));
        },
        /a new plan inside a capture/,
      ],
      "a step in a step": [() => capture(() => tf.scalar(1)).outputs, /on its own: not inside another one/],
      "a body that is async": [(async () => tf.scalar(1)) as never, /gave a promise: expected tensors/],
      "a kernel that leaves the device": [(t) => tf.topk(t, 2).values, /TopK does not run on/],
    };
    for (const [name, [body, pattern]] of Object.entries(cases))
      it(name, async () => {
        await tf.setBackend(on);
        const tensor = x();
        tf.tidy(() => tf.square(tensor));
        const before = { ...memory() };
        assert.throws(() => capture(() => body(tensor)), pattern);
        assert.equal(memory().numTensors, before.numTensors);
        assert.equal(memory().bytesInUse, before.bytesInUse);
        // and the next one is captured
        using step = capture(() => tf.sum(tensor));
        assert.ok(Number.isFinite(step.run().dataSync()[0]));
        tensor.dispose();
      });

    it("variables that are assigned, inside or since", async () => {
      await tf.setBackend(on);
      const [variable, unread] = [tf.variable(random([5], 1)), tf.variable(random([5], 2))];
      const [value] = [variable.dataSync()];
      const assigns = () => {
        variable.assign(tf.mul(variable, 2));
      };
      assert.throws(() => capture(assigns as never), raysumError("argument", /was given other memory inside/));
      // Once it was done, and that is what stays.
      assert.deepEqual(
        [...variable.dataSync()],
        [...value].map((x) => Math.fround(2 * x)),
      );
      const sets = () => {
        unread.assign(tf.mul(variable, 2));
      };
      assert.throws(() => capture(sets as never), raysumError("argument", /was given other memory inside/));
      using step = capture(() => tf.sum(variable));
      step.run();
      tf.tidy(() => unread.assign(tf.mul(unread, 2)));
      step.run();
      tf.tidy(() => variable.assign(tf.mul(variable, 2)));
      assert.throws(() => step.run(), raysumError("argument", /was given other memory since it was captured/));
      tf.dispose([variable, unread]);
    });

    const stock = {
      sgd: () => tf.train.sgd(0.1),
      momentum: () => tf.train.momentum(0.1, 0.9),
      adam: () => tf.train.adam(0.1),
      rmsprop: () => tf.train.rmsprop(0.1, 0.9, 0.5),
    };
    for (const [name, make] of Object.entries(stock))
      it(`tf.train.${name}, which steps once and leaves its variables as that step made them`, async () => {
        await tf.setBackend(on);
        const run = (captured: boolean) => {
          const before = { ...memory() };
          const variable = tf.tidy(() => tf.variable(random([2000], 4)));
          const optimizer = make();
          const minimize = () => optimizer.minimize(() => tf.sum(tf.square(variable)) as tf.Scalar, true)!;
          const refused = raysumError(
            "argument",
            /of optimizers, use adam, momentum or sgd of raysum\/tfjs, not those of/,
          );
          if (captured) assert.throws(() => capture(minimize), refused);
          else minimize().dispose();
          const others = Array.from({ length: 20 }, () => tf.fill([2000], 7)); // would get memory that was given back
          const first = variable.dataSync();
          minimize().dispose();
          const second = variable.dataSync();
          tf.dispose([variable, ...others]);
          optimizer.dispose();
          const { numTensors, bytesInUse } = memory(); // that of momentum leaves a number behind
          return [first, second, numTensors - before.numTensors, bytesInUse - before.bytesInUse];
        };
        assert.deepEqual(run(true), run(false));
      });

    it("other backends", async () => {
      await tf.setBackend("cpu");
      assert.throws(() => capture(() => tf.scalar(1)), raysumError("device", /the active backend is cpu/));
      await tf.setBackend(on);
    });
  });
});
