import type { NamedAttrMap, NamedTensorMap, Tensor, Tensor4D } from "@tensorflow/tfjs-core";
import { RaysumBackend } from "./backend.ts";
import { named } from "./kernels/Block.ts";
import { fuses } from "./kernels/fused.ts";
import { tensorflow } from "./tensorflow.ts";

/** A residual block of convolutions. */
export interface Block {
  /** Images `[batch, y, x, channels]`, at most three: their channels side by side are the input, and the first is added to the result. */
  readonly x: readonly Tensor[];
  /** `[rows, columns, in channels, out channels]`, rows and columns 3 at most. ReLU stands between the convolutions. */
  readonly filters: readonly Tensor[];
  /** One for each filter, or none. */
  readonly biases: readonly Tensor[];
  /** Whether the way back computes the activations once more, so that of the block only its arguments are kept. */
  readonly recompute: boolean;
}

/** Whether the active backend has `residualBlock`: on a GPU, unless convolutions are to be float32. */
export function hasResidualBlock(): boolean {
  const backend = tensorflow().backend();
  return backend instanceof RaysumBackend && fuses(backend);
}

/**
 * x[0] + convolution(ReLU(convolution(... concatenated x))), stride 1, "same", with its gradient by every argument: one kernel
 * where the device has it, else, and for the gradient, one pass over memory a convolution. A gradient of the gradient is refused: plain operations have it.
 */
export function residualBlock({ x, filters, biases, recompute }: Block): Tensor4D {
  const tf = tensorflow();
  const engine = tf.engine();
  const keep = engine.isTapeOn() && !recompute;
  const run = (name: string, inputs: Record<string, Tensor>, attributes: object): Tensor[] =>
    engine.runKernel(name, inputs as NamedTensorMap, attributes as NamedAttrMap) as Tensor[];
  const all = [...x, ...filters, ...biases];
  const block = (tensors: readonly Tensor[]) =>
    named({
      x: tensors.slice(0, x.length),
      filter: tensors.slice(x.length, x.length + filters.length),
      bias: tensors.slice(x.length + filters.length, all.length),
    });
  const graded = tf.customGrad((...given) => {
    const save = given.pop() as unknown as (tensors: Tensor[]) => void;
    const inputs = given as Tensor[];
    const [value, ...kept] = run("RaysumBlock", block(inputs), { keep }) as [Tensor, ...Tensor[]];
    save([...inputs, ...kept]);
    const gradFunc = (dy: Tensor, saved: Tensor[]): Tensor[] =>
      run("RaysumBlockGrad", { dy, ...block(saved), ...named({ kept: saved.slice(all.length) }) }, {});
    return { value, gradFunc };
  });
  return graded(...all) as Tensor4D;
}
