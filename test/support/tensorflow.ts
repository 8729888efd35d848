/** TensorFlow.js with our backends in strict mode: a kernel that leaves the device throws. */
import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-backend-cpu";
import "@tensorflow/tfjs-layers"; // brings the stock gradients
import { type Device, device } from "../../lib/index.ts";
import { backendName, register } from "../../lib/tfjs/index.ts";
import { norm, seededRandom } from "./random.ts";

// float32: what is compared with other backends and with finite differences is compared to its last bits.
register(tf, { strict: true, convPrecision: "float32" });

/** The device that is tested, and the backend on it. */
export const here: Device = device();
export const on: string = backendName(here);

export { tf };

export type Made = tf.Tensor | readonly tf.Tensor[];

/** Runs `body` on a backend and hands out the values of what it makes. */
export async function valuesOn(backend: string, body: () => Made): Promise<Float64Array[]> {
  await tf.setBackend(backend);
  const made = tf.tidy(() => [body()].flat() as tf.Tensor[]);
  const values = await Promise.all(made.map(async (tensor) => Float64Array.from(await tensor.data())));
  for (const tensor of made) tensor.dispose();
  return values;
}

/** norm(a - b) / norm(b), and the norm itself where b is 0. */
export function difference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  assert.equal(a.length, b.length);
  return norm(Float64Array.from(a, (value, k) => value - b[k]!)) / (norm(b) || 1);
}

/** The most device memory that `run` had in use at a time beyond what was in use before, in bytes, on the active backend. */
export function peakOf(run: () => void): number {
  const backend = tf.backend() as unknown as { readonly device: Device; output: (...given: unknown[]) => unknown };
  const { output } = backend;
  const { inUse } = backend.device.memory();
  let peak = 0;
  // The device counts the most that was ever in use, so look whenever a kernel makes a tensor.
  backend.output = function (...given) {
    const made = output.apply(this, given);
    peak = Math.max(peak, this.device.memory().inUse - inUse);
    return made;
  };
  try {
    run();
  } finally {
    backend.output = output;
  }
  return peak;
}

/** The same numbers for the same seed on every backend. */
export function random(shape: readonly number[], seed: number, lo = -1, hi = 1): tf.Tensor {
  const count = shape.reduce((product, extent) => product * extent, 1);
  return tf.tensor(seededRandom(seed).float32(count, lo, hi), [...shape]);
}
