/** Precision `half` of cone beams in law `astra`: four samples that share a place. On the CPU it is float32. */

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Beam, coneBeam, DeviceArray, device, operator, type Volume, volume } from "../lib/index.ts";
import { check, checkEpilogues, data } from "./support/precision.ts";
import { promise } from "./support/promise.ts";

const on = { device: device() };
const onGpu = on.device.name !== "cpu";
const rules = { law: "astra", precision: "half" } as const;
const distances = { sourceOriginDistance: 40, sourceDetectorDistance: 70 };

/** Volumes and beams that the plane of the source halves. */
const halved: Readonly<Record<string, readonly [Volume, Beam]>> = {
  "a full circle": [
    volume({ shape: [16, 16, 16] }),
    coneBeam({ angleCount: 24, detectorShape: [24, 36], pixelSize: 1.3, ...distances }),
  ],
  "an odd number of views, odd sizes": [
    volume({ shape: [19, 13, 35], voxelSize: [1, 1.2, 0.7] }),
    coneBeam({ angleCount: 11, detectorShape: [23, 31], pixelSize: [1.1, 1.6], ...distances }),
  ],
  "a full circle, odd sizes": [
    volume({ shape: [15, 12, 17], voxelSize: [1, 0.8, 1.1] }),
    coneBeam({ angleCount: 10, detectorShape: [21, 33], pixelSize: [1.2, 1.4], ...distances }),
  ],
  "angles in no order, some twice, some with an opposite": [
    volume({ shape: [9, 18, 17] }),
    coneBeam({
      angles: [0, 2.5, -1.2, Math.PI, Math.PI / 4, 2.5, 4.4, Math.PI / 2, 7, 0.01, 2.5 + Math.PI],
      detectorShape: [10, 40],
      pixelSize: 1.2,
      ...distances,
    }),
  ],
  "many slices, a low detector": [
    volume({ shape: [150, 8, 9], size: [90, 8, 9] }),
    coneBeam({ angleCount: 4, detectorShape: [12, 20], pixelSize: 1.7, ...distances }),
  ],
  "fine pixels, a volume aside": [
    volume({ shape: [20, 24, 10] }).translate([0, 2, -5]),
    coneBeam({ angleCount: 6, detectorShape: [60, 90], pixelSize: 0.9, ...distances }),
  ],
};

describe("half-precision cone beams", () => {
  for (const [name, [object, beam]] of Object.entries(halved))
    it(`keep their promise: ${name}`, () => {
      using A = operator(object, beam, rules);
      if (onGpu) assert.match(A.description, /^astra, half/);
      for (const kind of ["noise", "blocks", "signed"] as const)
        for (const scale of kind === "signed" ? [1, 1e-20, 1e20] : [1])
          check(
            A,
            data(kind, A.domainShape, 1),
            data(kind, A.rangeShape, 2),
            scale,
            promise.half,
            `${kind} * ${scale}`,
          );
    });

  it("keep their promise where there is enough work for chunks of 64 slices, or rows", () => {
    const far = { sourceOriginDistance: 1000, sourceDetectorDistance: 1800 };
    for (const [object, beam] of [
      [volume({ shape: [70, 17, 530] }), coneBeam({ angleCount: 2, detectorShape: [80, 560], pixelSize: 1.9, ...far })],
      [
        volume({ shape: [40, 8, 9] }),
        coneBeam({ angleCount: 32, detectorShape: [70, 540], pixelSize: [1.1, 0.04], ...far }),
      ],
    ] as const) {
      using A = operator(object, beam, rules);
      const [x, y] = [data("signed", A.domainShape, 1), data("signed", A.rangeShape, 2)];
      check(A, x, y, 1, promise.half, A.description, promise.halfConeForward);
    }
  });

  it("are float32 where the plane of the source does not halve volume and detector, in law exact, and in high", () => {
    const [object, beam] = halved["a full circle"]!;
    for (const [thing, law, precision] of [
      [object.translate([0.1, 0, 0]), "astra", "half"],
      [object, "exact", "half"],
      [object, "astra", "high"],
    ] as const) {
      using other = operator(thing, beam, { law, precision });
      using float32 = operator(thing, beam, { law });
      assert.equal(other.description, float32.description);
    }
  });

  it("add, subtract, weigh and clamp in batches as those of float32 do, and repeat bit by bit", () => {
    const [object, beam] = halved["an odd number of views, odd sizes"]!;
    using A = operator(object, beam, rules);
    checkEpilogues(A, promise.half);
  });

  it("pass on what is not finite to those that see it, and leave the rest as it is", () => {
    const [object, beam] = halved["a full circle"]!;
    using A = operator(object, beam, rules);
    using F = operator(object, beam, { law: "astra", device: device("cpu") });
    for (const back of [false, true])
      for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
        const shape = back ? A.rangeShape : A.domainShape;
        const clean = data("signed", shape, 7);
        const dirty = clean.slice();
        dirty[Math.floor(dirty.length * 0.37)] = value;
        const [have, unspoilt, want] = [
          { P: A, values: dirty },
          { P: A, values: clean },
          { P: F, values: dirty },
        ].map(({ P, values }) => {
          using input = DeviceArray.from(values, shape, { device: P.device });
          using output = (back ? P.T : P)(input);
          return output.readSync();
        });
        assert.ok(want!.some((one) => !Number.isFinite(one)) && want!.some(Number.isFinite));
        for (const i of want!.keys())
          if (Number.isFinite(want![i])) assert.equal(have![i], unspoilt![i], `${value}: element ${i}`);
          else assert.ok(!Number.isFinite(have![i]), `${value}: element ${i} is ${have![i]}`);
      }
  });
});
