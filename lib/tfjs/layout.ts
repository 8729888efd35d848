import type { Shape } from "../shape.ts";

/** Strides in elements of an array in C order. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  for (let axis = shape.length - 1, stride = 1; axis >= 0; axis--) {
    strides[axis] = stride;
    stride *= shape[axis]!;
  }
  return strides;
}

/** Strides that read an array as if it had the shape it is broadcast to: 0 where it repeats. */
export function broadcastStrides(shape: Shape, to: Shape): number[] {
  const own = stridesOf(shape);
  const lead = to.length - shape.length;
  return to.map((_, axis) => (axis < lead || shape[axis - lead] === 1 ? 0 : own[axis - lead]!));
}

/**
 * The table that the strided calls of csrc/raysum.h read: extents, then the strides of each operand. Axes of one element are left
 * out, and neighbours that every operand runs through in one go become one.
 */
export function strideTable(
  extents: Shape,
  strides: readonly (readonly number[])[],
): { rank: number; table: BigInt64Array } {
  const axes: number[][] = []; // [extent, stride of each operand]
  for (let axis = 0; axis < extents.length; axis++) {
    const extent = extents[axis]!;
    if (extent === 1) continue;
    const last = axes.at(-1);
    const own = strides.map((operand) => operand[axis]!);
    if (last && own.every((stride, k) => last[k + 1] === stride * extent)) {
      last[0]! *= extent;
      for (let k = 0; k < own.length; k++) last[k + 1] = own[k]!;
    } else axes.push([extent, ...own]);
  }
  if (axes.length === 0) axes.push([1, ...strides.map(() => 0)]);
  const rank = axes.length;
  const table = new BigInt64Array(new ArrayBuffer(8 * rank * (strides.length + 1)));
  for (let axis = 0; axis < rank; axis++)
    for (let k = 0; k <= strides.length; k++) table[k * rank + axis] = BigInt(axes[axis]![k]!);
  return { rank, table };
}
