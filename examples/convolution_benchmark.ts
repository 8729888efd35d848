// The layers of the learned primal-dual network one by one: convolution with bias and ReLU, gradient of its input, gradient of its filter.
//
//   bun run examples/convolution_benchmark.ts --sizes 768,192
import process from "node:process";
import { parseArgs } from "node:util";
import { type Device, device } from "raysum";
import { type ConvPrecision, capture } from "raysum/tfjs";
import { precisionOf, tf, useDevice } from "./support/tensorflow.ts";
import { fail } from "./support/terminal.ts";
import { medianTime } from "./support/timing.ts";
import { number, whole } from "./support/words.ts";

const usage = `Usage: bun run examples/convolution_benchmark.ts [options]
  --sizes LIST       N: images of N x N pixels (default: 768,512,192; on the CPU 192,64)
  --device NAME      cpu, cuda:0, ... (default: RAYSUM_DEVICE, else the first CUDA device, else the CPU)
  --conv_precision LIST   float32, tf32, bf16 (default: all that the device has); arrays are float32 in memory
  --repeats K        times that a layer follows itself, in one captured step (default: 20; on the CPU 1)
  --seconds S        time spent on each figure, a median of steps (default: 0.5)
  --json             one object for each figure instead of the table
  --help`;

const layers = [
  [7, 32],
  [32, 32],
  [32, 5],
] as const;
const works = ["forward", "input gradient", "filter gradient"] as const;

/** The work of a layer on images [1, N, N, channels], 3 x 3, "same". Arrays: those of the caller's scope. */
function worksOf(N: number, [from, to]: readonly [number, number]): Record<(typeof works)[number], () => tf.Tensor> {
  const random = (shape: number[]) => tf.randomUniform(shape, -1, 1, "float32", 1);
  const x = random([1, N, N, from]) as tf.Tensor4D;
  const dy = random([1, N, N, to]) as tf.Tensor4D;
  const filter = random([3, 3, from, to]) as tf.Tensor4D;
  const bias = random([to]) as tf.Tensor1D;
  const shape = { strides: 1, pad: "same", dataFormat: "NHWC", filterShape: filter.shape };
  return {
    forward: () => tf.fused.conv2d({ x, filter, strides: 1, pad: "same", bias, activation: "relu" }),
    "input gradient": () => tf.conv2dTranspose(dy, filter, x.shape, 1, "same"),
    "filter gradient": () => tf.engine().runKernel("Conv2DBackpropFilter", { x, dy }, shape) as tf.Tensor,
  };
}

/** Microseconds that `work` takes: the median of captured steps that repeat it, each on an idle device. */
async function time(on: Device, work: () => tf.Tensor, repeats: number, seconds: number): Promise<number> {
  using step = capture(() => {
    for (let i = 1; i < repeats; i++) work().dispose();
    return work();
  });
  const run = () => step.run();
  run();
  return ((await medianTime(on, run, seconds)) * 1000) / repeats;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      sizes: { type: "string" },
      device: { type: "string" },
      conv_precision: { type: "string" },
      repeats: { type: "string" },
      seconds: { type: "string", default: "0.5" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return console.log(usage);
  const on = device(values.device);
  const cpu = on.name === "cpu";
  const sizes = (values.sizes ?? (cpu ? "192,64" : "768,512,192")).split(",").map((one) => whole("sizes", one, 1));
  const names = (values.conv_precision ?? (cpu ? "float32" : "float32,tf32,bf16")).split(",");
  const precisions = names.map((name): ConvPrecision => precisionOf(on, name));
  const repeats = whole("repeats", values.repeats ?? (cpu ? "1" : "20"), 1);
  const seconds = number("seconds", values.seconds, (value) => value > 0, "a number above 0");
  const row = (head: string, cells: readonly string[]) =>
    console.log(head.padEnd(42) + cells.map((cell) => cell.padStart(12)).join(""));
  if (!values.json) {
    console.log(`${on.name}: ${on.description}; arrays float32 in memory`);
    row("", ["us", "GFLOP/s", "GB/s"]);
  }
  for (const precision of precisions) {
    await useDevice(on, precision);
    for (const N of sizes)
      for (const layer of layers) {
        tf.engine().startScope();
        const [from, to] = layer;
        for (const [name, work] of Object.entries(worksOf(N, layer))) {
          const microseconds = await time(on, work, repeats, seconds);
          // Every array of a layer is read or written once.
          const [operations, bytes] = [2 * 9 * from * to * N * N, 4 * (N * N * (from + to) + 9 * from * to)];
          const [gigaflops, gigabytes] = [operations, bytes].map((count) => count / microseconds / 1000) as [
            number,
            number,
          ];
          const { name: where, description } = on;
          const result = {
            work: name,
            N,
            from,
            to,
            precision,
            device: where,
            description,
            microseconds,
            gigaflops,
            gigabytes,
          };
          if (values.json) console.log(JSON.stringify(result));
          else
            row(
              `${N}, ${from} to ${to}, ${precision} ${name}`,
              [microseconds, gigaflops, gigabytes].map((value) => value.toPrecision(value < 100 ? 3 : 4)),
            );
        }
        tf.engine().endScope();
      }
  }
}

main().catch((error) => (process.env["RAYSUM_LOG"] ? Promise.reject(error) : fail(error)));
