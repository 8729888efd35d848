/** What ASTRA and tomosipo computed, against what the library computes. */

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { AstraGeometry } from "../../lib/geometry/index.ts";
import {
  type Device,
  DeviceArray,
  fromAstra,
  type Law,
  type Operator,
  operator,
  parallelBeam,
  sirt,
  volume,
} from "../../lib/index.ts";
import { readNpy } from "../../lib/io/npy.ts";
import { compareLearnedPrimalDual } from "./learned_pd_reference.ts";
import { relativeL2 } from "./random.ts";

/** A comparison: `error` is the relative L2 distance to the reference. Or, with a `reason`, one that is not made. */
export interface Comparison {
  readonly name: string;
  readonly law: Law | "";
  readonly what: string;
  readonly error: number;
  readonly limit: number;
  readonly reason?: string;
}

interface Case extends AstraGeometry {
  readonly name: string;
  readonly kind: string;
  readonly projector?: string;
  readonly algorithm?: string;
  readonly iterations?: number;
  readonly algorithmOptions?: { readonly MinConstraint?: number; readonly MaxConstraint?: number };
  readonly options: { readonly DetectorSuperSampling?: number; readonly VoxelSuperSampling?: number };
  readonly x: string;
  readonly y: string;
  readonly Ax: string;
  readonly ATy: string;
}

/** ASTRA rounds interpolation weights to 1/256, law `exact` does not. */
const EXACT_LIMIT = 3e-3;
const ASTRA_LIMIT = 1e-4;
const SLICE_LIMIT = 3e-4;
/** ASTRA's CPU projector `linear` is Joseph's method with its transpose, in float32. */
const LINEAR_LIMIT = 1e-5;

const sirtNames = ["SIRT", "SIRT_CUDA", "SIRT3D_CUDA"];

/** Why a case cannot be compared, or nothing. */
function reasonAgainst({ projector = "cuda", algorithm }: Case): string | undefined {
  if (projector !== "cuda" && projector !== "linear") return `there is no projector "${projector}"`;
  if (algorithm && !sirtNames.includes(algorithm)) return `there is no ${algorithm.replace(/_CUDA|3D_CUDA/, "")}`;
  return undefined;
}

/**
 * The dictionaries with their numbers rounded to float32, as ASTRA does, except for vectors. At 45 degrees such a rounding decides on
 * the main axis.
 */
function rounded({ volumeGeometry, projectionGeometry }: Case): AstraGeometry {
  const round = (key: string, value: unknown) => (typeof value === "number" && key !== "" ? Math.fround(value) : value);
  const copy = <T>(dictionary: T): T => JSON.parse(JSON.stringify(dictionary, round));
  const vectors = "Vectors" in projectionGeometry;
  return {
    volumeGeometry: copy(volumeGeometry),
    projectionGeometry: vectors ? projectionGeometry : copy(projectionGeometry),
  };
}

function operatorOf(entry: Case, law: Law, device: Device): Operator {
  const { volume, beam } = fromAstra(rounded(entry));
  const { DetectorSuperSampling: detectorSupersampling = 1, VoxelSuperSampling: voxelSupersampling = 1 } =
    entry.options;
  return operator(volume, beam, {
    law,
    device,
    detectorSupersampling,
    voxelSupersampling: law === "exact" ? 1 : voxelSupersampling,
  });
}

/** The array of a file on the device, of the shape given: 2D files have neither slice nor row. */
async function load(path: string, shape: readonly number[], device: Device): Promise<DeviceArray> {
  return DeviceArray.from((await readNpy(path)).data, shape, { device });
}

async function errorOf(result: DeviceArray, path: string): Promise<number> {
  using array = result;
  return relativeL2(await array.read(), (await readNpy(path)).data);
}

async function* compareProjection(folder: string, entry: Case, device: Device): AsyncGenerator<Comparison> {
  const path = (file: string) => join(folder, file);
  const flat = entry.kind.endsWith("2d");
  const linear = entry.projector === "linear";
  const law: Law = linear ? "exact" : flat ? "astra2d" : "astra";
  using A = operatorOf(entry, law, device);
  using x = await load(path(entry.x), A.domainShape, device);
  using y = await load(path(entry.y), A.rangeShape, device);
  const limit = linear ? LINEAR_LIMIT : A.domainShape[0] === 1 ? SLICE_LIMIT : ASTRA_LIMIT;
  yield { name: entry.name, law, what: "forward", error: await errorOf(A(x), path(entry.Ax)), limit };
  yield { name: entry.name, law, what: "back", error: await errorOf(A.T(y), path(entry.ATy)), limit };
  if (linear) return;
  using exact = operatorOf(entry, "exact", device);
  const error = await errorOf(exact(x), path(entry.Ax));
  yield { name: entry.name, law: "exact", what: "forward", error, limit: EXACT_LIMIT };
}

async function compareSirt(folder: string, entry: Case, device: Device): Promise<Comparison> {
  const linear = entry.projector === "linear";
  const law: Law = linear ? "exact" : entry.kind.endsWith("2d") ? "astra2d" : "astra";
  using A = operatorOf(entry, law, device);
  using y = await load(join(folder, entry.y), A.rangeShape, device);
  const { iterations = 0, algorithmOptions: { MinConstraint: min, MaxConstraint: max } = {} } = entry;
  const bounds = { ...(min !== undefined && { min }), ...(max !== undefined && { max }) };
  const error = await errorOf(await sirt(A, y, { iterations, ...bounds }), join(folder, entry.x));
  const limit = linear ? LINEAR_LIMIT : A.domainShape[0] === 1 ? SLICE_LIMIT : ASTRA_LIMIT;
  return { name: entry.name, law, what: `SIRT, ${iterations} iterations`, error, limit };
}

async function* compareAstra(folder: string, device: Device): AsyncGenerator<Comparison> {
  const { cases } = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8")) as { cases: Case[] };
  for (const entry of cases) {
    const reason = reasonAgainst(entry);
    const what = entry.algorithm ?? "forward, back";
    if (reason) yield { name: entry.name, law: "", what, error: Number.NaN, limit: Number.NaN, reason };
    else if (entry.algorithm) yield await compareSirt(folder, entry, device);
    else yield* compareProjection(folder, entry, device);
  }
}

/** tomosipo's run of SIRT on a noisy scan of a hollow box, all slices or some: they do not depend on each other. */
async function* compareTomosipo(folder: string, device: Device): AsyncGenerator<Comparison> {
  const { N, iterations } = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8")) as Record<string, number>;
  const projections = await readNpy(join(folder, "sinogram_noisy.npy"));
  const [slices = 0, views = 0, columns = 0] = projections.shape;
  const height = slices / N!;
  const object = volume({ shape: [slices, N!, N!], size: [height, 1, 1] });
  const angles = Array.from({ length: views }, (_, view) => Math.fround((view * Math.PI) / views));
  const beam = parallelBeam({ angles, detectorShape: [slices, columns], detectorSize: [height, 1.5] });
  using A = operator(object, beam, { law: "astra", device });
  using y = DeviceArray.from(projections.data, projections.shape, { device });
  const error = await errorOf(await sirt(A, y, { iterations: iterations! }), join(folder, "sirt.npy"));
  yield { name: "sirt", law: "astra", what: `SIRT, ${iterations} iterations`, error, limit: ASTRA_LIMIT };
}

/** All comparisons with the references in a folder (sub-folders `astra`, `sirt` and `learned-pd`) on a device. */
export async function* compareReferences(folder: string, device: Device): AsyncGenerator<Comparison> {
  const parts = [
    ["astra", compareAstra],
    ["sirt", compareTomosipo],
    ["learned-pd", compareLearnedPrimalDual],
  ] as const;
  const missing = { law: "", what: "", error: Number.NaN, limit: Number.NaN } as const;
  for (const [name, compare] of parts)
    if (existsSync(join(folder, name, "manifest.json"))) yield* compare(join(folder, name), device);
    else yield { ...missing, name, reason: `no ${name}/manifest.json` };
}
