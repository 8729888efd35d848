import { check, native } from "../../native/library.ts";
import { TensorPool } from "../../native/symbols.ts";
import { sameShape, sizeOf } from "../../shape.ts";
import type { RaysumBackend } from "../backend.ts";
import { isFloat } from "../calls.ts";
import { type Inputs, type Kernel, kernel } from "../kernel.ts";
import { convolutionTable, type Info } from "./Convolution.ts";

interface Attributes {
  readonly filterSize: number | number[];
  readonly strides: number | number[];
  readonly pad: "valid" | "same" | number;
  readonly dimRoundingMode?: "floor" | "round" | "ceil";
  readonly dataFormat?: "NDHWC" | "NCDHW";
}

function poolInfo({ tf }: RaysumBackend, shape: readonly number[], attributes: Attributes): Info {
  const { filterSize, strides, pad, dimRoundingMode, dataFormat } = attributes;
  const { computePool2DInfo, computePool3DInfo } = tf.backend_util;
  const compute = (shape.length === 5 ? computePool3DInfo : computePool2DInfo) as (...args: unknown[]) => Info;
  return compute(
    shape,
    filterSize,
    strides,
    1,
    pad,
    dimRoundingMode,
    ...(shape.length === 5 ? [dataFormat ?? "NDHWC"] : []),
  );
}

function windowSize(info: Info): number {
  return ("filterDepth" in info ? info.filterDepth : 1) * info.filterHeight * info.filterWidth;
}

/** Pooling and its gradient, by kernel name. */
const kinds: Readonly<Record<string, number>> = {
  AvgPool: TensorPool.POOL_MEAN,
  AvgPool3D: TensorPool.POOL_MEAN,
  MaxPool: TensorPool.POOL_LARGEST,
  MaxPool3D: TensorPool.POOL_LARGEST,
};

export const poolKernels: readonly Kernel[] = Object.entries(kinds).flatMap(([name, op]) => [
  kernel<Inputs<"x">, Attributes>(name, ({ x }, attributes, backend) => {
    const info = poolInfo(backend, x.shape, attributes);
    if (!isFloat(x) || info.dataFormat !== "channelsLast" || sizeOf(info.outShape) === 0) return undefined;
    // What the stock kernels do for windows of one element, whatever the stride and the padding.
    if (windowSize(info) === 1 && sameShape(info.inShape, info.outShape)) return backend.share(x);
    const out = backend.output(info.outShape, "float32");
    check(native().rs_tensor_pool(op, backend.pointer(out), backend.pointer(x), convolutionTable(info)));
    return out;
  }),
  kernel<Inputs<"dy" | "input">, Attributes>(`${name}Grad`, ({ dy, input }, attributes, backend) => {
    const info = poolInfo(backend, input.shape, attributes);
    if (!isFloat(dy, input) || info.dataFormat !== "channelsLast" || sizeOf(dy.shape) === 0) return undefined;
    const out = backend.output(input.shape, "float32");
    const [to, gradient] = [backend.pointer(out), backend.pointer(dy)];
    const values = op === TensorPool.POOL_MEAN ? 0n : backend.pointer(input);
    check(native().rs_tensor_pool_gradient(op, to, gradient, values, convolutionTable(info)));
    return out;
  }),
]);
