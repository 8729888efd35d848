// Learned primal-dual, as in tomosipo's notebook: trains a network on the slices of a hollow box seen with noise, and shows what it
// makes of three of them.
//
//   bun run examples/learned_pd.ts
//   bun run examples/learned_pd.ts --N 128 --device cuda:0
import process from "node:process";
import { parseArgs } from "node:util";
import { device } from "raysum";
import { train } from "./support/learned.ts";
import { precisionOf } from "./support/tensorflow.ts";
import { fail, formatSeconds } from "./support/terminal.ts";
import { choice, number, whole } from "./support/words.ts";

const usage = `Usage: bun run examples/learned_pd.ts [options]
  --N N              a volume of N^3 voxels, 3N/2 views of 3N/2 columns; a multiple of 4 (default: 32)
  --epochs K         passes over all slices (default: 50)
  --batch_size K     slices a step, in order (default: 4)
  --rate V           learning rate of Adam (default: 1e-4, or 1e-3 at N below 64)
  --n_iters K        unrolled iterations of the network (default: 10)
  --noise F          deviation of the noise as a part of the largest value (default: 0.05)
  --seed N           of the noise and the first weights (default: 1)
  --conv_precision P of convolutions: float32, tf32 (default) or bf16 on a GPU; float32 on the CPU
  --capture          JavaScript runs a step once; then the device repeats it by itself
  --recompute        keeps less memory for the way back and computes more
  --device NAME      cpu, cuda:0, ... (default: RAYSUM_DEVICE, else the first CUDA device, else the CPU)
  --law LAW          exact (default) or astra
  --checkpoint PATH  goes on from this file where there is one, and writes it after every epoch (the file only says where the run
                     was: give the other options as before)
  --reference PATH   a folder with a training run of PyTorch to repeat and to compare with: manifest.json (N, epochs, batch,
                     losses), weights0.safetensors, sinogram_noisy.npy; law astra
  --out FOLDER       for figures and the trained weights (default: out/learned_pd)
  --json             prints one JSON object and nothing else
  --help`;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      N: { type: "string", default: "32" },
      epochs: { type: "string", default: "50" },
      batch_size: { type: "string", default: "4" },
      rate: { type: "string" },
      n_iters: { type: "string", default: "10" },
      noise: { type: "string", default: "0.05" },
      seed: { type: "string", default: "1" },
      conv_precision: { type: "string" },
      capture: { type: "boolean", default: false },
      recompute: { type: "boolean", default: false },
      device: { type: "string" },
      law: { type: "string", default: "exact" },
      checkpoint: { type: "string" },
      reference: { type: "string" },
      out: { type: "string", default: "out/learned_pd" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return console.log(usage);
  const N = whole("N", values.N, 4);
  if (N % 4 !== 0) throw new Error(`--N ${N}: expected a multiple of 4`);
  const on = device(values.device);
  const result = await train({
    N,
    epochs: whole("epochs", values.epochs, 1),
    batch: whole("batch_size", values.batch_size, 1),
    rate: number("rate", values.rate ?? (N < 64 ? "1e-3" : "1e-4"), (v) => v > 0 && v < 1, "a number between 0 and 1"),
    iterations: whole("n_iters", values.n_iters, 1),
    noise: number("noise", values.noise, (v) => v >= 0 && v < 10, "a number of at least 0"),
    seed: number("seed", values.seed, Number.isSafeInteger, "a whole number"),
    captured: values.capture,
    recompute: values.recompute,
    device: on,
    convPrecision: precisionOf(on, values.conv_precision),
    law: choice("law", values.law, ["exact", "astra"]),
    ...(values.checkpoint !== undefined && { checkpoint: values.checkpoint }),
    ...(values.reference !== undefined && { reference: values.reference }),
    out: values.out,
    quiet: values.json,
  });
  if (values.json) return console.log(JSON.stringify(result));
  const { description, steps, seconds, stepMilliseconds, lastEpochLoss, referenceLoss, wholeError, peakBytes } = result;
  console.log(`${description}
${steps} steps in ${formatSeconds(seconds)}; a step ${formatSeconds(stepMilliseconds / 1000)}, at most ${(peakBytes / 2 ** 20).toFixed(1)} MiB of device memory
mean squared error: ${lastEpochLoss.toPrecision(4)} over the last epoch${
    referenceLoss === undefined ? "" : ` (PyTorch: ${referenceLoss.toPrecision(4)})`
  }, ${wholeError.toPrecision(4)} over all slices afterwards
files:\n${result.files.map((path) => `  ${path}`).join("\n")}`);
}

main().catch((error) => (process.env["RAYSUM_LOG"] ? Promise.reject(error) : fail(error)));
