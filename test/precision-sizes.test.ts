/** Precisions below float32 at the sizes they are made for, where there is a GPU; small ones on an emulated device and the CPU. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  DeviceArray,
  device,
  type Operator,
  operator,
  type Precision,
  parallelBeam,
  sirt,
  volume,
} from "../lib/index.ts";
import { emulated } from "./support/emulated.ts";
import { promise } from "./support/promise.ts";
import { seededRandom } from "./support/random.ts";

const on = { device: device() };
const isGpu = on.device.name !== "cpu" && !emulated;

function scan(side: number, views: number, precision: Precision): Operator {
  return operator(
    volume({ shape: [side, side, side], size: 1 }),
    parallelBeam({ angleCount: views, detectorShape: [side, 1.5 * side], detectorSize: [1, 1.5] }),
    { precision },
  );
}

/** Noise in [0, 1), noise in [-1, 1), or cubes of four elements a side with one value each. */
function data(kind: "noise" | "signed" | "blocks", shape: readonly number[], seed: number): DeviceArray {
  const noise = DeviceArray.uniform(shape, { seed, minimum: kind === "signed" ? -1 : 0, ...on });
  if (kind !== "blocks") return noise;
  const values = noise.readSync();
  const [, rows, columns] = shape as [number, number, number];
  const first = (i: number) => i - (i % 4);
  for (let i = 0, n = 0; n < values.length; i++)
    for (let j = 0; j < rows; j++)
      for (let k = 0; k < columns; k++, n++) values[n] = values[(first(i) * rows + first(j)) * columns + first(k)]!;
  return noise.writeSync(values);
}

describe("precisions below float32 at size", () => {
  const [side, counts] = isGpu ? [128, [12, 30, 96, 192, 384, 768]] : [16, [12, 96]];
  for (const precision of ["high", "half"] as const)
    for (const views of counts)
      it(`${precision}: whole arrays of ${side} voxels a side, ${views} views`, async () => {
        using A = scan(side, views, precision);
        using F = scan(side, views, "float32");
        for (const [kind, scale] of [
          ["noise", 1],
          ["blocks", 1],
          ["signed", 1],
          ["signed", 1e-20],
          ["signed", 1e20],
        ] as const) {
          using x = data(kind, A.domainShape, 1).mulAssign(scale);
          using y = data(kind, A.rangeShape, 2).mulAssign(scale);
          using Ax = A(x);
          using ATy = A.T(y);
          using Fx = F(x);
          using FTy = F.T(y);
          const forward = (await Ax.distance(Fx)) / (await Fx.norm());
          const back = (await ATy.distance(FTy)) / (await FTy.norm());
          const gap = Math.abs((await Ax.dot(y)) - (await x.dot(ATy))) / ((await Ax.norm()) * (await y.norm()));
          const what = `${kind} times ${scale}: ${forward} forward, ${back} back, gap ${gap}`;
          assert.ok(forward <= promise[precision] && back <= promise[precision] && gap <= promise[precision], what);
        }
      });

  it("a long reconstruction ends where that of float32 does", async () => {
    const [N, iterations] = isGpu ? [256, 500] : [16, 15];
    using A = scan(N, 1.5 * N, "high");
    using F = scan(N, 1.5 * N, "float32");
    using x = data("blocks", F.domainShape, 3);
    using y = F(x);
    using high = await sirt(A, y, { iterations });
    using exact = await sirt(F, y, { iterations });
    const apart = (await high.distance(exact)) / (await exact.norm());
    assert.ok(apart <= 1e-4, `${apart} after ${iterations} iterations`);
  });

  it("thousands of launches of mixed sizes come to an end, and give the bits of the first", () => {
    const random = seededRandom(5);
    const calls = (["high", "half"] as const).flatMap((precision) =>
      (isGpu ? [16, 40, 64, 96] : [16]).flatMap((N) => {
        const A = scan(N, N + 8, precision);
        const x = data("signed", A.domainShape, N);
        const y = data("signed", A.rangeShape, N);
        return [
          { apply: (out?: DeviceArray) => (out ? A(x, { out }) : A(x)), used: [A, x] },
          { apply: (out?: DeviceArray) => (out ? A.T(y, { out }) : A.T(y)), used: [y] },
        ];
      }),
    );
    const results = calls.map(({ apply }) => apply());
    const first = results.map((result) => result.readSync());
    for (let n = isGpu ? 10_000 : 16; n > 0; n--) {
      const k = random.integer(0, calls.length - 1);
      calls[k]!.apply(results[k]!);
    }
    for (const [k, result] of results.entries()) assert.deepEqual(result.readSync(), first[k]);
    for (const thing of [...results, ...calls.flatMap(({ used }) => used)]) thing.dispose();
  });
});
