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
