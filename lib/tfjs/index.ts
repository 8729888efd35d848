export { checkpoint, variableGradients } from "./backward.ts";
export { type CapturedStep, type CaptureOptions, capture, type InputValues } from "./capture.ts";
export { fallbacks } from "./fallback.ts";
export { arrayOf, type Layer, type LayerOptions, layer, tensorOf } from "./layer.ts";
export { backendName } from "./names.ts";
export { type AdamOptions, adam, momentum, sgd } from "./optimizers.ts";
export { type PrefetchOptions, prefetch } from "./prefetch.ts";
export { nativeKernels, type RegisterOptions, register } from "./register.ts";
export type { TensorFlow } from "./tensorflow.ts";
