/** The option `precision`: what is refused, and what the operators promise, for data of every kind and any number of views. */

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  DeviceArray,
  device,
  type Operator,
  operator,
  type Precision,
  parallelBeam,
  RaysumError,
  sirt,
  volume,
} from "../lib/index.ts";
import { check, checkEpilogues, data } from "./support/precision.ts";
import { promise } from "./support/promise.ts";
import { relativeL2 } from "./support/random.ts";

const lower = ["high", "half"] as const;
const on = { device: device() };
const onGpu = on.device.name !== "cpu";

const box = volume({ shape: [2, 8, 8] });
const beam = parallelBeam({ angleCount: 3, detectorShape: [2, 12] });

describe("the option precision", () => {
  it("is float32 unless asked for, and is kept by the operator", () => {
    for (const precision of ["float32", ...lower] as const) {
      using A = operator(box, beam, { precision });
      assert.equal(A.precision, precision);
    }
    using A = operator(box, beam);
    assert.equal(A.precision, "float32");
  });

  it("refuses what it does not know", () => {
    for (const precision of ["double", "High", "", 16, null, {}, "toString"])
      assert.throws(
        () => operator(box, beam, { precision: precision as Precision }),
        (error) =>
          error instanceof RaysumError &&
          error.code === "argument" &&
          /^precision .*: expected "float32", "high" or "half"$/.test(error.message),
      );
  });

  it("says what runs: float32 on the CPU and for geometries without other kernels", () => {
    const thick = volume({ shape: [17, 8, 8] });
    const tall = parallelBeam({ angleCount: 3, detectorShape: [17, 12] });
    for (const precision of lower) {
      using cpu = operator(thick, tall, { precision, device: device("cpu") });
      using cpuFloat = operator(thick, tall, { device: device("cpu") });
      assert.equal(cpu.description, cpuFloat.description);
      using thin = operator(box, beam, { precision });
      using thinFloat = operator(box, beam);
      assert.equal(thin.description, thinFloat.description);
      using supersampled = operator(thick, tall, { precision, detectorSupersampling: 2 });
      using supersampledFloat = operator(thick, tall, { detectorSupersampling: 2 });
      assert.equal(supersampled.description, supersampledFloat.description);
      using A = operator(thick, tall, { precision });
      if (onGpu) assert.match(A.description, /^matrix/);
    }
  });
});

describe("operators of lower precision", () => {
  // 16 slices are the fewest that go to tensor cores; on the CPU as on the emulated device these sizes take a second.
  const N = 16;
  for (const precision of lower)
    for (const views of [12, 30, 96, 192])
      it(`keep their promise at ${views} views, ${precision}`, () => {
        using A = operator(
          volume({ shape: [N, N, N], size: 1 }),
          parallelBeam({ angleCount: views, detectorShape: [N, 24], detectorSize: [1, 1.5] }),
          { precision },
        );
        for (const kind of views <= 30 ? (["noise", "blocks", "signed"] as const) : (["signed"] as const))
          for (const scale of views <= 30 ? [1, 1e-20, 1e20] : [1])
            check(
              A,
              data(kind, A.domainShape, 1),
              data(kind, A.rangeShape, 2),
              scale,
              promise[precision],
              `${kind} times ${scale}`,
            );
      });

  const geometries = {
    "odd sizes, narrow detector": () =>
      operator(volume({ shape: [19, 13, 35] }), parallelBeam({ angleCount: 11, detectorShape: [19, 21] }), {
        precision: "high",
      }),
    "fine columns": () =>
      operator(
        volume({ shape: [16, 20, 18] }),
        parallelBeam({ angleCount: 5, detectorShape: [16, 90], pixelSize: [1, 0.5] }),
        {
          precision: "high",
        },
      ),
    "coarse columns": () =>
      operator(
        volume({ shape: [16, 40, 36] }),
        parallelBeam({ angleCount: 5, detectorShape: [16, 30], pixelSize: [1, 1.35] }),
        {
          precision: "high",
        },
      ),
    "two angles, wide windows": () =>
      operator(volume({ shape: [16, 90, 84] }), parallelBeam({ angles: [0.7, 0.9], detectorShape: [16, 130] }), {
        precision: "high",
      }),
    "two angles, wide windows, half": () =>
      operator(volume({ shape: [16, 90, 84] }), parallelBeam({ angles: [0.7, 0.9], detectorShape: [16, 130] }), {
        precision: "half",
      }),
    "three angles, wide windows, law astra": () =>
      operator(volume({ shape: [16, 90, 93] }), parallelBeam({ angleCount: 3, detectorShape: [16, 150] }), {
        precision: "high",
        law: "astra",
      }),
    "an offset volume of flat voxels": () =>
      operator(
        volume({ shape: [18, 22, 30], voxelSize: [0.7, 1.3, 0.9] }).translate([0.4, 3.1, -6.3]),
        parallelBeam({ angleCount: 9, detectorShape: [20, 40], pixelSize: [0.6, 1.1] }),
        { precision: "high" },
      ),
    "few angles in no order, some twice, from every side": () =>
      operator(
        volume({ shape: [16, 33, 17] }),
        parallelBeam({ angles: [2.5, 0, -1.2, Math.PI / 4, 2.5, 4.4, Math.PI / 2, 7, 0.01], detectorShape: [16, 50] }),
        { precision: "high" },
      ),
    "law astra": () =>
      operator(volume({ shape: [19, 33, 30] }), parallelBeam({ angleCount: 24, detectorShape: [17, 41] }), {
        precision: "high",
        law: "astra",
      }),
    "rows between slices": () =>
      operator(
        volume({ shape: [24, 12, 12] }),
        parallelBeam({ angleCount: 4, detectorShape: [17, 18], pixelSize: [1.3, 1] }),
        {
          precision: "high",
        },
      ),
  };
  for (const [name, make] of Object.entries(geometries))
    it(`keep their promise: ${name}`, () => {
      using A = make();
      if (onGpu) assert.match(A.description, /^matrix/);
      const most = promise[A.precision === "half" ? "half" : "high"];
      check(A, data("signed", A.domainShape, 3), data("signed", A.rangeShape, 4), 1, most, A.description);
    });

  it("keep their promise, as float32 does, where rays run along voxels and columns meet them exactly", () => {
    const cases = [
      { side: 33, views: 8, columns: 33, pixel: Math.SQRT1_2 }, // columns at 157.5 degrees begin between two numbers of float32
      { side: 24, views: 64, columns: 36, pixel: Math.SQRT2 }, // at 90 degrees a ray ends one voxel before the volume
      { side: 64, views: 128, columns: 96, pixel: 1 },
      { side: 16, views: 4, columns: 24, pixel: Math.SQRT2 }, // at 45 degrees two voxels from ray to ray
    ];
    for (const law of ["exact", "astra"] as const)
      for (const { side, views, columns, pixel } of cases)
        for (const precision of ["float32", "high"] as const) {
          using A = operator(
            volume({ shape: [17, side, side] }),
            parallelBeam({ angleCount: views, detectorShape: [17, columns], pixelSize: [1, pixel] }),
            { law, precision },
          );
          const what = `${side} voxels, ${views} views, pixels of ${pixel}, law ${law}, ${precision}`;
          check(
            A,
            data("noise", A.domainShape, 3),
            data("noise", A.rangeShape, 4),
            1,
            law === "exact" ? 5e-6 : 1e-4,
            what,
          );
        }
  });

  it("take batches whose items differ by 40 powers of ten, and repeat bit by bit", () => {
    using A = operator(volume({ shape: [17, 9, 10] }), parallelBeam({ angleCount: 6, detectorShape: [17, 14] }), {
      precision: "high",
    });
    using F = operator(A.volume, A.beam, { device: device("cpu") });
    const items = [1e-20, 1, 1e20].map((scale, i) =>
      data("signed", A.domainShape, i).map((v) => Math.fround(v * scale)),
    );
    using x = DeviceArray.from(Float32Array.from(items.flatMap((item) => [...item])), [3, ...A.domainShape], on);
    using Ax = A(x);
    using again = A(x);
    const values = Ax.readSync();
    assert.deepEqual(again.readSync(), values);
    for (const [i, item] of items.entries()) {
      using one = DeviceArray.from(item, F.domainShape, { device: F.device });
      using expected = F(one);
      const size = expected.size;
      const error = relativeL2(
        values.subarray(i * size, (i + 1) * size).map((v) => v / 1e20 ** (i - 1)),
        expected.readSync().map((v) => v / 1e20 ** (i - 1)),
      );
      assert.ok(error <= promise.high, `item ${i}: ${error}`);
    }
  });

  it("add, subtract, weigh and clamp as those of float32 do, and repeat bit by bit", () => {
    using A = operator(volume({ shape: [18, 9, 12] }), parallelBeam({ angleCount: 5, detectorShape: [18, 16] }), {
      precision: "high",
    });
    checkEpilogues(A, promise.high);
  });

  for (const precision of lower)
    it(`pass on what is not finite, and leave the rest as it is, ${precision}`, () => {
      // At angle 0 the ray of column u runs through the voxels at x = u - 12.
      using A = operator(volume({ shape: [16, 24, 24] }), parallelBeam({ angleCount: 1, detectorShape: [16, 48] }), {
        precision,
      });
      const [slice, x, y, column] = [5, 8, 12, 20];
      const cases = [
        { apply: (v: DeviceArray) => A(v), shape: A.domainShape, bad: (slice * 24 + y) * 24 + x },
        { apply: (v: DeviceArray) => A.T(v), shape: A.rangeShape, bad: slice * 48 + column },
      ];
      for (const { apply, shape, bad } of cases)
        for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
          const clean = data("noise", shape, 7);
          const dirty = clean.slice();
          dirty[bad] = value;
          using cleanArray = DeviceArray.from(clean, shape, on);
          using dirtyArray = DeviceArray.from(dirty, shape, on);
          using expected = apply(cleanArray);
          using actual = apply(dirtyArray);
          const [want, have] = [expected.readSync(), actual.readSync()];
          const length = expected.shape.at(-1)!;
          const met = length === 48 ? column : x;
          const lane = want.length / 16;
          for (const i of want.keys()) {
            const inLane = Math.floor(i / lane) === slice;
            if (inLane && i % length === met)
              assert.ok(!Number.isFinite(have[i]!), `${value}: element ${i} is ${have[i]}`);
            else if (!inLane || Math.abs((i % length) - met) >= 16)
              assert.equal(have[i], want[i], `${value}: element ${i}`); // tiles have up to 16 neighbours
          }
        }
    });

  it("scale every slice by itself, whatever its values", () => {
    using A = operator(volume({ shape: [16, 10, 12] }), parallelBeam({ angleCount: 7, detectorShape: [16, 18] }), {
      precision: "high",
    });
    using F = operator(A.volume, A.beam, { device: device("cpu") });
    // To what float32 holds and float16 does not; the last one mixes 60 powers of ten, the first is zero, the second subnormal.
    const scales = [0, 1e-40, 1e-37, 1e-30, 1e-10, 6e-8, 1e-5, 1, 100, 65504, 65536, 1e8, 1e20, 1e30, 1e36];
    for (const back of [false, true]) {
      const shape = back ? A.rangeShape : A.domainShape;
      const values = data("signed", shape, 9);
      const lane = values.length / 16;
      for (const i of values.keys()) {
        const slice = Math.floor(i / lane);
        values[i] = Math.fround(values[i]! * (scales[slice] ?? 10 ** ((i % 61) - 30)));
      }
      using actual = (back ? A.T : A)(DeviceArray.from(values, shape, on));
      using expected = (back ? F.T : F)(DeviceArray.from(values, shape, { device: F.device }));
      const [have, want] = [actual.readSync(), expected.readSync()];
      for (const [slice, scale] of [...scales, 1e30].entries()) {
        // Subnormal numbers have few digits, in float32 too.
        const most = scale === 1e-40 ? 1e-4 : promise.high;
        const part = (all: Float32Array) =>
          all.subarray((slice * all.length) / 16, ((slice + 1) * all.length) / 16).map((v) => v / (scale || 1));
        if (scale === 0) assert.ok(part(have).every((v) => v === 0));
        else
          assert.ok(
            relativeL2(part(have), part(want)) <= most,
            `${scale}, back ${back}: ${relativeL2(part(have), part(want))}`,
          );
      }
    }
  });

  it("give zero for zeros", () => {
    for (const precision of lower) {
      using A = operator(volume({ shape: [16, 8, 8] }), parallelBeam({ angleCount: 2, detectorShape: [16, 12] }), {
        precision,
      });
      using x = DeviceArray.zeros(A.domainShape, on);
      using Ax = A(x);
      assert.ok(Ax.readSync().every((value) => value === 0));
    }
  });

  it("reconstruct what float32 reconstructs", async () => {
    const [A, F] = (["high", "float32"] as const).map((precision) =>
      operator(volume({ shape: [16, 12, 12] }), parallelBeam({ angleCount: 16, detectorShape: [16, 18] }), {
        precision,
      }),
    ) as [Operator, Operator];
    using x = DeviceArray.from(data("blocks", A.domainShape, 8), A.domainShape, on);
    using y = F(x);
    using high = await sirt(A, y, { iterations: 30 });
    using exact = await sirt(F, y, { iterations: 30 });
    const error = relativeL2(high.readSync(), exact.readSync());
    assert.ok(error <= 1e-4, `${error}`);
    A.dispose();
    F.dispose();
  });
});
