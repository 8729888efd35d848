import { checkArray, DeviceArray, readDoubles } from "../array.ts";
import { RaysumError } from "../errors.ts";
import { checkOperator, type Operator } from "../operator.ts";
import { checkNumber, checkOptions, describe } from "../options.ts";
import { scope } from "../scope.ts";
import { formatShape, sameShape, sizeOf } from "../shape.ts";
import { reciprocal } from "./reciprocal.ts";

/** How far an iterative method is. Times are in seconds. */
export interface Progress {
  /** Iterations done. */
  readonly iteration: number;
  /** Iterations asked for. */
  readonly iterations: number;
  /** Euclidean norm of y - A x before the last iteration, over the rays that take part. */
  readonly residual: number;
  readonly elapsed: number;
  /** Estimated time left. */
  readonly remaining: number;
}

export interface SirtOptions {
  readonly iterations: number;
  /** Lower bound of every voxel, applied after each iteration. */
  readonly min?: number;
  /** Upper bound of every voxel, applied after each iteration. */
  readonly max?: number;
  /** Where to start; zeros by default. Not changed. */
  readonly initial?: DeviceArray;
  /** 1 where a voxel takes part and 0 where not, (z, y, x). */
  readonly volumeMask?: DeviceArray;
  /** 1 where a measurement takes part and 0 where not, (row, view, column). */
  readonly projectionMask?: DeviceArray;
  /** Factor of every step, in (0, 2); 1 by default. */
  readonly relaxation?: number;
  /** Stops the work within 50 ms. */
  readonly signal?: AbortSignal;
}

export interface SirtRunOptions extends SirtOptions {
  readonly onProgress?: (progress: Progress) => void;
  /** What an abort does: "throw" (default) rejects with the signal's reason, "return" resolves with the last whole estimate. */
  readonly onAbort?: "throw" | "return";
}

/** One iteration of `sirt.steps`. */
export interface SirtStep {
  readonly iteration: number;
  /** The estimate after this iteration. Borrowed: the next step changes it. */
  readonly estimate: DeviceArray;
  /** Euclidean norm of y - A x before this iteration, over the rays that take part. */
  readonly residual: number;
}

/** Bursts of iterations that are queued at a time: one to work on, one that waits so that the device never does. */
const IN_FLIGHT = 2;
/** Most iterations in a burst. */
const MAX_BURST = 32;
/** Bursts grow until one takes this long, in seconds: far more than a look at the clock costs, far less than an abort may take. */
const BURST_SECONDS = 0.005;

const optionNames = ["iterations", "min", "max", "initial", "volumeMask", "projectionMask", "relaxation", "signal"];

/** What can be wrong without a look at the arrays, so that it is told before an abort is. */
function checkArguments(A: Operator, y: DeviceArray, options: SirtOptions, more: readonly string[] = []): void {
  checkOperator("sirt: the first argument", A);
  checkArray("sirt: the second argument", y);
  checkOptions("sirt", options, [...optionNames, ...more]);
  const { signal } = options;
  if (signal !== undefined && !(signal instanceof AbortSignal))
    throw new RaysumError("argument", `signal is ${describe(signal)}: expected an AbortSignal`);
}

function checkValues(A: Operator, y: DeviceArray, options: SirtOptions): readonly number[] {
  const { iterations, min = -Infinity, max = Infinity, relaxation = 1 } = options;
  if (!Number.isSafeInteger(iterations) || iterations < 0)
    throw new RaysumError("argument", `iterations ${describe(iterations)}: expected a whole number of at least 0`);
  for (const [name, value] of Object.entries({ min, max, relaxation })) checkNumber(name, value);
  if (!(min <= max)) throw new RaysumError("argument", `min ${min} and max ${max}: expected min <= max`);
  if (!(relaxation > 0 && relaxation < 2))
    throw new RaysumError("argument", `relaxation ${relaxation}: expected a number between 0 and 2`);
  const batch = y.shape.slice(0, Math.max(0, y.shape.length - A.rangeShape.length));
  const expect = (name: string, array: DeviceArray | undefined, shape: readonly number[]) => {
    if (array === undefined) return;
    checkArray(name, array);
    if (array.device !== A.device)
      throw new RaysumError("device", `${name} is on ${array.device.name}, the operator is on ${A.device.name}`);
    if (!sameShape(array.shape, shape))
      throw new RaysumError(
        "shape",
        `${name} has the shape ${formatShape(array.shape)}: expected ${formatShape(shape)}`,
      );
  };
  expect("y", y, [...batch, ...A.rangeShape]);
  expect("initial", options.initial, [...batch, ...A.domainShape]);
  expect("volumeMask", options.volumeMask, A.domainShape);
  expect("projectionMask", options.projectionMask, A.rangeShape);
  return batch;
}

/** Reciprocal sums: 0 where a ray or voxel sees (almost) nothing. */
function weights(A: Operator, sums: DeviceArray, mask: DeviceArray | undefined): DeviceArray {
  try {
    const inverse = A.law === "exact" ? reciprocal(sums) : reciprocal(sums, { absolute: 1e-6, relative: 0 });
    return mask ? inverse.mulAssign(mask) : inverse;
  } finally {
    sums.dispose();
  }
}

/** Of rows or slices that are alike the first is enough: kernels read it from a cache, and it takes no room. */
function firstIf(alike: boolean, sums: DeviceArray): DeviceArray {
  if (!alike) return sums;
  try {
    return sums.part(0, 1).reshape(sums.shape.slice(1)).clone();
  } finally {
    sums.dispose();
  }
}

/** Calls that a run has queued one after the other. An abort drops these, and nobody else's. */
interface Queued {
  readonly first: bigint;
  readonly last: bigint;
}

/**
 * A run's arrays: the estimate x, weights R and C, the weighted residual r and its squared norms in the iterations of a burst; and
 * the calls that make the weights, which an abort may drop as x is set before.
 */
function prepare(A: Operator, y: DeviceArray, options: SirtOptions) {
  const batch = checkValues(A, y, options);
  const { initial, volumeMask, projectionMask } = options;
  const device = A.device;
  // The scope frees what is there already when memory runs out half way.
  return scope(() => {
    const x = DeviceArray.empty([...batch, ...A.domainShape], { device });
    if (initial) x.assign(initial);
    else x.fill(0);
    if (volumeMask) x.mulAssign(volumeMask);
    const first = device.record() + 1n;
    const masked = volumeMask !== undefined || projectionMask !== undefined;
    const rowSums = volumeMask ? A(volumeMask) : A.rowSums();
    const R = weights(A, firstIf(A.alike.rows && !masked, rowSums), projectionMask);
    const columnSums = projectionMask ? A.T(projectionMask) : A.columnSums();
    const C = weights(A, firstIf(A.alike.slices && !masked, columnSums), volumeMask);
    const r = DeviceArray.empty([...batch, ...A.rangeShape], { device });
    const norms = DeviceArray.empty([MAX_BURST * 2 * sizeOf(batch)], { device }); // float64
    return { x, R, C, r, norms, weights: { first, last: device.record() } as Queued };
  });
}

type Prepared = ReturnType<typeof prepare>;

interface Burst extends Queued {
  readonly iterations: number;
  /** Resolves, when the burst is done, with the norms of y - A x before each of its iterations. */
  readonly residuals: Promise<number[]>;
}

function queueBurst(A: Operator, y: DeviceArray, arrays: Prepared, options: SirtOptions, iterations: number): Burst {
  const { min: minimum = -Infinity, max: maximum = Infinity, relaxation = 1 } = options;
  const { x, R, C, r, norms } = arrays;
  const length = norms.size / MAX_BURST;
  const first = A.device.record() + 1n;
  for (let i = 0; i < iterations; i++) {
    A.residual(x, y, { weights: R, out: r, norm: norms.part(i * length, (i + 1) * length) });
    A.update(x, r, { scale: C, relaxation, minimum, maximum });
  }
  const residuals = readDoubles(norms.part(0, iterations * length)).then((squares) => {
    const batch = squares.length / iterations;
    return Array.from({ length: iterations }, (_, i) =>
      Math.sqrt(squares.subarray(i * batch, (i + 1) * batch).reduce((sum, square) => sum + square, 0)),
    );
  });
  residuals.catch(() => {}); // whoever waits for it is told; an abort may leave it alone
  return { first, last: A.device.record(), iterations, residuals };
}

/** Resolves with `work`, or rejects with the signal's reason as soon as it aborts. */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return work;
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

async function run(A: Operator, y: DeviceArray, options: SirtRunOptions): Promise<DeviceArray> {
  checkArguments(A, y, options, ["onProgress", "onAbort"]);
  const { iterations, signal, onProgress, onAbort = "throw" } = options;
  if (onAbort !== "throw" && onAbort !== "return")
    throw new RaysumError("argument", `onAbort ${describe(onAbort)}: expected "throw" or "return"`);
  if (onProgress !== undefined && typeof onProgress !== "function")
    throw new RaysumError("argument", `onProgress is ${describe(onProgress)}: expected a function`);
  if (onAbort === "throw") signal?.throwIfAborted();
  const arrays = prepare(A, y, options);
  const start = performance.now();
  const waiting: Burst[] = [];
  let burst = 1;
  try {
    for (let done = 0, queued = 0, elapsed = 0; done < iterations; ) {
      while (queued < iterations && waiting.length < IN_FLIGHT && !signal?.aborted) {
        waiting.push(queueBurst(A, y, arrays, options, Math.min(burst, iterations - queued)));
        queued += waiting.at(-1)!.iterations;
      }
      const residuals = await unlessAborted(waiting[0]?.residuals ?? Promise.resolve([]), signal);
      waiting.shift();
      const before = elapsed;
      elapsed = (performance.now() - start) / 1000;
      if (elapsed - before < BURST_SECONDS && residuals.length === burst) burst = Math.min(2 * burst, MAX_BURST);
      for (const residual of residuals) {
        done++;
        onProgress?.({
          iteration: done,
          iterations,
          residual,
          elapsed,
          remaining: (elapsed / done) * (iterations - done),
        });
      }
    }
    return arrays.x;
  } catch (error) {
    const returns = signal?.aborted === true && error === signal.reason && onAbort === "return";
    for (const { first, last } of [arrays.weights, ...waiting]) A.device.cancel(first, last, { leaveWhole: returns });
    await Promise.allSettled(waiting.map(({ residuals }) => residuals));
    if (returns) return arrays.x;
    arrays.x.dispose();
    throw error;
  } finally {
    for (const array of [arrays.R, arrays.C, arrays.r, arrays.norms]) array.dispose();
  }
}

async function* steps(A: Operator, y: DeviceArray, options: SirtOptions): AsyncGenerator<SirtStep, void, void> {
  checkArguments(A, y, options);
  options.signal?.throwIfAborted();
  const arrays = prepare(A, y, options);
  let queued: readonly Queued[] = [arrays.weights];
  try {
    for (let iteration = 1; iteration <= options.iterations; iteration++) {
      const step = queueBurst(A, y, arrays, options, 1);
      queued = [...queued, step];
      const [residual = Number.NaN] = await unlessAborted(step.residuals, options.signal);
      queued = [];
      yield { iteration, estimate: arrays.x, residual };
      options.signal?.throwIfAborted();
    }
  } catch (error) {
    for (const { first, last } of queued) A.device.cancel(first, last);
    throw error;
  } finally {
    for (const array of [arrays.x, arrays.R, arrays.C, arrays.r, arrays.norms]) array.dispose();
  }
}

/**
 * Simultaneous iterative reconstruction: with R = 1 / (A 1) and C = 1 / (A.T 1), entries below 1e-6 of the largest sum (in the laws
 * of ASTRA: below 1e-6) becoming 0, each iteration takes x = x + relaxation C A.T R (y - A x), then clamps below and above. Rays and
 * voxels that see nothing take no part. A volume mask multiplies x and C, a projection mask multiplies R, and both enter the sums.
 * (P. Gilbert, J. Theor. Biol. 36, 1972; the weights are those of J. Gregor and T. Benson, IEEE Trans. Med. Imaging 27, 2008.)
 *
 * The iterations run fused, two kernels each, in bursts of some milliseconds of which two are queued; the event loop stays free.
 *
 * `y` holds projections (row, view, column) with any leading batch dimensions; the estimate (z, y, x) has the same ones and lives on
 * A's device. Options that do not fit throw RaysumError "argument", "shape" or "device".
 */
export const sirt: {
  /** Resolves with the last estimate, which belongs to the caller; rejects with the signal's reason when it aborts. */
  (A: Operator, y: DeviceArray, options: SirtRunOptions): Promise<DeviceArray>;
  /**
   * The same iteration by iteration: an async iterator of the estimate, which is borrowed until the next step, and the residual's
   * norm. An abort rejects the step that is waited for with the signal's reason. Leaving the loop frees everything.
   */
  steps(A: Operator, y: DeviceArray, options: SirtOptions): AsyncGenerator<SirtStep, void, void>;
} = Object.assign(run, { steps });
