// Kernels that hand tensors on, make them, or change their type.
import type { DataType, TensorInfo } from "@tensorflow/tfjs-core";
import { sameShape, sizeOf } from "../../shape.ts";
import type { RaysumBackend } from "../backend.ts";
import { cast, fill, isHeld, select } from "../calls.ts";
import { type Inputs, type Kernel, kernel } from "../kernel.ts";

/** A tensor of one value, in the shape and type of another. */
function filledLike(backend: RaysumBackend, x: TensorInfo, value: number): TensorInfo | undefined {
  if (x.dtype === "complex64") {
    const halves = [value, 0].map((part) => fill(backend, x.shape, "float32", part));
    const out = backend.complex(halves[0]!, halves[1]!);
    for (const half of halves) backend.disposeData(half.dataId);
    return out;
  }
  return isHeld(x) ? fill(backend, x.shape, x.dtype, value) : undefined;
}

export const basicKernels: readonly Kernel[] = [
  kernel<Inputs<"x">>("Identity", ({ x }, _, backend) => backend.share(x)),
  kernel<Inputs<"x">, { shape: number[] }>("Reshape", ({ x }, attributes, backend) => {
    const { util } = backend.tf;
    const size = sizeOf(x.shape);
    const shape = util.inferFromImplicitShape(attributes.shape, size);
    util.assert(
      size === sizeOf(shape),
      () =>
        `The new shape (${shape}) has ${sizeOf(shape)} elements and the old shape (${x.shape}) has ${size} elements. The new shape and old shape must have the same number of elements.`,
    );
    return backend.share(x, shape);
  }),
  kernel<Inputs<"input">, { dim: number }>("ExpandDims", ({ input }, { dim }, backend) => {
    const rank = input.shape.length;
    backend.tf.util.assert(
      -(rank + 1) <= dim && dim <= rank,
      () => `Axis must be in the interval [${-(rank + 1)}, ${rank}]`,
    );
    const axis = dim < 0 ? rank + dim + 1 : dim;
    return backend.share(input, [...input.shape.slice(0, axis), 1, ...input.shape.slice(axis)]);
  }),
  kernel<Inputs<"x">, { dtype: DataType }>("Cast", ({ x }, { dtype }, backend) => {
    if (x.dtype === dtype) return backend.share(x);
    return isHeld(x) && isHeld({ ...x, dtype }) ? cast(backend, x, dtype) : undefined;
  }),
  kernel<unknown, { shape: number[]; value: number | string; dtype?: DataType }>("Fill", (_, attributes, backend) => {
    const { shape, value, dtype = typeof value === "string" ? "string" : "float32" } = attributes;
    if (typeof value === "string" || (dtype !== "float32" && dtype !== "int32" && dtype !== "bool")) return undefined;
    return fill(backend, shape, dtype, dtype === "bool" ? Number(value !== 0) : value);
  }),
  kernel<Inputs<"x">>("ZerosLike", ({ x }, _, backend) => filledLike(backend, x, 0)),
  kernel<Inputs<"x">>("OnesLike", ({ x }, _, backend) => filledLike(backend, x, 1)),
  kernel<Inputs<"condition" | "t" | "e">>("Select", ({ condition, t, e }, _, backend) => {
    const alike = sameShape(t.shape, e.shape) && sameShape(t.shape, condition.shape);
    if (!alike || t.dtype !== e.dtype || condition.dtype !== "bool" || !isHeld(t)) return undefined;
    return select(backend, condition, t, e);
  }),
  kernel<Inputs<"real" | "imag">>("Complex", ({ real, imag }, _, backend) => backend.complex(real, imag)),
  kernel<Inputs<"input">>("Real", ({ input }, _, backend) => backend.share(backend.parts(input).real)),
  kernel<Inputs<"input">>("Imag", ({ input }, _, backend) => backend.share(backend.parts(input).imag)),
];
