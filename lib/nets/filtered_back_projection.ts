import type { Tensor, Tensor2D, Tensor4D } from "@tensorflow/tfjs-core";
import { RaysumError } from "../errors.ts";
import type { Operator } from "../operator.ts";
import { type Layer, layer } from "../tfjs/layer.ts";
import { tensorflow } from "../tfjs/tensorflow.ts";

/** A linear map from sinograms `[batch, angle, column, 1]` to images `[batch, y, x, 1]`, with gradients. */
export interface FilteredBackProjection {
  (sinograms: Tensor): Tensor4D;
  dispose(): void;
}

/**
 * Filtered back projection of one slice by tensors: the ramp filter as G. N. Ramachandran and A. V. Lakshminarayanan sample it (Proc.
 * Natl. Acad. Sci. 68, 1971), a product with a matrix of columns x columns, then A.T. For parallel beams whose views are spread evenly
 * over half a turn.
 *
 * @throws RaysumError "argument" for a cone beam, "shape" for more than one slice.
 */
export function filteredBackProjection(
  A: Operator,
  { projector: P = layer(A, { slice: true }) }: { readonly projector?: Layer } = {},
): FilteredBackProjection {
  const { beam, volume } = A;
  if (beam.kind !== "parallel")
    throw new RaysumError(
      "argument",
      `a ${beam.kind} beam: filtered back projection of tensors expects a parallel one`,
    );
  const tf = tensorflow();
  const [, views, columns] = A.rangeShape as [number, number, number];
  const spacing = Math.hypot(...beam.views[0]!.u);
  const [, height, width] = volume.voxelSize;
  // A.T spreads a value over its ray: where rays are `spacing` apart, a pixel gets height * width / spacing of each view.
  const scale = ((Math.PI / views) * spacing) / (height * width);
  const filter = tf.tidy(() => {
    const distance = (row: number, column: number) => Math.abs(row - column);
    const sample = (n: number) => (n === 0 ? 0.25 : n % 2 === 0 ? 0 : -1 / (Math.PI * n) ** 2);
    const values = Float32Array.from(
      { length: columns * columns },
      (_, k) => (scale / spacing) * sample(distance(Math.floor(k / columns), k % columns)),
    );
    return tf.keep(tf.tensor2d(values, [columns, columns]));
  });
  const run = (sinograms: Tensor): Tensor4D =>
    tf.tidy(() => {
      const rows = tf.reshape(sinograms, [-1, columns]) as Tensor2D;
      return P.T(tf.reshape(tf.matMul(rows, filter), sinograms.shape)) as Tensor4D;
    });
  return Object.assign(run, { dispose: () => filter.dispose() });
}
