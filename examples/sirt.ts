// SIRT on the device: a simulated hollow box by default, a measured scan with --input.
//
//   make sirt
//   bun run examples/sirt.ts --size 256 --iterations 50
//   bun run examples/sirt.ts --input tooth.h5
//   bun run examples/sirt.ts --input radiographs/ --flats flats/ --darks darks/ --format tiff
import process from "node:process";
import { parseArgs } from "node:util";
import { device, devices } from "raysum";
import { readScanGeometry, reconstructScan, type ScanGeometry } from "./support/scan.ts";
import { simulated } from "./support/simulated.ts";
import { fail, formatSeconds } from "./support/terminal.ts";
import { choice, number, whole } from "./support/words.ts";

const usage = `Usage: bun run examples/sirt.ts [options]

Without --input: simulates a scan of a hollow box (tomosipo's benchmark case), reconstructs it with SIRT written in
one line and with the fused SIRT, and compares both.
  --size N           voxels along each axis (default 128); 3N/2 views
  --noise F          deviation of the noise as a part of the largest value (default 0.05)
  --seed N           of the noise (default 1)

With --input: reconstructs a measured scan.
  --input PATH       one of:
                       .npy   line integrals (rows, views, columns)
                       .tif   radiographs (views, rows, columns), or a folder with one a view; line integrals
                              when neither --flats nor --darks is given
                       else   HDF5 in the DXchange layout
  --flats PATH       TIFF radiographs without a sample: a file or a folder
  --darks PATH       TIFF radiographs without a beam: a file or a folder; needs --flats
  --rows A:B         detector rows A up to B only
  --center C         column onto which the axis of rotation projects (default: found from the data)
  --geometry FILE    JSON with any of beam, angles (degrees), pixelSize, voxelSize, volumeShape,
                     sourceOriginDistance, sourceDetectorDistance, rotationCentre
  --format FORMAT    of the volume: npy (default) or tiff

Both:
  --iterations N     (default 20 for the phantom, where more fit the noise, and 100 for a scan)
  --min V, --max V   bounds of every voxel
  --relaxation V     factor of every step (default 1)
  --device NAME      cpu, cuda:0, ... (default: RAYSUM_DEVICE, else the first CUDA device, else the CPU)
  --law LAW          exact (default) or astra
  --threads N        CPU threads (default: RAYSUM_THREADS, else all there are)
  --out FOLDER       for figures and results (default out/sirt)
  --json             prints one JSON object and nothing else
  --help`;

function parse() {
  const { values } = parseArgs({
    options: {
      size: { type: "string", default: "128" },
      noise: { type: "string", default: "0.05" },
      seed: { type: "string", default: "1" },
      input: { type: "string" },
      flats: { type: "string" },
      darks: { type: "string" },
      format: { type: "string", default: "npy" },
      rows: { type: "string" },
      center: { type: "string" },
      geometry: { type: "string" },
      iterations: { type: "string" },
      min: { type: "string" },
      max: { type: "string" },
      relaxation: { type: "string", default: "1" },
      device: { type: "string" },
      law: { type: "string", default: "exact" },
      threads: { type: "string" },
      out: { type: "string", default: "out/sirt" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  return values;
}

function parseRows(text: string): { start: number; stop: number } {
  const [start = Number.NaN, stop = Number.NaN, ...rest] = text.split(":").map(Number);
  if (![start, stop].every(Number.isInteger) || start < 0 || start >= stop || rest.length > 0)
    throw new Error(`--rows ${text}: expected A:B with 0 <= A < B`);
  return { start, stop };
}

async function main(): Promise<void> {
  const values = parse();
  if (values.help) return console.log(usage);
  const law = choice("law", values.law, ["exact", "astra"]);
  const format = choice("format", values.format, ["npy", "tiff"]);
  const common = {
    law,
    iterations: whole("iterations", values.iterations ?? (values.input === undefined ? "20" : "100"), 1),
    relaxation: number("relaxation", values.relaxation, (v) => v > 0 && v < 2, "a number between 0 and 2"),
    ...(values.min !== undefined && { min: number("min", values.min, Number.isFinite, "a number") }),
    ...(values.max !== undefined && { max: number("max", values.max, Number.isFinite, "a number") }),
    out: values.out,
    quiet: values.json,
  };
  const size = whole("size", values.size, 2);
  const noise = number("noise", values.noise, (v) => v >= 0 && v < 10, "a number of at least 0");
  const seed = number("seed", values.seed, Number.isSafeInteger, "a whole number");
  const rows = values.rows === undefined ? undefined : parseRows(values.rows);
  const center = values.center === undefined ? undefined : number("center", values.center, Number.isFinite, "a column");
  const chosen = device(values.device);
  if (values.threads !== undefined) {
    const threads = whole("threads", values.threads, 1);
    for (const one of devices()) if (one.name === "cpu") one.threads = threads;
  }

  let result: Record<string, unknown>;
  if (values.input === undefined) {
    result = await simulated({ ...common, device: chosen, size, noise, seed });
  } else {
    const file: ScanGeometry = values.geometry === undefined ? {} : await readScanGeometry(values.geometry);
    const geometry = { ...file, ...(center !== undefined && { rotationCentre: center }) };
    result = await reconstructScan({
      ...common,
      device: chosen,
      input: values.input,
      geometry,
      format,
      ...(values.flats !== undefined && { flats: values.flats }),
      ...(values.darks !== undefined && { darks: values.darks }),
      ...(rows && { rows }),
    });
  }
  if (values.json) return console.log(JSON.stringify(result));
  print(result);
}

const labels: Record<string, string> = {
  description: "device",
  relativeError: "relative error to the phantom",
  meanAbsoluteError: "mean absolute error to the phantom",
  oneLineAgainstFused: "one-line against fused, relative",
  oneLineMilliseconds: "one-line, per iteration",
  fusedMilliseconds: "fused, per iteration",
  residual: "residual norm before the last iteration",
  relativeResidual: "the same, relative to the data",
  rotationCentre: "centre of rotation (column)",
  projectionShape: "projections (rows, views, columns)",
  volumeShape: "volume (z, y, x)",
  volume: "volume",
};

function print(result: Record<string, unknown>): void {
  const width = Math.max(...Object.values(labels).map((label) => label.length));
  for (const [key, label] of Object.entries(labels)) {
    const value = result[key];
    if (value === undefined) continue;
    let text = String(value);
    if (typeof value === "number")
      text = key.endsWith("Milliseconds") ? formatSeconds(value / 1000) : String(Number(value.toPrecision(5)));
    console.log(`${label.padEnd(width)}  ${Array.isArray(value) ? value.join(" x ") : text}`);
  }
  const figures = result["figures"];
  if (Array.isArray(figures)) console.log(`figures:\n${figures.map((path) => `  ${path}`).join("\n")}`);
}

main().catch((error) => (process.env["RAYSUM_LOG"] ? Promise.reject(error) : fail(error)));
