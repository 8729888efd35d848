import type { Tensor, Tensor5D } from "@tensorflow/tfjs-core";
import { RaysumError } from "../errors.ts";
import { formatShape } from "../shape.ts";
import { tensorflow } from "./tensorflow.ts";

/** Repeats every element `times` times along an axis; the gradient sums what was repeated. */
function repeated(x: Tensor, axis: number, times: number): Tensor {
  const tf = tensorflow();
  if (times === 1) return x;
  const outer = x.shape.slice(0, axis).reduce((a, b) => a * b, 1);
  const shape = [outer * x.shape[axis]!, 1, x.size / outer / x.shape[axis]!];
  const result = x.shape.map((count, k) => (k === axis ? count * times : count));
  return tf.customGrad((...given) => ({
    value: tf.reshape(tf.tile(tf.reshape(given[0] as Tensor, shape), [1, times, 1]), result),
    gradFunc: (dy: Tensor) => tf.reshape(tf.sum(tf.reshape(dy, [shape[0]!, times, shape[2]!]), 1), x.shape),
  }))(x);
}

/**
 * Volumes `[batch, depth, height, width, channels]` with every voxel repeated `size` times along its axes, as UpSampling3D of Keras
 * has it: the way up of a network in three dimensions. With gradients of any order.
 *
 * @throws RaysumError "shape" for a tensor of another rank or without elements, "argument" for factors that are no positive whole numbers.
 */
export function upSampling3d(x: Tensor5D, size: readonly [number, number, number] = [2, 2, 2]): Tensor5D {
  if (x.shape.length !== 5 || x.size === 0)
    throw new RaysumError(
      "shape",
      `${formatShape(x.shape)}: expected volumes [batch, depth, height, width, channels], with elements`,
    );
  if (size.length !== 3 || !size.every((factor) => Number.isSafeInteger(factor) && factor > 0))
    throw new RaysumError("argument", `size ${formatShape(size)}: expected three positive whole numbers`);
  return tensorflow().tidy(() => size.reduce((y: Tensor, factor, k) => repeated(y, k + 1, factor), x)) as Tensor5D;
}
