// Gradients of our own, for our backends only: those that TensorFlow.js lacks (dilated and transposed convolutions, second order), and
// those that it computes with arrays of the host or with activations kept for nothing.
import type { GradConfig, NamedAttrMap, NamedTensorMap, Tensor } from "@tensorflow/tfjs-core";
import { RaysumBackend } from "./backend.ts";
import type { Gradient } from "./backward.ts";
import { addToPart } from "./calls.ts";
import type { TensorFlow } from "./tensorflow.ts";

type Run = (name: string, inputs: Record<string, Tensor>, attributes?: object) => Tensor;
type Gradients = Record<string, Gradient>;

/** Those that gradients here look at; convolutions hand theirs on. */
interface Attributes {
  readonly alpha: number;
  readonly axis: number | number[];
  readonly begin: number | number[];
  readonly size: number | number[];
  readonly varianceEpsilon: number;
}

interface OwnGradient {
  readonly name: string;
  readonly inputsToSave?: readonly string[];
  readonly outputsToSave?: readonly boolean[];
  /** `saved` are the inputs to save, then the outputs. */
  readonly of: (run: Run, dy: Tensor, saved: Tensor[], attributes: Attributes, tf: TensorFlow) => Gradients;
}

/**
 * A convolution is linear in the input and in the filter, so are its gradients, and each of the three maps has the two others for
 * gradients.
 */
function convolutionGradients(forward: string, ofInput: string, ofFilter: string): OwnGradient[] {
  return [
    {
      name: forward,
      inputsToSave: ["x", "filter"],
      of: (run, dy, [x, filter], attributes) => ({
        x: () => run(ofInput, { dy, filter: filter! }, { ...attributes, inputShape: x!.shape }),
        filter: () => run(ofFilter, { x: x!, dy }, { ...attributes, filterShape: filter!.shape }),
      }),
    },
    {
      name: ofInput,
      inputsToSave: ["dy", "filter"],
      of: (run, ddx, [dy, filter], attributes) => ({
        dy: () => run(forward, { x: ddx, filter: filter! }, attributes),
        filter: () => run(ofFilter, { x: ddx, dy: dy! }, { ...attributes, filterShape: filter!.shape }),
      }),
    },
    {
      name: ofFilter,
      inputsToSave: ["x", "dy"],
      of: (run, ddw, [x, dy], attributes) => ({
        x: () => run(ofInput, { dy: dy!, filter: ddw }, { ...attributes, inputShape: x!.shape }),
        dy: () => run(forward, { x: x!, filter: ddw }, attributes),
      }),
    },
  ];
}

/** Repeats a reduction's gradient over the axes that were reduced. */
function spread(tf: TensorFlow, dy: Tensor, x: Tensor, axis: number | number[]): Tensor {
  const axes = tf.util.parseAxisParam(axis, x.shape);
  const kept = x.shape.map((count, k) => (axes.includes(k) ? 1 : count));
  return tf.tile(
    tf.reshape(dy, kept),
    x.shape.map((count, k) => (axes.includes(k) ? count : 1)),
  );
}

/** Sums over the axes along which an operand was repeated. */
function gathered(tf: TensorFlow, dy: Tensor, { shape }: Tensor): Tensor {
  const axes = tf.broadcast_util.getReductionAxes(shape, dy.shape);
  return tf.reshape(axes.length > 0 ? tf.sum(dy, axes) : dy, shape);
}

/** The gradient of a part: zeros around `dy`, or `dy` alone added to a sum that nothing else looks at. */
function around(tf: TensorFlow, dy: Tensor, { shape }: Tensor, begin: readonly number[]): Gradient {
  const backend = tf.backend() as RaysumBackend;
  const zeros = begin.map((before, axis): [number, number] => [before, shape[axis]! - before - dy.shape[axis]!]);
  const addTo = (sum: Tensor): boolean => {
    if (!backend.isSole(sum)) return false;
    addToPart(backend, sum, begin, dy);
    backend.overwritten(sum);
    return true;
  };
  return Object.assign(() => tf.pad(dy, zeros), { addTo });
}

/** Resizing is linear, so the gradient of its gradient is resizing again. */
function resizingGradient(forward: string): OwnGradient {
  return {
    name: `${forward}Grad`,
    inputsToSave: ["dy", "images"],
    of: (run, ddx, [dy, images], attributes, tf) => ({
      dy: () => run(forward, { images: ddx }, { ...attributes, size: dy!.shape.slice(1, 3) }),
      images: () => tf.zerosLike(images!),
    }),
  };
}

const own: readonly OwnGradient[] = [
  ...convolutionGradients("Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter"),
  ...convolutionGradients("Conv3D", "Conv3DBackpropInputV2", "Conv3DBackpropFilterV2"),
  // The stock gradient of the convolution itself stays: that it refuses dilations is part of tfjs-core's own suite.
  ...convolutionGradients(
    "DepthwiseConv2dNative",
    "DepthwiseConv2dNativeBackpropInput",
    "DepthwiseConv2dNativeBackpropFilter",
  ).slice(1),
  {
    name: "Relu", // from the output, which the next layer keeps anyway
    outputsToSave: [true],
    of: (run, dy, [y]) => ({ x: () => run("RaysumReluGrad", { dy, y: y! }) }),
  },
  {
    name: "RaysumReluGrad",
    inputsToSave: ["y"],
    of: (run, ddx, [y], _, tf) => ({
      dy: () => run("RaysumReluGrad", { dy: ddx, y: y! }),
      y: () => tf.zerosLike(y!),
    }),
  },
  {
    name: "LeakyRelu",
    inputsToSave: ["x"],
    of: (_, dy, [x], { alpha }, tf) => ({ x: () => tf.mul(dy, tf.step(x!, alpha)) }),
  },
  {
    name: "Prelu",
    inputsToSave: ["x", "alpha"],
    of: (_, dy, [x, alpha], __, tf) => {
      const isPositive = tf.cast(tf.step(x!), "bool"); // a comparison would have no gradient
      return {
        x: () => tf.where(isPositive, dy, tf.mul(dy, alpha!)),
        alpha: () => gathered(tf, tf.where(isPositive, tf.zerosLike(dy), tf.mul(dy, x!)), alpha!),
      };
    },
  },
  {
    name: "FusedBatchNorm", // of any rank: mean and the others have the channels alone, or the shape of x
    inputsToSave: ["x", "mean", "variance", "scale"],
    of: (_, dy, [x, mean, variance, scale], { varianceEpsilon }, tf) => {
      const inverse = tf.rsqrt(tf.add(variance!, varianceEpsilon));
      const slope = tf.mul(inverse, scale!);
      const sum = () => gathered(tf, dy, mean!);
      const product = () => gathered(tf, tf.mul(dy, tf.sub(x!, mean!)), mean!);
      return {
        x: () => tf.mul(dy, slope),
        mean: () => tf.mul(sum(), tf.neg(slope)),
        variance: () => tf.mul(product(), tf.mul(slope, tf.mul(tf.square(inverse), -0.5))),
        scale: () => tf.mul(product(), inverse),
        offset: sum,
      };
    },
  },
  {
    name: "Slice",
    inputsToSave: ["x"],
    of: (_, dy, [x], { begin, size }, tf) => ({
      x: around(tf, dy, x!, tf.slice_util.parseSliceParams(x!, begin, size)[0]!),
    }),
  },
  resizingGradient("ResizeBilinear"),
  resizingGradient("ResizeNearestNeighbor"),
  {
    name: "Sum",
    inputsToSave: ["x"],
    of: (_, dy, [x], { axis }, tf) => ({ x: () => spread(tf, dy, x!, axis) }),
  },
  {
    name: "Mean",
    inputsToSave: ["x"],
    of: (_, dy, [x], { axis }, tf) => ({ x: () => spread(tf, tf.mul(dy, dy.size / x!.size), x!, axis) }),
  },
];

/** What TensorFlow.js had for a kernel before us. */
const stock = new Map<string, GradConfig | undefined>();

/** Which tensors are saved is asked at every call, so the choice between ours and the stock gradient can follow the backend. */
function configOf(tf: TensorFlow, mine: OwnGradient): GradConfig {
  const { name } = mine;
  const isOwn = () => tf.backend() instanceof RaysumBackend;
  const run: Run = (kernel, inputs, attributes = {}) =>
    tf.engine().runKernel(kernel, inputs as NamedTensorMap, attributes as NamedAttrMap) as Tensor;
  return {
    kernelName: name,
    get inputsToSave() {
      return [...((isOwn() ? mine.inputsToSave : stock.get(name)?.inputsToSave) ?? [])];
    },
    get outputsToSave() {
      return [...((isOwn() ? mine.outputsToSave : stock.get(name)?.outputsToSave) ?? [])];
    },
    get saveAllInputs() {
      return !isOwn() && (stock.get(name)?.saveAllInputs ?? false);
    },
    gradFunc: (dy, saved, attributes) => {
      if (isOwn()) return mine.of(run, dy as Tensor, saved, attributes as unknown as Attributes, tf);
      const theirs = stock.get(name);
      tf.util.assert(theirs !== undefined, () => `Cannot compute gradient: gradient function not found for ${name}.`);
      return theirs!.gradFunc(dy, saved, attributes);
    },
  };
}

/** Puts our gradients before the stock ones, which other backends keep. */
export function registerGradients(tf: TensorFlow): void {
  for (const mine of own) {
    if (!stock.has(mine.name)) stock.set(mine.name, tf.getGradient(mine.name));
    tf.registerGradient(configOf(tf, mine));
  }
}
