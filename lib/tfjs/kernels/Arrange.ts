// Kernels that move elements and compute nothing: strided copies.
import type { TensorInfo } from "@tensorflow/tfjs-core";
import { type Shape, sizeOf } from "../../shape.ts";
import type { RaysumBackend } from "../backend.ts";
import { copy, fill, isHeld, partFrom, slice, transpose, whole } from "../calls.ts";
import { type Inputs, type Kernel, kernel } from "../kernel.ts";
import { stridesOf } from "../layout.ts";

/** Parts of a tensor along one axis. */
function split(backend: RaysumBackend, x: TensorInfo, axis: number, sizes: readonly number[]): TensorInfo[] {
  let start = 0;
  return sizes.map((size) => {
    const begin = x.shape.map((_, k) => (k === axis ? start : 0));
    start += size;
    return slice(
      backend,
      x,
      begin,
      x.shape.map((count, k) => (k === axis ? size : count)),
    );
  });
}

/** Tensors that differ along one axis, behind each other. */
function concatenate(backend: RaysumBackend, tensors: readonly TensorInfo[], axis: number, shape: Shape): TensorInfo {
  const out = backend.output(shape, tensors[0]!.dtype);
  let start = 0;
  for (const tensor of tensors) {
    const begin = shape.map((_, k) => (k === axis ? start : 0));
    copy(backend, tensor.shape, partFrom(out, begin), whole(tensor));
    start += tensor.shape[axis]!;
  }
  return out;
}

/** One axis longer by what mirrors at its ends. `offset` 0: the border element is not repeated, 1: it is. */
function mirror(
  backend: RaysumBackend,
  x: TensorInfo,
  axis: number,
  [before, after]: readonly [number, number],
  offset: number,
): TensorInfo {
  const count = x.shape[axis]!;
  const resize = (length: number) => x.shape.map((extent, k) => (k === axis ? length : extent));
  const at = (place: number) => x.shape.map((_, k) => (k === axis ? place : 0));
  const out = backend.output(resize(before + count + after), x.dtype);
  copy(backend, x.shape, partFrom(out, at(before)), whole(x));
  const backwards = (place: number) => {
    const part = partFrom(x, at(place));
    return { ...part, strides: part.strides.map((stride, k) => (k === axis ? -stride : stride)) };
  };
  copy(backend, resize(before), partFrom(out, at(0)), backwards(before - offset));
  copy(backend, resize(after), partFrom(out, at(before + count)), backwards(count - 2 + offset));
  return out;
}

export const arrangeKernels: readonly Kernel[] = [
  kernel<Inputs<"x">, { begin: number | number[]; size: number | number[] }>("Slice", ({ x }, attributes, backend) => {
    if (!isHeld(x)) return undefined;
    const { parseSliceParams, assertParamsValid } = backend.tf.slice_util;
    const [begin, size] = parseSliceParams(x, attributes.begin, attributes.size) as [number[], number[]];
    assertParamsValid(x, begin, size);
    return slice(backend, x, begin, size);
  }),
  kernel<Inputs<"x">, Record<"begin" | "end" | "strides", number[]> & Record<Masks, number>>(
    "StridedSlice",
    ({ x }, attributes, backend) => {
      if (!isHeld(x)) return undefined;
      const { begin, end, strides, beginMask, endMask, ellipsisMask, newAxisMask, shrinkAxisMask } = attributes;
      const masks = [beginMask, endMask, ellipsisMask, newAxisMask, shrinkAxisMask] as const;
      const info = backend.tf.slice_util.sliceInfo(x.shape, begin, end, strides, ...masks);
      if (info.isIdentity) return backend.share(x, info.finalShape);
      const size = backend.tf.slice_util.computeOutShape(info.begin, info.end, info.strides);
      const out = backend.output(info.finalShape, x.dtype);
      const from = partFrom(x, info.begin);
      const steps = from.strides.map((stride, axis) => stride * info.strides[axis]!);
      copy(backend, size, { tensor: out, start: 0, strides: stridesOf(size) }, { ...from, strides: steps });
      return out;
    },
  ),
  kernel<readonly TensorInfo[], { axis: number }>("Concat", (inputs, attributes, backend) => {
    const tensors = Object.values(inputs);
    if (!isHeld(...tensors) || tensors.some(({ dtype }) => dtype !== tensors[0]!.dtype)) return undefined;
    const { util, backend_util } = backend.tf;
    const axis = util.parseAxisParam(attributes.axis, tensors[0]!.shape)[0]!;
    const shapes = tensors.map(({ shape }) => shape);
    backend_util.assertParamsConsistent(shapes, axis);
    const shape = backend_util.computeOutShape(shapes, axis);
    if (sizeOf(shape) === 0) return backend.output(shape, tensors[0]!.dtype);
    const filled = tensors.filter((tensor) => sizeOf(tensor.shape) > 0);
    return filled.length === 1 ? backend.share(filled[0]!) : concatenate(backend, filled, axis, shape);
  }),
  kernel<readonly TensorInfo[], { axis: number }>("Pack", (inputs, { axis }, backend) => {
    const tensors = Object.values(inputs);
    if (!isHeld(...tensors)) return undefined;
    const { shape, dtype } = tensors[0]!;
    for (const tensor of tensors) {
      backend.tf.util.assertShapesMatch(shape, tensor.shape, "All tensors passed to stack must have matching shapes");
      backend.tf.util.assert(tensor.dtype === dtype, () => "All tensors passed to stack must have matching dtypes");
    }
    const insert = (count: number) => [...shape.slice(0, axis), count, ...shape.slice(axis)];
    const layers = tensors.map((tensor) => ({ ...tensor, shape: insert(1) }));
    return concatenate(backend, layers, axis, insert(tensors.length));
  }),
  kernel<Inputs<"value">, { axis: number }>("Unpack", ({ value }, attributes, backend) => {
    if (!isHeld(value)) return undefined;
    const axis = attributes.axis < 0 ? attributes.axis + value.shape.length : attributes.axis;
    const shape = value.shape.filter((_, k) => k !== axis);
    const parts = split(backend, value, axis, new Array<number>(value.shape[axis]!).fill(1));
    return parts.map((part) => ({ ...part, shape }));
  }),
  kernel<Inputs<"x">, { numOrSizeSplits: number[] | number; axis: number }>("SplitV", ({ x }, attributes, backend) => {
    if (!isHeld(x)) return undefined;
    const axis = backend.tf.util.parseAxisParam(attributes.axis, x.shape)[0]!;
    const sizes = backend.tf.backend_util.prepareSplitSize(x as never, attributes.numOrSizeSplits, axis);
    return split(backend, x, axis, sizes);
  }),
  kernel<Inputs<"x">, { perm: number[] }>("Transpose", ({ x }, { perm }, backend) =>
    isHeld(x) ? transpose(backend, x, perm) : undefined,
  ),
  kernel<Inputs<"x">, { dims: number | number[] }>("Reverse", ({ x }, { dims }, backend) => {
    if (!isHeld(x)) return undefined;
    if (x.shape.length === 0) return backend.share(x);
    const turned = backend.tf.util.parseAxisParam(dims, x.shape);
    const out = backend.output(x.shape, x.dtype);
    const from = partFrom(
      x,
      x.shape.map((count, axis) => (turned.includes(axis) ? count - 1 : 0)),
    );
    const strides = from.strides.map((stride, axis) => (turned.includes(axis) ? -stride : stride));
    copy(backend, x.shape, whole(out), { ...from, strides });
    return out;
  }),
  kernel<Inputs<"x">, { reps: number[] }>("Tile", ({ x }, { reps }, backend) => {
    if (!isHeld(x)) return undefined;
    const out = backend.output(
      x.shape.map((count, axis) => count * reps[axis]!),
      x.dtype,
    );
    // As [repeat, extent] along every axis that repeats: within the rank of a strided copy for what images need.
    const own = stridesOf(x.shape);
    const axes = x.shape.flatMap((count, axis) =>
      reps[axis] === 1
        ? [[count, own[axis]!]]
        : [
            [reps[axis]!, 0],
            [count, own[axis]!],
          ],
    );
    if (axes.filter(([count]) => count !== 1).length > 6) {
      backend.disposeData(out.dataId);
      return undefined;
    }
    const extents = axes.map(([count]) => count!);
    const to = { tensor: out, start: 0, strides: stridesOf(extents) };
    copy(backend, extents, to, { tensor: x, start: 0, strides: axes.map(([, stride]) => stride!) });
    return out;
  }),
  kernel<Inputs<"x">, { paddings: [number, number][]; constantValue: number }>(
    "PadV2",
    ({ x }, attributes, backend) => {
      if (!isHeld(x)) return undefined;
      const { paddings, constantValue } = attributes;
      const shape = x.shape.map((count, axis) => paddings[axis]![0] + count + paddings[axis]![1]);
      const out = fill(backend, shape, x.dtype, constantValue);
      copy(
        backend,
        x.shape,
        partFrom(
          out,
          paddings.map(([before]) => before),
        ),
        whole(x),
      );
      return out;
    },
  ),
  kernel<Inputs<"x">, { paddings: [number, number][]; mode: "reflect" | "symmetric" }>(
    "MirrorPad",
    ({ x }, { paddings, mode }, backend) => {
      if (!isHeld(x)) return undefined;
      let padded = backend.share(x);
      for (const [axis, pair] of paddings.entries()) {
        if (pair[0] === 0 && pair[1] === 0) continue;
        const next = mirror(backend, padded, axis, pair, mode === "reflect" ? 0 : 1);
        backend.disposeData(padded.dataId);
        padded = next;
      }
      return padded;
    },
  ),
];

type Masks = "beginMask" | "endMask" | "ellipsisMask" | "newAxisMask" | "shrinkAxisMask";
