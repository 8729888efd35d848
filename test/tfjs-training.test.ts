import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { operator, parallelBeam, volume } from "../lib/index.ts";
import { learnedPrimalDual } from "../lib/nets/index.ts";
import { adam, checkpoint, momentum, sgd, variableGradients } from "../lib/tfjs/index.ts";
import { raysumError } from "./support/errors.ts";
import { difference, here, on, peakOf, random, tf, valuesOn } from "./support/tensorflow.ts";

const memory = () => tf.memory() as tf.MemoryInfo & { bytesInUse: number; bytesPeak: number };

/** A loss of two variables, one of them used twice, and one that it does not depend on. */
function problem() {
  const a = tf.variable(random([3, 3, 2, 4], 1));
  const b = tf.variable(random([4], 2));
  const idle = tf.variable(random([5], 3));
  const image = random([1, 8, 8, 2], 4) as tf.Tensor4D;
  const loss = () => {
    const [x, y] = tf.split(tf.prelu(tf.conv2d(image, a as unknown as tf.Tensor4D, 1, "same") as tf.Tensor, b), 2, 3);
    return tf.add(tf.mean(tf.square(tf.mul(x!, y!))), tf.sum(tf.abs(b))) as tf.Scalar;
  };
  return { loss, variables: [a, b, idle], tensors: [a, b, idle, image] };
}

/** As users do it: Adam has no setLearningRate. */
function halve(optimizer: tf.Optimizer): void {
  const { learningRate } = optimizer.getConfig() as { learningRate: number };
  if ("setLearningRate" in optimizer) (optimizer as tf.SGDOptimizer).setLearningRate(learningRate / 2);
  else Object.assign(optimizer, { learningRate: learningRate / 2 });
}

describe("optimizers in place", () => {
  const pairs = {
    sgd: [() => sgd(0.05), () => tf.train.sgd(0.05)],
    momentum: [() => momentum(0.02, 0.9), () => tf.train.momentum(0.02, 0.9)],
    nesterov: [() => momentum(0.02, 0.8, true), () => tf.train.momentum(0.02, 0.8, true)],
    adam: [() => adam(0.01, { epsilon: 1e-7 }), () => tf.train.adam(0.01, 0.9, 0.999, 1e-7)],
  } as const;
  for (const [name, makers] of Object.entries(pairs))
    it(`${name}: steps as the stock one does, and gives its memory back`, async () => {
      const results = [];
      for (const make of makers) {
        await tf.setBackend(on);
        const { loss, variables, tensors } = problem();
        const optimizer = make();
        const step = () => tf.tidy(() => void optimizer.minimize(loss, true));
        step();
        const before = memory();
        for (let k = 0; k < 6; k++) {
          if (k === 3) halve(optimizer);
          step();
        }
        assert.equal(memory().numTensors, before.numTensors);
        assert.equal(memory().bytesInUse, before.bytesInUse);
        assert.equal(optimizer.iterations, 7);
        results.push(variables.map((variable) => variable.dataSync().slice()));
        optimizer.dispose();
        tf.dispose(tensors);
      }
      const [ours, theirs] = results;
      for (const [k, values] of ours!.entries()) {
        // The stock Adam corrects its bias with 1 - 0.999 in float32, which is off by 5e-5.
        const error = difference(values, theirs![k]!);
        assert.ok(error < (name === "adam" ? 1e-5 : 2e-6), `${name}, variable ${k}: ${error}`);
      }
    });

  for (const [name, [make]] of Object.entries(pairs))
    it(`${name}: steps many variables at once as it steps each alone, to the last bit`, async () => {
      await tf.setBackend(on);
      const sizes = Array.from({ length: 70 }, (_, k) => [1, 5, 255, 256, 257, 1000, 3000][k % 7]! + k);
      const run = (apart: boolean) => {
        const variables = sizes.map((size, k) => tf.variable(random([size], k)));
        const sum = (some: readonly tf.Variable[]) => () =>
          some.map((one) => tf.sum(tf.sin(one))).reduce((a, b) => tf.add(a, b)) as tf.Scalar;
        const groups = apart ? variables.map((one) => [one]) : [variables];
        for (const group of groups) {
          const optimizer = make();
          for (let k = 0; k < 3; k++) tf.tidy(() => void optimizer.minimize(sum(group), true, group));
          optimizer.dispose();
        }
        const values = variables.map((one) => one.dataSync().slice());
        tf.dispose(variables);
        return values;
      };
      assert.deepEqual(run(false), run(true));
    });

  it("leave a clone of a variable as it is", async () => {
    await tf.setBackend(on);
    const x = tf.variable(tf.tensor1d([1, 2, 3]));
    const before = tf.clone(x);
    const optimizer = sgd(0.5);
    tf.tidy(() => void optimizer.minimize(() => tf.sum(x) as tf.Scalar, true));
    assert.deepEqual([...before.dataSync()], [1, 2, 3]);
    assert.deepEqual([...x.dataSync()], [0.5, 1.5, 2.5]);
    tf.dispose([x, before]);
    optimizer.dispose();
  });

  it("leave nothing in the device's memory after 1,000 steps that was not there after 10", async () => {
    await tf.setBackend(on);
    const { loss, variables, tensors } = problem();
    const optimizer = adam(1e-3);
    const used: object[] = [];
    for (let k = 1; k <= 1000; k++) {
      optimizer.minimize(loss, false, variables);
      const { inUse, cached, arrays, operators } = here.memory();
      if (k === 10 || k === 1000) used.push({ inUse, cached, arrays, operators, tensors: memory().numTensors });
    }
    assert.deepEqual(used[1], used[0]);
    optimizer.dispose();
    tf.dispose(tensors);
  });

  it("go on where saved weights of theirs left off", async () => {
    await tf.setBackend(on);
    const run = async (interrupted: boolean) => {
      const { loss, variables, tensors } = problem();
      let optimizer = adam(0.01);
      for (let k = 0; k < 6; k++) {
        if (interrupted && k === 3) {
          const saved = await optimizer.getWeights();
          const next = adam(0.01);
          await next.setWeights(saved.map(({ name, tensor }) => ({ name, tensor: tf.clone(tensor) })));
          optimizer.dispose();
          optimizer = next;
        }
        tf.tidy(() => void optimizer.minimize(loss, true));
      }
      const values = variables.map((variable) => variable.dataSync().slice());
      optimizer.dispose();
      tf.dispose(tensors);
      return values;
    };
    assert.deepEqual(await run(true), await run(false));
  });

  it("are the stock ones on other backends", async () => {
    await tf.setBackend("cpu");
    const x = tf.variable(tf.tensor1d([1, 2, 3]));
    const optimizer = adam(0.5);
    tf.tidy(() => void optimizer.minimize(() => tf.sum(tf.square(x)) as tf.Scalar, true));
    assert.ok(difference(x.dataSync(), [0.5, 1.5, 2.5]) < 1e-4);
    tf.dispose(x);
    optimizer.dispose();
  });

  it("refuse rates and shares that make no sense", () => {
    for (const rate of [0, -1, Number.NaN, Number.POSITIVE_INFINITY])
      for (const make of [sgd, adam, (r: number) => momentum(r, 0.9)])
        assert.throws(() => make(rate), raysumError("argument", /rate .*: expected a positive number/));
    assert.throws(() => momentum(1, 1), raysumError("argument", /momentum 1: expected 0 to below 1/));
    assert.throws(() => adam(1, { beta2: 1 }), raysumError("argument", /betas 0.9 and 1/));
  });
});

describe("variableGradients", () => {
  it("gives what tf.variableGrads gives, to the last bit, and leaves nothing behind", async () => {
    await tf.setBackend(on);
    const { loss, variables, tensors } = problem();
    tf.tidy(() => void loss()); // small tensors reach the device when they are first used
    const before = memory();
    const ours = variableGradients(loss, variables);
    const theirs = tf.variableGrads(loss, variables);
    assert.deepEqual(ours.value.dataSync(), theirs.value.dataSync());
    assert.equal(Object.keys(ours.grads).length, 2);
    for (const [name, gradient] of Object.entries(ours.grads))
      assert.deepEqual(gradient.dataSync(), theirs.grads[name]!.dataSync());
    tf.dispose([ours, theirs] as never);
    assert.equal(memory().numTensors, before.numTensors);
    assert.equal(memory().bytesInUse, before.bytesInUse);
    tf.dispose(tensors);
  });

  it("keeps no tensor for the sake of its shape", async () => {
    const bytes = 4 * 4096;
    // Every step but the squares is one whose gradient needs shapes alone.
    const steps: Record<string, (x: tf.Tensor) => tf.Tensor> = {
      add: (x) => tf.add(x, 1),
      sub: (x) => tf.sub(2, x),
      concat: (x) => tf.concat([x, tf.slice(x, [0, 0], [64, 1])], 1),
      slice: (x) => tf.slice(x, [1, 0], [63, 63]),
      pad: (x) =>
        tf.pad(x as tf.Tensor2D, [
          [1, 0],
          [0, 1],
        ]),
      stack: (x) => tf.stack([x, x]),
      reshape: (x) => tf.reshape(x, [32, 128]),
      expandDims: (x) => tf.expandDims(x, 1),
      sum: (x) => tf.sum(x, 0),
      mean: (x) => tf.mean(x, 1),
    };
    for (const [name, step] of Object.entries(steps)) {
      const results = (walk: typeof variableGradients) => {
        const x = tf.variable(random([64, 64], 1));
        // What the step works on is an intermediate result that nothing else needs.
        const loss = () => tf.sum(tf.square(tf.tidy(() => step(tf.mul(x, 3))))) as tf.Scalar;
        const { value, grads } = walk(loss, [x]);
        const made = [value, grads[x.name]!];
        x.dispose();
        return made;
      };
      const [ours, theirs] = [
        await valuesOn(on, () => results(variableGradients)),
        await valuesOn(on, () => results(tf.variableGrads as never)),
      ];
      assert.deepEqual(ours, theirs, name);
    }
    // Sixteen sums in a row: without their operands, memory for a few tensors at a time.
    await tf.setBackend(on);
    const x = tf.variable(random([64, 64], 2));
    const chain = () => {
      let y: tf.Tensor = tf.clone(x);
      for (let k = 0; k < 16; k++) {
        const before = y;
        y = tf.tidy(() => tf.add(before, x));
        before.dispose();
      }
      return tf.sum(y) as tf.Scalar;
    };
    const run = (walk: typeof variableGradients) =>
      peakOf(() => {
        const { value, grads } = walk(chain, [x]);
        tf.dispose([value, grads[x.name]!]);
      });
    const peaks = [run(variableGradients), run(tf.variableGrads as never)] as const;
    assert.ok(peaks[0] <= 4 * bytes + 1024 && peaks[1] >= 16 * bytes, `${peaks}`);
    x.dispose();
  });

  it("adds the gradients of parts to what is there, without tensors of zeros", async () => {
    await tf.setBackend(on);
    const x = tf.variable(random([2, 6, 7, 5], 8));
    const loss = () => {
      const memory = tf.mul(x, 3);
      const first = tf.slice(memory, [0, 0, 0, 0], [-1, -1, -1, 1]);
      const inner = tf.slice(memory, [1, 2, 0, 1], [1, 3, 7, 4]);
      const terms = [first, inner, memory].map((one) => tf.sum(tf.square(tf.add(one, 5))));
      return terms.reduce((a, b) => tf.add(a, b)) as tf.Scalar;
    };
    const kernels: Record<string, string[]> = {};
    const results = { variableGradients, stock: tf.variableGrads as unknown as typeof variableGradients };
    const values = [];
    for (const [name, walk] of Object.entries(results)) {
      const { kernelNames, result } = await tf.profile(() => walk(loss, [x]).grads[x.name]!);
      kernels[name] = kernelNames;
      values.push((result as tf.Tensor).dataSync());
    }
    assert.deepEqual(values[0], values[1]);
    assert.ok(kernels["stock"]!.includes("PadV2") && !kernels["variableGradients"]!.includes("PadV2"));
    x.dispose();
  });

  it("adds nothing to gradients whose memory others share, and keeps no old copy of those of the host", async () => {
    await tf.setBackend(on);
    const [x, w] = [tf.variable(random([4, 4], 9)), tf.variable(random([4, 4], 10))];
    const given = tf.tensor2d(new Float32Array(16).fill(2), [4, 4]);
    const custom = (gradient: () => tf.Tensor) =>
      tf.customGrad((a) => ({ value: tf.sum(a as tf.Tensor), gradFunc: () => gradient() }));
    const corner = (one: tf.Tensor) => tf.sum(tf.mul(tf.slice(one, [0, 0], [2, 2]), 3));
    /** What comes first there is the last on the way back. */
    const check = (f: (a: tf.Tensor, b: tf.Tensor) => tf.Tensor[], wanted: readonly [number, number]) => {
      const { grads } = tf.tidy(() =>
        variableGradients(() => f(x, w).reduce((a, b) => tf.add(a, b)) as tf.Scalar, [x, w]),
      );
      assert.deepEqual(
        [...grads[x.name]!.dataSync()].slice(0, 5),
        [5, 5, ...[2, 2], 5].map((v) => v + wanted[0] - 2),
      );
      const others = grads[w.name] ? [...grads[w.name]!.dataSync()] : [];
      assert.ok(others.every((value) => value === wanted[1]));
    };
    check((a) => [corner(a), custom(() => given)(a)], [2, 0]); // of the user
    assert.deepEqual([...given.dataSync()], new Array(16).fill(2));
    check((a) => [corner(a), custom(() => tf.fill([4, 4], 2))(a)], [2, 0]);
    check((a) => [corner(a), custom(() => tf.tensor2d(new Float32Array(16).fill(2), [4, 4]))(a)], [2, 0]);
    check((a, b) => [corner(a), tf.sum(tf.add(a, b))], [1, 1]); // one memory for the gradients of both
    tf.dispose([x, w, given]);
  });

  it("frees everything when a gradient is missing, or a function fails", async () => {
    await tf.setBackend(on);
    const x = tf.variable(random([5], 5));
    tf.tidy(() => tf.square(x)); // small tensors reach the device when they are first used
    const before = memory();
    const missing = () => tf.sum(tf.mul(tf.square(x), tf.cast(tf.argMax(x), "float32"))) as tf.Scalar;
    const cut = () => tf.sum(tf.cast(tf.greater(x, 0), "float32")) as tf.Scalar;
    assert.throws(() => tf.tidy(() => variableGradients(cut, [x])), /gradient function not found for Greater/);
    assert.throws(
      () => variableGradients(() => tf.tidy(() => tf.scalar(1)), [x]),
      raysumError("argument", /depends on none/),
    );
    const failing = () => {
      tf.square(x);
      throw new Error("of the user");
    };
    assert.throws(() => tf.tidy(() => variableGradients(failing, [x])), /of the user/);
    assert.throws(
      () => tf.tidy(() => variableGradients(missing, [])),
      raysumError("argument", /no trainable variable/),
    );
    assert.equal(memory().bytesInUse, before.bytesInUse);
    // and the engine is as it was
    const { value, grads } = variableGradients(() => tf.sum(tf.square(x)) as tf.Scalar, [x]);
    assert.ok(
      difference(
        grads[x.name]!.dataSync(),
        x.dataSync().map((v) => 2 * v),
      ) < 1e-7,
    );
    tf.dispose([value, grads[x.name]!, x]);
  });

  it("leaves what it gives to the tidy around it, also through checkpoints of what is not trained", async () => {
    await tf.setBackend(on);
    const [x, w] = [random([1, 6, 6, 3], 6), tf.variable(random([3, 3, 3, 3], 7))];
    const block = checkpoint((a, b) => tf.conv2d(tf.relu(a) as tf.Tensor4D, b as tf.Tensor4D, 1, "same"));
    const step = () =>
      tf.tidy(() => {
        variableGradients(() => tf.sum(tf.square(block(block(x, w), w))) as tf.Scalar, [w]);
      });
    step();
    const before = memory();
    step();
    assert.equal(memory().numTensors, before.numTensors);
    assert.equal(memory().bytesInUse, before.bytesInUse);
    tf.dispose([x, w]);
  });

  it("can be differentiated itself", async () => {
    const [product] = await valuesOn(on, () => {
      const x = tf.variable(tf.tensor1d([1, 2, 3]));
      const inner = () => variableGradients(() => tf.sum(tf.pow(x, 3)) as tf.Scalar, [x]).grads[x.name]!;
      const outer = tf.variableGrads(() => tf.sum(inner()) as tf.Scalar, [x]).grads[x.name]!;
      x.dispose();
      return outer;
    });
    assert.ok(difference(product!, [6, 12, 18]) < 1e-6);
  });
});

describe("checkpoint", () => {
  const block = (x: tf.Tensor, w: tf.Tensor) =>
    tf.tanh(tf.conv2d(tf.relu(x) as tf.Tensor4D, w as tf.Tensor4D, 1, "same"));
  const inputs = () => [random([1, 6, 6, 3], 6), random([3, 3, 3, 3], 7)] as const;

  it("changes neither values nor gradients, with any walk and of second order", async () => {
    const results = (of: typeof block) => {
      const [x, w] = inputs();
      const twice = (a: tf.Tensor, b: tf.Tensor) => tf.sum(tf.square(of(of(a, b), b))) as tf.Scalar;
      const slope = (b: tf.Tensor) => tf.sum(tf.square(tf.grad((t) => twice(x, t))(b))) as tf.Scalar;
      const variable = tf.variable(w);
      const { value, grads } = variableGradients(() => twice(x, variable), [variable]);
      variable.dispose();
      return [value, grads[variable.name]!, ...tf.grads(twice)([x, w]), tf.grad(slope)(w)];
    };
    const plain = await valuesOn(on, () => results(block));
    const again = await valuesOn(on, () => results(checkpoint(block)));
    for (const [k, values] of plain.entries()) assert.ok(difference(again[k]!, values) < 1e-6, `result ${k}`);
  });

  it("and the walk that frees let a network train in a fraction of the memory", async () => {
    await tf.setBackend(on);
    const N = 24;
    const A = operator(
      volume({ shape: [1, N, N], size: [1 / N, 1, 1] }),
      parallelBeam({ angleCount: N, detectorShape: [1, N], detectorSize: [1 / N, 1] }),
      { device: here },
    );
    const data = random([1, N, N, 1], 8);
    const peaks: number[] = [];
    const gradients: Float32Array[] = [];
    for (const [walk, recompute] of [
      [tf.variableGrads, false],
      [variableGradients, false],
      [variableGradients, true],
    ] as const) {
      const network = learnedPrimalDual(A, { iterations: 4, hidden: 16, recompute });
      const variables = [...network.variables.values()];
      const loss = () => tf.tidy(() => tf.mean(tf.squaredDifference(network(data), data)) as tf.Scalar);
      const peak = peakOf(() => {
        const { value, grads } = walk(loss, variables);
        gradients.push(grads[variables[0]!.name]!.dataSync() as Float32Array);
        tf.dispose([value, grads] as never);
      });
      peaks.push(peak / (N * N));
      network.dispose();
    }
    assert.deepEqual(gradients[1], gradients[0]);
    assert.ok(difference(gradients[2]!, gradients[0]!) < 1e-6);
    const [stock, freeing, recomputed] = peaks as [number, number, number];
    assert.ok(freeing < 0.6 * stock && recomputed < 0.6 * freeing, `${peaks} bytes a pixel`);
    data.dispose();
    A.dispose();
  });
});
