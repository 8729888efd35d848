import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  coneBeam,
  DeviceArray,
  device,
  hollowBox,
  operator,
  parallelBeam,
  reciprocal,
  scope,
  sirt,
  volume,
} from "../lib/index.ts";
import { emulated } from "./support/emulated.ts";
import { operatorOf } from "./support/operators.ts";
import { patience } from "./support/patience.ts";
import { randomGeometry, relativeL2, seededRandom } from "./support/random.ts";
import { backModel, forwardModel } from "./support/ray_model.ts";

/** Runs a test and checks that it leaves nothing on the device. */
function balanced(body: () => Promise<void>): () => Promise<void> {
  return async () => {
    const before = device().memory();
    await body();
    const after = device().memory();
    assert.equal(after.inUse, before.inUse, "bytes left behind");
    assert.equal(after.arrays, before.arrays, "arrays left behind");
  };
}

const size = 24;
const object = volume({ shape: [size, size, size], size: 1 });
const beams = {
  parallel: parallelBeam({ angleCount: 36, detectorShape: [size, 36], detectorSize: [1, 1.5] }),
  cone: coneBeam({
    angleCount: 36,
    detectorShape: [size, 36],
    detectorSize: [2, 3],
    sourceOriginDistance: 2,
    sourceDetectorDistance: 4,
  }),
};

describe("SIRT against the same method in float64", () => {
  const masks = { none: false, both: true };
  for (const [name, masked] of Object.entries(masks))
    it(
      `masks: ${name}; bounds, relaxation and start`,
      balanced(async () => {
        const random = seededRandom(4);
        const geometry = randomGeometry("parallelAxis", random, { maxCount: 12, maxViews: 8 });
        using A = operatorOf(geometry);
        using y = DeviceArray.uniform(A.rangeShape, { seed: 1, minimum: 0 });
        using initial = DeviceArray.uniform(A.domainShape, { seed: 2 });
        using volumeMask = DeviceArray.uniform(A.domainShape, { seed: 3, minimum: -1, maximum: 3 });
        using projectionMask = DeviceArray.uniform(A.rangeShape, { seed: 4, minimum: -1, maximum: 3 });
        const binary = (array: DeviceArray) => {
          const values = array.readSync().map((value) => (value > 0 ? 1 : 0));
          array.writeSync(values);
          return Array.from(masked ? values : values.fill(1));
        };
        const inVolume = binary(volumeMask);
        const inProjections = binary(projectionMask);
        const bounds = { min: -0.1, max: 0.8 };
        const iterations = 6;
        const relaxation = 0.7;
        using result = await sirt(A, y, {
          iterations,
          relaxation,
          initial,
          ...bounds,
          ...(masked && { volumeMask, projectionMask }),
        });

        const inverse = (sums: Float64Array, mask: number[]) => {
          const least = 1e-6 * sums.reduce((a, b) => Math.max(a, b), 0);
          return sums.map((sum, i) => (sum > least ? mask[i]! / sum : 0));
        };
        const R = inverse(forwardModel(geometry, inVolume), inProjections);
        const C = inverse(backModel(geometry, inProjections), inVolume);
        const measured = y.readSync();
        let x = Float64Array.from(initial.readSync(), (value, i) => value * inVolume[i]!);
        for (let k = 0; k < iterations; k++) {
          const r = forwardModel(geometry, x).map((value, i) => R[i]! * (measured[i]! - value));
          const step = backModel(geometry, r);
          x = x.map((value, i) => Math.min(bounds.max, Math.max(bounds.min, value + relaxation * C[i]! * step[i]!)));
        }
        assert.ok(relativeL2(result.readSync(), x) < 5e-6, `${relativeL2(result.readSync(), x)}`);
      }),
    );
});

for (const [name, beam] of Object.entries(beams))
  describe(`SIRT, ${name} beam`, () => {
    it(
      "in one line and fused agree",
      balanced(async () => {
        using A = operator(object, beam);
        using phantom = hollowBox(A);
        using y = A(phantom);
        using R = scope(() => reciprocal(A.rowSums()));
        using C = scope(() => reciprocal(A.columnSums()));
        using x = DeviceArray.zeros(A.domainShape);
        for (let k = 0; k < 30; k++) scope(() => x.addAssign(C.mul(A.T(R.mul(y.sub(A(x)))))));
        using fused = await sirt(A, y, { iterations: 30 });
        assert.ok((await x.distance(fused)) <= 1e-5 * (await fused.norm()));
        assert.ok((await fused.distance(phantom)) < 0.3 * (await phantom.norm()));
      }),
    );

    it(
      "resumes bit by bit, and steps are the same iterations",
      balanced(async () => {
        using A = operator(object, beam);
        using phantom = hollowBox(A);
        using y = A(phantom);
        using whole = await sirt(A, y, { iterations: 9, min: 0 });
        using first = await sirt(A, y, { iterations: 4, min: 0 });
        using second = await sirt(A, y, { iterations: 5, min: 0, initial: first });
        assert.deepEqual(second.readSync(), whole.readSync());
        const residuals: number[] = [];
        for await (const { iteration, estimate, residual } of sirt.steps(A, y, { iterations: 9, min: 0 })) {
          residuals.push(residual);
          if (iteration === 4) assert.deepEqual(estimate.readSync(), first.readSync());
        }
        const told: number[] = [];
        using again = await sirt(A, y, { iterations: 9, min: 0, onProgress: ({ residual }) => told.push(residual) });
        assert.deepEqual(again.readSync(), whole.readSync());
        assert.deepEqual(told, residuals);
        assert.ok(
          residuals.every((value, i) => i === 0 || value < residuals[i - 1]!),
          `${residuals}`,
        );
        using startNorm = y.clone();
        assert.ok(Math.abs(residuals[0]! - (await startNorm.norm())) < 1e-5 * residuals[0]!);
      }),
    );

    it(
      "does not care what masked measurements say",
      balanced(async () => {
        using A = operator(object, beam);
        using phantom = hollowBox(A);
        using y = A(phantom);
        const mask = new Float32Array(y.size).map((_, i) => (i % 7 === 0 ? 0 : 1));
        using projectionMask = DeviceArray.from(mask, A.rangeShape);
        using spoiled = DeviceArray.from(
          y.readSync().map((value, i) => (mask[i] === 0 ? 1e6 : value)),
          A.rangeShape,
        );
        const options = { iterations: 5, projectionMask };
        using clean = await sirt(A, y, options);
        using dirty = await sirt(A, spoiled, options);
        using unmasked = await sirt(A, spoiled, { iterations: 5 });
        assert.deepEqual(dirty.readSync(), clean.readSync());
        assert.ok((await unmasked.distance(clean)) > (await clean.norm()));
      }),
    );

    it(
      "reconstructs a batch as it does each item",
      balanced(async () => {
        using A = operator(object, beam);
        using y = DeviceArray.uniform([3, ...A.rangeShape], { seed: 1 });
        using x = await sirt(A, y, { iterations: 3 });
        for (let item = 0; item < 3; item++) {
          using one = await sirt(A, y.part(item, item + 1).reshape(A.rangeShape), { iterations: 3 });
          assert.ok(relativeL2(x.part(item, item + 1).readSync(), one.readSync()) < 1e-6);
        }
      }),
    );

    it(
      "needs at most two volumes and two projection stacks above its inputs",
      balanced(async () => {
        using A = operator(object, beam);
        using y = DeviceArray.uniform(A.rangeShape, { seed: 1 });
        (await sirt(A, y, { iterations: 1 })).dispose(); // an operator of a few slices takes its workspace when it is called
        const before = A.device.memory().inUse;
        let most = 0;
        using _x = await sirt(A, y, {
          iterations: 3,
          onProgress: () => {
            most = Math.max(most, A.device.memory().inUse - before);
          },
        });
        const [slice = 0, stack = 0] = [A.domainShape, A.rangeShape].map((shape) => 4 * shape.reduce((a, b) => a * b));
        assert.ok(most > 0 && most <= 2 * slice + 2 * stack + 4096, `${most} bytes`);
      }),
    );
  });

describe("SIRT and the event loop", () => {
  // Large enough that an iteration takes some milliseconds, on a CPU tens.
  const slow = (side = emulated ? 16 : 128) =>
    operator(
      volume({ shape: [side / 2, side, side] }),
      parallelBeam({ angleCount: 2 * side, detectorShape: [side / 2, 1.5 * side] }),
    );

  it(
    "an abort rejects with the signal's reason within 50 ms, and frees everything",
    balanced(async () => {
      using A = slow();
      using y = DeviceArray.uniform(A.rangeShape, { seed: 1 });
      const controller = new AbortController();
      const reason = new Error("enough");
      let aborted = 0;
      const run = sirt(A, y, {
        iterations: 10000,
        signal: controller.signal,
        onProgress: ({ iteration }) => {
          if (iteration !== 2) return;
          setTimeout(() => {
            aborted = performance.now();
            controller.abort(reason);
          }, 5);
        },
      });
      await assert.rejects(run, (error) => error === reason);
      await A.device.finished();
      const late = performance.now() - aborted;
      assert.ok(late < 50 * patience, `${late} ms`);
      await assert.rejects(sirt(A, y, { iterations: 1, signal: controller.signal }), (error) => error === reason);
    }),
  );

  it(
    "an abort leaves other runs on the same device alone",
    balanced(async () => {
      using A = slow();
      using y = DeviceArray.uniform(A.rangeShape, { seed: 1 });
      using alone = await sirt(A, y, { iterations: 6 });
      const controller = new AbortController();
      const stopped = sirt(A, y, { iterations: 10000, signal: controller.signal });
      const other = sirt(A, y, { iterations: 6, onProgress: ({ iteration }) => iteration === 3 && controller.abort() });
      await assert.rejects(stopped);
      using beside = await other;
      assert.deepEqual(beside.readSync(), alone.readSync());
    }),
  );

  it(
    "an abort during the weights takes effect at once",
    balanced(async () => {
      using A = slow(emulated ? 16 : 256);
      using y = DeviceArray.uniform(A.rangeShape, { seed: 1 });
      await A.device.finished();
      const controller = new AbortController();
      const run = sirt(A, y, { iterations: 5, signal: controller.signal });
      const start = performance.now();
      controller.abort();
      await assert.rejects(run);
      await A.device.finished();
      const late = performance.now() - start;
      assert.ok(late < 150 * patience, `${late} ms`); // setting x touches fresh memory, which is not interrupted
    }),
  );

  it(
    'onAbort: "return" resolves with a whole estimate',
    balanced(async () => {
      using A = slow();
      using y = DeviceArray.uniform(A.rangeShape, { seed: 1 });
      for (const wait of [0, 3, 11]) {
        const controller = new AbortController();
        let done = 0;
        using x = await sirt(A, y, {
          iterations: 10000,
          signal: controller.signal,
          onAbort: "return",
          onProgress: ({ iteration }) => {
            done = iteration;
            if (iteration === 2) setTimeout(() => controller.abort(), wait);
          },
        });
        const estimate = x.readSync();
        // The iteration in flight is either dropped or finished, never half done. A GPU finishes all that it was given: two bursts.
        const most = done + (A.device.name === "cpu" ? 1 : 64);
        let whole = false;
        for await (const step of sirt.steps(A, y, { iterations: most })) {
          whole = step.iteration >= done && step.estimate.readSync().every((value, i) => value === estimate[i]);
          if (whole) break;
        }
        assert.ok(whole, `after ${done} iterations, aborted ${wait} ms later`);
      }
    }),
  );

  it(
    "stays free while iterations run",
    balanced(async () => {
      using A = slow();
      using y = DeviceArray.uniform(A.rangeShape, { seed: 1 });
      let ticks = 0;
      const timer = setInterval(() => ticks++, 2);
      const start = performance.now();
      using _x = await sirt(A, y, { iterations: 10 });
      clearInterval(timer);
      const elapsed = performance.now() - start;
      assert.ok(ticks > elapsed / 40, `${ticks} ticks in ${elapsed} ms`);
    }),
  );

  it(
    "leaving the loop of steps, and an abort in it, free everything",
    balanced(async () => {
      using A = operator(object, beams.parallel);
      using y = DeviceArray.uniform(A.rangeShape, { seed: 1 });
      for await (const { iteration } of sirt.steps(A, y, { iterations: 100 })) if (iteration === 3) break;
      const controller = new AbortController();
      const reason = new Error("stop");
      const loop = async () => {
        for await (const { iteration } of sirt.steps(A, y, { iterations: 100, signal: controller.signal }))
          if (iteration === 2) controller.abort(reason);
      };
      await assert.rejects(loop(), (error) => error === reason);
    }),
  );

  it(
    "a thousand one-line steps run at constant bytes",
    balanced(async () => {
      using A = operator(volume({ shape: [4, 8, 8] }), parallelBeam({ angleCount: 6, detectorShape: [4, 12] }));
      using y = DeviceArray.uniform(A.rangeShape, { seed: 1 });
      using R = scope(() => reciprocal(A.rowSums()));
      using C = scope(() => reciprocal(A.columnSums()));
      using x = DeviceArray.zeros(A.domainShape);
      const step = () => scope(() => x.addAssign(C.mul(A.T(R.mul(y.sub(A(x)))))));
      step();
      const { inUse, peak } = A.device.memory();
      for (let k = 0; k < 1000; k++) {
        step();
        assert.equal(A.device.memory().inUse, inUse);
      }
      assert.equal(A.device.memory().peak, peak);
      await A.device.finished();
    }),
  );
});

describe("SIRT and its callback", () => {
  it(
    "an error in onProgress ends the run and frees everything",
    balanced(async () => {
      using A = operator(object, beams.parallel);
      using y = DeviceArray.uniform(A.rangeShape, { seed: 1 });
      const broken = sirt(A, y, {
        iterations: 50,
        onProgress: () => {
          throw new Error("in the callback");
        },
      });
      await assert.rejects(broken, /in the callback/);
    }),
  );
});
