// Times projections and SIRT iterations on a device, on random data, as one public call each.
//
//   make benchmark
//   make benchmark BENCH_ARGS="--sizes 128,256 --threads 1 --json"
import process from "node:process";
import { parseArgs } from "node:util";
import { coneBeam, DeviceArray, device, type Law, type Operator, operator, parallelBeam, sirt, volume } from "raysum";
import { fail } from "./support/terminal.ts";

const usage = `Usage: bun run examples/benchmark.ts [options]
  --device NAME      cpu, cuda:0, ... (default: RAYSUM_DEVICE, else the first CUDA device, else the CPU)
  --threads LIST     numbers of CPU threads to time, such as 1,2 (default: all there are)
  --sizes LIST       N: volumes of N^3 voxels, 3N/2 views (default: 64,128,256)
  --slices LIST      N: one slice of N^2 voxels (default: 256,512)
  --seconds S        time spent on each row (default: 2)
  --law LAW          exact (default) or astra
  --json             one object for each row instead of the table
  --help`;

interface Row {
  work: string;
  size: number;
  device: string;
  threads: number;
  precision: "float32";
  law: Law;
  milliseconds: number;
  /** Voxels times views per second, in 1e9. */
  gups: number;
}

interface Work {
  name: string;
  size: number;
  shape: [number, number, number];
  cone: boolean;
}

function makeOperator({ size, shape, cone }: Work, on: ReturnType<typeof device>, law: Law): Operator {
  const [depth] = shape;
  const views = (3 * size) / 2;
  const height = depth / size;
  const object = volume({ shape, size: [height, 1, 1] });
  const beam = cone
    ? coneBeam({
        angleCount: views,
        detectorShape: [depth, views],
        detectorSize: [2 * height, 3],
        sourceOriginDistance: 2,
        sourceDetectorDistance: 4,
      })
    : parallelBeam({ angleCount: views, detectorShape: [depth, views], detectorSize: [height, 1.5] });
  return operator(object, beam, { device: on, law });
}

/** The median time of a call in milliseconds, after one to warm up: at least three calls, then as many as the time allows. */
async function time(on: ReturnType<typeof device>, seconds: number, call: () => unknown): Promise<number> {
  call();
  await on.finished();
  const times: number[] = [];
  const end = performance.now() + seconds * 1000;
  while (times.length < 3 || (performance.now() < end && times.length < 101)) {
    const start = performance.now();
    call();
    on.finishedSync();
    times.push(performance.now() - start);
  }
  times.sort((a, b) => a - b);
  return times[times.length >> 1]!;
}

async function* rows(work: Work, on: ReturnType<typeof device>, seconds: number, law: Law): AsyncGenerator<Row> {
  using A = makeOperator(work, on, law);
  using x = DeviceArray.uniform(A.domainShape, { device: on, seed: 1 });
  using y = DeviceArray.uniform(A.rangeShape, { device: on, seed: 2 });
  using projections = DeviceArray.empty(A.rangeShape, { device: on });
  using back = DeviceArray.empty(A.domainShape, { device: on });
  const updates = x.size * A.beam.viewCount;
  const row = (name: string, milliseconds: number, operators: number): Row => ({
    work: `${work.name} ${name}`,
    size: work.size,
    device: on.name,
    threads: on.name === "cpu" ? on.threads : 0,
    precision: "float32",
    law,
    milliseconds,
    gups: (operators * updates) / milliseconds / 1e6,
  });
  yield row("forward", await time(on, seconds, () => A(x, { out: projections })), 1);
  yield row("back", await time(on, seconds, () => A.T(y, { out: back })), 1);
  // From the end of the first iteration on: weights and set-up are left out.
  const run = async (iterations: number) => {
    const ends: number[] = [];
    (await sirt(A, y, { iterations, onProgress: ({ elapsed }) => ends.push(elapsed * 1000) })).dispose();
    return (ends.at(-1)! - ends[0]!) / (iterations - 1);
  };
  const roughly = await run(2);
  yield row("sirt", await run(Math.max(3, Math.min(50, Math.round((seconds * 1000) / roughly)))), 2);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      device: { type: "string" },
      threads: { type: "string" },
      sizes: { type: "string", default: "64,128,256" },
      slices: { type: "string", default: "256,512" },
      seconds: { type: "string", default: "2" },
      law: { type: "string", default: "exact" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return console.log(usage);
  const list = (name: string, text: string) =>
    text.split(",").map((item) => {
      const value = Number(item);
      if (!Number.isInteger(value) || value < 2)
        throw new Error(`--${name} ${text}: expected whole numbers of at least 2`);
      return value;
    });
  const law = values.law;
  if (law !== "exact" && law !== "astra") throw new Error(`--law ${law}: expected exact or astra`);
  const on = device(values.device);
  const threads = values.threads ? values.threads.split(",").map(Number) : [0];
  const works: Work[] = [
    ...list("sizes", values.sizes).flatMap((size): Work[] => [
      { name: "parallel", size, shape: [size, size, size], cone: false },
      { name: "cone", size, shape: [size, size, size], cone: true },
    ]),
    ...list("slices", values.slices).map(
      (size): Work => ({ name: "slice", size, shape: [1, size, size], cone: false }),
    ),
  ];
  for (const count of threads) {
    if (count > 0) on.threads = count;
    if (!values.json) console.log(`${on.description}`);
    for (const work of works)
      for await (const row of rows(work, on, Number(values.seconds), law)) {
        if (values.json) console.log(JSON.stringify(row));
        else {
          const [kind = "", name = ""] = row.work.split(" ");
          const label = `${kind} ${row.size} ${name} ${row.precision} ${row.law}`;
          console.log(
            `${label.padEnd(40)} ${row.milliseconds.toFixed(2).padStart(10)} ms ${row.gups.toFixed(2).padStart(8)} GUPS`,
          );
        }
      }
  }
}

main().catch((error) => (process.env["RAYSUM_LOG"] ? Promise.reject(error) : fail(error)));
