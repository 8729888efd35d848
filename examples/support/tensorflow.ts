/** TensorFlow.js with the devices of raysum as its backends. A kernel that left the device would be slow: here it throws. */
import * as tf from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-backend-cpu";
import "@tensorflow/tfjs-layers"; // brings the stock gradients
import { type Device, type Operator, type OperatorOptions, operator, parallelBeam, volume } from "raysum";
import { backendName, type ConvPrecision, register } from "raysum/tfjs";
import { choice } from "./words.ts";

export { tf };

/** Makes the backend of a device the active one. */
export async function useDevice(device: Device, convPrecision: ConvPrecision): Promise<void> {
  register(tf, { strict: true, convPrecision });
  await tf.setBackend(backendName(device));
}

/** What convolutions on a device round to, from the words of a command line. */
export function precisionOf(device: Device, text: string | undefined): ConvPrecision {
  if (device.name === "cpu") return choice("conv_precision", text ?? "float32", ["float32"]);
  return choice("conv_precision", text ?? "tf32", ["float32", "tf32", "bf16"]);
}

/** tomosipo's case: `slices` of a unit cube of N^3 voxels, seen by 3N/2 parallel views of 3N/2 columns. */
export function sliceOperator(N: number, slices: number, options: OperatorOptions): Operator {
  const views = (3 * N) / 2;
  return operator(
    volume({ shape: [slices, N, N], size: [slices / N, 1, 1] }),
    parallelBeam({ angleCount: views, detectorShape: [slices, views], detectorSize: [slices / N, 1.5] }),
    options,
  );
}
