import type { KernelFunc } from "@tensorflow/tfjs-core";
import { devices } from "../device.ts";
import { RaysumError } from "../errors.ts";
import { RaysumBackend } from "./backend.ts";
import { stockKernel } from "./fallback.ts";
import { registerGradients } from "./gradients.ts";
import type { Kernel } from "./kernel.ts";
import { kernels as tensorKernels } from "./kernels/index.ts";
import { mapGradient, mapKernel } from "./layer.ts";
import { backendName } from "./names.ts";
import { type ConvPrecision, checkConvPrecision, choosePrecision } from "./precision.ts";
import type { Recorder } from "./recorder.ts";
import { remember, type TensorFlow } from "./tensorflow.ts";

export interface RegisterOptions {
  /**
   * Throws where a kernel would leave the device. Without it, what has no native kernel runs on the stock CPU backend, through the
   * host's memory: slow, but complete.
   */
  readonly strict?: boolean;
  /**
   * What convolutions on a GPU round their factors to, where they can (two dimensions, no strides or dilations, filters up to 3 x 3);
   * sums are float32. `tf32` by default, as in PyTorch: 11 significant bits; `bf16` has 8; `float32` rounds nothing. The CPU computes
   * in float32 always.
   */
  readonly convPrecision?: ConvPrecision;
}

/** Of all backends, which one TensorFlow.js starts with: the stock ones have 1 to 3. */
const PRIORITY = { cpu: 5, cuda: 10 };

const kernels: readonly Kernel[] = [...tensorKernels, mapKernel];

/** Names of the kernels that run on the device. */
export const nativeKernels: readonly string[] = Object.freeze(kernels.map(({ name }) => name).sort());

function kernelFunction({ name, run }: Kernel, stock: KernelFunc | undefined): KernelFunc {
  return ({ inputs, attrs, backend }) => {
    const own = backend as RaysumBackend;
    own.recorder?.kernel(name, inputs as Parameters<Recorder["kernel"]>[1], attrs ?? {});
    const result = run(inputs, attrs ?? {}, own);
    if (result) return result;
    if (stock) return stock({ inputs, backend, ...(attrs && { attrs }) });
    throw new RaysumError("device", `the kernel ${name} does not run on ${own.device.name} for these inputs`);
  };
}

/**
 * Puts a backend for every device into TensorFlow.js: `raysum-cpu`, and `raysum-cuda:0` and so on. The fastest becomes the default
 * one; `tf.setBackend` chooses another. A second call with other options replaces the kernels and the precision.
 *
 * @param tf The user's TensorFlow.js: `import * as tf from "@tensorflow/tfjs"`.
 */
export function register(tf: TensorFlow, { strict = false, convPrecision = "tf32" }: RegisterOptions = {}): void {
  checkConvPrecision(convPrecision);
  const { version_core: version } = tf;
  if (version !== "4.22.0")
    throw new RaysumError("argument", `TensorFlow.js ${version ?? "of an unknown version"}: expected 4.22.0`);
  remember(tf);
  const stock = new Map(
    tf.getKernelsForBackend("cpu").map((config) => [config.kernelName, stockKernel(tf, config, strict)]),
  );
  registerGradients(tf);
  tf.registerGradient(mapGradient);
  for (const device of devices()) {
    const name = backendName(device);
    for (const { kernelName } of tf.getKernelsForBackend(name)) tf.unregisterKernel(kernelName, name);
    const table = new Map(stock);
    for (const own of kernels) table.set(own.name, kernelFunction(own, stock.get(own.name)));
    for (const [kernelName, kernelFunc] of table) tf.registerKernel({ kernelName, backendName: name, kernelFunc });
    const priority = device.id === 0 ? PRIORITY.cpu : PRIORITY.cuda - device.id / 64;
    if (!tf.findBackendFactory(name)) tf.registerBackend(name, () => new RaysumBackend(tf, device), priority);
    choosePrecision(device, convPrecision);
  }
}
