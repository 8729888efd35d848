import type * as core from "@tensorflow/tfjs-core";
import { RaysumError } from "../errors.ts";

/** The user's TensorFlow.js: `@tensorflow/tfjs` 4.22.0, or `@tensorflow/tfjs-core` beside `@tensorflow/tfjs-layers`. */
export type TensorFlow = typeof core;

let registered: TensorFlow | undefined;

export function remember(tf: TensorFlow): void {
  registered = tf;
}

/** What `register` was given. All copies of TensorFlow.js in a process share their registries, so there is one. */
export function tensorflow(): TensorFlow {
  if (registered) return registered;
  throw new RaysumError("argument", "raysum/tfjs is not registered: call register(tf) first");
}
