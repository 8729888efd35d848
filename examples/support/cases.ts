// The scans that are timed. Those of tomosipo's benchmark: N^3 voxels of size 1/N, 3N/2 views, N x 3N/2 pixels; and their kin.
import { type Beam, coneBeam, fanBeam, type Law, parallelBeam, rotate, type Volume, volume } from "raysum";

export interface Case {
  readonly name: string;
  readonly size: number;
  readonly volume: Volume;
  readonly beam: Beam;
  /** ASTRA's law for it. Its 3D back projection of a fan is far from a transpose: the fan's one row is no sampling of z. */
  readonly astra: Law;
}

/** Source and detector across from each other, twice magnified. */
const distances = { sourceOriginDistance: 2, sourceDetectorDistance: 4 };

const beams: Readonly<Record<string, (N: number) => Beam>> = {
  parallel: (N) => parallelBeam({ angleCount: 1.5 * N, detectorShape: [N, 1.5 * N], detectorSize: [1, 1.5] }),
  cone: (N) => coneBeam({ angleCount: 1.5 * N, detectorShape: [N, 1.5 * N], detectorSize: [2, 3], ...distances }),
  curved: (N) =>
    coneBeam({
      angleCount: 1.5 * N,
      detectorShape: [N, 1.5 * N],
      detectorSize: [2, 3],
      detectorCurvatureRadius: 4,
      ...distances,
    }),
  // Vectors for every view that no fast path takes: a detector rolled by 3 degrees about the beam, seen from a tilted turntable.
  tilted: (N) => {
    const still = coneBeam({ angles: [0], detectorShape: [N, 1.5 * N], detectorSize: [2, 3], ...distances });
    const angles = Array.from({ length: 1.5 * N }, (_, view) => (2 * Math.PI * view) / (1.5 * N));
    return still
      .transform(rotate({ axis: [0, 1, 0], angles: [0.05] }))
      .transform(rotate({ axis: [1, 0, 0], angles }))
      .transform(rotate({ axis: [0, 0, 1], angles: [0.03] }));
  },
  slice: (N) => parallelBeam({ angleCount: 1.5 * N, detectorCount: 1.5 * N, detectorSize: 1.5 }),
  fan: (N) => fanBeam({ angleCount: 1.5 * N, detectorCount: 1.5 * N, detectorSize: 3, ...distances }),
};

/** Names of the cases with N^3 voxels, and of those with one slice of N^2. */
export const volumes: readonly string[] = ["parallel", "cone", "curved", "tilted"];
export const slices: readonly string[] = ["slice", "fan"];

export function makeCase(name: string, size: number): Case {
  const make = beams[name];
  if (!make) throw new Error(`${name}: expected one of ${Object.keys(beams).join(", ")}`);
  const shape = slices.includes(name) ? { shape: [size, size] as const } : { shape: [size, size, size] as const };
  return {
    name,
    size,
    volume: volume({ ...shape, size: 1 }),
    beam: make(size),
    astra: name === "fan" ? "astra2d" : "astra",
  };
}
