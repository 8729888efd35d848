import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { RaysumError } from "../errors.ts";
import { checkShape, formatShape, type Shape, sizeOf } from "../shape.ts";
import { checkHostArray, type HostArray } from "./host_array.ts";
import { reasonOf, refuse } from "./refuse.ts";
import { createSlabFile, type SlabWriter } from "./slab_writer.ts";
import { listTiffFiles } from "./tiff.ts";
import { formatHeader } from "./tiff_header.ts";

export interface TiffStackOptions {
  /** What the names of the files begin with; `slice_` when not given. */
  readonly prefix?: string;
}

const axes = ["count", "rows", "columns"];
const mostPages = 2 ** 20;

/**
 * Begins a TIFF file of float32 pages (count, rows, columns) that is written in slabs: little-endian, one strip a page,
 * not compressed, all data in one piece; BigTIFF when the file passes 4 GiB. The data goes to a temporary file beside
 * `path`, which takes its name at `close`.
 *
 * @throws RaysumError `shape` unless there are three positive counts that a TIFF file can hold, `file` when the file
 * cannot be made
 */
export async function createTiff(path: string, shape: Shape): Promise<SlabWriter> {
  checkShape(shape, "shape");
  if (shape.length !== axes.length) {
    throw new RaysumError("shape", `shape ${formatShape(shape)}: expected (${axes.join(", ")})`);
  }
  const [pages, rows, columns] = shape as [number, number, number];
  if (pages > mostPages || rows >= 2 ** 32 || columns >= 2 ** 32) {
    const limits = `at most ${mostPages} pages of less than 2^32 rows and columns`;
    throw new RaysumError("shape", `shape ${formatShape(shape)}: expected ${limits}`);
  }
  return await createSlabFile(path, shape, formatHeader(shape));
}

/**
 * Writes an array (count, rows, columns) as the pages of one TIFF file, as `createTiff` does.
 *
 * @throws RaysumError `shape` when the data does not have the number of elements of the shape, `argument`, `file`
 */
export async function writeTiff(path: string, array: HostArray): Promise<void> {
  checkHostArray(path, array, axes);
  await using file = await createTiff(path, array.shape);
  await file.write(array.data);
  await file.close();
}

/**
 * Writes an array (count, rows, columns) into a folder, which is made if need be: one file a slice with the names
 * slice_0000.tif, slice_0001.tif, and so on.
 *
 * @throws RaysumError `argument` for a prefix with a path separator; `shape`; `file` when a file cannot be written, or
 * when the folder has other TIFF files, which `readTiffStack` would take for slices
 */
export async function writeTiffStack(folder: string, array: HostArray, options: TiffStackOptions = {}): Promise<void> {
  const { prefix = "slice_" } = options;
  if (/[\\/]/.test(prefix)) throw new RaysumError("argument", `prefix ${JSON.stringify(prefix)}: no path separators`);
  checkHostArray(folder, array, axes);
  const [count, rows, columns] = array.shape as [number, number, number];
  const digits = Math.max(4, String(count - 1).length);
  const names = Array.from({ length: count }, (_, i) => `${prefix}${String(i).padStart(digits, "0")}.tif`);

  await mkdir(folder, { recursive: true }).catch((error) =>
    refuse(folder, `cannot be made: ${reasonOf(error)}`, error),
  );
  const taken = new Set(names);
  const other = (await listTiffFiles(folder)).find((name) => !taken.has(name));
  if (other !== undefined) refuse(folder, `has ${other} already, which is none of the ${count} slices`);
  const size = sizeOf([rows, columns]);
  for (const [i, name] of names.entries()) {
    const data = array.data.subarray(i * size, (i + 1) * size);
    await writeTiff(join(folder, name), { shape: [1, rows, columns], data });
  }
}
