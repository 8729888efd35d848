import type { TensorInfo } from "@tensorflow/tfjs-core";
import type { RaysumBackend } from "./backend.ts";

type Result = TensorInfo | TensorInfo[] | undefined;

/** A kernel of TensorFlow.js. `undefined` says that it does not cover these inputs (another type or layout). */
export interface Kernel {
  readonly name: string;
  readonly run: (inputs: unknown, attributes: unknown, backend: RaysumBackend) => Result;
}

/** Names the types of a kernel's inputs and attributes, as tfjs-core declares them. */
export function kernel<Inputs, Attributes = unknown>(
  name: string,
  run: (inputs: Inputs, attributes: Attributes, backend: RaysumBackend) => Result,
): Kernel {
  return { name, run: run as Kernel["run"] };
}

/** The inputs of a kernel, none of them optional. */
export type Inputs<Names extends string> = { readonly [Name in Names]: TensorInfo };
