/** TensorFlow.js with the devices of raysum as its backends. A kernel that left the device would be slow: here it throws. */
import * as tf from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-backend-cpu";
import "@tensorflow/tfjs-layers"; // brings the stock gradients
import { type Device, type Operator, operator, parallelBeam, volume } from "raysum";
import { backendName, register } from "raysum/tfjs";

export { tf };

/** Makes the backend of a device the active one. */
export async function useDevice(device: Device): Promise<void> {
  register(tf, { strict: true });
  await tf.setBackend(backendName(device));
}

/** tomosipo's case: `slices` of a unit cube of N^3 voxels, seen by 3N/2 parallel views of 3N/2 columns. */
export function sliceOperator(
  N: number,
  slices: number,
  options: { device: Device; law: "exact" | "astra" },
): Operator {
  const views = (3 * N) / 2;
  return operator(
    volume({ shape: [slices, N, N], size: [slices / N, 1, 1] }),
    parallelBeam({ angleCount: views, detectorShape: [slices, views], detectorSize: [slices / N, 1.5] }),
    options,
  );
}
