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

describe("a CUDA device and the CPU", { skip }, () => {
  for (const law of laws)
    for (const kind of geometryKinds)
      it(`agree in law ${law}: ${kind}`, () => {
        const random = seededRandom(geometryKinds.indexOf(kind) + 70);
        for (let trial = 0; trial < 8; trial++) {
          const geometry = randomGeometry(kind, random, { maxViews: 7 });
          using reference = operatorOf(geometry, { law, device: cpu });
          const expected = everything(reference);
          for (const gpu of gpus) {
            using A = operatorOf(geometry, { law, device: gpu });
            const found = everything(A);
            const again = everything(A);
            for (const [k, name] of names.entries()) {
              const error = differs(found[k]!, expected[k]!);
              assert.ok(error <= 5e-6, `${name} on ${gpu.name} differs by ${error}: trial ${trial}, ${A.description}`);
              assert.deepEqual(again[k]!.readSync(), found[k]!.readSync(), `${name} twice: trial ${trial}`);
            }
            for (const array of [...found, ...again]) array.dispose();
          }
          for (const array of expected) array.dispose();
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
