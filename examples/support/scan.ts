// Reconstructs a measured scan; load.ts says of which kinds.
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import {
  type Beam,
  coneBeam,
  type Device,
  DeviceArray,
  type Law,
  operator,
  parallelBeam,
  type Volume,
  volume,
} from "raysum";
import { createNpy, createTiff, type HostArray } from "raysum/io";
import { imagePanel, linePanel } from "raysum/plot";
import { findRotationCentre } from "raysum/preprocess";
import { loadScan, type Scan, type ScanFiles } from "./load.ts";
import { type RunOptions, runSirt, savePanels } from "./run.ts";
import { slice, usualRange } from "./slices.ts";

/** How a scan was taken. Lengths in any one unit, angles in degrees. */
export interface ScanGeometry {
  readonly beam?: "parallel" | "cone";
  /** One angle a view; [0, 180) for parallel and [0, 360) for cone beam, evenly, when neither file nor geometry says. */
  readonly angles?: readonly number[];
  /** Spacing of detector pixels; 1 by default. */
  readonly pixelSize?: number;
  /** Spacing of voxels; the pixel size divided by the magnification by default. */
  readonly voxelSize?: number;
  /** (z, y, x); detector rows x columns x columns by default. */
  readonly volumeShape?: readonly [number, number, number];
  readonly sourceOriginDistance?: number;
  readonly sourceDetectorDistance?: number;
  /** Column onto which the axis of rotation projects, 0 being the centre of the first; found from the data by default. */
  readonly rotationCentre?: number;
}

export interface ScanOptions extends ScanFiles, RunOptions {
  readonly device: Device;
  readonly law: Law;
  readonly geometry: ScanGeometry;
  readonly out: string;
  /** Of the volume. */
  readonly format: "npy" | "tiff";
}

const fields = [
  "beam",
  "angles",
  "pixelSize",
  "voxelSize",
  "volumeShape",
  "sourceOriginDistance",
  "sourceDetectorDistance",
  "rotationCentre",
] as const satisfies readonly (keyof ScanGeometry)[];

/** Reads a geometry file; unknown fields are errors, since a misspelled one would be left out silently. */
export async function readScanGeometry(path: string): Promise<ScanGeometry> {
  const parsed: unknown = JSON.parse(await readFile(path, "utf8"));
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed))
    throw new Error(`${path}: expected an object`);
  const unknown = Object.keys(parsed).filter((key) => !fields.some((field) => field === key));
  if (unknown.length > 0) throw new Error(`${path}: unknown ${unknown.join(", ")}; expected ${fields.join(", ")}`);
  return parsed as ScanGeometry;
}

/** The sinogram of one detector row. */
function sinogramOf({ shape, data }: HostArray, row: number): HostArray {
  const [, views = 1, columns = 1] = shape;
  return { shape: [views, columns], data: data.subarray(row * views * columns, (row + 1) * views * columns) };
}

function describe(scan: Scan, geometry: ScanGeometry): { object: Volume; beam: Beam; rotationCentre: number } {
  const [rows = 1, views = 1, columns = 1] = scan.projections.shape;
  const { beam: kind = "parallel", pixelSize = 1, sourceOriginDistance, sourceDetectorDistance } = geometry;
  const angles =
    geometry.angles?.map((degrees) => (degrees * Math.PI) / 180) ??
    scan.angles ??
    Array.from({ length: views }, (_, view) => (view / views) * (kind === "cone" ? 2 : 1) * Math.PI);
  if (angles.length !== views) throw new Error(`${angles.length} angles for ${views} views`);
  const found = () => {
    if (kind === "cone") return (columns - 1) / 2;
    return findRotationCentre(sinogramOf(scan.projections, rows >> 1), angles).centre;
  };
  const rotationCentre = geometry.rotationCentre ?? found();
  const detector = {
    angles,
    detectorShape: [rows, columns],
    pixelSize,
    detectorOffset: [0, ((columns - 1) / 2 - rotationCentre) * pixelSize],
  } as const;
  const shape = geometry.volumeShape ?? [rows, columns, columns];
  if (kind === "parallel") {
    const object = volume({ shape: [...shape], voxelSize: geometry.voxelSize ?? pixelSize });
    return { object, beam: parallelBeam(detector), rotationCentre };
  }
  if (sourceOriginDistance === undefined || sourceDetectorDistance === undefined)
    throw new Error("a cone beam needs sourceOriginDistance and sourceDetectorDistance in its geometry");
  const magnification = sourceDetectorDistance / sourceOriginDistance;
  const object = volume({ shape: [...shape], voxelSize: geometry.voxelSize ?? pixelSize / magnification });
  return { object, beam: coneBeam({ ...detector, sourceOriginDistance, sourceDetectorDistance }), rotationCentre };
}

/** Reconstructs a scan, writes the volume and the figures, and returns what was measured. */
export async function reconstructScan(options: ScanOptions): Promise<Record<string, unknown>> {
  const { device, law, input, geometry, iterations, out, format } = options;
  const scan = await loadScan(options);
  const { object, beam, rotationCentre } = describe(scan, geometry);
  using A = operator(object, beam, { device, law });
  using y = await DeviceArray.empty(A.rangeShape, { device }).write(scan.projections.data);
  const { residuals, millisecondsPerIteration, ...run } = await runSirt(A, y, "SIRT", options);
  using x = run.x;

  await mkdir(out, { recursive: true });
  const volumePath = join(out, format === "tiff" ? "volume.tif" : "volume.npy");
  const file = await (format === "tiff" ? createTiff : createNpy)(volumePath, A.domainShape);
  const [slices = 1, rows = 1, columns = 1] = A.domainShape;
  for (let z = 0; z < slices; z++) await file.write((await slice(x, z)).data);
  await file.close();

  const middle = await slice(x, slices >> 1);
  const sinogram = sinogramOf(scan.projections, (scan.projections.shape[0] ?? 1) >> 1);
  const panels = {
    sinogram: imagePanel({
      data: sinogram.data,
      shape: [sinogram.shape[0] ?? 1, sinogram.shape[1] ?? 1],
      title: "Sinogram, middle row",
      xLabel: "detector column",
      yLabel: "view",
      colorLabel: "line integral",
      valueRange: usualRange(sinogram.data),
      aspect: "fill",
    }),
    reconstruction: imagePanel({
      ...middle,
      title: `SIRT, ${iterations} iterations, slice ${slices >> 1}`,
      xLabel: "x (voxels)",
      yLabel: "y (voxels)",
      xRange: [0, columns],
      yRange: [0, rows],
      colorLabel: "attenuation (1/unit of length)",
      valueRange: usualRange(middle.data),
      origin: "lower",
    }),
    residual: linePanel({
      title: "Convergence",
      xLabel: "iteration",
      yLabel: "residual ‖y − Ax‖",
      yScale: "log",
      series: [{ name: "SIRT", x: residuals.map((_, i) => i + 1), y: residuals }],
    }),
  };
  const figures = await savePanels(panels, out);
  return {
    device: device.name,
    description: `${device.description}; ${A.description}`,
    law: A.law,
    input,
    projectionShape: A.rangeShape,
    volumeShape: A.domainShape,
    rotationCentre,
    iterations,
    fusedMilliseconds: millisecondsPerIteration,
    residual: residuals.at(-1) ?? Number.NaN,
    relativeResidual: (residuals.at(-1) ?? Number.NaN) / (await y.norm()),
    minimum: await x.min(),
    maximum: await x.max(),
    mean: await x.mean(),
    volume: volumePath,
    figures,
  };
}
