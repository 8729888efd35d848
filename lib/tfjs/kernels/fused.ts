// Convolutions on a GPU with what surrounds them, in one pass (csrc/raysum.h: rs_tensor_convolve_fused).
import type { TensorInfo } from "@tensorflow/tfjs-core";
import { check, native } from "../../native/library.ts";
import { ConvolutionPrecision, FusedHalves, FusedOperand } from "../../native/symbols.ts";
import type { RaysumBackend } from "../backend.ts";
import { precisionOn } from "../precision.ts";

/** What a fused convolution reads and writes. */
export interface Fused {
  /** Arrays whose channels stand side by side. */
  readonly out: readonly TensorInfo[];
  readonly a: readonly TensorInfo[];
  readonly b: TensorInfo;
  readonly bias?: TensorInfo | undefined;
  /** Added to the first of `out`. */
  readonly add?: TensorInfo | undefined;
  /** Where it is not above 0, the result is 0. */
  readonly mask?: TensorInfo | undefined;
  readonly relu?: boolean;
  /** FusedHalves of csrc/raysum.h, added up: which arrays hold two numbers in a float. */
  readonly halves?: number;
}

/** Whether fused convolutions run on a backend: on a GPU that may round. */
export function fuses({ device }: RaysumBackend): boolean {
  return precisionOn(device) !== ConvolutionPrecision.CONVOLVE_FLOAT32;
}

/** Queues one; `kind` is a TensorConvolution and `table` the convolution's shape. */
export function convolveFused(backend: RaysumBackend, kind: number, fused: Fused, table: BigInt64Array): void {
  const { out, a, b, bias, add, mask, relu = false, halves = 0 } = fused;
  const operands = new BigInt64Array(FusedOperand.FUSED_NUMBERS);
  const put = (place: number, tensor: TensorInfo | undefined) => {
    if (tensor) operands[place] = backend.pointer(tensor);
  };
  for (const [places, channels, pieces] of [
    [FusedOperand.FUSED_OUT, FusedOperand.FUSED_OUT_CHANNELS, out],
    [FusedOperand.FUSED_A, FusedOperand.FUSED_A_CHANNELS, a],
  ] as const)
    for (const [k, piece] of pieces.entries()) {
      put(places + k, piece);
      const packed = halves & (places === FusedOperand.FUSED_OUT ? FusedHalves.HALVES_OUT : FusedHalves.HALVES_A);
      operands[channels + k] = BigInt(piece.shape.at(-1)! * (packed ? 2 : 1));
    }
  put(FusedOperand.FUSED_B, b);
  put(FusedOperand.FUSED_BIAS, bias);
  put(FusedOperand.FUSED_ADD, add);
  put(FusedOperand.FUSED_MASK, mask);
  operands[FusedOperand.FUSED_RELU] = relu ? 1n : 0n;
  operands[FusedOperand.FUSED_HALVES] = BigInt(halves);
  check(native().rs_tensor_convolve_fused(kind, operands, table));
}
