/** PyTorch's first steps of training a learned primal-dual network, against ours. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Device, operator, parallelBeam, volume } from "../../lib/index.ts";
import { type HostArray, readNpy, readSafetensors } from "../../lib/io/index.ts";
import { learnedPrimalDual } from "../../lib/nets/index.ts";
import { adam, backendName, variableGradients } from "../../lib/tfjs/index.ts";
import { relativeL2 } from "./random.ts";
import type { Comparison } from "./reference.ts";
import { tf } from "./tensorflow.ts";

const OUTPUT_LIMIT = 1e-4;
const GRADIENT_LIMIT = 1e-3;
const LOSS_LIMIT = 1e-3;

interface Manifest {
  readonly N: number;
  readonly batch: number;
  readonly unrolledIterations: number;
  readonly losses: readonly number[];
}

/** Batches of one slice each, from PyTorch's order to that of tensors: there is one channel, so only the shape differs. */
const tensorOf = ({ shape, data }: HostArray) => {
  const [batch, , rows, columns] = shape as [number, number, number, number];
  return tf.tensor(data, [batch, rows, columns, 1]);
};

export async function* compareLearnedPrimalDual(folder: string, device: Device): AsyncGenerator<Comparison> {
  const path = (file: string) => join(folder, file);
  const { N, unrolledIterations, losses }: Manifest = JSON.parse(readFileSync(path("manifest.json"), "utf8"));
  const law = "astra" as const;
  const compare = (what: string, error: number, limit: number): Comparison => ({
    name: "learned-pd",
    law,
    what,
    error,
    limit,
  });
  await tf.setBackend(backendName(device));
  const views = (3 * N) / 2;
  const angles = Array.from({ length: views }, (_, view) => Math.fround((view * Math.PI) / views));
  using A = operator(
    volume({ shape: [1, N, N], size: [1 / N, 1, 1] }),
    parallelBeam({ angles, detectorShape: [1, views], detectorSize: [1 / N, 1.5] }),
    { law, device },
  );
  const network = learnedPrimalDual(A, { iterations: unrolledIterations });
  network.load(await readSafetensors(path("weights0.safetensors")));
  const sinograms = tensorOf(await readNpy(path("sinogram.npy")));
  const target = tensorOf(await readNpy(path("target.npy")));
  const loss = () => tf.mean(tf.squaredDifference(network(sinograms), target)) as tf.Scalar;
  const outputError = async (file: string) => {
    const out = network(sinograms);
    const error = relativeL2(await out.data(), (await readNpy(path(file))).data);
    out.dispose();
    return error;
  };
  yield compare("first output", await outputError("output0.npy"), OUTPUT_LIMIT);

  const weights = [...network.variables];
  const { value, grads } = variableGradients(
    loss,
    weights.map(([, variable]) => variable),
  );
  const expected = await readSafetensors(path("grads0.safetensors"));
  let worst = 0;
  for (const [name, variable] of weights) {
    const gradient = tf.transpose(grads[variable.name]!, [3, 2, 0, 1]);
    worst = Math.max(worst, relativeL2(await gradient.data(), expected.get(name)!.data));
    gradient.dispose();
  }
  yield compare(`worst of ${weights.length} gradients`, worst, GRADIENT_LIMIT);
  tf.dispose([value, grads]);

  const optimizer = adam(1e-3);
  for (const [step, reference] of losses.entries()) {
    const found = optimizer.minimize(loss, true)!;
    yield compare(`loss ${step}`, Math.abs((await found.data())[0]! / reference - 1), LOSS_LIMIT);
    found.dispose();
  }
  yield compare("output after training", await outputError("output5.npy"), LOSS_LIMIT);
  optimizer.dispose();
  network.dispose();
  tf.dispose([sinograms, target]);
}
