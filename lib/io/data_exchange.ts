import { stat } from "node:fs/promises";
import { setImmediate } from "node:timers/promises";
import type { Dataset, File } from "h5wasm/node";
import { RaysumError } from "../errors.ts";
import { checkOptions } from "../options.ts";
import { formatShape, type Shape, sizeOf } from "../shape.ts";
import { allocate, type HostArray } from "./host_array.ts";
import { fileSize, quote, reasonOf, refuse } from "./refuse.ts";

/** A scan as it was measured: detector counts, not yet corrected by flats and darks. */
export interface DataExchange {
  /** (rows, views, columns) */
  readonly projections: HostArray;
  /** Frames with the beam on and no sample (count, rows, columns), where the file has them. */
  readonly flats: HostArray | undefined;
  /** Frames with the beam off (count, rows, columns), where the file has them. */
  readonly darks: HostArray | undefined;
  /** One angle a view, in radians, where the file has them. */
  readonly angles: Float64Array | undefined;
}

export interface DataExchangeOptions {
  /** Detector rows `start` up to, but not including, `stop`; all of them when not given. */
  readonly rows?: { readonly start: number; readonly stop: number };
}

/** An open scan, read some detector rows at a time. */
export interface DataExchangeFile extends Disposable {
  /** (rows, views, columns) of the projections. */
  readonly shape: Shape;
  /** One angle a view, in radians, where the file has them. */
  readonly angles: Float64Array | undefined;
  /**
   * The given rows of projections, flats and darks.
   *
   * @throws RaysumError `argument` for rows outside the detector, `file` for damaged or unreadable data, `memory` when
   * the rows do not fit in one typed array, `disposed` after `close`
   */
  read(options?: DataExchangeOptions): Promise<DataExchange>;
  /** Closes the file; calling it again does nothing. */
  close(): void;
}

/** The file that is read. */
interface Source {
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** Device and inode. */
  readonly identity: string;
}

/** A checked dataset (count, rows, columns). */
interface Frames {
  readonly dataset: Dataset;
  readonly shape: readonly [number, number, number];
}

type NumberArray =
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | Float32Array
  | Float64Array;

const slabBytes = 1 << 26; // far below the heap of h5wasm (2 GiB); between two slabs the event loop gets its turn
const packsAtMost = 1032; // bytes that deflate makes of one
const readable = /^[<>][bBhHiIqQfd]$/; // integers of 1 to 8 bytes, float32, float64

/**
 * Files in which HDF5 has failed, by device and inode. It never closes such a file and goes on to show its old contents, should
 * there be others by now.
 */
const failed = new Set<string>();

/**
 * Opens a scan in an HDF5 file of the DXchange layout: `exchange/data` (views, rows, columns) and, where present,
 * `exchange/data_white` and `exchange/data_dark` (count, rows, columns) and `exchange/theta` (views), which is in
 * degrees unless its attribute `units` says radians. Integers, float32 and float64 become the nearest float32.
 * Needs the optional package h5wasm. Layout: De Carlo et al., J. Synchrotron Rad. 21, 1224 (2014).
 *
 * @throws RaysumError `library` when h5wasm is not installed; `file` when the file is missing, is not HDF5, has no
 * projections, or when its parts do not fit together
 */
export async function openDataExchange(path: string): Promise<DataExchangeFile> {
  const size = await fileSize(path);
  const { dev, ino } = await stat(path, { bigint: true });
  const identity = `${dev}:${ino}`;
  if (failed.has(identity))
    refuse(path, "HDF5 has failed in this file before: copy it, or start the program anew, should it be another now");
  const hdf5 = await import("h5wasm/node").catch((cause) => {
    const sentence = "HDF5 files are read with h5wasm, which is not installed here: npm install h5wasm@0.10.3";
    throw new RaysumError("library", sentence, { cause });
  });
  // Without this call h5wasm gives zeros, not an error, where the compression filter of the data is missing.
  (await hdf5.ready).activate_throwing_error_handler();
  const file = attempt({ path }, "cannot be opened as HDF5", () => new hdf5.File(path, "r"));
  try {
    return dataExchangeFile({ path, size, identity }, file);
  } catch (error) {
    file.close();
    throw error;
  }
}

/**
 * Reads a scan, or some detector rows of it, from an HDF5 file of the DXchange layout; see `openDataExchange`, whose
 * errors are those of this function too.
 */
export async function readDataExchange(path: string, options: DataExchangeOptions = {}): Promise<DataExchange> {
  using file = await openDataExchange(path);
  return await file.read(options);
}

/** Runs a call of h5wasm; what that throws becomes a RaysumError `file` with the innermost reason of its trace. */
function attempt<T>({ path, identity }: Partial<Source> & { path: string }, sentence: string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    if (identity !== undefined) failed.add(identity);
    const trace = [...String(error).matchAll(/\(\): (.+)/g)];
    refuse(path, `${sentence}: ${trace.at(-1)?.[1] ?? reasonOf(error)}`, error);
  }
}

function openDataset(source: Source, file: File, name: string, axes: readonly string[]): Dataset | undefined {
  const entity = attempt(source, `${name} cannot be opened`, () => file.get(name));
  if (entity === null) return undefined;
  const dataset = entity as Dataset;
  if (String(dataset.type) !== "Dataset") {
    refuse(source.path, `${name} is a ${dataset.type}, expected a dataset (${axes.join(", ")})`);
  }
  const { dtype, shape } = attempt(source, `${name} cannot be read`, () => ({
    dtype: dataset.dtype,
    shape: dataset.shape,
  }));
  if (typeof dtype !== "string" || !readable.test(dtype)) {
    refuse(source.path, `${name} has elements of type ${quote(String(dtype))}, expected integers, float32 or float64`);
  }
  if (shape?.length !== axes.length || shape.includes(0)) {
    refuse(source.path, `${name} has the shape ${formatShape(shape ?? [])}, expected (${axes.join(", ")})`);
  }
  const { size, virtual_sources: elsewhere } = dataset.metadata;
  const packed = attempt(source, `${name} cannot be read`, () => dataset.filters.length > 0);
  const bytes = sizeOf(shape) * size;
  if (elsewhere === undefined && bytes > source.size * (packed ? packsAtMost : 1)) {
    const found = `${name} of the shape ${formatShape(shape)} needs ${bytes} bytes`;
    refuse(source.path, `${found}, which cannot be in a file of ${source.size}`);
  }
  return dataset;
}

function openFrames(source: Source, file: File, name: string, first: string): Frames | undefined {
  const dataset = openDataset(source, file, name, [first, "rows", "columns"]);
  return dataset && { dataset, shape: dataset.shape as [number, number, number] };
}

function readAngles(source: Source, file: File, views: number): Float64Array | undefined {
  const name = "exchange/theta";
  const dataset = openDataset(source, file, name, ["views"]);
  if (dataset === undefined) return undefined;
  if (dataset.shape![0] !== views) refuse(source.path, `${name} has ${dataset.shape![0]} angles for ${views} views`);
  const units = attempt(source, `${name} cannot be read`, () => dataset.attrs["units"]?.value ?? "degrees");
  const unit = /^\s*(?:(deg(?:rees?)?|°)|rad(?:ians?)?)\s*$/i.exec(String(units));
  if (unit === null) refuse(source.path, `${name} has the units ${quote(String(units))}, expected degrees or radians`);
  const angles = Float64Array.from(readSlice(source, dataset, [[0, views]]));
  const wrong = angles.findIndex((angle) => !Number.isFinite(angle));
  if (wrong >= 0) refuse(source.path, `${name}: angle ${wrong} is ${angles[wrong]}, expected a finite number`);
  return unit[1] === undefined ? angles : angles.map((angle) => (angle * Math.PI) / 180);
}

function readSlice(source: Source, dataset: Dataset, ranges: [number, number][]): NumberArray {
  const values = attempt(source, `${dataset.path} cannot be read`, () => dataset.slice(ranges));
  if (values instanceof BigInt64Array || values instanceof BigUint64Array) return Float64Array.from(values, Number);
  return values as NumberArray;
}

/**
 * Rows `start` to `stop` of all frames, each row put where the strides (in elements) say. The data is read in slabs,
 * made of whole chunks along the frames where it is chunked.
 */
async function readRows(
  source: Source,
  frames: Frames,
  [start, stop]: readonly [number, number],
  strides: { readonly frame: number; readonly row: number },
): Promise<Float32Array> {
  const { dataset, shape } = frames;
  const [count, , columns] = shape;
  const { size, chunks } = dataset.metadata;
  const out = allocate(source.path, count * (stop - start) * columns);
  const rowsPerSlab = Math.min(stop - start, Math.ceil(slabBytes / (columns * size)));
  const framesThatFit = Math.ceil(slabBytes / (rowsPerSlab * columns * size));
  const framesPerSlab = framesThatFit - (framesThatFit % Math.min(chunks?.[0] ?? 1, framesThatFit));
  for (let firstFrame = 0; firstFrame < count; firstFrame += framesPerSlab) {
    const frameStop = Math.min(firstFrame + framesPerSlab, count);
    for (let firstRow = start; firstRow < stop; firstRow += rowsPerSlab) {
      const rowStop = Math.min(firstRow + rowsPerSlab, stop);
      const slab: [number, number][] = [
        [firstFrame, frameStop],
        [firstRow, rowStop],
        [0, columns],
      ];
      const values = readSlice(source, dataset, slab);
      let at = 0;
      for (let frame = firstFrame; frame < frameStop; frame++) {
        for (let row = firstRow; row < rowStop; row++, at += columns) {
          out.set(values.subarray(at, at + columns), frame * strides.frame + (row - start) * strides.row);
        }
      }
      await setImmediate();
    }
  }
  return out;
}

function dataExchangeFile(source: Source, file: File): DataExchangeFile {
  const data = openFrames(source, file, "exchange/data", "views") ?? refuse(source.path, "has no exchange/data");
  const [views, rows, columns] = data.shape;
  const white = openReference("exchange/data_white");
  const dark = openReference("exchange/data_dark");
  const angles = readAngles(source, file, views);
  let closed = false;

  function openReference(name: string): Frames | undefined {
    const frames = openFrames(source, file, name, "count");
    if (frames && (frames.shape[1] !== rows || frames.shape[2] !== columns)) {
      const found = `${name} has the shape ${formatShape(frames.shape)}`;
      refuse(source.path, `${found}, exchange/data has ${rows} rows and ${columns} columns`);
    }
    return frames;
  }

  async function readReference(frames: Frames | undefined, range: [number, number]): Promise<HostArray | undefined> {
    if (frames === undefined) return undefined;
    const shape = [frames.shape[0], range[1] - range[0], columns];
    return { shape, data: await readRows(source, frames, range, { frame: sizeOf(shape.slice(1)), row: columns }) };
  }

  async function read(options: DataExchangeOptions = {}): Promise<DataExchange> {
    if (closed) throw new RaysumError("disposed", `${source.path}: read after close`);
    checkOptions("read", options, ["rows"]);
    const { start, stop } = options.rows ?? { start: 0, stop: rows };
    if (!Number.isSafeInteger(start) || !Number.isSafeInteger(stop) || start < 0 || start >= stop || stop > rows) {
      throw new RaysumError("argument", `rows ${start} to ${stop}: expected 0 <= start < stop <= ${rows}`);
    }
    const shape = [stop - start, views, columns];
    const values = await readRows(source, data, [start, stop], { frame: columns, row: views * columns });
    const flats = await readReference(white, [start, stop]);
    const darks = await readReference(dark, [start, stop]);
    return { projections: { shape, data: values }, flats, darks, angles };
  }

  function close(): void {
    if (closed) return;
    closed = true;
    file.close();
  }

  return { shape: Object.freeze([rows, views, columns]), angles, read, close, [Symbol.dispose]: close };
}
