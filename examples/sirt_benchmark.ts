// SIRT from host data to a host result, timed as tomosipo's benchmark script times it.
//
//   bun run examples/sirt_benchmark.ts --N 256 --n_iters 200
import process from "node:process";
import { parseArgs } from "node:util";
import {
  coneBeam,
  DeviceArray,
  device,
  hollowBox,
  type Operator,
  operator,
  parallelBeam,
  reciprocal,
  scope,
  sirt,
  volume,
} from "raysum";
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
  --json             one object instead of the lines
  --help`;

/** A map between arrays on the host, through a device: what a projection costs when data does not stay there. */
type Map = (x: DeviceArray) => DeviceArray;

/** `apply` of a device for arrays of the CPU. */
function bounced(apply: (x: DeviceArray) => DeviceArray, on: DeviceArray["device"]): Map {
  return (x) => {
    using there = DeviceArray.empty(x.shape, { device: on });
    there.writeSync(x.readSync()); // blocking, as a copy between NumPy and the device is
    using result = apply(there);
    return DeviceArray.from(result.readSync(), result.shape, { device: device("cpu") });
  };
}

function pingpong(A: Operator, y: DeviceArray, iterations: number): DeviceArray {
  const [forward, back] = [bounced(A, A.device), bounced(A.T, A.device)];
  using ones = DeviceArray.ones(A.domainShape, { device: y.device });
  using rows = forward(ones);
  using other = DeviceArray.ones(A.rangeShape, { device: y.device });
  using columns = back(other);
  const unseen = A.law === "exact" ? {} : { absolute: 1e-6, relative: 0 };
  using R = reciprocal(rows, unseen);
  using C = reciprocal(columns, unseen);
  const x = DeviceArray.zeros(A.domainShape, { device: y.device });
  for (let i = 0; i < iterations; i++) {
    using seen = forward(x);
    using r = scope(() => R.mul(y.sub(seen)));
    using step = back(r);
    scope(() => x.addAssign(C.mul(step)));
  }
  x.device.finishedSync();
  return x;
}

function oneLine(A: Operator, y: DeviceArray, iterations: number): DeviceArray {
  const unseen = A.law === "exact" ? {} : { absolute: 1e-6, relative: 0 };
  using R = scope(() => reciprocal(A.rowSums(), unseen));
  using C = scope(() => reciprocal(A.columnSums(), unseen));
  const x = DeviceArray.zeros(A.domainShape, { device: A.device });
  let before = A.device.record();
  for (let i = 0; i < iterations; i++) {
    scope(() => x.addAssign(C.mul(A.T(R.mul(y.sub(A(x)))))));
    // Two iterations in flight: the device does not wait for us, and memory stays bounded.
    const queued = A.device.record();
    A.device.finishedSync(before);
    before = queued;
  }
  return x;
}

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
  if (values.pingpong && values.method !== "one-line")
    throw new Error("--pingpong: expected --method one-line, as the fused method has no data outside the device");
  const on = device(values.device);
  const views = (3 * N) / 2;
  using A = operator(
    volume({ shape: [N, N, N], size: 1 }),
    beam === "parallel"
      ? parallelBeam({ angleCount: views, detectorShape: [N, views], detectorSize: [1, 1.5] })
      : coneBeam({
          angleCount: views,
          detectorShape: [N, views],
          detectorSize: [2, 3],
          sourceOriginDistance: 2,
          sourceDetectorDistance: 4,
        }),
    { device: on, law },
  );
  const measured = await scope(() => A(hollowBox(A))).read();

  /** From host data to host result, in seconds; and the part between the first upload and the last download. */
  const trial = async (): Promise<{ seconds: number; resident: number }> => {
    const start = performance.now();
    using y = DeviceArray.empty(A.rangeShape, { device: values.pingpong ? device("cpu") : on });
    await y.write(measured);
    await y.device.finished();
    const uploaded = performance.now();
    const solve = async () => {
      if (values.pingpong) return pingpong(A, y, iterations);
      return method === "fused" ? sirt(A, y, { iterations }) : oneLine(A, y, iterations);
    };
    using x = await solve();
    await x.device.finished();
    const solved = performance.now();
    await x.read();
    return { seconds: (performance.now() - start) / 1000, resident: (solved - uploaded) / 1000 };
  };

  for (let i = 0; i < burnin; i++) await trial();
  const times: { seconds: number; resident: number }[] = [];
  for (let i = 0; i < trials; i++) times.push(await trial());
  const median = (list: number[]) => list.sort((a, b) => a - b)[list.length >> 1]!;
  const seconds = times.map((time) => time.seconds);
  const mean = seconds.reduce((sum, one) => sum + one, 0) / trials;
  const result = {
    work: `sirt ${beam}`,
    N,
    views,
    iterations,
    method: values.pingpong ? "one-line, pingpong" : method,
    device: on.name,
    description: on.description,
    kernels: A.description,
    law,
    precision: "float32",
    trials,
    meanSeconds: mean,
    deviationSeconds: Math.sqrt(seconds.reduce((sum, one) => sum + (one - mean) ** 2, 0) / trials),
    wholeMilliseconds: (1000 * median(seconds)) / iterations,
    residentMilliseconds: (1000 * median(times.map((time) => time.resident))) / iterations,
  };
  if (values.json) return console.log(JSON.stringify(result));
  console.log(`${result.description}; ${result.kernels}`);
  console.log(
    `sirt ${beam} ${N}, ${iterations} iterations, ${result.method}, law ${law}, float32: ` +
      `${mean.toFixed(4)} +- ${result.deviationSeconds.toFixed(4)} s; an iteration ${result.wholeMilliseconds.toFixed(3)} ms ` +
      `(without upload and download ${result.residentMilliseconds.toFixed(3)} ms)`,
  );
}

main().catch((error) => (process.env["RAYSUM_LOG"] ? Promise.reject(error) : fail(error)));
