import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { operator, parallelBeam, volume } from "../lib/index.ts";
import { writeSafetensors } from "../lib/io/index.ts";
import { learnedPrimalDual, resumeTraining, saveTraining } from "../lib/nets/index.ts";
import { adam, capture, momentum, sgd } from "../lib/tfjs/index.ts";
import { raysumError } from "./support/errors.ts";
import { here, on, random, tf } from "./support/tensorflow.ts";

const N = 10;
const A = operator(
  volume({ shape: [1, N, N], size: [1 / N, 1, 1] }),
  parallelBeam({ angleCount: 8, detectorShape: [1, 14], detectorSize: [1 / N, 1.5] }),
  { device: here },
);

async function inFolder(body: (path: (name: string) => string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "raysum-training-"));
  try {
    await body((name) => join(folder, name));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe("a training run that goes on from a file", () => {
  const optimizers = { adam: () => adam(0.01), sgd: () => sgd(0.05), nesterov: () => momentum(0.02, 0.9, true) };
  for (const [name, make] of Object.entries(optimizers))
    for (const captured of [false, true])
      it(`takes the steps of one that never stopped, to the last bit: ${name}${captured ? ", captured" : ""}`, () =>
        inFolder(async (path) => {
          await tf.setBackend(on);
          const [data, target] = [random([1, 8, 14, 1], 1, 0, 1), random([1, N, N, 1], 2, 0, 0.3)];
          const run = async (stops: boolean) => {
            const begin = (seed: number) => {
              const network = learnedPrimalDual(A, { iterations: 2, channels: 2, hidden: 4, seed });
              const optimizer = make();
              const loss = () => tf.mean(tf.squaredDifference(network(data), target)) as tf.Scalar;
              const minimize = () => optimizer.minimize(loss, true, [...network.variables.values()])!;
              return { network, optimizer, minimize };
            };
            let training = begin(1);
            let step: ReturnType<typeof capture> | undefined;
            const end = () => {
              step?.dispose();
              step = undefined;
              training.optimizer.dispose();
            };
            for (let k = 0; k < 30; k++) {
              if (k === 9) Object.assign(training.optimizer, { learningRate: 0.003 });
              if (stops && k === 17) {
                await saveTraining(path("run"), training, { epoch: 3, losses: [k] });
                end();
                training.network.dispose();
                training = begin(7);
                assert.deepEqual(await resumeTraining(path("run"), training), { epoch: 3, losses: [17] });
                assert.equal(training.optimizer.iterations, 17);
              }
              if (!captured) training.minimize().dispose();
              else if (step) step.run();
              else step = capture(training.minimize);
            }
            const values = [...training.network.variables.values()].map((variable) => variable.dataSync().slice());
            end();
            training.network.dispose();
            return values;
          };
          assert.deepEqual(await run(true), await run(false));
          assert.deepEqual(readdirSync(path(".")), ["run"]);
          tf.dispose([data, target]);
        }));

  it("says what is wrong with a file", () =>
    inFolder(async (path) => {
      await tf.setBackend(on);
      const training = { network: learnedPrimalDual(A, { iterations: 1, hidden: 4 }), optimizer: adam(0.1) };
      await assert.rejects(resumeTraining(path("none"), training), raysumError("file", /none/));
      await writeSafetensors(path("weights"), await training.network.save());
      await assert.rejects(
        resumeTraining(path("weights"), training),
        raysumError("file", /weights holds no training run/),
      );
      const other = { network: learnedPrimalDual(A, { iterations: 2, hidden: 4 }), optimizer: adam(0.1) };
      await saveTraining(path("other"), other, 5);
      await assert.rejects(resumeTraining(path("other"), training), raysumError("argument", /has no weights 1_dual/));
      for (const { network, optimizer } of [training, other]) {
        network.dispose();
        optimizer.dispose();
      }
    }));
});
