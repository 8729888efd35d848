import type { Device } from "../device.ts";
import { RaysumError } from "../errors.ts";
import { ConvolutionPrecision } from "../native/symbols.ts";
import { describe } from "../options.ts";

/**
 * What convolutions on a GPU round their factors to. Tensor cores multiply tf32 and bf16 numbers from compute capability 8.0 on; before,
 * ordinary cores do, with the same roundings.
 */
export type ConvPrecision = "float32" | "tf32" | "bf16";

const numbers: Readonly<Record<ConvPrecision, number>> = {
  float32: ConvolutionPrecision.CONVOLVE_FLOAT32,
  tf32: ConvolutionPrecision.CONVOLVE_TF32,
  bf16: ConvolutionPrecision.CONVOLVE_BF16,
};

const chosen = new Map<Device, ConvPrecision>();

export function checkConvPrecision(precision: ConvPrecision): void {
  if (!Object.hasOwn(numbers, precision))
    throw new RaysumError(
      "argument",
      `convPrecision ${describe(precision)}: expected ${Object.keys(numbers).join(", ")}`,
    );
}

export function choosePrecision(device: Device, precision: ConvPrecision): void {
  chosen.set(device, precision);
}

/** ConvolutionPrecision of csrc/raysum.h, for convolutions on a device: the CPU has float32 only. */
export function precisionOn(device: Device): number {
  return device.id === 0 ? numbers.float32 : numbers[chosen.get(device) ?? "tf32"];
}
