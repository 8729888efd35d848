// How long an operator takes, and how right its results are.
import { type Device, DeviceArray, type Law, type Operator, operator, type Precision } from "raysum";
import type { Case } from "./cases.ts";
import { backAt, forwardAt } from "./float64.ts";
import { medianTime } from "./timing.ts";

export interface Timing {
  readonly law: Law;
  readonly precision: Precision;
  /** Which kernels did the work. */
  readonly kernels: string;
  readonly milliseconds: number;
  /** Voxels times views per second, in 1e9. */
  readonly gups: number;
  /** Relative L2 distance to float64, at sampled places; law `exact` alone has such a reference. */
  readonly error?: number;
  /** abs(<A x, y> - <x, A.T y>) / (norm(A x) norm(y)). */
  readonly gap: number;
}

/** `count` places below `size`, spread evenly but for steps that no size divides. */
function places(count: number, size: number): number[] {
  const golden = (Math.sqrt(5) - 1) / 2;
  return Array.from({ length: count }, (_, i) => Math.floor((((i + 1) * golden) % 1) * size));
}

type Reference = (A: Operator, argument: ArrayLike<number>, places: readonly number[]) => number[];

async function errorOf(A: Operator, reference: Reference, argument: DeviceArray, result: DeviceArray): Promise<number> {
  const at = places(300, result.size);
  const [expected, found] = [reference(A, await argument.read(), at), await result.read()];
  const squares = (list: number[]) => list.reduce((sum, value) => sum + value * value, 0);
  return Math.sqrt(squares(expected.map((value, i) => value - found[at[i]!]!)) / squares(expected));
}

export interface Projections {
  readonly forward: Timing;
  readonly back: Timing;
}

export interface Rules {
  readonly device: Device;
  readonly law: Law;
  readonly precision: Precision;
}

/** Whether the device has kernels of that precision for a scan, or takes those of float32. */
export function hasKernels(scan: Case, rules: Rules): boolean {
  if (rules.precision === "float32") return true;
  using A = operator(scan.volume, scan.beam, rules);
  using float32 = operator(scan.volume, scan.beam, { ...rules, precision: "float32" });
  return A.description !== float32.description;
}

/** Times A(x) and A.T(y) for random x and y, as one public call each, after one to warm up. */
export async function timeProjections(scan: Case, rules: Rules, seconds: number): Promise<Projections> {
  const { device, law, precision } = rules;
  using A = operator(scan.volume, scan.beam, rules);
  using x = DeviceArray.uniform(A.domainShape, { device, seed: 1 });
  using y = DeviceArray.uniform(A.rangeShape, { device, seed: 2 });
  using Ax = DeviceArray.empty(A.rangeShape, { device });
  using ATy = DeviceArray.empty(A.domainShape, { device });
  const time = async (call: () => unknown): Promise<number> => {
    call();
    return await medianTime(device, call, seconds);
  };
  const times = [await time(() => A(x, { out: Ax })), await time(() => A.T(y, { out: ATy }))] as const;
  const gap = Math.abs((await Ax.dot(y)) - (await x.dot(ATy))) / ((await Ax.norm()) * (await y.norm()));
  const errors = law === "exact" ? [await errorOf(A, forwardAt, x, Ax), await errorOf(A, backAt, y, ATy)] : undefined;
  const timing = (which: 0 | 1): Timing => ({
    law,
    precision,
    kernels: A.description,
    milliseconds: times[which],
    gups: (x.size * A.beam.viewCount) / times[which] / 1e6,
    ...(errors && { error: errors[which]! }),
    gap,
  });
  return { forward: timing(0), back: timing(1) };
}
