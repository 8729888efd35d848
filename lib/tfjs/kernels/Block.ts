// A residual block of convolutions with ReLU between them, for GPUs: one kernel where the device has one for it, else, and on the way
// back, a pass over memory for every convolution.
import type { TensorInfo } from "@tensorflow/tfjs-core";
import { check, native } from "../../native/library.ts";
import { BlockOperand, ConvolutionPrecision, FusedHalves, TensorConvolution } from "../../native/symbols.ts";
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

/**
 * Whether what stands between the convolutions is kept as the bf16 numbers that the next one would make of it: half the memory, the
 * same results. Biases want sums of gradients that are not rounded.
 */
function isPacked(backend: RaysumBackend, { filters, biases }: BlockInputs): boolean {
  const isBf16 = precisionOn(backend.device) === ConvolutionPrecision.CONVOLVE_BF16;
  return isBf16 && biases.length === 0 && filters.slice(0, -1).every(({ shape }) => shape[3]! % 8 === 0);
}

/** FusedHalves, where the things named are packed. */
function halvesOf(packed: Partial<Record<"a" | "out" | "b" | "mask", boolean>>): number {
  const { HALVES_A, HALVES_OUT, HALVES_B, HALVES_MASK } = FusedHalves;
  const { a, out, b, mask } = packed;
  return (a ? HALVES_A : 0) | (out ? HALVES_OUT : 0) | (b ? HALVES_B : 0) | (mask ? HALVES_MASK : 0);
}

/** A block's result and what stands between its convolutions, one or both of them. */
interface Computed {
  readonly out?: TensorInfo;
  readonly between: readonly TensorInfo[];
}

/** What of a block somebody will look at. */
interface Wanted {
  readonly out: boolean;
  readonly between: boolean;
}

function betweenOf(backend: RaysumBackend, given: BlockInputs): TensorInfo[] {
  const shared = isPacked(backend, given) ? 2 : 1;
  const pixels = given.x[0]!.shape.slice(0, 3);
  return given.filters.slice(0, -1).map(({ shape }) => backend.output([...pixels, shape[3]! / shared], "float32"));
}

/** By one kernel, or null where the device has none for this block (csrc/raysum.h: rs_tensor_residual_block). */
function computedAtOnce(backend: RaysumBackend, given: BlockInputs, wanted: Wanted): Computed | null {
  const { x, filters, biases } = given;
  const [batch, height, width] = x[0]!.shape as [number, number, number];
  const channels = x.map(({ shape }) => shape[3]!);
  const widths = [
    channels.reduce((a, b) => a + b),
    ...filters.slice(0, -1).map(({ shape }) => shape[3]!),
    channels[0]!,
  ];
  const expected = filters.map((_, k) => [3, 3, widths[k], widths[k + 1]].join());
  if (x.length > 3 || filters.length !== 3 || filters.some(({ shape }, k) => shape.join() !== expected[k])) return null;
  const table = new BigInt64Array(BlockOperand.BLOCK_NUMBERS);
  const set = (place: number, values: readonly (number | bigint)[]) => table.set(values.map(BigInt), place);
  set(BlockOperand.BLOCK_BATCH, [batch, height, width, precisionOn(backend.device)]);
  set(BlockOperand.BLOCK_X_CHANNELS, channels);
  set(BlockOperand.BLOCK_CHANNELS, widths.slice(1, 3));
  set(BlockOperand.BLOCK_HALVES, [isPacked(backend, given) ? 1 : 0]);
  const fits = new Int32Array(1);
  check(native().rs_tensor_residual_block_fits(backend.device.id, table, fits));
  if (!fits[0]) return null;
  const out = wanted.out ? backend.output(x[0]!.shape, "float32") : undefined;
  const between = wanted.between ? betweenOf(backend, given) : [];
  for (const [place, tensors] of [
    [BlockOperand.BLOCK_X, x],
    [BlockOperand.BLOCK_FILTERS, filters],
    [BlockOperand.BLOCK_BIASES, biases],
    [BlockOperand.BLOCK_OUT, out ? [out] : []],
    [BlockOperand.BLOCK_KEPT, between],
  ] as const)
    set(
      place,
      tensors.map((tensor) => backend.pointer(tensor)),
    );
  check(native().rs_tensor_residual_block(table));
  return { ...(out && { out }), between };
}

/** By a fused convolution after the other. */
function computedInTurn(backend: RaysumBackend, given: BlockInputs, wanted: Wanted): Computed {
  const { x, filters, biases } = given;
  const between = betweenOf(backend, given);
  const packed = isPacked(backend, given);
  const last = filters.length - 1;
  const result = wanted.out ? backend.output(x[0]!.shape, "float32") : undefined;
  for (const [k, filter] of filters.entries()) {
    const out = k < last ? between[k] : result;
    if (!out) continue;
    const a = k === 0 ? x : [between[k - 1]!];
    const halves = halvesOf({ out: packed && k < last, a: packed && k > 0 });
    const around = k < last ? { relu: true } : { add: x[0]! };
    const convolution = { out: [out], a, b: filter, bias: biases[k], ...around, halves };
    convolveFused(backend, TensorConvolution.CONVOLUTION, convolution, tableOf(backend, x[0]!.shape, filter));
  }
  if (!wanted.between) for (const { dataId } of between) backend.disposeData(dataId);
  return { ...(result && { out: result }), between: wanted.between ? between : [] };
}

function computed(backend: RaysumBackend, given: BlockInputs, wanted: Wanted): Computed {
  return computedAtOnce(backend, given, wanted) ?? computedInTurn(backend, given, wanted);
}

/** The result, and with `keep` the activations that the gradient needs. */
const block: Kernel = kernel<Record<string, TensorInfo>, { readonly keep: boolean }>(
  "RaysumBlock",
  (inputs, { keep }, backend) => {
    const { out, between } = computed(backend, inputsOf(inputs), { out: true, between: keep });
    return [out!, ...between];
  },
);

/** A tensor to write into: this one, unless another one shares its memory. */
function overwritable(backend: RaysumBackend, tensor: TensorInfo): TensorInfo {
  return backend.isSole(tensor) ? backend.share(tensor) : backend.output(tensor.shape, tensor.dtype);
}

/**
 * The gradients by x, filters and biases, in this order. Activations that were not kept are computed again. The gradient of an
 * activation takes its place, which nobody else looks at any more: so the way back needs no memory beside what the way there kept.
 */
const blockGradient: Kernel = kernel<Record<string, TensorInfo>>("RaysumBlockGrad", (inputs, _, backend) => {
  const given = inputsOf(inputs);
  const { x, filters, biases } = given;
  const dy = inputs["dy"]!;
  const kept = listed(inputs, "kept");
  const between = kept.length > 0 ? kept : computed(backend, given, { out: false, between: true }).between;
  const byFilter = filters.map(({ shape }) => backend.output(shape, "float32"));
  const byBias: TensorInfo[] = [];
  const packed = isPacked(backend, given);
  let byX: TensorInfo[] = [];
  let gradient = dy; // of the convolution's result
  for (let k = filters.length - 1; k >= 0; k--) {
    const filter = filters[k]!;
    const table = tableOf(backend, dy.shape, filter);
    const before = between[k - 1]; // none before the first
    const halves = { before: packed && k > 0, behind: packed && gradient !== dy };
    const ofFilter = {
      out: [byFilter[k]!],
      a: before ? [before] : x,
      b: gradient,
      halves: halvesOf({ a: halves.before, b: halves.behind }),
    };
    convolveFused(backend, TensorConvolution.CONVOLUTION_FILTER_GRADIENT, ofFilter, table);
    if (biases.length > 0) byBias[k] = fold(backend, TensorFold.FOLD_SUM, gradient, [0, 1, 2], "float32");
    const out = before ? [overwritable(backend, before)] : x.map(({ shape }) => backend.output(shape, "float32"));
    const ofInput = {
      out,
      a: [gradient],
      b: filter,
      ...(before ? { mask: before } : { add: dy }),
      halves: halvesOf({ a: halves.behind, out: halves.before, mask: halves.before }),
    };
    convolveFused(backend, TensorConvolution.CONVOLUTION_INPUT_GRADIENT, ofInput, table);
    if (gradient !== dy) backend.disposeData(gradient.dataId);
    if (before && kept.length === 0) backend.disposeData(before.dataId);
    if (before) gradient = out[0]!;
    else byX = out;
  }
  return [...byX, ...byFilter, ...byBias];
});

export const blockKernels: readonly Kernel[] = [block, blockGradient];
