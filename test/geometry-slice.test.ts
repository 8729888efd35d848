import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  type AstraProjectionGeometry,
  type Beam,
  coneBeam,
  DeviceArray,
  fanBeam,
  fromAstra,
  type OperatorOptions,
  operator,
  parallelBeam,
  reflect,
  rotate,
  type Volume,
  volume,
} from "../lib/index.ts";
import { operatorOf } from "./support/operators.ts";
import { relativeL2, seededRandom } from "./support/random.ts";
import { forwardModel, type ModelGeometry } from "./support/ray_model.ts";

const distances = { sourceOriginDistance: 30, sourceDetectorDistance: 42 };
const ProjectionAngles = [0, 0.3, 1.7, Math.PI, 5];
const window = { WindowMinX: -4, WindowMaxX: 5, WindowMinY: -1, WindowMaxY: 6 };

/** The volume and beam of 2D dictionaries; mirrored back, as ours are not. */
function fromAstra2d(projectionGeometry: AstraProjectionGeometry): { volume: Volume; beam: Beam } {
  const pair = fromAstra({ volumeGeometry: { GridRowCount: 7, GridColCount: 9, option: window }, projectionGeometry });
  return { volume: pair.volume, beam: pair.beam.transform(reflect({ axis: [0, 1, 0] })) };
}

describe("geometries of one slice", () => {
  it("are ASTRA's parallel and fanflat, but for its direction of y", () => {
    const row = { DetectorCount: 6, DetectorWidth: 0.5, ProjectionAngles };
    const ours = { detectorCount: 6, pixelSize: 0.5, angles: ProjectionAngles };
    assert.ok(fromAstra2d({ type: "parallel", ...row }).beam.equals(parallelBeam(ours)));
    const fan = { ...row, DistanceOriginSource: 30, DistanceOriginDetector: 12 };
    assert.ok(fromAstra2d({ type: "fanflat", ...fan }).beam.equals(fanBeam({ ...ours, ...distances })));
    const { volume: object } = fromAstra2d({ type: "parallel", ...row });
    assert.ok(
      object.equals(
        volume({
          shape: [7, 9],
          extent: [
            [-6, 1],
            [-4, 5],
          ],
        }),
      ),
    );
    assert.ok(object.equals(volume({ shape: [7, 9], size: [7, 9], position: [-2.5, 0.5] })));
  });

  it("are the geometries of one row and one slice of height 1", () => {
    const beams = [
      [parallelBeam({ detectorCount: 5, angleCount: 4 }), parallelBeam({ detectorShape: [1, 5], angleCount: 4 })],
      [
        fanBeam({ detectorCount: 5, angleCount: 4, detectorSize: 2, detectorOffset: 0.3, ...distances }),
        coneBeam({
          detectorShape: [1, 5],
          angleCount: 4,
          detectorSize: [1, 2],
          detectorOffset: [0, 0.3],
          ...distances,
        }),
      ],
    ] as const;
    for (const [short, long] of beams) assert.ok(short.equals(long, 0));
    assert.ok(volume({ shape: [3, 4] }).equals(volume({ shape: [1, 3, 4] }), 0));
    assert.ok(volume({ shape: [3, 4], size: 2 }).equals(volume({ shape: [1, 3, 4], size: [1, 2, 2] }), 0));
    const placed = volume({ shape: [3, 4], voxelSize: [2, 0.5], position: [1, -1] });
    assert.ok(placed.equals(volume({ shape: [1, 3, 4], voxelSize: [1, 2, 0.5], position: [0, 1, -1] }), 0));
  });

  it("give sinograms of one row", () => {
    const beam = fanBeam({ angleCount: 5, detectorCount: 12, ...distances });
    using A = operator(volume({ shape: [8, 8] }), beam);
    assert.deepEqual(A.domainShape, [1, 8, 8]);
    assert.deepEqual(A.rangeShape, [1, 5, 12]);
    using sums = A.rowSums();
    const middle = sums.readSync()[6]!;
    assert.ok(Math.abs(middle - 8) < 0.01, `the ray at the middle is ${middle} long`);
  });

  const object = { shape: [1, 7, 8], voxelSize: [0.2, 0.5, 0.4], position: [0, 0.1, -0.2] } as const;
  const angles = [0.2, 0.9, 2.5];
  const inPlane = parallelBeam({ angles, detectorCount: 9, pixelSize: 0.6 });
  const fan = fanBeam({
    angles,
    detectorCount: 9,
    pixelSize: 0.6,
    sourceOriginDistance: 9,
    sourceDetectorDistance: 14,
  });
  const tilted = fan.transform(rotate({ axis: [0, 0, 1], angles: [0.01] }));
  const many = inPlane.transform(rotate({ axis: [1, 0.001, 0], angles: [0.2] }));

  async function project(beam: Beam, options: OperatorOptions): Promise<[ours: Float32Array, model: Float64Array]> {
    const geometry: ModelGeometry = {
      kind: beam.kind,
      shape: [...object.shape],
      voxelSize: [...object.voxelSize],
      position: [...object.position],
      detectorShape: [...beam.detectorShape],
      vectors: beam.vectors,
      detectorSupersampling: options.detectorSupersampling ?? 1,
    };
    const x = seededRandom(3).float32(56);
    using A = operatorOf(geometry, options);
    using on = DeviceArray.from(x, object.shape);
    using y = A(on);
    return [await y.read(), forwardModel(geometry, x)];
  }

  for (const [name, beam] of Object.entries({ inPlane, fan, tilted, many })) {
    it(`are supersampled along the row alone where the rays stay in the slice (${name})`, async () => {
      const [ours, model] = await project(beam, { detectorSupersampling: 3 });
      assert.ok(relativeL2(ours, model) < 2e-6, `relative L2 ${relativeL2(ours, model)}`);
    });
  }

  it("lose nothing to supersampling where they stay in the slice", async () => {
    for (const beam of [inPlane, fan]) {
      const [coarse] = await project(beam, {});
      const [fine] = await project(beam, { detectorSupersampling: 4 });
      const sum = (values: Float32Array) => values.reduce((total, value) => total + value, 0);
      assert.ok(Math.abs(sum(fine) / sum(coarse) - 1) < 0.05, `${sum(fine)} of ${sum(coarse)}`);
    }
  });
});
