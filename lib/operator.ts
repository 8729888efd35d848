import { checkArray, DeviceArray, fresh } from "./array.ts";
import { chosenDevice, type Device } from "./device.ts";
import { RaysumError } from "./errors.ts";
import { Beam } from "./geometry/beam.ts";
import { Volume } from "./geometry/volume.ts";
import { check, native, readInteger, readText } from "./native/library.ts";
import { BeamKind, GeometryHeader, Law as LawCode, Precision as PrecisionCode, RS_VIEW } from "./native/symbols.ts";
import { checkNumber, checkOptions, describe } from "./options.ts";
import { endsWith, formatShape, type Shape, sameShape, sizeOf } from "./shape.ts";

/**
 * The rule by which rays and voxels meet.
 *
 * - `exact`: Joseph's interpolation in float32 (P. M. Joseph, IEEE Trans. Med. Imaging 1, 1982), and back projection as its exact
 *   transpose.
 * - `astra`: what the 3D CUDA projectors of the ASTRA Toolbox compute (W. van Aarle et al., Ultramicroscopy 157, 2015): Joseph's
 *   interpolation with the GPU's weights of 1/256, and a back projection that interpolates the projections at each voxel's shadow
 *   instead of transposing. `A.T` is then close to the transpose, and no more: as the gradient of `A` it is an approximation.
 * - `astra2d`: the same for ASTRA's 2D CUDA projectors, for one slice, one detector row and square voxels, in one plane. They choose
 *   the main axis of a fan's rays, weigh a fan's back projection and break ties in another way than the 3D ones.
 */
export type Law = "exact" | "astra" | "astra2d";

/**
 * How exact the arithmetic of an operator is: the relative L2 error of `A(x)` and `A.T(y)` against float64, for data of any magnitude
 * and sign, and in law `exact` the adjoint gap abs(<Ax, y> - <x, A.T y>) / (norm(Ax) norm(y)).
 *
 * - `float32`: at most 2e-6, gap at most 1e-6 (law `exact`).
 * - `high`: at most 1e-5, gap at most 1e-5. Tensor cores multiply weights and data that are each split into two float16 numbers; sums
 *   stay in float32.
 * - `half`: at most 5e-4, gap at most 5e-4. Weights and data are rounded to float16; sums stay in float32. Where all data have one sign
 *   errors average out over views: about 1e-4 / sqrt(views).
 *
 * All CUDA devices have such kernels for parallel beams along 16 slices and 16 rows or more, without supersampling, where columns are
 * about half a voxel to two voxels apart, in law `exact`, and in law `astra` where rows lie on slices ("matrix" in `description`: tensor
 * cores). They give each slice (row) a range of its own, 2^38 below its largest value. What a value that is not finite meets becomes
 * NaN, and its neighbours up to 15 columns or 3 voxels away may.
 *
 * Of cone beams, law `astra` has such kernels for `half` ("astra, half"), where the plane of the source halves the volume and a flat
 * detector whose columns stand across it, as in a circular scan that is not shifted along its axis. Against `float32`, errors are at most
 * 5e-4 back and, up to 1024 voxels across, 1e-3 forward, and a batch item has one range of 2^30. Forward, a view shares its samples with
 * the opposite one where there is one, and few views far apart take `float32`. Everywhere else the arithmetic is that of `float32`.
 */
export type Precision = "float32" | "high" | "half";

export interface OperatorOptions {
  /** Where the operator works; `device()` by default. */
  readonly device?: Device;
  /** `exact` by default. */
  readonly law?: Law;
  /** `float32` by default. */
  readonly precision?: Precision;
  /**
   * Rays per pixel along each detector axis; a pixel is their mean. 1 by default, at most 16. Columns alone are divided in law
   * `astra2d`, and in law `exact` where all rays stay in the middle of one slice, which others would leave. Only A knows it in the
   * laws of ASTRA.
   */
  readonly detectorSupersampling?: number;
  /** Points per voxel along each axis whose shadows A.T averages, in the laws of ASTRA. 1 by default, at most 16. */
  readonly voxelSupersampling?: number;
}

export interface ApplyOptions {
  /** Where the result goes, instead of a new array. */
  readonly out?: DeviceArray;
  /** Adds to `out` instead of overwriting it. */
  readonly accumulate?: boolean;
}

/** A linear map between device arrays: call it to apply it. Leading dimensions of the argument are a batch. */
export interface LinearMap {
  (x: DeviceArray, options?: ApplyOptions): DeviceArray;
  /** The transpose; its own transpose is this map. */
  readonly T: LinearMap;
  /** Shape of one argument. */
  readonly domainShape: Shape;
  /** Shape of one result. */
  readonly rangeShape: Shape;
}

/**
 * The projection of a volume along a beam: `A(x)` takes volumes (z, y, x) to projections (row, view, column), each value a line
 * integral in the geometry's unit of length; `A.T(y)` is the exact transpose in law `exact`, and ASTRA's back projection in its laws.
 */
export interface Operator extends LinearMap {
  readonly volume: Volume;
  readonly beam: Beam;
  readonly device: Device;
  readonly law: Law;
  /** What was asked for: the arithmetic is at least that exact. */
  readonly precision: Precision;
  /** Which kernels do the work, for people. */
  readonly description: string;
  readonly disposed: boolean;
  /**
   * Whether `residual` and `update` take the weights of one row or one slice for all of them: where the kernels know that all have the
   * same sums of A, as many rows of a parallel beam that lie on the slices. That is less to keep and to read.
   */
  readonly alike: { readonly rows: boolean; readonly slices: boolean };
  /** A applied to ones: how much of the volume each ray sees. A new array of shape `rangeShape`. */
  rowSums(): DeviceArray;
  /** A.T applied to ones: how much each voxel is seen. A new array of shape `domainShape`. */
  columnSums(): DeviceArray;
  /**
   * weights * (y - A x), in one pass; `norm` receives the sum of (y - A x)^2 over weights > 0 as one float64 (two elements) for each
   * batch item. `weights` has the shape of one result, or (view, column) where rows are alike. What a SIRT iteration starts with.
   */
  residual(x: DeviceArray, y: DeviceArray, options: ResidualOptions): DeviceArray;
  /**
   * x = clamp(x + relaxation * scale * A.T r), in one pass. `scale` has the shape of one volume, or (y, x) where slices are alike.
   * What a SIRT iteration ends with.
   */
  update(x: DeviceArray, r: DeviceArray, options: UpdateOptions): DeviceArray;
  /** Frees tables and workspace, in queue order. */
  dispose(): void;
  [Symbol.dispose](): void;
}

export interface ResidualOptions {
  readonly weights: DeviceArray;
  readonly out?: DeviceArray;
  readonly norm?: DeviceArray;
}

export interface UpdateOptions {
  readonly scale: DeviceArray;
  readonly relaxation?: number;
  readonly minimum?: number;
  readonly maximum?: number;
}

const laws: Readonly<Record<Law, number>> = { exact: LawCode.EXACT, astra: LawCode.ASTRA, astra2d: LawCode.ASTRA_2D };

const precisions: Readonly<Record<Precision, number>> = {
  float32: PrecisionCode.PRECISION_FLOAT32,
  high: PrecisionCode.PRECISION_HIGH,
  half: PrecisionCode.PRECISION_HALF,
};

interface Rules {
  readonly law: Law;
  readonly precision: Precision;
  readonly detectorSupersampling: number;
  readonly voxelSupersampling: number;
}

function checkRules(options: OperatorOptions): Rules {
  checkOptions("operator", options, ["device", "law", "precision", "detectorSupersampling", "voxelSupersampling"]);
  const { law = "exact", precision = "float32", detectorSupersampling = 1, voxelSupersampling = 1 } = options;
  if (!Object.hasOwn(laws, law))
    throw new RaysumError("argument", `law ${describe(law)}: expected "exact", "astra" or "astra2d"`);
  if (!Object.hasOwn(precisions, precision))
    throw new RaysumError("argument", `precision ${describe(precision)}: expected "float32", "high" or "half"`);
  for (const [name, value] of Object.entries({ detectorSupersampling, voxelSupersampling }))
    if (!(Number.isInteger(value) && value >= 1 && value <= 16))
      throw new RaysumError("argument", `${name} ${describe(value)}: expected a whole number from 1 to 16`);
  if (law === "exact" && voxelSupersampling > 1)
    throw new RaysumError(
      "argument",
      `voxelSupersampling ${voxelSupersampling} in law "exact": expected 1, it has no meaning for an exact transpose`,
    );
  return { law, precision, detectorSupersampling, voxelSupersampling };
}

/** The numbers of rs_plan_create, laid out as csrc/raysum.h says. */
function packGeometry(volume: Volume, beam: Beam, rules: Rules): Float64Array {
  const { vectors, detectorCurvatureRadii } = beam;
  const numbers = new Float64Array(GeometryHeader.HEADER + RS_VIEW * beam.viewCount);
  numbers[GeometryHeader.BEAM] = beam.kind === "parallel" ? BeamKind.PARALLEL : BeamKind.CONE;
  numbers.set(volume.shape, GeometryHeader.SHAPE);
  numbers.set(volume.voxelSize, GeometryHeader.VOXEL_SIZE);
  numbers.set(volume.position, GeometryHeader.POSITION);
  numbers.set([beam.viewCount, ...beam.detectorShape], GeometryHeader.VIEWS);
  numbers[GeometryHeader.DETECTOR_SUPERSAMPLING] = rules.detectorSupersampling;
  numbers[GeometryHeader.LAW] = laws[rules.law];
  numbers[GeometryHeader.VOXEL_SUPERSAMPLING] = rules.voxelSupersampling;
  numbers[GeometryHeader.PRECISION] = precisions[rules.precision];
  for (const [i, radius] of detectorCurvatureRadii.entries())
    numbers.set([...vectors.subarray(12 * i, 12 * i + 12), radius], GeometryHeader.HEADER + RS_VIEW * i);
  return numbers;
}

const operators = new WeakSet<object>();

/** Throws RaysumError "argument" for anything but an operator. */
export function checkOperator(what: string, value: unknown): asserts value is Operator {
  if (typeof value !== "function" || !operators.has(value))
    throw new RaysumError("argument", `${what} is ${describe(value)}: expected an operator`);
}

/** Frees the plan of an operator that was collected without dispose(). */
const abandoned = new FinalizationRegistry<bigint>((plan) => native().rs_plan_free(plan));

/** The batch dimensions of an array whose last dimensions must be `shape`, or an error. */
function batchOf(what: string, array: DeviceArray, shape: Shape, device: Device): Shape {
  checkArray(what, array);
  if (array.device !== device)
    throw new RaysumError("device", `${what} is on ${array.device.name}, the operator is on ${device.name}`);
  if (!endsWith(array.shape, shape))
    throw new RaysumError(
      "shape",
      `${what} has the shape ${formatShape(array.shape)}: expected ${formatShape(shape)}, with any leading batch dimensions`,
    );
  return array.shape.slice(0, array.shape.length - shape.length);
}

function checkExact(what: string, array: DeviceArray, shape: Shape, device: Device): void {
  const batch = batchOf(what, array, shape, device);
  if (batch.length > 0)
    throw new RaysumError("shape", `${what} has the shape ${formatShape(array.shape)}: expected ${formatShape(shape)}`);
}

/** Checks weights for all rows or slices, or where these are alike for one. Returns 1 if it is one that all share. */
function checkWeights(what: string, array: DeviceArray, shape: Shape, alike: boolean, device: Device): number {
  const one = shape.slice(1);
  const shared = alike && array instanceof DeviceArray && sameShape(array.shape, one);
  checkExact(what, array, shared ? one : shape, device);
  return shared ? 1 : 0;
}

/**
 * Makes the projection operator of a volume and a beam.
 *
 * @throws RaysumError "argument" for a geometry that defines no projection, or one that the law does not cover, "memory" when the device has no room for its workspace.
 */
export function operator(volume: Volume, beam: Beam, options: OperatorOptions = {}): Operator {
  if (!(volume instanceof Volume))
    throw new RaysumError("argument", `operator: the first argument is ${describe(volume)}: expected a volume`);
  if (!(beam instanceof Beam))
    throw new RaysumError("argument", `operator: the second argument is ${describe(beam)}: expected a beam`);
  const rules = checkRules(options);
  const device = chosenDevice(options.device);
  const geometry = packGeometry(volume, beam, rules);
  const plan = readInteger((out) => native().rs_plan_create(device.id, geometry, BigInt(geometry.length), out));
  const [rows, slices] = [new Int32Array(1), new Int32Array(1)];
  check(native().rs_plan_alike(plan, rows, slices));
  const alike = Object.freeze({ rows: rows[0] === 1, slices: slices[0] === 1 });
  let disposed = false;

  const alive = (): bigint => {
    if (disposed) throw new RaysumError("disposed", "this operator was disposed");
    return plan;
  };

  const volumeShape: Shape = Object.freeze([...volume.shape]);
  const projectionShape: Shape = Object.freeze([beam.detectorShape[0], beam.viewCount, beam.detectorShape[1]]);

  const map = (domain: Shape, range: Shape, call: "rs_forward" | "rs_back") => {
    return (x: DeviceArray, options: ApplyOptions = {}): DeviceArray => {
      const handle = alive();
      checkOptions("operator", options, ["out", "accumulate"]);
      const { out, accumulate = false } = options;
      if (typeof accumulate !== "boolean")
        throw new RaysumError("argument", `accumulate ${describe(accumulate)}: expected true or false`);
      if (out !== undefined) checkArray("out", out);
      const batch = batchOf("the argument", x, domain, device);
      const shape = [...batch, ...range];
      if (out && (out.device !== device || !sameShape(out.shape, shape)))
        throw new RaysumError(
          "shape",
          `out is ${formatShape(out.shape)} on ${out.device.name}: expected ${formatShape(shape)} on ${device.name}`,
        );
      if (accumulate && !out) throw new RaysumError("argument", "accumulate: there is no out to add to");
      const apply = (result: DeviceArray): DeviceArray => {
        check(native()[call](handle, result.pointer, x.pointer, BigInt(sizeOf(batch)), accumulate ? 1 : 0));
        return result;
      };
      return out ? apply(out) : fresh(shape, { device }, apply);
    };
  };

  const forward = map(volumeShape, projectionShape, "rs_forward");
  const back = map(projectionShape, volumeShape, "rs_back");

  const residual = (x: DeviceArray, y: DeviceArray, options: ResidualOptions): DeviceArray => {
    const handle = alive();
    checkOptions("residual", options, ["weights", "out", "norm"]);
    const { weights, out, norm } = options;
    const batch = batchOf("x", x, volumeShape, device);
    const shape = [...batch, ...projectionShape];
    checkExact("y", y, shape, device);
    const shared = checkWeights("weights", weights, projectionShape, alike.rows, device);
    if (out) checkExact("out", out, shape, device);
    if (norm) checkExact("norm", norm, [2 * sizeOf(batch)], device);
    const count = BigInt(sizeOf(batch));
    const apply = (result: DeviceArray): DeviceArray => {
      const [to, from, measured] = [result.pointer, x.pointer, y.pointer];
      check(native().rs_residual(handle, to, from, measured, weights.pointer, shared, count, norm?.pointer ?? 0n));
      return result;
    };
    return out ? apply(out) : fresh(shape, { device }, apply);
  };

  const update = (x: DeviceArray, r: DeviceArray, options: UpdateOptions): DeviceArray => {
    const handle = alive();
    checkOptions("update", options, ["scale", "relaxation", "minimum", "maximum"]);
    const { scale, relaxation = 1, minimum = Number.NEGATIVE_INFINITY, maximum = Number.POSITIVE_INFINITY } = options;
    const batch = batchOf("x", x, volumeShape, device);
    checkExact("r", r, [...batch, ...projectionShape], device);
    const shared = checkWeights("scale", scale, volumeShape, alike.slices, device);
    checkNumber("relaxation", relaxation);
    checkNumber("minimum", minimum);
    checkNumber("maximum", maximum);
    const count = BigInt(sizeOf(batch));
    const [to, from] = [x.pointer, r.pointer];
    check(native().rs_update(handle, to, from, scale.pointer, shared, relaxation, minimum, maximum, count));
    return x;
  };

  /** One map applied to ones of its domain. */
  const sums = (apply: typeof forward, domain: Shape): DeviceArray => {
    using ones = DeviceArray.ones(domain, { device });
    return apply(ones);
  };

  const dispose = (): void => {
    if (disposed) return;
    disposed = true;
    abandoned.unregister(A);
    check(native().rs_plan_free(plan));
  };

  // Functions with properties: A(x) and A.T(y) read as they do on paper.
  const A = Object.assign(forward, {
    volume,
    beam,
    device,
    law: rules.law,
    precision: rules.precision,
    alike,
    domainShape: volumeShape,
    rangeShape: projectionShape,
    rowSums: () => sums(forward, volumeShape),
    columnSums: () => sums(back, projectionShape),
    residual,
    update,
    dispose,
    [Symbol.dispose]: dispose,
  }) as typeof forward as Operator;
  const T = Object.assign(back, { domainShape: projectionShape, rangeShape: volumeShape, T: A }) as LinearMap;
  Object.defineProperties(A, {
    T: { value: Object.freeze(T) },
    description: {
      get: () => readText((text, capacity, length) => native().rs_plan_name(alive(), text, capacity, length)),
    },
    disposed: { get: () => disposed },
  });
  abandoned.register(A, plan, A);
  operators.add(A);
  return Object.freeze(A);
}
