import type { DataId, TensorInfo, Variable } from "@tensorflow/tfjs-core";
import { RaysumError } from "../errors.ts";
import { formatShape } from "../shape.ts";
import type { RaysumBackend } from "./backend.ts";

type KernelInputs = Readonly<Record<string, TensorInfo | TensorInfo[] | undefined>>;

/** What a kernel is asked for, as text: its operands' types and shapes, and its attributes. */
function asked(name: string, inputs: KernelInputs, attributes: object): string {
  const operands = Object.values(inputs)
    .flatMap((tensor) => tensor ?? [])
    .map(({ dtype, shape }) => `${dtype} ${formatShape(shape)}`);
  return `${name} of (${operands.join(", ")}) with ${JSON.stringify(attributes)}`;
}

/**
 * What a backend notes while the body of a captured step runs: the first time on the device, the second time into the capture. What the
 * host decides must be the same both times, as it will be in every run: the numbers that it puts in, and the kernels with their shapes
 * and attributes.
 */
export class Recorder {
  /** What must be done before a run, as JavaScript is not there to do it: learning rates, counts of steps. */
  readonly before: (() => void)[] = [];
  /** Of variables, whose memory is not given back while calls go into the capture. */
  readonly held: Set<DataId> = new Set();
  readonly #numbers: ArrayLike<number>[] = [];
  readonly #kernels: string[] = [];
  /** How many of `#numbers` and `#kernels` the second run has met. */
  readonly #met = { numbers: 0, kernels: 0 };
  #recording = false;
  /** The first that was found, as a sentence. */
  #difference = "";
  readonly #touched = new Set<DataId>();

  /** Whether calls go into the capture. */
  get recording(): boolean {
    return this.#recording;
  }

  record(): void {
    this.#recording = true;
    this.#touched.clear();
  }

  touch(dataId: DataId): void {
    this.#touched.add(dataId);
  }

  touched(dataId: DataId): boolean {
    return this.#touched.has(dataId);
  }

  /** A kernel is about to run. */
  kernel(name: string, inputs: KernelInputs, attributes: object): void {
    const now = asked(name, inputs, attributes);
    if (!this.#recording) this.#kernels.push(now);
    else this.#compare("a kernel", this.#kernels[this.#met.kernels++], now);
  }

  /** Numbers of the host became a tensor. */
  write(values: ArrayLike<number>): void {
    if (!this.#recording) {
      this.#numbers.push(Float64Array.from(values));
      return;
    }
    const before = this.#numbers[this.#met.numbers++];
    const place =
      before?.length === values.length ? Array.from(values).findIndex((value, k) => !Object.is(+value, before[k])) : 0;
    if (place >= 0) this.#compare("a number of the host", before?.[place], values[place]);
  }

  /** The second run is over: throws where it was not the first again. */
  end(): void {
    if (this.#met.kernels < this.#kernels.length)
      this.#compare("a kernel", this.#kernels[this.#met.kernels], undefined);
    if (this.#difference) throw new RaysumError("argument", this.#difference);
  }

  #compare(what: string, before: string | number | undefined, now: string | number | undefined): void {
    if (Object.is(before, now)) return;
    this.#difference ||=
      `${what} was ${before ?? "not there"} when the step ran and ${now ?? "not there"} when it was captured: every run would have the ` +
      "latter; what changes belongs into the inputs";
  }
}

/**
 * The variables on a backend with their memory, which those that the capture uses must keep: one that was assigned has moved. While
 * the body is recorded nothing is computed, so its assignments leave no values: then variables get back what they had.
 */
export class Homes {
  readonly #backend: RaysumBackend;
  readonly #recorder: Recorder;
  readonly #homes: readonly { readonly variable: Variable; readonly dataId: DataId }[];
  /** Of those that the capture uses. */
  readonly #pointers: ReadonlyMap<Variable, bigint>;

  constructor(backend: RaysumBackend, recorder: Recorder) {
    this.#backend = backend;
    this.#recorder = recorder;
    const { state, registeredVariables } = backend.tf.engine();
    const variables = Object.values(registeredVariables).filter(
      ({ dataId }) => state.tensorInfo.get(dataId)?.backend === backend,
    );
    this.#homes = variables.map((variable) => ({ variable, dataId: variable.dataId }));
    const used = variables.filter(({ dataId }) => recorder.touched(dataId));
    this.#pointers = new Map(used.map((variable) => [variable, backend.pointer(variable)]));
    for (const { dataId } of this.#homes) {
      backend.incRef(dataId);
      recorder.held.add(dataId);
    }
  }

  /** The end of the recording. */
  release(): void {
    const engine = this.#backend.tf.engine();
    for (const { variable, dataId } of this.#homes) {
      this.#recorder.held.delete(dataId);
      if (variable.isDisposed || variable.dataId === dataId) {
        this.#backend.disposeData(dataId);
        continue;
      }
      const before = engine.makeTensorFromDataId(dataId, variable.shape, variable.dtype, this.#backend);
      variable.assign(before);
      before.dispose();
    }
  }

  /** That no variable was assigned while the body was recorded. */
  checkInside(): void {
    for (const { variable, dataId } of this.#homes)
      if (!variable.isDisposed && variable.dataId !== dataId)
        throw new RaysumError(
          "argument",
          `the variable ${variable.name} was given other memory inside, which a captured step does not follow: of optimizers, use ` +
            "adam, momentum or sgd of raysum/tfjs, not those of tf.train",
        );
  }

  /** That no variable that the capture uses was assigned since. */
  checkSince(): void {
    for (const [variable, pointer] of this.#pointers)
      if (!variable.isDisposed && this.#backend.pointer(variable) !== pointer)
        throw new RaysumError(
          "argument",
          `the variable ${variable.name} was given other memory since it was captured, which a captured step does not follow: capture ` +
            "again after an assignment",
        );
  }
}
