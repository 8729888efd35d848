// SIRT from host data to a host result, timed as tomosipo's benchmark script times it.
//
//   bun run examples/sirt_benchmark.ts --N 256 --n_iters 200
import process from "node:process";
import { parseArgs } from "node:util";
import { device } from "raysum";
import { timeSirt } from "./support/sirt_timing.ts";
import { fail } from "./support/terminal.ts";
import { choice, whole } from "./support/words.ts";

const usage = `Usage: bun run examples/sirt_benchmark.ts [options]
  --N N              a volume of N^3 voxels, 3N/2 views (default: 128)
  --n_iters K        iterations of a trial; --n_iter means the same (default: 200)
  --num_burnin K     trials before those that count (default: 1)
  --num_trials K     trials that count (default: 3)
  --method METHOD    fused (default): sirt(A, y); one-line: x += C A.T(R (y - A x)), written out
  --pingpong         keep all data in host memory and bounce every projection through the device (one-line alone)
  --no-pingpong      keep it on the device (default)
  --beam BEAM        parallel (default) or cone
  --device NAME      cpu, cuda:0, ... (default: RAYSUM_DEVICE, else the first CUDA device, else the CPU)
  --law LAW          exact (default) or astra
  --precision P      float32 (default), high or half
  --json             one object instead of the lines
  --help`;

async function main(): Promise<void> {
  const { values } = parseArgs({
    allowNegative: true,
    options: {
      N: { type: "string", default: "128" },
      n_iters: { type: "string" },
      n_iter: { type: "string" },
      num_burnin: { type: "string", default: "1" },
      num_trials: { type: "string", default: "3" },
      method: { type: "string", default: "fused" },
      pingpong: { type: "boolean", default: false },
      beam: { type: "string", default: "parallel" },
      device: { type: "string" },
      law: { type: "string", default: "exact" },
      precision: { type: "string", default: "float32" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return console.log(usage);
  const N = whole("N", values.N, 2);
  const iterations = whole("n_iters", values.n_iters ?? values.n_iter ?? "200", 1);
  const trials = whole("num_trials", values.num_trials, 1);
  const burnin = whole("num_burnin", values.num_burnin, 0);
  const method = choice("method", values.method, ["fused", "one-line"]);
  const beam = choice("beam", values.beam, ["parallel", "cone"]);
  const law = choice("law", values.law, ["exact", "astra"]);
  const precision = choice("precision", values.precision, ["float32", "high", "half"]);
  if (values.pingpong && values.method !== "one-line")
    throw new Error("--pingpong: expected --method one-line, as the fused method has no data outside the device");
  const on = device(values.device);
  const times = await timeSirt({
    ...{ beam, size: N, iterations, burnin, trials, method, pingpong: values.pingpong, device: on, law, precision },
  });
  const result = {
    work: `sirt ${beam}`,
    N,
    iterations,
    method: values.pingpong ? "one-line, pingpong" : method,
    device: on.name,
    description: on.description,
    trials,
    ...times,
  };
  if (values.json) return console.log(JSON.stringify(result));
  console.log(`${result.description}; ${result.kernels}`);
  console.log(
    `sirt ${beam} ${N}, ${iterations} iterations, ${result.method}, law ${law}, ${precision}: ` +
      `${result.meanSeconds.toFixed(4)} +- ${result.deviationSeconds.toFixed(4)} s; an iteration ${result.wholeMilliseconds.toFixed(3)} ms ` +
      `(without upload and download ${result.residentMilliseconds.toFixed(3)} ms)`,
  );
}

main().catch((error) => (process.env["RAYSUM_LOG"] ? Promise.reject(error) : fail(error)));
