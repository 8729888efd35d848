// Loads a measured scan: radiographs in TIFF files, line integrals in an NPY file, or HDF5 in the DXchange layout.
import { stat } from "node:fs/promises";
import { extname } from "node:path";
import { type HostArray, openTiffStack, readDataExchange, readNpy, type TiffStack } from "raysum/io";
import { flatFieldCorrect } from "raysum/preprocess";

export interface ScanFiles {
  readonly input: string;
  readonly flats?: string;
  readonly darks?: string;
  /** Detector rows `start` up to, but not including, `stop`. */
  readonly rows?: Rows;
}

export interface Scan {
  /** Line integrals (rows, views, columns). */
  readonly projections: HostArray;
  readonly angles: Float64Array | undefined;
}

interface Rows {
  readonly start: number;
  readonly stop: number;
}

export async function loadScan({ input, flats, darks, rows }: ScanFiles): Promise<Scan> {
  if (await isTiff(input)) return { projections: await loadRadiographs(input, flats, darks, rows), angles: undefined };
  if (flats !== undefined || darks !== undefined)
    throw new Error(`--flats and --darks go with radiographs in TIFF files, which ${input} is not`);
  if (extname(input) === ".npy") return { projections: await loadNpy(input, rows), angles: undefined };
  const scan = await readDataExchange(input, rows ? { rows } : {});
  if (!scan.flats || !scan.darks) return scan;
  return { ...scan, projections: flatFieldCorrect(scan.projections, { flats: scan.flats, darks: scan.darks }) };
}

async function isTiff(path: string): Promise<boolean> {
  if (/\.tiff?$/i.test(path)) return true;
  return (await stat(path).catch(() => undefined))?.isDirectory() ?? false;
}

async function loadNpy(path: string, rows: Rows | undefined): Promise<HostArray> {
  const { shape, data } = await readNpy(path);
  const [count = 0, views = 0, columns = 0] = shape;
  if (shape.length !== 3)
    throw new Error(`${path}: shape [${shape.join(", ")}], expected line integrals (rows, views, columns)`);
  const { start, stop } = checkRows(path, count, rows);
  return {
    shape: [stop - start, views, columns],
    data: data.subarray(start * views * columns, stop * views * columns),
  };
}

async function loadRadiographs(
  input: string,
  flats: string | undefined,
  darks: string | undefined,
  rows: Rows | undefined,
): Promise<HostArray> {
  if (darks !== undefined && flats === undefined) throw new Error(`--darks ${darks}: needs --flats too`);
  await using stack = await openTiffStack(input);
  const [, height = 0, columns] = stack.shape;
  const wanted = checkRows(input, height, rows);
  const projections = await readRows(stack, wanted, "rows, views, columns");
  if (flats === undefined) return projections;

  const reference = async (path: string) => {
    await using frames = await openTiffStack(path);
    const [, ...frame] = frames.shape;
    if (frame[0] !== height || frame[1] !== columns)
      throw new Error(`${path}: ${frame.join(" x ")} pixels, the radiographs have ${height} x ${columns}`);
    return await readRows(frames, wanted, "views, rows, columns");
  };
  const means = { flats: await reference(flats), darks: darks === undefined ? undefined : await reference(darks) };
  return flatFieldCorrect(projections, means);
}

/** Some rows of every page, page by page, so that the whole stack is never in memory twice. */
async function readRows(
  stack: TiffStack,
  { start, stop }: Rows,
  order: "rows, views, columns" | "views, rows, columns",
): Promise<HostArray> {
  const [views = 0, , columns = 0] = stack.shape;
  const rows = stop - start;
  const [viewStride, rowStride] = order === "rows, views, columns" ? [1, views] : [rows, 1];
  const data = new Float32Array(rows * views * columns);
  for (let view = 0; view < views; view++) {
    const page = await stack.read(view, 1);
    for (let row = 0; row < rows; row++) {
      const values = page.subarray((start + row) * columns, (start + row + 1) * columns);
      data.set(values, (view * viewStride + row * rowStride) * columns);
    }
  }
  const shape = order === "rows, views, columns" ? [rows, views, columns] : [views, rows, columns];
  return { shape, data };
}

function checkRows(path: string, count: number, rows: Rows = { start: 0, stop: count }): Rows {
  if (rows.stop > count) throw new Error(`--rows ${rows.start}:${rows.stop}: ${path} has ${count} rows`);
  return rows;
}
