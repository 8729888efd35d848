import { describe, it } from "node:test";
import {
  type ConeBeamOptions,
  coneBeam,
  coneBeamVectors,
  type ParallelBeamOptions,
  parallelBeam,
  parallelBeamVectors,
  scale,
} from "../lib/geometry/index.ts";
import { assertRefuses } from "./support/geometry.ts";

const detector = { detectorShape: [2, 3], detectorSize: [4, 9] } as const;

/** Asserts that a circular beam of both kinds, right but for these options, is refused. */
function refuses(changed: object, ...fragments: string[]): void {
  const options: object = { detectorShape: [2, 3], angleCount: 4, ...changed };
  const distances: object = { sourceOriginDistance: 10, sourceDetectorDistance: 30 };
  assertRefuses(() => parallelBeam(options as ParallelBeamOptions), ...fragments);
  assertRefuses(() => coneBeam({ ...distances, ...options } as ConeBeamOptions), ...fragments);
}

describe("what is no circular beam is refused, with the value in the sentence", () => {
  it("detector", () => {
    refuses({ detectorShape: [0, 192] }, "detectorShape [0, 192]: every count must be positive");
    refuses({ detectorShape: [2.5, 3] }, "detectorShape [2.5, 3]");
    refuses({ detectorShape: [2, 3, 4] }, "detectorShape [2, 3, 4]", "[rows, columns]");
    refuses({ detectorShape: 5 }, "detectorShape 5");
    refuses({ detectorSize: [1, 0] }, "detectorSize [1, 0]");
    refuses({ pixelSize: -1 }, "pixelSize -1");
    refuses({ pixelSize: "1" }, 'pixelSize "1"');
    refuses({ detectorSize: 1, pixelSize: 2 }, "detectorSize 1", "pixelSize 2", "give one of the two");
    refuses({ detectorOffset: 3 }, "detectorOffset 3", "[v, u]");
    refuses({ detectorOffset: [0, Number.NaN] }, "detectorOffset [0, NaN]");
  });

  it("angles: a count is no angle, and an angle is no count", () => {
    refuses({ angleCount: 0 }, "angleCount 0");
    refuses({ angleCount: 5.5 }, "angleCount 5.5");
    refuses({ angleCount: [0, 1] }, "angleCount [0, 1]");
    refuses({ angleCount: undefined }, "angleCount and angles [undefined, undefined]: give one");
    refuses({ angles: [0] }, "angleCount and angles [4, [0]]: give one");
    for (const angles of [5, null, "all"]) refuses({ angleCount: undefined, angles }, "angles ", "a list");
    refuses({ angleCount: undefined, angles: [] }, "angles []");
    refuses({ angleCount: undefined, angles: [0, Number.NaN] }, "angles [0, NaN]");
  });

  it("distances", () => {
    const distances = (sourceOriginDistance?: number, sourceDetectorDistance?: number) => () =>
      coneBeam({ ...detector, angleCount: 1, sourceOriginDistance, sourceDetectorDistance } as ConeBeamOptions);
    assertRefuses(distances(), "sourceOriginDistance undefined");
    assertRefuses(distances(10), "sourceDetectorDistance undefined");
    assertRefuses(distances(0, 30), "sourceOriginDistance 0");
    assertRefuses(distances(10, -30), "sourceDetectorDistance -30");
    assertRefuses(distances(10, Number.POSITIVE_INFINITY), "sourceDetectorDistance Infinity");
  });
});

describe("what is no beam of vectors is refused, with the value in the sentence", () => {
  const right = { detectorShape: [2, 3], detectorCentres: [0, 5, 0], detectorV: [2, 0, 0], detectorU: [0, 0, 1] };
  const parallelRefuses = (changed: object, ...fragments: string[]) =>
    assertRefuses(() => parallelBeamVectors({ ...right, rayDirections: [0, 1, 0], ...changed } as never), ...fragments);
  const coneRefuses = (changed: object, ...fragments: string[]) =>
    assertRefuses(() => coneBeamVectors({ ...right, sourcePositions: [0, -5, 0], ...changed } as never), ...fragments);

  it("vectors of the wrong length or count", () => {
    for (const refuse of [parallelRefuses, coneRefuses]) {
      refuse({ detectorShape: [2, 0] }, "detectorShape [2, 0]");
      refuse({ detectorV: [1, 0] }, "detectorV [1, 0]");
      refuse(
        {
          detectorV: [
            [1, 0, 0],
            [1, 0],
          ],
        },
        "detectorV[1] [1, 0]",
      );
      refuse({ detectorU: 3 }, "detectorU 3");
      refuse({ detectorU: undefined }, "detectorU undefined");
      refuse({ detectorCentres: [] }, "detectorCentres []");
      refuse({ detectorCentres: new Float64Array(7) }, "detectorCentres has 7 numbers");
      refuse({ detectorCentres: [0, Number.NaN, 0] }, "detectorCentres [0, NaN, 0]");
    }
    const [two, three] = [2, 3].map((n) => Array.from({ length: n }, () => [0, 5, 0]));
    parallelRefuses({ rayDirections: two, detectorCentres: three }, "2 rayDirections, 3 detectorCentres");
    coneRefuses({ sourcePositions: two, detectorCentres: three }, "2 sourcePositions, 3 detectorCentres");
  });

  it("degenerate views", () => {
    for (const refuse of [parallelRefuses, coneRefuses]) {
      refuse({ detectorV: [0, 0, 0] }, "detectorV[0] [0, 0, 0]", "zero");
      refuse(
        {
          detectorU: [
            [0, 0, 1],
            [0, 0, 0],
          ],
        },
        "detectorU[1] [0, 0, 0]",
        "zero",
      );
      refuse({ detectorU: [-1, 0, 0] }, "detectorU[0] [-1, 0, 0]", "parallel");
      refuse({ detectorU: [0.1, 0.2, 0.3], detectorV: [0.3, 0.6, 0.9] }, "parallel");
    }
    parallelRefuses({ rayDirections: [0, 0, 0] }, "rayDirections[0] [0, 0, 0]", "zero");
    parallelRefuses({ rayDirections: [1, 0, 2] }, "rayDirections[0] [1, 0, 2]", "in the plane of the detector");
    const tilted = { detectorV: [0.1, 0.2, 0.3], detectorU: [0.7, -0.1, 0.6] };
    parallelRefuses({ ...tilted, rayDirections: [0.8, 0.1, 0.9] }, "in the plane of the detector");
    parallelRefuses({ ...tilted, rayDirections: [0.31, 0.17, 0.48] }, "in the plane of the detector");
    coneRefuses({ sourcePositions: [0, 5, 0] }, "sourcePositions[0] [0, 5, 0]", "in the plane of the detector");
    coneRefuses({ sourcePositions: [7, 5, 2] }, "sourcePositions[0] [7, 5, 2]", "in the plane of the detector");
  });

  it("moves that leave the range of numbers", () => {
    const cone = coneBeam({ ...detector, angleCount: 1, sourceOriginDistance: 10, sourceDetectorDistance: 30 });
    assertRefuses(() => cone.transform(scale(1e200)), "parallel");
  });
});

describe("types of the options", () => {
  it("allow one way to say a thing, and only the words of the kind", () => {
    // @ts-expect-error a number of angles and the angles
    const angles = () => parallelBeam({ ...detector, angleCount: 2, angles: [0, 1] });
    // @ts-expect-error the size of the detector and of a pixel
    const sizes = () => parallelBeam({ ...detector, angleCount: 2, pixelSize: 1 });
    // @ts-expect-error no distances
    const distances = () => coneBeam({ ...detector, angleCount: 2 });
    for (const action of [angles, sizes, distances]) assertRefuses(action);
  });
});
