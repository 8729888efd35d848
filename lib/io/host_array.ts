import { RaysumError } from "../errors.ts";
import { checkShape, formatShape, type Shape, sizeOf } from "../shape.ts";

/** An array in host memory: float32, C order (the last index runs fastest). */
export interface HostArray {
  readonly shape: Shape;
  readonly data: Float32Array;
}

/**
 * Checks that `array` has one positive count for each of `axes` (for any axes, where none are named) and exactly the
 * data for them. `name` is what the caller's user calls it.
 *
 * @throws RaysumError `argument` when it is not a HostArray at all, `shape` when it has another shape
 */
export function checkHostArray(name: string, array: HostArray, axes?: readonly string[]): void {
  if (!Array.isArray(array?.shape) || !(array.data instanceof Float32Array)) {
    throw new RaysumError("argument", `${name}: expected { shape, data } with a Float32Array as data`);
  }
  const { data } = array;
  const shape = checkShape(array.shape, `${name} shape`);
  if (axes !== undefined && shape.length !== axes.length) {
    throw new RaysumError("shape", `${name} shape ${formatShape(shape)}: expected (${axes.join(", ")})`);
  }
  if (data.length !== sizeOf(shape)) {
    const needed = `shape ${formatShape(shape)} needs ${sizeOf(shape)}`;
    throw new RaysumError("shape", `${name}: data has ${data.length} elements, ${needed}`);
  }
}

/**
 * A zeroed array of `count` elements for the file or quantity called `name`.
 *
 * @throws RaysumError `memory` when the runtime refuses one array of that size (Bun's limit is 4 GiB)
 */
export function allocate(name: string, count: number): Float32Array<ArrayBuffer> {
  try {
    return new Float32Array(count);
  } catch (cause) {
    const sentence = `${name}: no room for ${count} float32 elements in one array; take it in parts`;
    throw new RaysumError("memory", sentence, { cause });
  }
}
