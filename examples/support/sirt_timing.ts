// SIRT from host data to a host result, timed as tomosipo's benchmark script times it.
import {
  type Device,
  DeviceArray,
  device,
  hollowBox,
  type Law,
  type Operator,
  operator,
  type Precision,
  reciprocal,
  scope,
  sirt,
} from "raysum";
import { makeCase } from "./cases.ts";
import { median } from "./timing.ts";

/** A map between arrays on the host, through a device: what a projection costs when data does not stay there. */
type Map = (x: DeviceArray) => DeviceArray;

/** `apply` of a device for arrays of the CPU. */
function bounced(apply: (x: DeviceArray) => DeviceArray, on: DeviceArray["device"]): Map {
  return (x) => {
    using there = DeviceArray.empty(x.shape, { device: on });
    there.writeSync(x.readSync()); // blocking, as a copy between NumPy and the device is
    using result = apply(there);
    return DeviceArray.from(result.readSync(), result.shape, { device: device("cpu") });
  };
}

function pingpong(A: Operator, y: DeviceArray, iterations: number): DeviceArray {
  const [forward, back] = [bounced(A, A.device), bounced(A.T, A.device)];
  using ones = DeviceArray.ones(A.domainShape, { device: y.device });
  using rows = forward(ones);
  using other = DeviceArray.ones(A.rangeShape, { device: y.device });
  using columns = back(other);
  const unseen = A.law === "exact" ? {} : { absolute: 1e-6, relative: 0 };
  using R = reciprocal(rows, unseen);
  using C = reciprocal(columns, unseen);
  const x = DeviceArray.zeros(A.domainShape, { device: y.device });
  for (let i = 0; i < iterations; i++) {
    using seen = forward(x);
    using r = scope(() => R.mul(y.sub(seen)));
    using step = back(r);
    scope(() => x.addAssign(C.mul(step)));
  }
  x.device.finishedSync();
  return x;
}

function oneLine(A: Operator, y: DeviceArray, iterations: number): DeviceArray {
  const unseen = A.law === "exact" ? {} : { absolute: 1e-6, relative: 0 };
  using R = scope(() => reciprocal(A.rowSums(), unseen));
  using C = scope(() => reciprocal(A.columnSums(), unseen));
  const x = DeviceArray.zeros(A.domainShape, { device: A.device });
  let before = A.device.record();
  for (let i = 0; i < iterations; i++) {
    scope(() => x.addAssign(C.mul(A.T(R.mul(y.sub(A(x)))))));
    // Two iterations in flight: the device does not wait for us, and memory stays bounded.
    const queued = A.device.record();
    A.device.finishedSync(before);
    before = queued;
  }
  return x;
}

export interface SirtOptions {
  readonly beam: "parallel" | "cone";
  readonly size: number;
  readonly iterations: number;
  /** Trials before those that count, and those. */
  readonly burnin: number;
  readonly trials: number;
  /** `fused`: sirt(A, y); `one-line`: x += C A.T(R (y - A x)), written out. */
  readonly method: "fused" | "one-line";
  /** All data in host memory; every projection bounces through the device (one-line alone). */
  readonly pingpong: boolean;
  readonly device: Device;
  readonly law: Law;
  readonly precision: Precision;
}

/** Times of whole trials, and of their part between the upload and the download. */
export interface SirtTimes {
  readonly law: Law;
  readonly precision: Precision;
  /** Which kernels did the work. */
  readonly kernels: string;
  readonly views: number;
  readonly meanSeconds: number;
  readonly deviationSeconds: number;
  /** Medians, an iteration. */
  readonly wholeMilliseconds: number;
  readonly residentMilliseconds: number;
}

export async function timeSirt(options: SirtOptions): Promise<SirtTimes> {
  const { beam, size, iterations, burnin, trials, method, law, precision } = options;
  const scan = makeCase(beam, size);
  using A = operator(scan.volume, scan.beam, { device: options.device, law, precision });
  const measured = await scope(() => A(hollowBox(A))).read();
  const trial = async (): Promise<{ seconds: number; resident: number }> => {
    const start = performance.now();
    using y = DeviceArray.empty(A.rangeShape, { device: options.pingpong ? device("cpu") : A.device });
    await y.write(measured);
    await y.device.finished();
    const uploaded = performance.now();
    const solve = async () => {
      if (options.pingpong) return pingpong(A, y, iterations);
      return method === "fused" ? sirt(A, y, { iterations }) : oneLine(A, y, iterations);
    };
    using x = await solve();
    await x.device.finished();
    const solved = performance.now();
    await x.read();
    return { seconds: (performance.now() - start) / 1000, resident: (solved - uploaded) / 1000 };
  };
  for (let i = 0; i < burnin; i++) await trial();
  const times: { seconds: number; resident: number }[] = [];
  for (let i = 0; i < trials; i++) times.push(await trial());
  const seconds = times.map((time) => time.seconds);
  const mean = seconds.reduce((sum, one) => sum + one, 0) / trials;
  return {
    law,
    precision,
    kernels: A.description,
    views: A.beam.viewCount,
    meanSeconds: mean,
    deviationSeconds: Math.sqrt(seconds.reduce((sum, one) => sum + (one - mean) ** 2, 0) / trials),
    wholeMilliseconds: (1000 * median(seconds)) / iterations,
    residentMilliseconds: (1000 * median(times.map((time) => time.resident))) / iterations,
  };
}
