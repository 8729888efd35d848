import { RaysumError } from "../errors.ts";
import { allocate, checkHostArray, type HostArray } from "../io/host_array.ts";

/** What a scan was measured with, beside its projections. */
export interface References {
  /** Frames with the beam on and no sample (count, rows, columns). */
  readonly flats: HostArray;
  /** Frames with the beam off (count, rows, columns); a detector without dark signal when not given. */
  readonly darks?: HostArray | undefined;
}

export interface AbsorptionOptions {
  /** Transmissions below this one count as this one; 1e-6 when not given. */
  readonly floor?: number;
}

const frameAxes = ["count", "rows", "columns"];

/**
 * Transmission (I - D) / (F - D) of raw projections (rows, views, columns), where F and D are the means over the
 * flats and the darks at each detector pixel.
 *
 * A pixel whose mean flat does not exceed its mean dark is dead: it is filled, in every view, by linear interpolation
 * between the nearest live pixels to both sides of it in its row, or by the nearest one at the end of a row.
 *
 * @throws RaysumError `shape` when rows or columns differ or an array does not have three axes; `argument` when a row
 * has no live pixel at all
 */
export function transmission(projections: HostArray, references: References): HostArray {
  checkHostArray("projections", projections, ["rows", "views", "columns"]);
  const [rows, views, columns] = projections.shape as [number, number, number];
  const flat = meanFrame("flats", references.flats, rows, columns);
  const dark = references.darks
    ? meanFrame("darks", references.darks, rows, columns)
    : new Float64Array(rows * columns);
  const out = allocate("transmission", projections.data.length);

  for (let row = 0; row < rows; row++) {
    const pixel = row * columns;
    const live: number[] = [];
    const dead: number[] = [];
    for (let u = 0; u < columns; u++) (flat[pixel + u]! > dark[pixel + u]! ? live : dead).push(u);
    if (live.length === 0) {
      throw new RaysumError("argument", `flats: no pixel of row ${row} has a mean flat above its mean dark`);
    }
    const fillings = dead.map((u) => filling(u, live));
    for (let view = 0; view < views; view++) {
      const at = (row * views + view) * columns;
      for (const u of live) {
        const d = dark[pixel + u]!;
        out[at + u] = (projections.data[at + u]! - d) / (flat[pixel + u]! - d);
      }
      for (const { u, left, right, weight } of fillings) {
        out[at + u] = (1 - weight) * out[at + left]! + weight * out[at + right]!;
      }
    }
  }
  return { shape: projections.shape, data: out };
}

/** Line integrals -log(max(T, floor)) of transmissions of any shape; a NaN stays one. */
export function absorption(transmission: HostArray, options: AbsorptionOptions = {}): HostArray {
  checkHostArray("transmission", transmission);
  const floor = checkFloor(options);
  const out = allocate("absorption", transmission.data.length);
  return { shape: transmission.shape, data: negativeLogarithm(transmission.data, floor, out) };
}

/**
 * Line integrals of the attenuation from raw projections (rows, views, columns), by the law of Beer and Lambert:
 * `transmission`, then `absorption`. They have no unit; errors are those of the two.
 */
export function flatFieldCorrect(projections: HostArray, options: References & AbsorptionOptions): HostArray {
  const floor = checkFloor(options);
  const { shape, data } = transmission(projections, options);
  return { shape, data: negativeLogarithm(data, floor, data) };
}

function checkFloor({ floor = 1e-6 }: AbsorptionOptions): number {
  if (!(Number.isFinite(floor) && floor > 0)) {
    throw new RaysumError("argument", `floor ${floor}: expected one positive transmission`);
  }
  return floor;
}

function negativeLogarithm(values: Float32Array, floor: number, out: Float32Array): Float32Array {
  for (let i = 0; i < values.length; i++) out[i] = -Math.log(Math.max(values[i]!, floor));
  return out;
}

function meanFrame(name: string, frames: HostArray, rows: number, columns: number): Float64Array {
  checkHostArray(name, frames, frameAxes);
  const [count, frameRows, frameColumns] = frames.shape as [number, number, number];
  if (frameRows !== rows || frameColumns !== columns) {
    const found = `${name} have ${frameRows} rows and ${frameColumns} columns`;
    throw new RaysumError("shape", `${found}, the projections ${rows} rows and ${columns} columns`);
  }
  const mean = new Float64Array(rows * columns);
  for (let i = 0; i < frames.data.length; i++) mean[i % mean.length]! += frames.data[i]! / count;
  return mean;
}

/** How the dead pixel `u` is made of two of the live ones, which are in ascending order. */
function filling(u: number, live: readonly number[]): { u: number; left: number; right: number; weight: number } {
  const after = live.findIndex((other) => other > u);
  const right = live.at(after)!; // the last one where there is none after u
  const left = after > 0 ? live[after - 1]! : right;
  return { u, left, right, weight: left === right ? 0 : (u - left) / (right - left) };
}
