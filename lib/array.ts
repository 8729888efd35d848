import { setImmediate as immediate } from "node:timers/promises";
import { chosenDevice, Device, poll } from "./device.ts";
import { RaysumError } from "./errors.ts";
import { check, native, readInteger } from "./native/library.ts";
import { BinaryOp, Distribution, Reduction, RS_TRANSFER_BYTES, Status, UnaryOp } from "./native/symbols.ts";
import { checkNumber, checkOptions, describe } from "./options.ts";
import { remember } from "./scope.ts";
import { checkShape, formatShape, type Shape, sameShape, sizeOf } from "./shape.ts";

const ADDRESS_MASK = (1n << 48n) - 1n;
const TRANSFER_ELEMENTS = RS_TRANSFER_BYTES / 4;

/** Where a new array lives; `device()` by default. */
export interface OnDevice {
  readonly device?: Device | undefined;
}

/** A stretch of an array's elements in C order, and where to put them. */
export interface ReadOptions {
  readonly start?: number;
  readonly count?: number;
  /** Receives the elements, instead of a new Float32Array; its length is the count. */
  readonly into?: Float32Array<ArrayBuffer>;
}

/** A stretch that is being downloaded. */
interface Slab {
  readonly download: bigint;
  readonly offset: number;
  readonly count: number;
}

/** The library sees bytes only: those of another kind of array would come through as nonsense. */
function checkFloats(what: string, values: Float32Array): void {
  if (!(values instanceof Float32Array))
    throw new RaysumError("argument", `${what} is ${describe(values)}: expected a Float32Array`);
  try {
    new Uint8Array(values.buffer); // ArrayBuffer.prototype.detached came with Node 21
  } catch {
    throw new RaysumError("argument", `${what} is a Float32Array whose buffer was transferred away`);
  }
}

/** Throws RaysumError "argument" for anything but an array on a device. */
export function checkArray(what: string, value: unknown): asserts value is DeviceArray {
  if (!(value instanceof DeviceArray))
    throw new RaysumError("argument", `${what} is ${describe(value)}: expected a DeviceArray`);
}

/** What an array's memory lives as long as: another array, or a tensor. */
interface Owner {
  readonly disposed: boolean;
}

/** Frees the memory of an array that was collected without dispose(). Nobody can be using it: views keep their owner alive. */
const abandoned = new FinalizationRegistry<bigint>((pointer) => native().rs_free(pointer));

/**
 * A float32 array in C order in a device's memory.
 *
 * Operations are eager: they queue their work on the array's device and return a new array at once; only reading waits. Shapes must
 * be equal, or the second operand's shape must be the trailing part of the first's, which it then repeats over. Arrays of different
 * devices are never mixed: that throws RaysumError "device". Free an array with `using`, `dispose()` or inside `scope`.
 */
export class DeviceArray {
  readonly device: Device;
  readonly shape: Shape;
  /** Number of elements. */
  readonly size: number;
  readonly #pointer: bigint;
  /** What owns the memory that this array is a part of, where it is not this array. */
  readonly #owner: Owner | undefined;
  #disposed = false;

  private constructor(device: Device, shape: Shape, pointer: bigint, owner?: Owner) {
    this.device = device;
    this.shape = shape;
    this.size = sizeOf(shape);
    this.#pointer = pointer;
    this.#owner = owner;
    if (!owner) {
      abandoned.register(this, pointer, this);
      remember(this);
    }
  }

  // Making arrays

  /** An array whose contents are unspecified until something is written to it. */
  static empty(shape: Shape, options: OnDevice = {}): DeviceArray {
    checkOptions("DeviceArray", options, ["device"]);
    const checked = checkShape(shape, "shape");
    const device = chosenDevice(options.device);
    const bytes = BigInt(sizeOf(checked)) * 4n;
    const pointer = readInteger((out) => native().rs_allocate(device.id, bytes, out));
    return new DeviceArray(device, checked, pointer);
  }

  static full(shape: Shape, value: number, options: OnDevice = {}): DeviceArray {
    checkNumber("value", value);
    return fresh(shape, options, (out) => out.fill(value));
  }

  static zeros(shape: Shape, options: OnDevice = {}): DeviceArray {
    return DeviceArray.full(shape, 0, options);
  }

  static ones(shape: Shape, options: OnDevice = {}): DeviceArray {
    return DeviceArray.full(shape, 1, options);
  }

  /** Copies values of the host; `data` has as many elements as the shape. */
  static from(data: Float32Array | readonly number[], shape: Shape, options: OnDevice = {}): DeviceArray {
    const checked = checkShape(shape, "shape");
    if (data instanceof Float32Array) checkFloats("data", data);
    else if (!Array.isArray(data))
      throw new RaysumError("argument", `data is ${describe(data)}: expected a Float32Array or a list of numbers`);
    else for (let i = 0; i < data.length; i++) checkNumber(`data[${i}]`, data[i]);
    if (data.length !== sizeOf(checked))
      throw new RaysumError("shape", `${data.length} values for the shape ${formatShape(checked)}`);
    const array = DeviceArray.empty(checked, options);
    return array.writeSync(data instanceof Float32Array ? data : Float32Array.from(data));
  }

  /** Uniform numbers in [minimum, maximum), the same for the same seed on every device (Philox4x32-10). */
  static uniform(shape: Shape, options: OnDevice & { seed: number; minimum?: number; maximum?: number }): DeviceArray {
    checkOptions("DeviceArray.uniform", options, ["device", "seed", "minimum", "maximum"]);
    const { seed, minimum = 0, maximum = 1 } = options;
    checkNumber("minimum", minimum);
    checkNumber("maximum", maximum);
    if (!(minimum < maximum && Number.isFinite(maximum - minimum)))
      throw new RaysumError("argument", `minimum ${minimum}, maximum ${maximum}: expected finite minimum < maximum`);
    return DeviceArray.#random(Distribution.UNIFORM, shape, seed, minimum, maximum, options);
  }

  /** Normal deviates, the same for the same seed on every device up to the last bits (Philox4x32-10, Box and Muller). */
  static normal(shape: Shape, options: OnDevice & { seed: number; mean?: number; deviation?: number }): DeviceArray {
    checkOptions("DeviceArray.normal", options, ["device", "seed", "mean", "deviation"]);
    const { seed, mean = 0, deviation = 1 } = options;
    if (!(Number.isFinite(mean) && Number.isFinite(deviation) && deviation >= 0))
      throw new RaysumError(
        "argument",
        `mean ${mean}, deviation ${deviation}: expected finite numbers, deviation >= 0`,
      );
    return DeviceArray.#random(Distribution.NORMAL, shape, seed, mean, deviation, options);
  }

  static #random(kind: number, shape: Shape, seed: number, p: number, q: number, options: OnDevice): DeviceArray {
    if (!Number.isSafeInteger(seed))
      throw new RaysumError("argument", `seed ${describe(seed)}: expected a whole number`);
    return fresh(shape, { device: options.device }, (out) =>
      check(native().rs_random(kind, out.pointer, BigInt(out.size), BigInt(seed), p, q)),
    );
  }

  /**
   * An array over memory that another library owns, at `address` on `device`. The owner keeps it alive until this array was disposed
   * and the device has passed that point (`await device.finished()`). Disposing does not free it.
   */
  static adopt(address: bigint, shape: Shape, device: Device): DeviceArray {
    const checked = checkShape(shape, "shape");
    const bytes = BigInt(sizeOf(checked)) * 4n;
    if (typeof address !== "bigint")
      throw new RaysumError("argument", `address ${describe(address)}: expected a bigint`);
    if (!(device instanceof Device))
      throw new RaysumError("argument", `device ${describe(device)}: expected the Device that the memory is on`);
    if (address <= 0n || address > ADDRESS_MASK)
      throw new RaysumError("argument", `address ${address}: expected 1 to 2^48 - 1`);
    const pointer = readInteger((out) => native().rs_adopt(device.id, address, bytes, out));
    return new DeviceArray(device, checked, pointer);
  }

  /** An array over memory of ours that `owner` keeps and frees. For raysum/tfjs. */
  static over(device: Device, pointer: bigint, shape: Shape, owner: Owner): DeviceArray {
    return new DeviceArray(device, checkShape(shape, "shape"), pointer, owner);
  }

  /** The same elements in another shape; shares this array's memory, which stays owned by this array. */
  reshape(shape: Shape): DeviceArray {
    const checked = checkShape(shape, "shape");
    if (sizeOf(checked) !== this.size)
      throw new RaysumError("shape", `${formatShape(this.shape)} cannot be reshaped to ${formatShape(checked)}`);
    return new DeviceArray(this.device, checked, this.pointer, this);
  }

  /** The part [start, stop) along the first axis; shares this array's memory, which stays owned by this array. */
  part(start: number, stop: number): DeviceArray {
    const [count = 0, ...rest] = this.shape;
    if (!(Number.isInteger(start) && Number.isInteger(stop) && start >= 0 && start < stop && stop <= count))
      throw new RaysumError("argument", `part ${start} ... ${stop}: expected a part of 0 ... ${count}`);
    const offset = BigInt(start * sizeOf(rest) * 4);
    return new DeviceArray(this.device, Object.freeze([stop - start, ...rest]), this.pointer + offset, this);
  }

  clone(): DeviceArray {
    return fresh(this.shape, { device: this.device }, (out) => out.assign(this));
  }

  // Life

  get disposed(): boolean {
    return this.#disposed || (this.#owner?.disposed ?? false);
  }

  /** The checked device pointer of the ABI: address and generation. Adding a byte offset inside the array is legal. */
  get pointer(): bigint {
    if (this.disposed) throw new RaysumError("disposed", `this array ${formatShape(this.shape)} was disposed`);
    return this.#pointer;
  }

  /** The bare address, for other libraries. */
  get address(): bigint {
    return this.pointer & ADDRESS_MASK;
  }

  /** Frees the memory, in queue order: work that is already queued keeps it. A second call does nothing. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    if (this.#owner) return;
    abandoned.unregister(this);
    check(native().rs_free(this.#pointer));
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  // Host and device

  #range(range: ReadOptions): { start: number; count: number } {
    checkOptions("read", range, ["start", "count", "into"]);
    const { start = 0, count = this.size - start } = range;
    checkNumber("start", start);
    checkNumber("count", count);
    const fits = Number.isSafeInteger(start) && Number.isSafeInteger(count) && start >= 0 && count >= 0;
    if (!fits || start + count > this.size)
      throw new RaysumError(
        "argument",
        `elements ${start} ... ${start + count}: expected a part of 0 ... ${this.size}`,
      );
    return { start, count };
  }

  #source(values: Float32Array, start: number): void {
    checkFloats("values", values);
    this.#range({ start, count: values.length });
  }

  #target(range: ReadOptions): Float32Array<ArrayBuffer> {
    const { count } = this.#range(range);
    if (range.into) checkFloats("into", range.into);
    if (range.into && range.into.length !== count)
      throw new RaysumError("shape", `into has ${range.into.length} elements: expected ${count}`);
    return range.into ?? new Float32Array(count);
  }

  /** Begins the download of every slab of a range, each while the one before is still on its way, and hands them out in order. */
  *#slabs(range: ReadOptions): Generator<Slab> {
    const { start, count } = this.#range(range);
    const begin = (offset: number): Slab | undefined => {
      const length = Math.min(TRANSFER_ELEMENTS, count - offset);
      if (length <= 0) return undefined;
      const from = this.pointer + BigInt((start + offset) * 4);
      return {
        download: readInteger((out) => native().rs_download_begin(from, BigInt(length * 4), out)),
        offset,
        count: length,
      };
    };
    let next = begin(0);
    try {
      for (let slab = next; slab; slab = next) {
        next = begin(slab.offset + slab.count);
        yield slab;
      }
    } finally {
      if (next) {
        // The slab before has failed: this one is not wanted any more.
        native().rs_wait(this.device.id, this.device.record());
        native().rs_download_end(next.download, new Uint8Array(new ArrayBuffer(1)), 0n);
      }
    }
  }

  /**
   * Reads elements to the host, in slabs that leave the event loop free. What is read is what the array holds when its slab's turn
   * comes in the device's queue.
   */
  async read(range: ReadOptions = {}): Promise<Float32Array<ArrayBuffer>> {
    const values = this.#target(range);
    for (const { download, offset, count } of this.#slabs(range)) {
      const slab = values.subarray(offset, offset + count);
      await poll(() => native().rs_download_end(download, slab, BigInt(count * 4)));
    }
    return values;
  }

  /** The same, blocking the thread. */
  readSync(range: ReadOptions = {}): Float32Array<ArrayBuffer> {
    const values = this.#target(range);
    for (const { download, offset, count } of this.#slabs(range)) {
      try {
        this.device.finishedSync();
      } finally {
        check(native().rs_download_end(download, values.subarray(offset, offset + count), BigInt(count * 4)));
      }
    }
    return values;
  }

  /** Uploads the slab of `values` from `done` on; returns how many elements were taken: 0 when the device's staging is full. */
  #upload(values: Float32Array, start: number, done: number): number {
    const count = Math.min(TRANSFER_ELEMENTS, values.length - done);
    const to = this.pointer + BigInt((start + done) * 4);
    const status = check(native().rs_upload(to, values.subarray(done, done + count), BigInt(count * 4)));
    return status === Status.BUSY ? 0 : count;
  }

  /** Writes elements from the host, in slabs that leave the event loop free. `values` is copied before the promise resolves. */
  async write(values: Float32Array, start = 0): Promise<this> {
    this.#source(values, start);
    for (let done = 0; done < values.length; ) {
      const taken = this.#upload(values, start, done);
      done += taken;
      if (taken === 0) await this.device.finished();
      else if (done < values.length) for (let turn = 0; turn < 2; turn++) await immediate(); // timers come between two
    }
    return this;
  }

  /** The same, blocking the thread. */
  writeSync(values: Float32Array, start = 0): this {
    this.#source(values, start);
    for (let done = 0; done < values.length; ) {
      const taken = this.#upload(values, start, done);
      done += taken;
      if (taken === 0) this.device.finishedSync();
    }
    return this;
  }

  // Elementwise, into this array

  fill(value: number): this {
    checkNumber("value", value);
    check(native().rs_fill(this.pointer, BigInt(this.size), value));
    return this;
  }

  /** Copies the elements of an array of the same shape and device. */
  assign(source: DeviceArray): this {
    this.#same("assign", source);
    check(native().rs_copy(this.pointer, source.pointer, BigInt(this.size * 4)));
    return this;
  }

  addAssign(other: DeviceArray | number): this {
    return this.#combineInto(this, "addAssign", 1, other);
  }

  subAssign(other: DeviceArray | number): this {
    return this.#combineInto(this, "subAssign", -1, other);
  }

  mulAssign(other: DeviceArray | number): this {
    return this.#multiplyInto(this, "mulAssign", other);
  }

  divAssign(other: DeviceArray | number): this {
    return this.#divideInto(this, "divAssign", other);
  }

  /** this += factor * a * b, in one pass. */
  addProduct(a: DeviceArray, b: DeviceArray, factor = 1): this {
    this.#same("addProduct", a);
    const period = this.#period("addProduct", b);
    checkNumber("factor", factor);
    check(native().rs_multiply_add(this.pointer, factor, a.pointer, b.pointer, BigInt(this.size), period));
    return this;
  }

  // Elementwise, into a new array

  add(other: DeviceArray | number): DeviceArray {
    return this.#combineInto(undefined, "add", 1, other);
  }

  sub(other: DeviceArray | number): DeviceArray {
    return this.#combineInto(undefined, "sub", -1, other);
  }

  mul(other: DeviceArray | number): DeviceArray {
    return this.#multiplyInto(undefined, "mul", other);
  }

  div(other: DeviceArray | number): DeviceArray {
    return this.#divideInto(undefined, "div", other);
  }

  minimum(other: DeviceArray | number): DeviceArray {
    if (typeof other === "number") return this.clamp(Number.NEGATIVE_INFINITY, other);
    return this.#binaryInto(undefined, "minimum", BinaryOp.MINIMUM, other);
  }

  maximum(other: DeviceArray | number): DeviceArray {
    if (typeof other === "number") return this.clamp(other, Number.POSITIVE_INFINITY);
    return this.#binaryInto(undefined, "maximum", BinaryOp.MAXIMUM, other);
  }

  clamp(minimum: number, maximum: number): DeviceArray {
    checkNumber("minimum", minimum);
    checkNumber("maximum", maximum);
    if (!(minimum <= maximum))
      throw new RaysumError("argument", `clamp(${minimum}, ${maximum}): expected minimum <= maximum`);
    return this.#unaryInto(undefined, UnaryOp.CLAMP, minimum, maximum);
  }

  abs(): DeviceArray {
    return this.#unaryInto(undefined, UnaryOp.ABSOLUTE);
  }

  sqrt(): DeviceArray {
    return this.#unaryInto(undefined, UnaryOp.SQUARE_ROOT);
  }

  exp(): DeviceArray {
    return this.#unaryInto(undefined, UnaryOp.EXPONENTIAL);
  }

  log(): DeviceArray {
    return this.#unaryInto(undefined, UnaryOp.LOGARITHM);
  }

  /**
   * 1 / element, and 0 where the element is at most `absolute` or at most `relative` times the largest element: how the sums of rays
   * and voxels become weights, so that what is not seen does not count.
   */
  reciprocal(options: { absolute?: number; relative?: number } = {}): DeviceArray {
    checkOptions("reciprocal", options, ["absolute", "relative"]);
    const { absolute = 0, relative = 0 } = options;
    checkNumber("absolute", absolute);
    checkNumber("relative", relative);
    return fresh(this.shape, { device: this.device }, (out) =>
      check(native().rs_reciprocal(out.pointer, this.pointer, BigInt(this.size), absolute, relative)),
    );
  }

  // Reductions, in float64 and in a fixed order

  sum(): Promise<number> {
    return this.#reduce(Reduction.SUM);
  }

  async mean(): Promise<number> {
    return (await this.sum()) / this.size;
  }

  min(): Promise<number> {
    return this.#reduce(Reduction.SMALLEST);
  }

  max(): Promise<number> {
    return this.#reduce(Reduction.LARGEST);
  }

  /** Sum of products with an array of the same shape. */
  async dot(other: DeviceArray): Promise<number> {
    this.#same("dot", other);
    return this.#reduce(Reduction.DOT, other);
  }

  /** Euclidean norm. */
  async norm(): Promise<number> {
    return Math.sqrt(await this.dot(this));
  }

  /** Euclidean norm of the difference to an array of the same shape. */
  async distance(other: DeviceArray): Promise<number> {
    this.#same("distance", other);
    return Math.sqrt(await this.#reduce(Reduction.SQUARED_DIFFERENCE, other));
  }

  /** Mean absolute difference to an array of the same shape. */
  async meanAbsoluteDifference(other: DeviceArray): Promise<number> {
    this.#same("meanAbsoluteDifference", other);
    return (await this.#reduce(Reduction.ABSOLUTE_DIFFERENCE, other)) / this.size;
  }

  // How the above is done

  #same(what: string, other: DeviceArray): void {
    checkArray(`${what}: the operand`, other);
    if (other.device !== this.device)
      throw new RaysumError("device", `${what}: an array on ${this.device.name} and one on ${other.device.name}`);
    if (!sameShape(this.shape, other.shape))
      throw new RaysumError("shape", `${what}: shapes ${formatShape(this.shape)} and ${formatShape(other.shape)}`);
  }

  /** After how many elements of this array the other one repeats. */
  #period(what: string, other: DeviceArray): bigint {
    checkArray(`${what}: the operand`, other);
    if (other.device !== this.device)
      throw new RaysumError("device", `${what}: an array on ${this.device.name} and one on ${other.device.name}`);
    const trailing = this.shape.slice(this.shape.length - other.shape.length);
    if (other.shape.length > this.shape.length || !sameShape(trailing, other.shape))
      throw new RaysumError(
        "shape",
        `${what}: shapes ${formatShape(this.shape)} and ${formatShape(other.shape)}: expected equal shapes, or the second to be the trailing part of the first`,
      );
    return BigInt(other.size);
  }

  /** Runs an elementwise call into `into`, which is this array, or into a new one. */
  #into(into: this | undefined, call: (out: DeviceArray) => number): this {
    if (!into) return fresh(this.shape, { device: this.device }, (out) => check(call(out))) as this;
    check(call(into));
    return into;
  }

  #combineInto(into: this | undefined, what: string, sign: 1 | -1, other: DeviceArray | number): this {
    if (typeof other === "number") return this.#unaryInto(into, UnaryOp.AFFINE, 1, sign * other);
    const period = this.#period(what, other);
    return this.#into(into, (out) =>
      native().rs_combine(out.pointer, 1, this.pointer, sign, other.pointer, BigInt(this.size), period),
    );
  }

  #multiplyInto(into: this | undefined, what: string, other: DeviceArray | number): this {
    if (typeof other === "number") return this.#unaryInto(into, UnaryOp.AFFINE, other, 0);
    return this.#binaryInto(into, what, BinaryOp.MULTIPLY, other);
  }

  #divideInto(into: this | undefined, what: string, other: DeviceArray | number): this {
    if (typeof other === "number") return this.#unaryInto(into, UnaryOp.AFFINE, 1 / other, 0);
    return this.#binaryInto(into, what, BinaryOp.DIVIDE, other);
  }

  #binaryInto(into: this | undefined, what: string, op: number, other: DeviceArray): this {
    const period = this.#period(what, other);
    return this.#into(into, (out) =>
      native().rs_binary(op, out.pointer, this.pointer, other.pointer, BigInt(this.size), period),
    );
  }

  #unaryInto(into: this | undefined, op: number, p = 0, q = 0): this {
    return this.#into(into, (out) => native().rs_unary(op, out.pointer, this.pointer, BigInt(this.size), p, q));
  }

  async #reduce(op: number, other?: DeviceArray): Promise<number> {
    const result = DeviceArray.empty([2], { device: this.device }); // one float64
    try {
      check(native().rs_reduce(op, result.pointer, this.pointer, other?.pointer ?? 0n, BigInt(this.size)));
      return (await readDoubles(result))[0]!;
    } finally {
      result.dispose();
    }
  }
}

/** Reads an array that native code has filled with float64: two elements each. */
export async function readDoubles(array: DeviceArray): Promise<Float64Array> {
  const values = await array.read();
  return new Float64Array(values.buffer, 0, array.size / 2);
}

/** A new array that `write` fills, and that is freed again when it throws. */
export function fresh(shape: Shape, options: OnDevice, write: (out: DeviceArray) => unknown): DeviceArray {
  const out = DeviceArray.empty(shape, options);
  try {
    write(out);
    return out;
  } catch (error) {
    out.dispose();
    throw error;
  }
}
