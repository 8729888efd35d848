// A residual block of convolutions with ReLU between them, in as many passes over memory as there are convolutions; for GPUs.
import type { TensorInfo } from "@tensorflow/tfjs-core";
import { TensorConvolution } from "../../native/symbols.ts";
import type { RaysumBackend } from "../backend.ts";
import { fold, TensorFold } from "../calls.ts";
import { type Kernel, kernel } from "../kernel.ts";
import { precisionOn } from "../precision.ts";
import { convolveFused } from "./fused.ts";

/** Lists in the order of the block, as kernels get them. */
export interface BlockInputs {
  /** Images whose channels are the block's input; the first one is added to the result. */
  readonly x: readonly TensorInfo[];
  /** Filters [rows, columns, in channels, out channels]. */
  readonly filters: readonly TensorInfo[];
  /** As many biases, or none. */
  readonly biases: readonly TensorInfo[];
}

/** Names of a list's tensors in a kernel's inputs: x0, x1 ... */
export function named<T>(lists: Readonly<Record<string, readonly T[]>>): Record<string, T> {
  return Object.fromEntries(
    Object.entries(lists).flatMap(([name, list]) => list.map((item, k) => [`${name}${k}`, item] as const)),
  );
}

function listed(inputs: Readonly<Record<string, TensorInfo>>, name: string): TensorInfo[] {
  const list: TensorInfo[] = [];
  for (let k = 0; inputs[`${name}${k}`]; k++) list.push(inputs[`${name}${k}`]!);
  return list;
}

function inputsOf(inputs: Readonly<Record<string, TensorInfo>>): BlockInputs {
  return { x: listed(inputs, "x"), filters: listed(inputs, "filter"), biases: listed(inputs, "bias") };
}

function tableOf(backend: RaysumBackend, [batch, rows, columns]: readonly number[], filter: TensorInfo): BigInt64Array {
  const [down, across, channels, results] = filter.shape as [number, number, number, number];
  const image = [1, rows!, columns!];
  const before = [0, (down - 1) >> 1, (across - 1) >> 1];
  const unit = [1, 1, 1];
  const precision = precisionOn(backend.device);
  const numbers = [batch!, ...image, channels, ...image, results, 1, down, across, ...unit, ...unit, ...before];
  return BigInt64Array.from([...numbers, precision].map(BigInt));
}

/** What stands between the convolutions of a block. */
function activations(backend: RaysumBackend, { x, filters, biases }: BlockInputs): TensorInfo[] {
  const made: TensorInfo[] = [];
  for (const [k, filter] of filters.slice(0, -1).entries()) {
    const { shape } = x[0]!;
    const out = backend.output([...shape.slice(0, 3), filter.shape[3]!], "float32");
    const a = k === 0 ? x : [made.at(-1)!];
    const convolution = { out: [out], a, b: filter, bias: biases[k], relu: true };
    convolveFused(backend, TensorConvolution.CONVOLUTION, convolution, tableOf(backend, shape, filter));
    made.push(out);
  }
  return made;
}

/** The result, and with `keep` the activations that the gradient needs. */
const block: Kernel = kernel<Record<string, TensorInfo>, { readonly keep: boolean }>(
  "RaysumBlock",
  (inputs, { keep }, backend) => {
    const given = inputsOf(inputs);
    const between = activations(backend, given);
    const [first] = given.x as [TensorInfo];
    const [filter, bias] = [given.filters.at(-1)!, given.biases.at(-1)];
    const out = backend.output(first.shape, "float32");
    const convolution = {
      out: [out],
      a: between.length > 0 ? between.slice(-1) : given.x,
      b: filter,
      bias,
      add: first,
    };
    convolveFused(backend, TensorConvolution.CONVOLUTION, convolution, tableOf(backend, first.shape, filter));
    if (keep) return [out, ...between];
    for (const { dataId } of between) backend.disposeData(dataId);
    return [out];
  },
);

/** The gradients by x, filters and biases, in this order. Activations that were not kept are computed again. */
const blockGradient: Kernel = kernel<Record<string, TensorInfo>>("RaysumBlockGrad", (inputs, _, backend) => {
  const given = inputsOf(inputs);
  const { x, filters, biases } = given;
  const dy = inputs["dy"]!;
  const kept = listed(inputs, "kept");
  const between = kept.length > 0 ? kept : activations(backend, given);
  const byX = x.map(({ shape }) => backend.output(shape, "float32"));
  const byFilter = filters.map(({ shape }) => backend.output(shape, "float32"));
  const byBias: TensorInfo[] = [];
  let gradient = dy; // of the convolution's result
  for (let k = filters.length - 1; k >= 0; k--) {
    const filter = filters[k]!;
    const table = tableOf(backend, dy.shape, filter);
    const source = k > 0 ? [between[k - 1]!] : x;
    const ofFilter = { out: [byFilter[k]!], a: source, b: gradient };
    convolveFused(backend, TensorConvolution.CONVOLUTION_FILTER_GRADIENT, ofFilter, table);
    if (biases.length > 0) byBias[k] = fold(backend, TensorFold.FOLD_SUM, gradient, [0, 1, 2], "float32");
    const out = k > 0 ? [backend.output(source[0]!.shape, "float32")] : byX;
    const around = k > 0 ? { mask: source[0]! } : { add: dy };
    const ofInput = { out, a: [gradient], b: filter, ...around };
    convolveFused(backend, TensorConvolution.CONVOLUTION_INPUT_GRADIENT, ofInput, table);
    if (gradient !== dy) backend.disposeData(gradient.dataId);
    if (k > 0 && kept.length === 0) backend.disposeData(source[0]!.dataId);
    gradient = out[0]!;
  }
  return [...byX, ...byFilter, ...byBias];
});

export const blockKernels: readonly Kernel[] = [block, blockGradient];
