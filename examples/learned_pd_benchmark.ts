// Steps of training and inference of a learned primal-dual network, timed as tomosipo's benchmark script times them.
//
//   bun run examples/learned_pd_benchmark.ts --N 256 --train
import process from "node:process";
import { parseArgs } from "node:util";
import { device } from "raysum";
import { learnedPrimalDual } from "raysum/nets";
import { adam, capture, type Layer, layer } from "raysum/tfjs";
import { precisionOf, sliceOperator, tf, useDevice } from "./support/tensorflow.ts";
import { fail } from "./support/terminal.ts";
import { median, timeCall } from "./support/timing.ts";
import { choice, whole } from "./support/words.ts";

const usage = `Usage: bun run examples/learned_pd_benchmark.ts [options]
  --N N              slices of N x N voxels, 3N/2 views of 3N/2 columns (default: 128)
  --n_iters K        unrolled iterations of the network (default: 10)
  --batch_size K     slices a step (default: 1)
  --train            steps of training with Adam (default, unless --inference is given)
  --inference        the network alone; with --train, both
  --pingpong         bounce input and output of every projection through host memory
  --no-pingpong      keep all data on the device (default)
  --num_burnin K     trials before those that count (default: 2)
  --num_trials K     trials that count (default: 7)
  --num_iterations_per_trial K   steps of a trial (default: 5)
  --device NAME      cpu, cuda:0, ... (default: RAYSUM_DEVICE, else the first CUDA device, else the CPU)
  --law LAW          exact (default) or astra
  --precision P      of projections: float32 (default), high or half (the arithmetic of float32 where one slice has no other)
  --conv_precision P of convolutions: float32, tf32 (default) or bf16 on a GPU; float32 on the CPU
  --capture          JavaScript runs a step once; then the device repeats it by itself (one CUDA graph, one list on the CPU)
  --recompute        keep only what goes into each block of convolutions, and compute its inside twice
  --json             one object a line instead of the lines
  --help`;

/** What a copy between a tensor on the device and an array of the host costs, both ways, also for gradients. */
function bounced(projector: Layer): Layer {
  const copied = (x: tf.Tensor) => tf.tensor(x.dataSync(), x.shape, "float32");
  const bounce = tf.customGrad((x) => ({ value: copied(x as tf.Tensor), gradFunc: (dy: tf.Tensor) => copied(dy) }));
  const around = (map: (x: tf.Tensor) => tf.Tensor) => (x: tf.Tensor) => bounce(map(bounce(x)));
  const P = around(projector) as Layer;
  const T = around(projector.T) as Layer;
  Object.defineProperty(P, "T", { value: T });
  Object.defineProperty(T, "T", { value: P });
  return P;
}

const mebibytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);

async function main(): Promise<void> {
  const { values } = parseArgs({
    allowNegative: true,
    options: {
      N: { type: "string", default: "128" },
      n_iters: { type: "string", default: "10" },
      batch_size: { type: "string", default: "1" },
      pingpong: { type: "boolean", default: false },
      train: { type: "boolean", default: false },
      inference: { type: "boolean", default: false },
      num_burnin: { type: "string", default: "2" },
      num_trials: { type: "string", default: "7" },
      num_iterations_per_trial: { type: "string", default: "5" },
      device: { type: "string" },
      law: { type: "string", default: "exact" },
      precision: { type: "string", default: "float32" },
      conv_precision: { type: "string" },
      capture: { type: "boolean", default: false },
      recompute: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return console.log(usage);
  const N = whole("N", values.N, 2);
  if (N % 2 !== 0) throw new Error(`--N ${N}: expected an even number, as there are 3N/2 views`);
  const iterations = whole("n_iters", values.n_iters, 1);
  const batch = whole("batch_size", values.batch_size, 1);
  const burnin = whole("num_burnin", values.num_burnin, 0);
  const trials = whole("num_trials", values.num_trials, 1);
  const steps = whole("num_iterations_per_trial", values.num_iterations_per_trial, 1);
  const law = choice("law", values.law, ["exact", "astra"]);
  const precision = choice("precision", values.precision, ["float32", "high", "half"]);
  const { pingpong, recompute, capture: captured } = values;
  if (captured && pingpong)
    throw new Error("--capture: what goes through the host, as --pingpong has it, cannot be captured");
  const on = device(values.device);
  const convPrecision = precisionOf(on, values.conv_precision);
  await useDevice(on, convPrecision);
  using A = sliceOperator(N, 1, { device: on, law, precision });
  const direct = layer(A, { slice: true });
  const network = learnedPrimalDual(A, { iterations, recompute, projector: pingpong ? bounced(direct) : direct });
  const [, views, columns] = A.rangeShape as [number, number, number];
  const data = tf.randomUniform([batch, views, columns, 1], 0, 1, "float32", 1);
  const target = tf.randomUniform([batch, N, N, 1], 0, 1, "float32", 2);
  const optimizer = adam(1e-4);
  const loss = () => tf.mean(tf.squaredDifference(network(data), target)) as tf.Scalar;
  const work = {
    train: () => optimizer.minimize(loss, true)!,
    inference: () => network(data) as tf.Tensor,
  };

  /** Milliseconds a step of those that one trial queues behind one another. */
  const trial = async (step: () => unknown): Promise<number> => {
    const all = () => {
      for (let i = 0; i < steps; i++) step();
    };
    return (await timeCall(on, all)) / steps;
  };

  if (!values.json) console.log(`${on.description}; ${A.description}`);
  for (const name of ["train", "inference"] as const) {
    if (!(values[name] || (name === "train" && !values.inference))) continue;
    const step = captured ? capture(work[name]) : undefined;
    const once = step ? () => step.run() : () => work[name]().dispose();
    for (let i = 0; i < burnin; i++) await trial(once);
    const times: number[] = [];
    for (let i = 0; i < trials; i++) times.push(await trial(once));
    step?.dispose();
    const { peak, inUse, cached } = on.memory();
    const mean = times.reduce((sum, one) => sum + one, 0) / trials;
    const result = {
      work: `learned primal-dual ${name}`,
      N,
      batch,
      iterations,
      device: on.name,
      description: on.description,
      kernels: A.description,
      law,
      precision,
      convPrecision,
      pingpong,
      captured,
      recompute,
      trials,
      steps,
      milliseconds: median(times),
      meanMilliseconds: mean,
      deviationMilliseconds: Math.sqrt(times.reduce((sum, one) => sum + (one - mean) ** 2, 0) / trials),
      peakBytes: peak,
      reservedBytes: inUse + cached,
    };
    if (values.json) console.log(JSON.stringify(result));
    else
      console.log(
        `${name} ${N}, batch ${batch}, ${iterations} iterations, law ${law}, projections ${precision}, convolutions ` +
          `${convPrecision}${pingpong ? ", pingpong" : ""}${captured ? ", captured" : ""}${recompute ? ", recompute" : ""}: ` +
          `${result.milliseconds.toFixed(3)} ms a step (mean ${mean.toFixed(3)} +- ${result.deviationMilliseconds.toFixed(3)}), ` +
          `peak ${mebibytes(peak)} MiB in use, ${mebibytes(inUse + cached)} MiB reserved`,
      );
  }
  optimizer.dispose();
  network.dispose();
  tf.dispose([data, target]);
}

main().catch((error) => (process.env["RAYSUM_LOG"] ? Promise.reject(error) : fail(error)));
