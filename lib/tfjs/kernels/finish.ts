import type { TensorInfo } from "@tensorflow/tfjs-core";
import { sizeOf } from "../../shape.ts";
import type { RaysumBackend } from "../backend.ts";
import { joinInto, map, TensorJoin, TensorMap } from "../calls.ts";

/** What fused kernels do to a product: add a bias, and apply an activation. */
export interface Finish {
  readonly inputs: { readonly bias?: TensorInfo; readonly preluActivationWeights?: TensorInfo };
  readonly attributes: { readonly activation?: string; readonly leakyreluAlpha?: number };
}

const activations: Readonly<Record<string, number>> = {
  relu: TensorMap.MAP_RELU,
  elu: TensorMap.MAP_ELU,
  sigmoid: TensorMap.MAP_SIGMOID,
};

/** In place: nothing else has seen `out` yet. */
export function finish(
  backend: RaysumBackend,
  out: TensorInfo,
  { bias, preluActivationWeights }: Finish["inputs"],
  { activation = "linear", leakyreluAlpha = 0 }: Finish["attributes"],
): TensorInfo {
  if (sizeOf(out.shape) === 0) return out;
  if (bias) joinInto(backend, TensorJoin.JOIN_ADD, out, out, bias);
  if (activation === "prelu") joinInto(backend, TensorJoin.JOIN_PRELU, out, out, preluActivationWeights!);
  else if (activation === "leakyrelu") map(backend, TensorMap.MAP_LEAKY_RELU, out, leakyreluAlpha, 0, out);
  else if (activation === "relu6") map(backend, TensorMap.MAP_CLAMP, out, 0, 6, out);
  else if (activation !== "linear") {
    const op = activations[activation];
    backend.tf.util.assert(op !== undefined, () => `Activation ${activation} has not been implemented.`);
    map(backend, op!, out, 0, 0, out);
  }
  return out;
}
