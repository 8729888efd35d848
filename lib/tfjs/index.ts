export { fallbacks } from "./fallback.ts";
export { backendName, nativeKernels, type RegisterOptions, register } from "./register.ts";
export type { TensorFlow } from "./tensorflow.ts";
