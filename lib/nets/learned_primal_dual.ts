import type { Tensor, Tensor4D } from "@tensorflow/tfjs-core";
import { RaysumError } from "../errors.ts";
import type { Operator } from "../operator.ts";
import { checkpoint } from "../tfjs/backward.ts";
import { hasResidualBlock, residualBlock } from "../tfjs/block.ts";
import { type Layer, layer } from "../tfjs/layer.ts";
import { tensorflow } from "../tfjs/tensorflow.ts";
import { checkCount, type Filter, type Network, type Numbers, Weights } from "./network.ts";

export interface LearnedPrimalDualOptions {
  /** Unrolled iterations, each a dual and a primal step. 10 by default. */
  readonly iterations?: number;
  /** Images that primal and dual memory hold. 5 by default. */
  readonly channels?: number;
  /** Channels between the convolutions of a step. 32 by default. */
  readonly hidden?: number;
  /** Between convolutions: `relu` by default, or `prelu` with one slope a channel, as in the paper. */
  readonly activation?: "relu" | "prelu";
  /** Whether convolutions add a bias, as in the paper. Not by default. */
  readonly bias?: boolean;
  /** Whether all iterations have the same weights. Not by default. */
  readonly shared?: boolean;
  /** Whether training keeps only what goes into each step and computes its inside once more on the way back. Not by default. */
  readonly recompute?: boolean;
  /** For the first weights. 1 by default. */
  readonly seed?: number;
  /** What projects. `layer(A, { slice: true })` by default. */
  readonly projector?: Layer;
}

/** A convolution, and what follows it. */
interface Stage {
  readonly filter: Filter;
  readonly bias?: Numbers;
  readonly slope?: Numbers;
}

/**
 * The learned primal-dual network (J. Adler and O. Öktem, IEEE Trans. Med. Imaging 37, 2018, doi:10.1109/TMI.2018.2799231) for one
 * slice: each iteration lets three convolutions of 3 x 3 update the dual memory from itself, the projection of primal channel 0 and the
 * data, and three more update the primal memory from itself and the back projection of dual channel 0; primal channel 0 is the result.
 * The defaults are those of tomosipo's example: ReLU, no biases, primal channel 0 projected (the paper has the second one), weights of
 * their own for every iteration, all memory zero at first, and first weights as PyTorch draws them (uniform within 1 / sqrt(inputs of
 * an output)).
 *
 * @param A A projection of one slice onto one row, on the device whose backend is the active one.
 * @throws RaysumError "argument" for counts that make no network, "shape" for more than one slice.
 */
export function learnedPrimalDual(A: Operator, options: LearnedPrimalDualOptions = {}): Network {
  const { iterations = 10, channels = 5, hidden = 32, activation = "relu", bias = false } = options;
  const { shared = false, recompute = false } = options;
  checkCount("iterations", iterations);
  checkCount("channels", channels);
  checkCount("hidden", hidden);
  if (activation !== "relu" && activation !== "prelu")
    throw new RaysumError("argument", `activation "${activation}": expected "relu" or "prelu"`);
  const tf = tensorflow();
  const { projector: P = layer(A, { slice: true }) } = options;
  const parameters = new Weights(options.seed ?? 1);

  const stage = (name: string, place: number, inputs: number, outputs: number, last: boolean): Stage => ({
    filter: parameters.filter(`${name}.block.${place}.weight`, 3, inputs, outputs),
    ...(bias && { bias: parameters.bias(`${name}.block.${place}.bias`, 3, inputs, outputs) }),
    ...(activation === "prelu" &&
      !last && {
        slope: parameters.variable(`${name}.block.${place + 1}.weight`, () => tf.fill([outputs], 0.25)) as Numbers,
      }),
  });
  const block = (name: string, inputs: number): readonly Stage[] => [
    stage(name, 0, inputs, hidden, false),
    stage(name, 2, hidden, hidden, false),
    stage(name, 4, hidden, channels, true),
  ];
  const steps = Array.from({ length: shared ? 1 : iterations }, (_, k) => ({
    dual: block(`${k}_dual`, channels + 2),
    primal: block(`${k}_primal`, channels + 1),
  }));

  // A tidy for every stage: what only the next line needs goes at once, also while gradients are recorded.
  const through = (stages: readonly Stage[], inputs: readonly Tensor[]): Tensor4D => {
    const rest = [...inputs];
    let x = rest.shift() as Tensor4D;
    for (const [place, { bias: hasBias, slope: hasSlope }] of stages.entries())
      x = tf.tidy((): Tensor4D => {
        const sum = tf.conv2d(x, rest.shift() as Tensor4D, 1, "same");
        const out = (hasBias ? tf.add(sum, rest.shift()!) : sum) as Tensor4D;
        if (place === stages.length - 1) return out;
        return (hasSlope ? tf.prelu(out, rest.shift()!) : tf.relu(out)) as Tensor4D;
      });
    return x;
  };
  /** The memory, with what a block makes of it and of the images beside it added. */
  const updated = (memory: Tensor4D, beside: readonly Tensor4D[], stages: readonly Stage[]): Tensor4D => {
    const x = [memory, ...beside];
    if (activation === "relu" && hasResidualBlock()) {
      const filters = stages.map(({ filter }) => filter);
      return residualBlock({ x, filters, biases: stages.flatMap((one) => one.bias ?? []), recompute });
    }
    const weights = stages.flatMap(({ filter, bias: offset, slope }) => [filter, offset ?? [], slope ?? []].flat());
    const run = (...inputs: Tensor[]) => tf.tidy(() => through(stages, inputs));
    return tf.add(memory, (recompute ? checkpoint(run) : run)(tf.concat(x, 3), ...weights)) as Tensor4D;
  };
  const channel = (memory: Tensor4D, k: number): Tensor4D => tf.slice(memory, [0, 0, 0, k], [-1, -1, -1, 1]);

  const run = (sinograms: Tensor): Tensor4D =>
    tf.tidy(() => {
      const data = sinograms as Tensor4D;
      const batch = data.shape[0];
      const [, rows, columns] = A.domainShape as [number, number, number];
      let primal: Tensor4D = tf.fill([batch, rows, columns, channels], 0);
      let dual: Tensor4D = tf.fill([...data.shape.slice(0, 3), channels] as [number, number, number, number], 0);
      for (let k = 0; k < iterations; k++) {
        const step = steps[shared ? 0 : k]!;
        const before = [primal, dual];
        [primal, dual] = tf.tidy(() => {
          const projected = P(channel(primal, 0)) as Tensor4D;
          const next = updated(dual, [projected, data], step.dual);
          const back = P.T(channel(next, 0)) as Tensor4D;
          return [updated(primal, [back], step.primal), next];
        });
        tf.dispose(before);
      }
      return channel(primal, 0);
    });

  return parameters.network(run);
}
