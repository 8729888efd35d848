// One table of what this machine does: projections and SIRT, in both laws, with their errors, beside the figures of others.
//
//   make benchmark
//   make benchmark BENCH_ARGS="--device cpu --threads 1,2 --sizes 128,256 --law exact --json"
import process from "node:process";
import { parseArgs } from "node:util";
import { type Device, device, devices, type Law, type Precision } from "raysum";
import { baseline } from "./support/baselines.ts";
import { makeCase, slices, volumes } from "./support/cases.ts";
import { hasKernels, type Timing, timeProjections } from "./support/projections.ts";
import { type SirtTimes, timeSirt } from "./support/sirt_timing.ts";
import { fail } from "./support/terminal.ts";
import { choice, number, whole } from "./support/words.ts";

const usage = `Usage: bun run examples/benchmark.ts [options]
  --device NAME      cpu, cuda:0, ... (default: RAYSUM_DEVICE, else every device)
  --threads LIST     numbers of CPU threads to time, such as 1,2 (default: all there are)
  --sizes LIST       N: volumes of N^3 voxels, 3N/2 views (default: 64,128; on a GPU 128,256,512)
  --slices LIST      N: one slice of N^2 voxels, 3N/2 views (default: 128,512; on a GPU 128,256,512,1024)
  --work LIST        some of ${[...volumes, ...slices, "sirt"].join(", ")} (default: all)
  --law LIST         exact, astra (default: both)
  --precision LIST   float32, high, half (default: all, where the device has kernels of that precision)
  --seconds S        time spent on each figure, a median of calls (default: 0.5)
  --json             one object for each figure instead of the table
  --help`;

interface Options {
  readonly sizes: readonly number[];
  readonly slices: readonly number[];
  readonly work: readonly string[];
  readonly laws: readonly Law[];
  readonly precisions: readonly Precision[];
  readonly seconds: number;
  readonly json: boolean;
}

type Cell = string | number | undefined;

/** A table that is printed row by row: widths of its columns, the first one to the left. */
function table(title: string, head: readonly string[], widths: readonly number[], silent: boolean) {
  const print = (cells: readonly string[]) =>
    console.log(cells.map((cell, i) => (i ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!))).join(" "));
  let begun = false;
  return (cells: readonly Cell[]): void => {
    if (silent) return;
    if (!begun) {
      console.log(`\n${title}`);
      print(head);
      begun = true;
    }
    print(cells.map((cell) => (cell === undefined ? "-" : typeof cell === "number" ? figures(cell) : cell)));
  };
}

/** Three figures or more, and powers of ten for what is very small. */
function figures(value: number): string {
  if (value !== 0 && Math.abs(value) < 1e-3) return value.toExponential(1);
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

function pairs<A, B>(first: readonly A[], second: readonly B[]): [A, B][] {
  return first.flatMap((a) => second.map((b): [A, B] => [a, b]));
}

function suffix(precision: Precision): string {
  return precision === "float32" ? "" : ` ${precision}`;
}

async function projections(on: Device, options: Options, common: object): Promise<void> {
  const row = table(
    `Projections: error against float64 at 300 places, gap of the adjoint, and ms of ${baseline.name}`,
    ["", "exact: ms", "GUPS", "error", "gap", "astra: ms", "GUPS", "gap", "others: ms"],
    [27, 10, 8, 8, 8, 11, 8, 8, 11],
    options.json,
  );
  for (const name of [...volumes, ...slices].filter((one) => options.work.includes(one)))
    for (const [size, precision] of pairs(slices.includes(name) ? options.slices : options.sizes, options.precisions)) {
      const scan = makeCase(name, size);
      const found: Partial<Record<Law, { forward: Timing; back: Timing }>> = {};
      for (const law of options.laws) {
        const rules = { device: on, law: law === "astra" ? scan.astra : law, precision };
        if (hasKernels(scan, rules)) found[law] = await timeProjections(scan, rules, options.seconds);
      }
      if (!found.exact && !found.astra) continue;
      for (const [i, work] of (["forward", "back"] as const).entries()) {
        const [exact, astra, others] = [
          found.exact?.[work],
          found.astra?.[work],
          baseline.projections[name]?.[size]?.[i],
        ];
        row([
          `${name} ${size} ${work}${suffix(precision)}`,
          ...[exact?.milliseconds, exact?.gups, exact?.error, exact?.gap],
          ...[astra?.milliseconds, astra?.gups, astra?.gap, others],
        ]);
        if (options.json)
          for (const result of [exact, astra])
            if (result) console.log(JSON.stringify({ work: `${name} ${work}`, size, ...common, ...result, others }));
      }
    }
}

async function reconstructions(on: Device, options: Options, common: object): Promise<void> {
  const row = table(
    `SIRT, ms an iteration: from host data to a host result, and the part on the device; ${baseline.name}`,
    ["", "exact: whole", "resident", "astra: whole", "resident", "tomosipo: whole", "ASTRA: whole"],
    [40, 12, 9, 13, 9, 15, 12],
    options.json,
  );
  const gpu = on.name !== "cpu";
  for (const beam of ["parallel", "cone"] as const)
    for (const [size, precision] of pairs(
      beam === "parallel" ? options.sizes : options.sizes.filter((one) => baseline.sirt[beam]?.[one]),
      options.precisions,
    )) {
      const iterations = !gpu ? 20 : beam === "cone" ? 50 : size < 512 ? 200 : 20;
      const found: Partial<Record<Law, SirtTimes>> = {};
      for (const law of options.laws) {
        const rules = { device: on, law, precision };
        if (!hasKernels(makeCase(beam, size), rules)) continue;
        found[law] = await timeSirt({
          ...{ beam, size, iterations, ...rules, method: "fused", pingpong: false },
          ...{ burnin: gpu ? 1 : 0, trials: gpu ? 3 : 1 },
        });
      }
      const { exact, astra } = found;
      if (!exact && !astra) continue;
      const others = baseline.sirt[beam]?.[size];
      row([
        `sirt ${beam} ${size}, ${iterations} iterations${suffix(precision)}`,
        ...[exact?.wholeMilliseconds, exact?.residentMilliseconds],
        ...[astra?.wholeMilliseconds, astra?.residentMilliseconds, others?.[0], others?.[1]],
      ]);
      if (options.json)
        for (const result of [exact, astra])
          if (result)
            console.log(JSON.stringify({ work: `sirt ${beam}`, size, iterations, ...common, ...result, others }));
    }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      device: { type: "string" },
      threads: { type: "string" },
      sizes: { type: "string" },
      slices: { type: "string" },
      work: { type: "string" },
      law: { type: "string", default: "exact,astra" },
      precision: { type: "string", default: "float32,high,half" },
      seconds: { type: "string", default: "0.5" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return console.log(usage);
  const numbers = (name: string, list: string, least: number) =>
    list.split(",").map((item) => whole(name, item, least));
  const works = [...volumes, ...slices, "sirt"];
  const work = values.work?.split(",").map((item) => choice("work", item, works)) ?? works;
  const laws = values.law.split(",").map((item) => choice<Law>("law", item, ["exact", "astra"]));
  const precisions = values.precision
    .split(",")
    .map((item) => choice<Precision>("precision", item, ["float32", "high", "half"]));
  const seconds = number("seconds", values.seconds, (value) => value > 0, "a number above 0");
  const threads = values.threads === undefined ? [undefined] : numbers("threads", values.threads, 1);
  const wanted = values.device ?? process.env["RAYSUM_DEVICE"];
  for (const on of wanted === undefined ? devices() : [device(wanted)]) {
    const cpu = on.name === "cpu";
    const options: Options = {
      ...{ work, laws, precisions, seconds, json: values.json },
      sizes: numbers("sizes", values.sizes ?? (cpu ? "64,128" : "128,256,512"), 2),
      slices: numbers("slices", values.slices ?? (cpu ? "128,512" : "128,256,512,1024"), 2),
    };
    for (const count of cpu ? threads : [undefined]) {
      if (count !== undefined) on.threads = count;
      if (!options.json) console.log(`${on.name}: ${on.description}; float32 where no other precision is named`);
      const common = { device: on.name, description: on.description };
      await projections(on, options, common);
      if (work.includes("sirt")) await reconstructions(on, options, common);
    }
  }
}

main().catch((error) => (process.env["RAYSUM_LOG"] ? Promise.reject(error) : fail(error)));
