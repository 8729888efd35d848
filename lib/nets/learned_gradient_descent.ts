import type { Tensor, Tensor4D } from "@tensorflow/tfjs-core";
import type { Operator } from "../operator.ts";
import { checkpoint } from "../tfjs/backward.ts";
import { type Layer, layer } from "../tfjs/layer.ts";
import { tensorflow } from "../tfjs/tensorflow.ts";
import { checkCount, type Network, Weights } from "./network.ts";

export interface LearnedGradientDescentOptions {
  /** Unrolled iterations. 10 by default. */
  readonly iterations?: number;
  /** Images that the memory holds beside the reconstruction. 5 by default. */
  readonly memory?: number;
  /** Channels between the convolutions of an iteration. 32 by default. */
  readonly hidden?: number;
  /** Whether training keeps only what goes into each iteration and computes its inside once more on the way back. Not by default. */
  readonly recompute?: boolean;
  /** For the first weights. 1 by default. */
  readonly seed?: number;
  /** What projects. `layer(A, { slice: true })` by default. */
  readonly projector?: Layer;
}

/**
 * Learned gradient descent (J. Adler and O. Öktem, Inverse Problems 33, 2017, doi:10.1088/1361-6420/aa9581) for one slice: each
 * iteration lets three convolutions of 3 x 3 with biases and ReLU update the image and a memory from both and from the gradient of
 * norm(A x - y)^2 / 2. That gradient is divided by a bound of norm(A)^2, the largest row sum times the largest column sum, so that it
 * has the size of the image. Image and memory are zero at first.
 *
 * @param A A projection of one slice onto one row, on the device whose backend is the active one.
 * @throws RaysumError "argument" for counts that make no network, "shape" for more than one slice.
 */
export function learnedGradientDescent(A: Operator, options: LearnedGradientDescentOptions = {}): Network {
  const { iterations = 10, memory = 5, hidden = 32, recompute = false, seed = 1 } = options;
  checkCount("iterations", iterations);
  checkCount("memory", memory);
  checkCount("hidden", hidden);
  const tf = tensorflow();
  const { projector: P = layer(A, { slice: true }) } = options;
  const [, rows, columns] = A.domainShape as [number, number, number];
  const [, views, pixels] = A.rangeShape as [number, number, number];
  const weights = new Weights(seed);
  const counts = [memory + 2, hidden, hidden, memory + 1];
  const steps = Array.from({ length: iterations }, (_, k) =>
    [0, 1, 2].flatMap((stage) => {
      const [name, inputs, outputs] = [`${k}.block.${2 * stage}`, counts[stage]!, counts[stage + 1]!];
      return [weights.filter(`${name}.weight`, 3, inputs, outputs), weights.bias(`${name}.bias`, 3, inputs, outputs)];
    }),
  );
  const step = tf.tidy(() => {
    const [rowSums, columnSums] = [P(tf.fill([1, rows, columns, 1], 1)), P.T(tf.fill([1, views, pixels, 1], 1))];
    return tf.keep(tf.reciprocal(tf.mul(tf.max(rowSums), tf.max(columnSums))));
  });

  const block = (...given: Tensor[]): Tensor4D =>
    tf.tidy(() => {
      let [x, ...rest] = given as [Tensor4D, ...Tensor[]];
      while (rest.length > 0) {
        const [filter, bias] = rest.splice(0, 2) as [Tensor4D, Tensor];
        const sum = tf.add(tf.conv2d(x, filter, 1, "same"), bias) as Tensor4D;
        x = rest.length > 0 ? tf.relu(sum) : sum;
      }
      return x;
    });
  const update = recompute ? checkpoint(block) : block;
  const image = (state: Tensor4D): Tensor4D => tf.slice(state, [0, 0, 0, 0], [-1, -1, -1, 1]);

  const run = (sinograms: Tensor): Tensor4D =>
    tf.tidy(() => {
      let state: Tensor4D = tf.fill([sinograms.shape[0]!, rows, columns, memory + 1], 0);
      for (const filters of steps) {
        const before = state;
        state = tf.tidy(() => {
          const gradient = tf.mul(P.T(tf.sub(P(image(state)), sinograms)), step) as Tensor4D;
          return tf.add(state, update(tf.concat([state, gradient], 3), ...filters)) as Tensor4D;
        });
        before.dispose();
      }
      return image(state);
    });
  return weights.network(run, step);
}
