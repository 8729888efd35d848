export { reciprocal } from "./algorithms/reciprocal.ts";
export { type Progress, type SirtOptions, type SirtRunOptions, type SirtStep, sirt } from "./algorithms/sirt.ts";
export { DeviceArray, type OnDevice, type ReadOptions } from "./array.ts";
export { type Device, device, devices, type MemoryState } from "./device.ts";
export { type ErrorCode, RaysumError } from "./errors.ts";
export * from "./geometry/index.ts";
export {
  type ApplyOptions,
  type Law,
  type LinearMap,
  type Operator,
  type OperatorOptions,
  operator,
  type Precision,
  type ResidualOptions,
  type UpdateOptions,
} from "./operator.ts";
export { hollowBox } from "./phantom.ts";
export { scope } from "./scope.ts";
export type { Shape } from "./shape.ts";
