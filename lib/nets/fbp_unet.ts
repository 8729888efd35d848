import type { Tensor, Tensor4D } from "@tensorflow/tfjs-core";
import type { Operator } from "../operator.ts";
import type { Layer } from "../tfjs/layer.ts";
import { tensorflow } from "../tfjs/tensorflow.ts";
import { filteredBackProjection } from "./filtered_back_projection.ts";
import { checkCount, type Filter, type Network, type Numbers, Weights } from "./network.ts";

export interface FbpUnetOptions {
  /** How often the image is halved. 3 by default. */
  readonly levels?: number;
  /** Channels at full size; every level has twice as many. 16 by default. */
  readonly channels?: number;
  /** For the first weights. 1 by default. */
  readonly seed?: number;
  /** What projects. `layer(A, { slice: true })` by default. */
  readonly projector?: Layer;
}

interface Convolution {
  readonly filter: Filter;
  readonly bias: Numbers;
}

/**
 * Filtered back projection, and a U-Net that takes its artefacts away (K. H. Jin, M. T. McCann, E. Froustey and M. Unser, IEEE Trans.
 * Image Process. 26, 2017, doi:10.1109/TIP.2017.2713099), for one slice: two convolutions of 3 x 3 with ReLU at every level, maxima of
 * 2 x 2 on the way down, nearest neighbours on the way up beside what was there on the way down, and the sum of the last one and the
 * first image as result.
 *
 * @param A A parallel projection of one slice, views spread evenly over half a turn, on the device whose backend is the active one.
 * @throws RaysumError "argument" for counts that make no network or a cone beam, "shape" for more than one slice.
 */
export function fbpUnet(A: Operator, options: FbpUnetOptions = {}): Network {
  const { levels = 3, channels = 16, seed = 1 } = options;
  checkCount("levels", levels);
  checkCount("channels", channels);
  const tf = tensorflow();
  const first = filteredBackProjection(A, options.projector ? { projector: options.projector } : {});
  const weights = new Weights(seed);
  const convolution = (name: string, size: number, inputs: number, outputs: number): Convolution => ({
    filter: weights.filter(`${name}.weight`, size, inputs, outputs),
    bias: weights.bias(`${name}.bias`, size, inputs, outputs),
  });
  const pair = (name: string, inputs: number, outputs: number): readonly Convolution[] => [
    convolution(`${name}.0`, 3, inputs, outputs),
    convolution(`${name}.2`, 3, outputs, outputs),
  ];
  const width = (level: number) => channels * 2 ** level;
  const down = Array.from({ length: levels + 1 }, (_, k) => pair(`down.${k}`, k === 0 ? 1 : width(k - 1), width(k)));
  const up = Array.from({ length: levels }, (_, k) => pair(`up.${k}`, width(k) + width(k + 1), width(k)));
  const last = convolution("last", 1, channels, 1);

  const convolved = (x: Tensor4D, { filter, bias }: Convolution): Tensor4D =>
    tf.add(tf.conv2d(x, filter, 1, "same"), bias);
  const through = (x: Tensor4D, stages: readonly Convolution[]): Tensor4D =>
    stages.reduce((image, stage) => tf.tidy(() => tf.relu(convolved(image, stage))), x);

  const run = (sinograms: Tensor): Tensor4D =>
    tf.tidy(() => {
      const image = first(sinograms);
      const seen: Tensor4D[] = [];
      let x = image;
      for (const [level, stages] of down.entries()) {
        if (level > 0) x = tf.maxPool(x, 2, 2, "same");
        x = through(x, stages);
        seen.push(x);
      }
      for (let level = levels - 1; level >= 0; level--) {
        const beside = seen[level]!;
        const grown = tf.image.resizeNearestNeighbor(x, [beside.shape[1], beside.shape[2]]);
        x = through(tf.concat([beside, grown], 3), up[level]!);
      }
      return tf.add(image, convolved(x, last)) as Tensor4D;
    });
  return weights.network(run, first);
}
