/** Data for operators of lower precision, and what is asked of their results. */
import assert from "node:assert/strict";
import { DeviceArray, device, type Operator, operator } from "../../lib/index.ts";
import { dot, norm, relativeL2 } from "./random.ts";

/** Deterministic data of a kind, values in [-1, 1]. */
export function data(kind: "noise" | "blocks" | "signed", shape: readonly number[], seed: number): Float32Array {
  using noise = DeviceArray.uniform(shape, { seed, minimum: kind === "signed" ? -1 : 0, device: device() });
  const values = noise.readSync();
  const last = shape.at(-1)!;
  if (kind === "blocks")
    for (const i of values.keys())
      values[i] = values[Math.floor(i / last / 4) * last * 4 + Math.floor((i % last) / 4) * 4]!;
  return values;
}

/** The operator's results for x and y against those of float32 on the CPU, and the gap between A and A.T. */
export function check(
  A: Operator,
  x: Float32Array,
  y: Float32Array,
  scale: number,
  most: number,
  what: string,
  mostForward: number = most,
): void {
  const apply = (F: Operator): [Float32Array, Float32Array] => {
    const scaled = (values: Float32Array, shape: readonly number[]) =>
      DeviceArray.from(
        values.map((value) => Math.fround(value * scale)),
        shape,
        { device: F.device },
      );
    using deviceX = scaled(x, F.domainShape);
    using deviceY = scaled(y, F.rangeShape);
    using Ax = F(deviceX);
    using ATy = F.T(deviceY);
    return [Ax.readSync().map((value) => value / scale), ATy.readSync().map((value) => value / scale)];
  };
  using F = operator(A.volume, A.beam, { law: A.law, device: device("cpu") });
  const [Ax, ATy] = apply(A);
  const [exactAx, exactATy] = apply(F);
  const [forward, back] = [relativeL2(Ax, exactAx), relativeL2(ATy, exactATy)];
  const gap = Math.abs(dot(Ax, y) - dot(x, ATy)) / (norm(Ax) * norm(y));
  assert.ok(forward <= mostForward, `forward error ${forward}: ${what}`);
  assert.ok(back <= most, `back error ${back}: ${what}`);
  if (A.law === "exact") assert.ok(gap <= most, `adjoint gap ${gap}: ${what}`);
}

/** Everything that an operator does with its results, on a batch of two: forward and back added, residual, update, the residual's norm. */
function epilogues(A: Operator): Float32Array[] {
  const on = { device: A.device };
  const batch = (shape: readonly number[]) => [2, ...shape];
  using x = DeviceArray.uniform(batch(A.domainShape), { seed: 1, ...on });
  using y = DeviceArray.uniform(batch(A.rangeShape), { seed: 2, ...on });
  using weights = DeviceArray.uniform(A.rangeShape, { seed: 3, minimum: -0.5, ...on });
  using scale = DeviceArray.uniform(A.domainShape, { seed: 4, ...on });
  using sums = DeviceArray.uniform(batch(A.rangeShape), { seed: 5, ...on });
  using backs = DeviceArray.uniform(batch(A.domainShape), { seed: 6, ...on });
  using squares = DeviceArray.zeros([4], on);
  using residual = A.residual(x, y, { weights, norm: squares });
  using updated = x.clone();
  A.update(updated, y, { scale, relaxation: 0.1, minimum: 0.2, maximum: 2 });
  A(x, { out: sums, accumulate: true });
  A.T(y, { out: backs, accumulate: true });
  const norms = new Float64Array(squares.readSync().buffer);
  return [sums, backs, residual, updated].map((array) => array.readSync()).concat([Float32Array.from(norms)]);
}

/** Epilogues of the operator against those of `float32` on the same device, and the same bits when they are made again. */
export function checkEpilogues(A: Operator, most: number): void {
  using F = operator(A.volume, A.beam, { law: A.law, device: A.device });
  const [results, expected] = [epilogues(A), epilogues(F)];
  assert.deepEqual(epilogues(A), results);
  for (const [i, result] of results.entries()) {
    const error = relativeL2(result, expected[i]!);
    assert.ok(error <= most, `${["forward", "back", "residual", "update", "norm"][i]}: ${error}`);
  }
}
