// Training is the same to the last bit every time, with nothing to switch on: no kernel sums in an order that may change.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { learnedPrimalDual, resumeTraining, saveTraining } from "../lib/nets/index.ts";
import { adam, type ConvPrecision, capture, register } from "../lib/tfjs/index.ts";
import { runScript } from "./support/child.ts";
import { sliceOperator } from "./support/operators.ts";
import { thisRuntime } from "./support/runtimes.ts";
import { here, on, random, tf } from "./support/tensorflow.ts";

const N = 8;
const A = sliceOperator(N, { device: here });
const STEPS = 4;

interface Way {
  readonly captured?: boolean;
  readonly recompute?: boolean;
  /** A file through which it goes on halfway. */
  readonly file?: string;
}

/** The losses of every step, and all weights at the end. */
async function train({ captured = false, recompute = false, file }: Way): Promise<Float32Array[]> {
  const [data, target] = [random([2, ...A.rangeShape.slice(1), 1], 1, 0, 1), random([2, N, N, 1], 2, 0, 0.3)];
  const begin = (seed: number) => {
    const network = learnedPrimalDual(A, { iterations: 2, hidden: 16, seed, recompute });
    const optimizer = adam(3e-3);
    const loss = () => tf.mean(tf.squaredDifference(network(data), target)) as tf.Scalar;
    return { network, optimizer, minimize: () => optimizer.minimize(loss, true, [...network.variables.values()])! };
  };
  let training = begin(3);
  let step: ReturnType<typeof capture> | undefined;
  const end = () => {
    step?.dispose();
    step = undefined;
    training.optimizer.dispose();
    training.network.dispose();
  };
  const losses: number[] = [];
  for (let k = 0; k < STEPS; k++) {
    if (file && k === STEPS / 2) {
      await saveTraining(file, training, k);
      end();
      training = begin(4);
      assert.equal(await resumeTraining(file, training), k);
    }
    if (step) step.run();
    else if (captured) step = capture(training.minimize);
    const loss = (step?.outputs as tf.Scalar | undefined) ?? training.minimize();
    losses.push(loss.dataSync()[0]!);
    if (!step) loss.dispose();
  }
  const weights = [...training.network.variables.values()].map(
    (variable) => variable.dataSync().slice() as Float32Array,
  );
  end();
  tf.dispose([data, target]);
  return [Float32Array.from(losses), ...weights];
}

const folder = mkdtempSync(join(tmpdir(), "raysum-repeatable-"));
after(() => {
  A.dispose();
  rmSync(folder, { recursive: true });
});

const precisions: readonly ConvPrecision[] = here.name === "cpu" ? ["float32"] : ["float32", "tf32", "bf16"];
for (const convPrecision of precisions)
  describe(`training on ${here.name} with convolutions in ${convPrecision}`, () => {
    let expected: Float32Array[];
    before(async () => {
      register(tf, { strict: true, convPrecision });
      await tf.setBackend(on);
      expected = await train({});
      const [losses] = expected;
      assert.ok(losses!.at(-1)! < losses![0]!, `${losses}`);
    });
    after(() => register(tf, { strict: true, convPrecision: "float32" }));

    const file = join(folder, convPrecision);
    const ways: Record<string, Way> = {
      again: {},
      "in captured steps": { captured: true },
      "after it has gone on from a file": { file },
      "after it has gone on from a file in captured steps": { captured: true, file },
      "with activations computed again": { recompute: true },
      "with activations computed again, in captured steps": { recompute: true, captured: true },
    };
    for (const [name, way] of Object.entries(ways))
      it(`has the same losses and weights to the last bit ${name}`, async () => {
        assert.deepEqual(await train(way), expected);
      });
  });

describe("training on the CPU", () => {
  it("does not depend on the number of threads", () => {
    const results = [1, 2, 3].map((threads) => {
      const environment = { RAYSUM_THREADS: String(threads) };
      const { status, stdout, stderr } = runScript(thisRuntime, "test/support/training_script.ts", { environment });
      assert.equal(status, 0, stderr);
      const found = JSON.parse(stdout.trim().split("\n").at(-1)!);
      assert.equal(found.threads, threads);
      return [found.losses, found.weights];
    });
    assert.deepEqual(results[1], results[0]);
    assert.deepEqual(results[2], results[0]);
  });
});
