import { sizeOf } from "../../shape.ts";
import { cast, fold, TensorFold } from "../calls.ts";
import { type Inputs, type Kernel, kernel } from "../kernel.ts";

type Axis = number | number[];

/** Reductions: how each names its axes, and the types it reduces to themselves. */
const reductions: readonly { name: string; op: number; axes: "axis" | "reductionIndices"; types: readonly string[] }[] =
  [
    { name: "All", op: TensorFold.FOLD_ALL, axes: "axis", types: ["bool"] },
    { name: "Any", op: TensorFold.FOLD_ANY, axes: "axis", types: ["bool"] },
    { name: "Max", op: TensorFold.FOLD_LARGEST, axes: "reductionIndices", types: ["float32", "int32"] },
    { name: "Min", op: TensorFold.FOLD_SMALLEST, axes: "axis", types: ["float32", "int32"] },
    { name: "Prod", op: TensorFold.FOLD_PRODUCT, axes: "axis", types: ["float32", "int32"] },
    { name: "Sum", op: TensorFold.FOLD_SUM, axes: "axis", types: ["float32", "int32"] },
  ];

const places: Readonly<Record<string, number>> = {
  ArgMax: TensorFold.FOLD_PLACE_OF_LARGEST,
  ArgMin: TensorFold.FOLD_PLACE_OF_SMALLEST,
};

export const foldKernels: readonly Kernel[] = [
  ...reductions.map(({ name, op, axes, types }) =>
    kernel<Inputs<"x">, { axis: Axis; reductionIndices: Axis; keepDims: boolean }>(
      name,
      ({ x }, attributes, backend) => {
        if (!types.includes(x.dtype) || sizeOf(x.shape) === 0) return undefined;
        const parsed = backend.tf.util.parseAxisParam(attributes[axes], x.shape);
        return fold(backend, op, x, parsed, x.dtype, attributes.keepDims);
      },
    ),
  ),
  kernel<Inputs<"x">, { axis: Axis; keepDims: boolean }>("Mean", ({ x }, { axis, keepDims }, backend) => {
    if (x.dtype === "complex64" || sizeOf(x.shape) === 0) return undefined;
    const parsed = backend.tf.util.parseAxisParam(axis, x.shape);
    const floats = cast(backend, x, "float32");
    const mean = fold(backend, TensorFold.FOLD_MEAN, floats, parsed, "float32", keepDims);
    backend.disposeData(floats.dataId);
    return mean;
  }),
  ...Object.entries(places).map(([name, op]) =>
    kernel<Inputs<"x">, { axis: Axis }>(name, ({ x }, { axis }, backend) => {
      if ((x.dtype !== "float32" && x.dtype !== "int32") || sizeOf(x.shape) === 0) return undefined;
      return fold(backend, op, x, backend.tf.util.parseAxisParam(axis, x.shape), "int32");
    }),
  ),
];
