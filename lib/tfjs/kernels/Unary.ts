import type { TensorInfo } from "@tensorflow/tfjs-core";
import { map, TensorMap } from "../calls.ts";
import { type Inputs, type Kernel, kernel } from "../kernel.ts";

/** Elementwise functions without attributes, of float32. */
const ofFloats: Readonly<Record<string, number>> = {
  Abs: TensorMap.MAP_ABSOLUTE,
  Ceil: TensorMap.MAP_CEILING,
  Cos: TensorMap.MAP_COSINE,
  Elu: TensorMap.MAP_ELU,
  Erf: TensorMap.MAP_ERROR_FUNCTION,
  Exp: TensorMap.MAP_EXPONENTIAL,
  Expm1: TensorMap.MAP_EXPONENTIAL_MINUS_1,
  Floor: TensorMap.MAP_FLOOR,
  Log: TensorMap.MAP_LOGARITHM,
  Log1p: TensorMap.MAP_LOGARITHM_1_PLUS,
  Neg: TensorMap.MAP_NEGATIVE,
  Reciprocal: TensorMap.MAP_RECIPROCAL,
  Relu: TensorMap.MAP_RELU,
  Round: TensorMap.MAP_ROUND,
  Rsqrt: TensorMap.MAP_RECIPROCAL_SQUARE_ROOT,
  Selu: TensorMap.MAP_SELU,
  Sigmoid: TensorMap.MAP_SIGMOID,
  Sign: TensorMap.MAP_SIGN,
  Sin: TensorMap.MAP_SINE,
  Softplus: TensorMap.MAP_SOFTPLUS,
  Sqrt: TensorMap.MAP_SQUARE_ROOT,
  Square: TensorMap.MAP_SQUARE,
  Tan: TensorMap.MAP_TANGENT,
  Tanh: TensorMap.MAP_HYPERBOLIC_TANGENT,
};

/** Those that also map integers to integers. */
const ofIntegers = new Set(["Abs", "Ceil", "Floor", "Neg", "Relu", "Round", "Sign", "Square"]);

const covers = (x: TensorInfo, integers: boolean): boolean =>
  x.dtype === "float32" || (integers && x.dtype === "int32");

export const unaryKernels: readonly Kernel[] = [
  ...Object.entries(ofFloats).map(([name, op]) =>
    kernel<Inputs<"x">>(name, ({ x }, _, backend) =>
      covers(x, ofIntegers.has(name)) ? map(backend, op, x) : undefined,
    ),
  ),
  kernel<Inputs<"x">>("Relu6", ({ x }, _, backend) =>
    covers(x, true) ? map(backend, TensorMap.MAP_CLAMP, x, 0, 6) : undefined,
  ),
  kernel<Inputs<"x">, { alpha: number }>("LeakyRelu", ({ x }, { alpha }, backend) =>
    covers(x, false) ? map(backend, TensorMap.MAP_LEAKY_RELU, x, alpha) : undefined,
  ),
  kernel<Inputs<"x">, { alpha: number }>("Step", ({ x }, { alpha }, backend) =>
    covers(x, true) ? map(backend, TensorMap.MAP_STEP, x, alpha) : undefined,
  ),
  kernel<Inputs<"x">, { clipValueMin: number; clipValueMax: number }>("ClipByValue", ({ x }, bounds, backend) =>
    covers(x, true) ? map(backend, TensorMap.MAP_CLAMP, x, bounds.clipValueMin, bounds.clipValueMax) : undefined,
  ),
  kernel<Inputs<"x">>("LogicalNot", ({ x }, _, backend) => {
    if (x.dtype !== "bool") return undefined;
    return map(backend, TensorMap.MAP_NOT, x);
  }),
];
