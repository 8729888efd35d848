import type { TensorInfo } from "@tensorflow/tfjs-core";
import { isFloat, isHeld, join, TensorJoin } from "../calls.ts";
import { type Inputs, type Kernel, kernel } from "../kernel.ts";

const isNumeric = (a: TensorInfo, b: TensorInfo): boolean =>
  a.dtype === b.dtype && (a.dtype === "float32" || a.dtype === "int32");

/** The result has the type of the operands: float32 or int32. */
const arithmetic: Readonly<Record<string, number>> = {
  Add: TensorJoin.JOIN_ADD,
  FloorDiv: TensorJoin.JOIN_FLOOR_DIVIDE,
  Maximum: TensorJoin.JOIN_MAXIMUM,
  Minimum: TensorJoin.JOIN_MINIMUM,
  Mod: TensorJoin.JOIN_MODULO,
  Multiply: TensorJoin.JOIN_MULTIPLY,
  Pow: TensorJoin.JOIN_POWER,
  SquaredDifference: TensorJoin.JOIN_SQUARED_DIFFERENCE,
  Sub: TensorJoin.JOIN_SUBTRACT,
};

/** Of float32 only. */
const ofFloats: Readonly<Record<string, number>> = {
  Atan2: TensorJoin.JOIN_ARC_TANGENT,
  RealDiv: TensorJoin.JOIN_DIVIDE,
};

const comparisons: Readonly<Record<string, number>> = {
  Equal: TensorJoin.JOIN_EQUAL,
  Greater: TensorJoin.JOIN_GREATER,
  GreaterEqual: TensorJoin.JOIN_GREATER_EQUAL,
  Less: TensorJoin.JOIN_LESS,
  LessEqual: TensorJoin.JOIN_LESS_EQUAL,
  NotEqual: TensorJoin.JOIN_NOT_EQUAL,
};

const logical: Readonly<Record<string, number>> = {
  LogicalAnd: TensorJoin.JOIN_AND,
  LogicalOr: TensorJoin.JOIN_OR,
};

/** From a result and its gradient. */
const gradients: Readonly<Record<string, number>> = {
  EluGrad: TensorJoin.JOIN_ELU_GRADIENT,
  RaysumReluGrad: TensorJoin.JOIN_RELU_GRADIENT,
};

type Operands = Inputs<"a" | "b">;

export const binaryKernels: readonly Kernel[] = [
  ...Object.entries(arithmetic).map(([name, op]) =>
    kernel<Operands>(name, ({ a, b }, _, backend) => (isNumeric(a, b) ? join(backend, op, a, b, a.dtype) : undefined)),
  ),
  ...Object.entries(ofFloats).map(([name, op]) =>
    kernel<Operands>(name, ({ a, b }, _, backend) => (isFloat(a, b) ? join(backend, op, a, b, "float32") : undefined)),
  ),
  ...Object.entries(comparisons).map(([name, op]) =>
    kernel<Operands>(name, ({ a, b }, _, backend) =>
      a.dtype === b.dtype && isHeld(a, b) ? join(backend, op, a, b, "bool") : undefined,
    ),
  ),
  ...Object.entries(logical).map(([name, op]) =>
    kernel<Operands>(name, ({ a, b }, _, backend) =>
      a.dtype === "bool" && b.dtype === "bool" ? join(backend, op, a, b, "bool") : undefined,
    ),
  ),
  kernel<Inputs<"x" | "alpha">>("Prelu", ({ x, alpha }, _, backend) =>
    isFloat(x, alpha) ? join(backend, TensorJoin.JOIN_PRELU, x, alpha, "float32") : undefined,
  ),
  ...Object.entries(gradients).map(([name, op]) =>
    kernel<Inputs<"dy" | "y">>(name, ({ dy, y }, _, backend) =>
      isFloat(dy, y) ? join(backend, op, dy, y, "float32") : undefined,
    ),
  ),
];
