import { Buffer } from "node:buffer";
import { type FileHandle, open } from "node:fs/promises";
import { RaysumError } from "../errors.ts";
import { checkShape, type Shape, sizeOf } from "../shape.ts";
import { forEachBlock, readFully, viewOf } from "./elements.ts";
import { allocate, checkHostArray, type HostArray } from "./host_array.ts";
import { formatHeader, type NpyHeader, readHeader } from "./npy_header.ts";
import { fileSize, reasonOf, refuse } from "./refuse.ts";
import { createSlabFile, type SlabWriter } from "./slab_writer.ts";

/** An open NPY file, read in slabs. */
export interface NpyReader extends AsyncDisposable {
  /** Counts of the axes, the slowest first. */
  readonly shape: Shape;
  /**
   * `count` elements from element `offset` of the array in C order. A file in Fortran order is passed through from
   * end to end by each call, whatever the slab: ask for few large slabs there.
   *
   * @throws RaysumError `argument` for a slab outside the array, `file` when the file has become shorter,
   * `memory` when the slab does not fit in one typed array, `disposed` after `close`
   */
  read(offset: number, count: number): Promise<Float32Array<ArrayBuffer>>;
  /** Closes the file; calling it again does nothing. */
  close(): Promise<void>;
}

/**
 * Opens a NPY file of version 1, 2 or 3 for reading in slabs, so that arrays of any size can be read. Elements of type
 * f4, f8, i1, i2, i4, u1, u2, u4 and b1 of either byte order become float32: f8, i4 and u4 are rounded to the nearest
 * float32, which is exact for integers up to 2^24; f8 beyond the range of float32 become infinite. The header is
 * checked against the size of the file before anything of the size of the array is allocated.
 *
 * @throws RaysumError `file` when the file is missing, damaged, longer than its array, empty or of another type
 */
export async function openNpy(path: string): Promise<NpyReader> {
  const size = await fileSize(path);
  const handle = await open(path, "r").catch((error) => refuse(path, `cannot be read: ${reasonOf(error)}`, error));
  try {
    const header = await readHeader(path, size, (position, count) =>
      readFully(path, handle, Buffer.alloc(count), position),
    );
    return reader(path, handle, header);
  } catch (error) {
    await handle.close();
    throw error;
  }
}

function reader(path: string, handle: FileHandle, header: NpyHeader): NpyReader {
  const { shape, type, begin } = header;
  const bytesPerElement = viewOf[type].BYTES_PER_ELEMENT;
  const total = sizeOf(shape);
  let closed = false;

  async function read(offset: number, count: number): Promise<Float32Array<ArrayBuffer>> {
    if (closed) throw new RaysumError("disposed", `${path}: read after close`);
    const counts = [offset, count].every((value) => Number.isSafeInteger(value) && value >= 0);
    if (!counts || count > total - offset) {
      const slab = `slab of ${count} elements from element ${offset}`;
      throw new RaysumError("argument", `${path}: ${slab}, the array has ${total}`);
    }
    const out = allocate(path, count);
    if (header.fortranOrder) {
      await forEachBlock(path, handle, header, begin, total, fortranGather(shape, offset, out));
    } else {
      let at = 0;
      await forEachBlock(path, handle, header, begin + offset * bytesPerElement, count, (values) => {
        out.set(values, at);
        at += values.length;
      });
    }
    return out;
  }

  async function close(): Promise<void> {
    if (closed) return;
    closed = true;
    await handle.close();
  }

  return { shape, read, close, [Symbol.asyncDispose]: close };
}

/** Takes all elements in Fortran order, block by block, and keeps those of the C-order slab `out` from `offset` on. */
function fortranGather(shape: Shape, offset: number, out: Float32Array): (values: ArrayLike<number>) => void {
  const strides = shape.map((_, axis) => sizeOf(shape.slice(axis + 1)));
  const index = shape.map(() => 0);
  let at = 0; // where `index` lies in C order
  return (values) => {
    for (let i = 0; i < values.length; i++) {
      if (at >= offset && at < offset + out.length) out[at - offset] = values[i]!;
      for (let axis = 0; axis < shape.length; axis++) {
        at += strides[axis]!;
        if (++index[axis]! < shape[axis]!) break;
        at -= strides[axis]! * shape[axis]!;
        index[axis] = 0;
      }
    }
  };
}

/**
 * Reads a whole NPY file; element types, conversions and errors are those of `openNpy`. An array that does not fit in
 * one typed array is a RaysumError `memory`: read that one in slabs with `openNpy`.
 */
export async function readNpy(path: string): Promise<HostArray> {
  await using file = await openNpy(path);
  return { shape: file.shape, data: await file.read(0, sizeOf(file.shape)) };
}

/**
 * Begins a NPY file (version 1, little-endian float32, C order) that is written in slabs. The data goes to a temporary
 * file beside `path`, which takes its name at `close`: a run that breaks off leaves what was there as it was.
 *
 * @throws RaysumError `shape` unless every count is a positive whole number, `file` when the file cannot be made
 */
export async function createNpy(path: string, shape: Shape): Promise<SlabWriter> {
  checkShape(shape, "shape");
  return await createSlabFile(path, shape, formatHeader(shape));
}

/**
 * Writes a NPY file (version 1, little-endian float32, C order) under a temporary name and then renames it.
 *
 * @throws RaysumError `shape` when the data does not have the number of elements of the shape, `argument`, `file`
 */
export async function writeNpy(path: string, array: HostArray): Promise<void> {
  checkHostArray(path, array);
  await using file = await createNpy(path, array.shape);
  await file.write(array.data);
  await file.close();
}
