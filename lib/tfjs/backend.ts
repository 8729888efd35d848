import type { BackendValues, DataId, DataStorage, DataType, KernelBackend, TensorInfo } from "@tensorflow/tfjs-core";
import { type Device, poll } from "../device.ts";
import { RaysumError } from "../errors.ts";
import { check, native, readInteger } from "../native/library.ts";
import { RS_TRANSFER_BYTES, Status } from "../native/symbols.ts";
import { formatShape, sizeOf } from "../shape.ts";
import type { Recorder } from "./recorder.ts";
import type { TensorFlow } from "./tensorflow.ts";

/** Numbers of the host. Truth values are bytes there, and int32 on a device. */
type Numbers = Float32Array | Int32Array | Uint8Array;

/** Up to this many elements the host keeps a copy of what it wrote, and uploads when a kernel asks for it. */
const SMALL = 1024;
const TRANSFER_ELEMENTS = RS_TRANSFER_BYTES / 4;

interface Stored {
  readonly dtype: DataType;
  readonly size: number;
  references: number;
  /** The device pointer; 0 while nothing is there. */
  pointer: bigint;
  /** What the host knows: numbers not larger than SMALL, or strings. */
  values?: Numbers | Uint8Array[];
  /** The two halves of complex numbers. */
  parts?: { readonly real: TensorInfo; readonly imag: TensorInfo };
}

/** Frees the memory of a tensor that was collected without dispose(). */
const abandoned = new FinalizationRegistry<bigint>((pointer) => native().rs_free(pointer));

/** Elements as the device has them: 4 bytes each. */
function toWords(values: BackendValues | readonly number[], dtype: DataType, size: number): Float32Array | Int32Array {
  const numbers = values.length > size ? (values as Numbers).subarray(0, size) : (values as Numbers);
  if (dtype === "float32") return numbers instanceof Float32Array ? numbers : Float32Array.from(numbers);
  return numbers instanceof Int32Array ? numbers : Int32Array.from(numbers);
}

function fromWords(words: Float32Array | Int32Array, dtype: DataType): Numbers {
  return dtype === "bool" ? Uint8Array.from(words) : words;
}

/**
 * A TensorFlow.js backend on one device of the native library. A tensor is a pointer into the device's memory; kernels queue their
 * work and return; only reading waits. Made by `register`.
 */
export class RaysumBackend implements KernelBackend {
  readonly tf: TensorFlow;
  readonly device: Device;
  /** While the body of a captured step runs. */
  recorder?: Recorder;
  readonly #stored: DataStorage<Stored>;

  constructor(tf: TensorFlow, device: Device) {
    this.tf = tf;
    this.device = device;
    this.#stored = new tf.DataStorage<Stored>(this, tf.engine());
  }

  // What kernels use

  /** A new tensor whose contents are unspecified until a kernel has written them. */
  output(shape: readonly number[], dtype: DataType): TensorInfo {
    const dataId = {};
    const size = sizeOf(shape);
    const stored: Stored = { dtype, size, references: 1, pointer: 0n };
    if (size > 0) stored.pointer = this.#allocate(dataId, size);
    this.#stored.set(dataId, stored);
    return { dataId, shape: [...shape], dtype };
  }

  /** Another tensor over the same memory. */
  share(tensor: TensorInfo, shape: readonly number[] = tensor.shape): TensorInfo {
    this.incRef(tensor.dataId);
    return { dataId: tensor.dataId, shape: [...shape], dtype: tensor.dtype };
  }

  complex(real: TensorInfo, imag: TensorInfo): TensorInfo {
    const dataId = {};
    const parts = { real: this.share(real), imag: this.share(imag) };
    this.#stored.set(dataId, { dtype: "complex64", size: sizeOf(real.shape), references: 1, pointer: 0n, parts });
    return { dataId, shape: real.shape, dtype: "complex64" };
  }

  /** The halves of a complex tensor, which stay its own. */
  parts(tensor: TensorInfo): { readonly real: TensorInfo; readonly imag: TensorInfo } {
    const { parts } = this.#stored.get(tensor.dataId);
    if (!parts) throw new RaysumError("internal", `a tensor of type ${tensor.dtype} has no real and imaginary part`);
    return parts;
  }

  /** Where the elements lie on the device; uploads what only the host has. The tensor has at least one element. */
  pointer(tensor: TensorInfo): bigint {
    const stored = this.#stored.get(tensor.dataId);
    this.recorder?.touch(tensor.dataId);
    if (stored.pointer === 0n) {
      if (!stored.values || stored.dtype === "string")
        throw new RaysumError(
          "internal",
          `a tensor ${formatShape(tensor.shape)} of ${tensor.dtype} has no device memory`,
        );
      stored.pointer = this.#place(tensor.dataId, stored.values as Numbers, stored);
    }
    return stored.pointer;
  }

  /** The elements, where the host still knows them. */
  known(tensor: TensorInfo): Numbers | undefined {
    const { values, dtype } = this.#stored.get(tensor.dataId);
    return dtype === "string" ? undefined : (values as Numbers | undefined);
  }

  /** Whether nothing else shares the memory of a tensor, so that a kernel may overwrite it. */
  isSole(tensor: TensorInfo): boolean {
    const own = this.recorder?.held.has(tensor.dataId) ? 2 : 1;
    return this.#stored.get(tensor.dataId).references === own;
  }

  /** Forgets the host's copy of what a kernel has overwritten. */
  overwritten(tensor: TensorInfo): void {
    delete this.#stored.get(tensor.dataId).values;
  }

  #allocate(dataId: DataId, size: number): bigint {
    const pointer = readInteger((out) => native().rs_allocate(this.device.id, BigInt(size * 4), out));
    abandoned.register(dataId, pointer, dataId);
    return pointer;
  }

  /** New memory with numbers of the host. */
  #place(dataId: DataId, values: BackendValues, { dtype, size }: Stored): bigint {
    const pointer = this.#allocate(dataId, size);
    try {
      this.upload(pointer, toWords(values, dtype, size));
    } catch (error) {
      abandoned.unregister(dataId);
      check(native().rs_free(pointer));
      throw error;
    }
    return pointer;
  }

  /** Copies numbers to device memory; the array may change afterwards. */
  upload(pointer: bigint, words: Float32Array | Int32Array): void {
    for (let done = 0; done < words.length; ) {
      const slab = words.subarray(done, Math.min(done + TRANSFER_ELEMENTS, words.length));
      const status = check(native().rs_upload(pointer + BigInt(done * 4), slab, BigInt(slab.byteLength)));
      if (status === Status.BUSY) this.device.finishedSync();
      else done += slab.length;
    }
  }

  // What TensorFlow.js asks of a backend

  write(values: BackendValues, shape: number[], dtype: DataType): DataId {
    const dataId = {};
    this.move(dataId, values, shape, dtype, 1);
    return dataId;
  }

  move(dataId: DataId, values: BackendValues, shape: number[], dtype: DataType, references: number): void {
    if (dtype === "complex64")
      throw new RaysumError("argument", "complex numbers are made of two tensors: use tf.complex(real, imag)");
    const size = sizeOf(shape);
    const stored: Stored = { dtype, size, references, pointer: 0n };
    if (dtype === "string") stored.values = values as Uint8Array[];
    else if (size > SMALL) {
      stored.pointer = values ? this.#place(dataId, values, stored) : this.#allocate(dataId, size);
    } else if (values) {
      this.recorder?.write(values as Numbers);
      stored.values = fromWords(toWords(values, dtype, size).slice(), dtype);
    } else if (size > 0) stored.pointer = this.#allocate(dataId, size);
    this.#stored.set(dataId, stored);
  }

  /** What needs no download, or undefined. */
  #atHand(stored: Stored): BackendValues | undefined {
    if (stored.values) return stored.values.slice() as BackendValues;
    if (stored.size === 0) return fromWords(toWords([], stored.dtype, 0), stored.dtype);
    return undefined;
  }

  /** Begins the download of every slab of a tensor, one after the other. */
  *#slabs(
    stored: Stored,
    words: Float32Array | Int32Array,
  ): Generator<{ download: bigint; slab: Float32Array | Int32Array }> {
    for (let start = 0; start < stored.size; start += TRANSFER_ELEMENTS) {
      const slab = words.subarray(start, Math.min(start + TRANSFER_ELEMENTS, stored.size));
      const from = stored.pointer + BigInt(start * 4);
      yield { download: readInteger((out) => native().rs_download_begin(from, BigInt(slab.byteLength), out)), slab };
    }
  }

  readSync(dataId: DataId): BackendValues {
    const stored = this.#stored.get(dataId);
    if (stored.parts) {
      const [real, imag] = [stored.parts.real, stored.parts.imag].map((part) => this.readSync(part.dataId));
      return this.tf.backend_util.mergeRealAndImagArrays(real as Float32Array, imag as Float32Array);
    }
    const known = this.#atHand(stored);
    if (known) return known;
    const words = stored.dtype === "float32" ? new Float32Array(stored.size) : new Int32Array(stored.size);
    for (const { download, slab } of this.#slabs(stored, words)) {
      try {
        this.device.finishedSync();
      } finally {
        check(native().rs_download_end(download, slab, BigInt(slab.byteLength)));
      }
    }
    return fromWords(words, stored.dtype);
  }

  async read(dataId: DataId): Promise<BackendValues> {
    const stored = this.#stored.get(dataId);
    if (stored.parts) {
      const [real, imag] = await Promise.all(
        [stored.parts.real, stored.parts.imag].map((part) => this.read(part.dataId)),
      );
      return this.tf.backend_util.mergeRealAndImagArrays(real as Float32Array, imag as Float32Array);
    }
    const known = this.#atHand(stored);
    if (known) return known;
    const words = stored.dtype === "float32" ? new Float32Array(stored.size) : new Int32Array(stored.size);
    for (const { download, slab } of this.#slabs(stored, words))
      await poll(() => native().rs_download_end(download, slab, BigInt(slab.byteLength)));
    return fromWords(words, stored.dtype);
  }

  disposeData(dataId: DataId, force = false): boolean {
    if (!this.#stored.has(dataId)) return true;
    const stored = this.#stored.get(dataId);
    stored.references--;
    if (!force && stored.references > 0) return false;
    if (stored.parts) {
      this.disposeData(stored.parts.real.dataId, force);
      this.disposeData(stored.parts.imag.dataId, force);
    }
    this.#stored.delete(dataId);
    if (stored.pointer !== 0n) {
      abandoned.unregister(dataId);
      check(native().rs_free(stored.pointer));
    }
    return true;
  }

  incRef(dataId: DataId): void {
    this.#stored.get(dataId).references++;
  }

  refCount(dataId: DataId): number {
    return this.#stored.has(dataId) ? this.#stored.get(dataId).references : 0;
  }

  numDataIds(): number {
    return this.#stored.numDataIds();
  }

  /** Device memory, all of the process: bytes in use, the most so far, and bytes kept for the next allocation. */
  memory(): { unreliable: boolean; bytesInUse: number; bytesPeak: number; bytesCached: number } {
    const { inUse, peak, cached } = this.device.memory();
    return { unreliable: false, bytesInUse: inUse, bytesPeak: peak, bytesCached: cached };
  }

  timerAvailable(): boolean {
    return true;
  }

  /** Wall-clock time until the device has done what `run` queued. Blocks: `tf.profile` goes on before it awaits. */
  async time(run: () => void): Promise<{ kernelMs: number }> {
    this.device.finishedSync();
    const start = performance.now();
    run();
    this.device.finishedSync();
    return { kernelMs: performance.now() - start };
  }

  floatPrecision(): 16 | 32 {
    return 32;
  }

  epsilon(): number {
    return 1e-7;
  }

  readToGPU(): never {
    throw new RaysumError(
      "argument",
      "dataToGPU hands out WebGL and WebGPU objects: use arrayOf(tensor) for device memory",
    );
  }

  createTensorFromGPUData(): never {
    throw new RaysumError("argument", "a tensor is not made of WebGL or WebGPU objects here: use tensorOf(array)");
  }

  dispose(): void {}
}
