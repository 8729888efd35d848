// Steps that the device repeats by itself: what TensorFlow.js does in JavaScript happens once.
import type { Tensor, TensorContainer, TensorInfo } from "@tensorflow/tfjs-core";
import { RaysumError } from "../errors.ts";
import { check, native, readInteger } from "../native/library.ts";
import { formatShape, sameShape, sizeOf } from "../shape.ts";
import { RaysumBackend } from "./backend.ts";
import { Homes, Recorder } from "./recorder.ts";
import { tensorflow } from "./tensorflow.ts";

export interface CaptureOptions {
  /** Tensors that the body reads and that each run may give other values. */
  readonly inputs?: Readonly<Record<string, Tensor>>;
}

/** New values of an input: a tensor on the same device, or numbers of the host. */
export type InputValues = Tensor | Float32Array | Int32Array;

export interface CapturedStep<T> {
  /** What the body returned. Each run writes into the same tensors, so read them before the next run. */
  readonly outputs: T;
  /** Puts values into inputs, the others staying as they are, and queues everything that the body did. Returns `outputs`. */
  run(values?: Readonly<Record<string, InputValues>>): T;
  /** Gives back the outputs and all memory of the step. */
  dispose(): void;
  [Symbol.dispose](): void;
}

function activeBackend(): RaysumBackend {
  const tf = tensorflow();
  const backend = tf.backend();
  if (backend instanceof RaysumBackend) return backend;
  throw new RaysumError(
    "device",
    `the active backend is ${tf.getBackend()}: expected one of raysum, which can capture`,
  );
}

function checkValues(name: string, input: Tensor, values: InputValues): void {
  const isTensor = values instanceof tensorflow().Tensor;
  const [what, expected] = isTensor
    ? [`${values.dtype} ${formatShape(values.shape)}`, `${input.dtype} ${formatShape(input.shape)}`]
    : [`${values?.length} numbers in a ${values?.constructor.name}`, `${input.size} numbers of ${input.dtype}`];
  const fits = isTensor
    ? values.dtype === input.dtype && sameShape(values.shape, input.shape)
    : values?.length === input.size && values instanceof (input.dtype === "float32" ? Float32Array : Int32Array);
  if (!fits) throw new RaysumError("shape", `the input ${name} is given ${what}: expected ${expected}`);
}

/**
 * Runs `body` once as usual, so this is a step as well, and records it: `run` then repeats what the device did, as one launch of a CUDA
 * graph or one list of calls on the CPU, without JavaScript. The body computes with tensors and steps optimizers of raysum/tfjs, whose
 * learning rates and counts stay alive (those of `tf.train` are refused). It reads nothing back, waits for nothing, draws no random
 * numbers and assigns no variables; it sees the values that its inputs have in each run, and every other number of the host as it was.
 * To be recorded it is called once more, and must then ask for the same kernels, with the same shapes and numbers.
 *
 * Memory that the body uses, of tensors and operators too, stays until the step is disposed, whoever disposes it earlier.
 *
 * @throws RaysumError "argument" for a body that does what cannot be repeated, or inside a gradient or another capture; from `run`,
 * "shape" for values that do not fit, "argument" for unknown inputs and for variables that were assigned since, "disposed".
 */
export function capture<T extends TensorContainer>(
  body: () => T,
  { inputs = {} }: CaptureOptions = {},
): CapturedStep<T> {
  const tf = tensorflow();
  const backend = activeBackend();
  if (backend.recorder || tf.engine().state.gradientDepth > 0)
    throw new RaysumError("argument", "a step is captured on its own: not inside another one or inside a gradient");
  for (const input of Object.values(inputs)) {
    backend.pointer(input);
    backend.overwritten(input);
  }
  const recorder = new Recorder();
  const newest = tf.scalar(0); // tensors are numbered
  newest.dispose();
  /** Those that the body made, and that are ours to dispose. */
  const own = (container: TensorContainer) =>
    tf.tensor_util
      .getTensorsInContainer(container as never)
      .filter((tensor) => tensor.id > newest.id && !(tensor instanceof tf.Variable));
  const once = (): T => {
    const returned = tf.tidy(body);
    if (returned instanceof Promise)
      throw new RaysumError("argument", "the body of a captured step gave a promise: expected tensors, at once");
    for (const tensor of own(returned)) tf.keep(tensor);
    return returned;
  };

  let number = 0n;
  let homes: Homes | undefined;
  let [first, outputs]: (T | undefined)[] = [];
  backend.recorder = recorder;
  try {
    first = once();
    homes = new Homes(backend, recorder);
    number = readInteger((out) => native().rs_capture_begin(backend.device.id, out));
    recorder.record();
    outputs = once();
    homes.checkInside();
    recorder.end();
    check(native().rs_capture_end(number));
    const results = own(outputs);
    for (const [k, tensor] of own(first).entries()) {
      if (tensor.size > 0) copy(backend, results[k]!, tensor);
    }
    return new Step(backend, recorder, homes, number, inputs, outputs, results);
  } catch (error) {
    if (number !== 0n) check(native().rs_capture_free(number));
    if (outputs) tf.dispose(own(outputs));
    throw error;
  } finally {
    homes?.release();
    delete backend.recorder;
    if (first) tf.dispose(own(first));
  }
}

/** to = from, of one shape. */
function copy(backend: RaysumBackend, to: TensorInfo, from: TensorInfo): void {
  check(native().rs_copy(backend.pointer(to), backend.pointer(from), BigInt(sizeOf(to.shape) * 4)));
}

class Step<T extends TensorContainer> implements CapturedStep<T> {
  readonly outputs: T;
  readonly #backend: RaysumBackend;
  readonly #recorder: Recorder;
  readonly #homes: Homes;
  readonly #inputs: Readonly<Record<string, Tensor>>;
  readonly #results: readonly Tensor[];
  /** 0 once disposed. */
  #number: bigint;

  constructor(
    backend: RaysumBackend,
    recorder: Recorder,
    homes: Homes,
    number: bigint,
    inputs: Readonly<Record<string, Tensor>>,
    outputs: T,
    results: readonly Tensor[],
  ) {
    this.outputs = outputs;
    this.#backend = backend;
    this.#recorder = recorder;
    this.#homes = homes;
    this.#number = number;
    this.#inputs = inputs;
    this.#results = results;
  }

  run(values: Readonly<Record<string, InputValues>> = {}): T {
    if (this.#number === 0n) throw new RaysumError("disposed", "the captured step was disposed");
    if (tensorflow().engine().state.gradientDepth > 0)
      throw new RaysumError("argument", "a captured step inside a gradient: nothing would be recorded of it");
    const backend = this.#backend;
    const given = Object.entries(values).map(([name, value]) => {
      const input = this.#inputs[name];
      if (!input) throw new RaysumError("argument", `the captured step has no input ${name}`);
      checkValues(name, input, value);
      if (!backend.isSole(input))
        throw new RaysumError(
          "argument",
          `the input ${name} shares its memory with another tensor, which would change`,
        );
      return [input, value] as const;
    });
    this.#homes.checkSince();
    for (const prepare of this.#recorder.before) prepare();
    for (const [input, value] of given) {
      if (value instanceof Float32Array || value instanceof Int32Array) backend.upload(backend.pointer(input), value);
      else if (value.size > 0 && value !== input) copy(backend, input, value);
    }
    check(native().rs_capture_run(this.#number));
    return this.outputs;
  }

  dispose(): void {
    if (this.#number === 0n) return;
    check(native().rs_capture_free(this.#number));
    this.#number = 0n;
    tensorflow().dispose([...this.#results]);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
