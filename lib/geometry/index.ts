export {
  type AstraGeometry,
  type AstraProjectionGeometry,
  type AstraVolumeGeometry,
  fromAstra,
  toAstra,
} from "./astra.ts";
export { type Beam, concatenate, type View, type ViewSelection } from "./beam.ts";
export type { IndexRange, Vectors } from "./check.ts";
export { geometryFromJson } from "./json.ts";
export {
  type ConeBeamOptions,
  type ConeBeamVectorsOptions,
  coneBeam,
  coneBeamVectors,
  type FanBeamOptions,
  fanBeam,
  type ParallelBeamOptions,
  type ParallelBeamVectorsOptions,
  parallelBeam,
  parallelBeamVectors,
} from "./trajectory.ts";
export { compose, reflect, rotate, scale, type Transform, translate } from "./transform.ts";
export type { VU, YX, ZYX } from "./vector.ts";
export { type Extent, type Volume, type VolumeOptions, volume } from "./volume.ts";
