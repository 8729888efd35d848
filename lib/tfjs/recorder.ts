import type { DataId, Variable } from "@tensorflow/tfjs-core";
import { RaysumError } from "../errors.ts";
import type { RaysumBackend } from "./backend.ts";

/**
 * What a backend notes while the body of a captured step runs: the first time on the device, the second time into the capture. Numbers
 * that the host puts in must be the same both times, as they will be in every run.
 */
export class Recorder {
  /** What must be done before a run, as JavaScript is not there to do it: learning rates, counts of steps. */
  readonly before: (() => void)[] = [];
  readonly #numbers: ArrayLike<number>[] = [];
  /** How many of `#numbers` the second run has met; below 0 in the first. */
  #met = -1;
  readonly #touched = new Set<DataId>();

  /** Whether calls go into the capture. */
  get recording(): boolean {
    return this.#met >= 0;
  }

  record(): void {
    this.#met = 0;
    this.#touched.clear();
  }

  touch(dataId: DataId): void {
    this.#touched.add(dataId);
  }

  touched(dataId: DataId): boolean {
    return this.#touched.has(dataId);
  }

  /** Numbers of the host became a tensor. */
  write(values: ArrayLike<number>): void {
    if (!this.recording) {
      this.#numbers.push(Float64Array.from(values));
      return;
    }
    const before = this.#numbers[this.#met++];
    const place =
      before?.length === values.length ? Array.from(values).findIndex((value, k) => !Object.is(+value, before[k])) : 0;
    if (place < 0) return;
    throw new RaysumError(
      "argument",
      `a number of the host was ${before?.[place] ?? "not there"} when the step ran and ${values[place]} when it was captured: ` +
        "every run would have the latter; what changes belongs into the inputs",
    );
  }
}

/** The variables that the capture has used, with their memory: a variable that was assigned since has moved to other memory. */
export class Homes {
  readonly #homes: { readonly variable: Variable; readonly pointer: bigint }[];
  readonly #backend: RaysumBackend;

  constructor(backend: RaysumBackend, variables: readonly Variable[]) {
    this.#backend = backend;
    this.#homes = variables.map((variable) => ({ variable, pointer: backend.pointer(variable) }));
  }

  check(when: string): void {
    for (const { variable, pointer } of this.#homes)
      if (!variable.isDisposed && this.#backend.pointer(variable) !== pointer)
        throw new RaysumError(
          "argument",
          `the variable ${variable.name} was given other memory ${when}, which a captured step does not follow: use the optimizers ` +
            "of raysum/tfjs inside, and capture again after an assignment",
        );
  }
}
