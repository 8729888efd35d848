/** Every GPU computes what the CPU computes, of the same numbers, and the same bits every time. */

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  coneBeam,
  type Device,
  DeviceArray,
  device,
  devices,
  hollowBox,
  type Law,
  type Operator,
  operator,
  parallelBeam,
  rotate,
  sirt,
  volume,
} from "../lib/index.ts";
import { operatorOf } from "./support/operators.ts";
import { geometryKinds, randomGeometry, relativeL2, seededRandom } from "./support/random.ts";

const cpu = device("cpu");
const gpus = devices().slice(1);
const skip = gpus.length === 0 && "there is no CUDA device";
const laws: readonly Law[] = ["exact", "astra"];

function differs(actual: DeviceArray, expected: DeviceArray): number {
  return relativeL2(actual.readSync(), expected.readSync());
}

/** Everything an operator does, in a batch of two, with the same inputs on every device. */
function everything(A: Operator): DeviceArray[] {
  const on = { device: A.device };
  const [volumes, projections] = [
    [2, ...A.domainShape],
    [2, ...A.rangeShape],
  ];
  using x = DeviceArray.uniform(volumes, { seed: 1, ...on });
  using y = DeviceArray.uniform(projections, { seed: 2, ...on });
  using weights = DeviceArray.uniform(A.rangeShape, { seed: 3, minimum: -0.5, ...on });
  using scale = DeviceArray.uniform(A.domainShape, { seed: 4, ...on });
  const norm = DeviceArray.zeros([4], on);
  const Ax = A(x);
  const added = DeviceArray.uniform(projections, { seed: 5, ...on });
  A(x, { out: added, accumulate: true });
  const ATy = A.T(y);
  const sum = DeviceArray.uniform(volumes, { seed: 6, ...on });
  A.T(y, { out: sum, accumulate: true });
  const residual = A.residual(x, y, { weights, norm });
  const updated = A.update(x.clone(), y, { scale, relaxation: 0.1, minimum: 0.2, maximum: 2 });
  const norms = DeviceArray.from(Float32Array.from(new Float64Array(norm.readSync().buffer)), [2], on);
  norm.dispose();
  return [Ax, added, ATy, sum, residual, updated, norms];
}

const names = ["forward", "forward added", "back", "back added", "residual", "update", "norm of the residual"];

/** Asserts that every GPU does what the CPU does, and the same bits again. */
function agree(make: (device: Device) => Operator, what: string): void {
  using reference = make(cpu);
  const expected = everything(reference);
  for (const gpu of gpus) {
    using A = make(gpu);
    const found = everything(A);
    const again = everything(A);
    for (const [k, name] of names.entries()) {
      const error = differs(found[k]!, expected[k]!);
      assert.ok(error <= 5e-6, `${name} on ${gpu.name} differs by ${error}: ${what}, ${A.description}`);
      assert.deepEqual(again[k]!.readSync(), found[k]!.readSync(), `${name} twice: ${what}`);
    }
    for (const array of [...found, ...again]) array.dispose();
  }
  for (const array of expected) array.dispose();
}

describe("a CUDA device and the CPU", { skip }, () => {
  for (const law of laws)
    for (const kind of geometryKinds)
      it(`agree in law ${law}: ${kind}`, () => {
        const random = seededRandom(geometryKinds.indexOf(kind) + 70);
        for (let trial = 0; trial < 8; trial++) {
          const geometry = randomGeometry(kind, random, { maxViews: 7 });
          agree((on) => operatorOf(geometry, { law, device: on }), `trial ${trial}`);
        }
      });

  it("agree on curved detectors from narrow to nearly flat ones, upright and tilted", () => {
    const object = volume({ shape: [20, 23, 26], size: 1 });
    const distances = { sourceOriginDistance: 2, sourceDetectorDistance: 4 };
    for (const detectorCurvatureRadius of [1.1, 2, 4, 60, 1e5, 1e9]) {
      const still = { detectorShape: [21, 33], detectorSize: [2, 3], detectorCurvatureRadius, ...distances } as const;
      const beam = coneBeam({ angleCount: 7, ...still });
      for (const gpu of gpus) {
        using A = operator(object, beam, { device: gpu });
        assert.match(A.description, detectorCurvatureRadius < 1e6 ? /^upright/ : /^general/);
      }
      const tilted = beam.transform(rotate({ axis: [0.2, 1, 0], angles: [0.2] }));
      const near = coneBeam({ angleCount: 3, ...still, detectorShape: [21, 5] });
      for (const views of [beam, tilted, near])
        agree((device) => operator(object, views, { device }), `radius ${detectorCurvatureRadius}`);
    }
  });

  // A thousand blocks of rays: views whose neighbours have another main axis share none. Places along the columns are counted in fixed
  // point there, so that one in some thousand is rounded to another 256th of a voxel.
  for (const detectorShape of [
    [8, 37],
    [40, 3],
    [70, 2],
  ] as const)
    it(`agree in law astra where there is enough work for shared memory: ${detectorShape.join(" x ")} pixels`, () => {
      const angles = Array.from({ length: 1100 / Math.ceil(detectorShape[1] / 16) }, (_, block) =>
        Array.from({ length: 1 + (block % 3) }, (_, view) => 0.02 * view + 0.01 * block + (block % 2) * (Math.PI / 2)),
      ).flat();
      const object = volume({ shape: [13, 9, 10], size: [1.3, 0.9, 1.1] });
      const size = { detectorShape, detectorSize: [1.6, 1.8] } as const;
      const cone = coneBeam({ angles, ...size, sourceOriginDistance: 2, sourceDetectorDistance: 2.5 });
      for (const beam of [cone, parallelBeam({ angles, ...size })]) {
        const project = (on: Device): [Float32Array, number] => {
          using A = operator(object, beam, { law: "astra", device: on });
          using x = DeviceArray.uniform(A.domainShape, { seed: 1, device: on });
          using y = DeviceArray.uniform(A.rangeShape, { seed: 2, device: on });
          using norm = DeviceArray.zeros([2], { device: on });
          using residual = A.residual(x, y, { weights: y, norm });
          return [residual.readSync(), new Float64Array(norm.readSync().buffer)[0]!];
        };
        const [expected, expectedNorm] = project(cpu);
        for (const gpu of gpus) {
          const [found, norm] = project(gpu);
          const error = relativeL2(found, expected);
          assert.ok(error <= (beam === cone ? 5e-5 : 5e-6), `${beam.kind} on ${gpu.name}: ${error}`);
          assert.ok(Math.abs(norm / expectedNorm - 1) <= 1e-5, `${beam.kind} on ${gpu.name}: norm ${norm}`);
          assert.deepEqual(project(gpu), [found, norm]);
        }
      }
    });

  // What the plane of the source halves is projected back two voxels at a time, in chunks of 128, 64 or 32 slices.
  for (const [name, shape, cone] of [
    ["small, odd sizes", [19, 13, 35], { angleCount: 11, detectorShape: [23, 31], pixelSize: [1.1, 1.6] }],
    ["chunks of 64 slices", [70, 17, 530], { angleCount: 3, detectorShape: [80, 560], pixelSize: 1.9 }],
    ["chunks of 128 slices", [199, 15, 800], { angleCount: 2, detectorShape: [300, 860], pixelSize: 1.9 }],
  ] as const)
    it(`agree back in law astra where the source's plane halves a cone, and where not: ${name}`, () => {
      const object = volume({ shape });
      const distances =
        shape[2] > 100
          ? { sourceOriginDistance: 1000, sourceDetectorDistance: 1800 }
          : { sourceOriginDistance: 40, sourceDetectorDistance: 70 };
      const beam = coneBeam({ ...cone, ...distances });
      for (const thing of [object, object.translate([0.1, 0, 0])]) {
        const back = (on: Device): Float32Array => {
          using A = operator(thing, beam, { law: "astra", device: on });
          using y = DeviceArray.uniform(A.rangeShape, { seed: 3, minimum: -1, device: on });
          using x = A.T(y);
          return x.readSync();
        };
        const expected = back(cpu);
        for (const gpu of gpus) {
          const found = back(gpu);
          assert.ok(relativeL2(found, expected) <= 5e-5, `on ${gpu.name}: ${relativeL2(found, expected)}`);
          assert.deepEqual(back(gpu), found);
        }
      }
    });

  const N = 24;
  const object = volume({ shape: [N, N, N], size: 1 });
  const beams = {
    parallel: parallelBeam({ angleCount: 36, detectorShape: [N, 36], detectorSize: [1, 1.5] }),
    cone: coneBeam({
      angleCount: 36,
      detectorShape: [N, 36],
      detectorSize: [2, 3],
      sourceOriginDistance: 2,
      sourceDetectorDistance: 4,
    }),
  };
  for (const law of laws)
    for (const [kind, beam] of Object.entries(beams))
      it(`reconstruct the same in law ${law}: ${kind} beam`, async () => {
        const reconstruct = async (on: Device) => {
          using A = operator(object, beam, { device: on, law });
          using phantom = hollowBox(A);
          using y = A(phantom);
          using x = await sirt(A, y, { iterations: 40, min: 0 });
          return x.readSync();
        };
        const expected = await reconstruct(cpu);
        for (const gpu of gpus) {
          const found = await reconstruct(gpu);
          assert.ok(relativeL2(found, expected) <= 1e-4, `on ${gpu.name}: ${relativeL2(found, expected)}`);
          assert.deepEqual(await reconstruct(gpu), found);
        }
      });

  it("share no arrays: an array of another device is refused", () => {
    using A = operator(object, beams.parallel, { device: cpu });
    for (const gpu of gpus) {
      using x = DeviceArray.zeros(A.domainShape, { device: gpu });
      assert.throws(() => A(x), { code: "device", message: new RegExp(`${gpu.name}`) });
    }
  });
});
