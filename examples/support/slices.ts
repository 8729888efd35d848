import type { DeviceArray } from "raysum";

/** A picture's values, row by row. */
export interface Image {
  readonly data: Float32Array;
  readonly shape: readonly [rows: number, columns: number];
}

/** Slice z of a volume (z, y, x), or detector row `index` of projections (row, view, column): their sinogram. */
export async function slice(array: DeviceArray, index: number): Promise<Image> {
  const [, rows = 1, columns = 1] = array.shape;
  const count = rows * columns;
  return { data: await array.read({ start: index * count, count }), shape: [rows, columns] };
}

/** The projection (row, column) of one view. */
export async function projection(array: DeviceArray, view: number): Promise<Image> {
  const [rows = 1, views = 1, columns = 1] = array.shape;
  const data = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++)
    data.set(await array.read({ start: (row * views + view) * columns, count: columns }), row * columns);
  return { data, shape: [rows, columns] };
}

/** What all but a thousandth of the values at either end lie between: a picture's range that single hot pixels do not spoil. */
export function usualRange(values: Float32Array): [number, number] {
  const sorted = values.filter(Number.isFinite).sort();
  const at = (part: number) => sorted[Math.round(part * (sorted.length - 1))] ?? 0;
  return [at(0.001), at(0.999)];
}
