import type { backend_util, TensorInfo } from "@tensorflow/tfjs-core";
import { check, native } from "../../native/library.ts";
import { ConvolutionPrecision, TensorConvolution } from "../../native/symbols.ts";
import { sameShape, sizeOf } from "../../shape.ts";
import type { RaysumBackend } from "../backend.ts";
import { isFloat } from "../calls.ts";
import { type Inputs, type Kernel, kernel } from "../kernel.ts";
import { precisionOn } from "../precision.ts";
import { type Finish, finish } from "./finish.ts";
import { convolveFused, fuses } from "./fused.ts";

export type Info = backend_util.Conv2DInfo | backend_util.Conv3DInfo;

/** The table of csrc/raysum.h's rs_convolution_shape; one slice where there is no depth. */
export function convolutionTable(info: Info, precision: number = ConvolutionPrecision.CONVOLVE_FLOAT32): BigInt64Array {
  const deep = "inDepth" in info;
  const { padInfo } = info;
  const front = deep ? info.padInfo.front : 0;
  const numbers = [
    info.batchSize,
    ...[deep ? info.inDepth : 1, info.inHeight, info.inWidth],
    info.inChannels,
    ...[deep ? info.outDepth : 1, info.outHeight, info.outWidth],
    info.outChannels,
    ...[deep ? info.filterDepth : 1, info.filterHeight, info.filterWidth],
    ...[deep ? info.strideDepth : 1, info.strideHeight, info.strideWidth],
    ...[deep ? info.dilationDepth : 1, info.dilationHeight, info.dilationWidth],
    ...[front, padInfo.top, padInfo.left],
    precision,
  ];
  return BigInt64Array.from(numbers.map(BigInt));
}

type Call = "rs_tensor_convolve" | "rs_tensor_convolve_depthwise";

/** The shapes of input, output and filter are those of `info`; undefined for other layouts, types and shapes. */
function run(
  backend: RaysumBackend,
  call: Call,
  kind: number,
  a: TensorInfo,
  b: TensorInfo,
  info: Info,
): TensorInfo | undefined {
  const { inShape, outShape, filterShape } = info;
  const [shape, shapeA, shapeB] = [
    [outShape, inShape, filterShape],
    [inShape, outShape, filterShape],
    [filterShape, inShape, outShape],
  ][kind]!;
  const fits = sameShape(a.shape, shapeA!) && sameShape(b.shape, shapeB!) && info.dataFormat === "channelsLast";
  if (!fits || !isFloat(a, b) || [inShape, outShape, filterShape].some((one) => sizeOf(one) === 0)) return undefined;
  const out = backend.output(shape!, "float32");
  const [to, left, right] = [out, a, b].map((tensor) => backend.pointer(tensor));
  check(native()[call](kind, to!, left!, right!, convolutionTable(info, precisionOn(backend.device))));
  return out;
}

type Steps = number | number[];

interface Attributes {
  readonly strides: Steps;
  readonly pad: "valid" | "same" | number;
  readonly dilations?: Steps;
  readonly dataFormat?: "NHWC" | "NCHW" | "NDHWC" | "NCDHW";
  readonly dimRoundingMode?: "floor" | "round" | "ceil";
}

/** How a family of convolution kernels works out its shapes. */
interface Family {
  readonly call: Call;
  readonly info: (backend: RaysumBackend, input: readonly number[], filter: readonly number[], a: Attributes) => Info;
}

const planar: Family = {
  call: "rs_tensor_convolve",
  info: ({ tf }, input, filter, { strides, pad, dilations = 1, dataFormat = "NHWC", dimRoundingMode }) => {
    const format = tf.backend_util.convertConv2DDataFormat(dataFormat as "NHWC" | "NCHW");
    const compute = tf.backend_util.computeConv2DInfo as (...args: unknown[]) => Info;
    return compute(input, filter, strides, dilations, pad, dimRoundingMode, false, format);
  },
};

const depthwise: Family = {
  call: "rs_tensor_convolve_depthwise",
  info: ({ tf }, input, filter, { strides, pad, dilations, dimRoundingMode, dataFormat = "NHWC" }) => {
    const format = tf.backend_util.convertConv2DDataFormat(dataFormat as "NHWC" | "NCHW");
    const compute = tf.backend_util.computeConv2DInfo as (...args: unknown[]) => Info;
    return compute(input, filter, strides, dilations ?? [1, 1], pad, dimRoundingMode, true, format);
  },
};

const spatial: Family = {
  call: "rs_tensor_convolve",
  info: ({ tf }, input, filter, { strides, pad, dilations = 1, dataFormat = "NDHWC" }) => {
    const compute = tf.backend_util.computeConv3DInfo as (...args: unknown[]) => Info;
    return compute(
      input,
      filter,
      strides,
      dilations,
      pad,
      false,
      dataFormat === "NDHWC" ? "channelsLast" : "channelsFirst",
    );
  },
};

/** A convolution and its gradients by input and by filter. */
function family(names: readonly [string, string, string], { call, info }: Family): Kernel[] {
  return [
    kernel<Inputs<"x" | "filter">, Attributes>(names[0], ({ x, filter }, attributes, backend) => {
      const shape = info(backend, x.shape, filter.shape, attributes);
      return run(backend, call, TensorConvolution.CONVOLUTION, x, filter, shape);
    }),
    kernel<Inputs<"dy" | "filter">, Attributes & { inputShape: number[] }>(
      names[1],
      ({ dy, filter }, attributes, backend) => {
        const shape = info(backend, attributes.inputShape, filter.shape, attributes);
        return run(backend, call, TensorConvolution.CONVOLUTION_INPUT_GRADIENT, dy, filter, shape);
      },
    ),
    kernel<Inputs<"x" | "dy">, Attributes & { filterShape: number[] }>(names[2], ({ x, dy }, attributes, backend) => {
      const shape = info(backend, x.shape, attributes.filterShape, attributes);
      return run(backend, call, TensorConvolution.CONVOLUTION_FILTER_GRADIENT, x, dy, shape);
    }),
  ];
}

type FusedInputs = Inputs<"x" | "filter"> & Finish["inputs"];

/** Whether a GPU does a convolution with its bias and ReLU in one pass: what rs_tensor_convolve_fused takes. */
function isFused(
  backend: RaysumBackend,
  { call }: Family,
  info: Info,
  { activation = "linear" }: Finish["attributes"],
) {
  if (call !== "rs_tensor_convolve" || "inDepth" in info || info.dataFormat !== "channelsLast") return false;
  const { strideHeight, strideWidth, dilationHeight, dilationWidth, filterHeight, filterWidth } = info;
  const steps = [strideHeight, strideWidth, dilationHeight, dilationWidth];
  const isPlain = steps.every((step) => step === 1) && filterHeight <= 3 && filterWidth <= 3;
  return isPlain && fuses(backend) && (activation === "linear" || activation === "relu");
}

/** A convolution with bias and activation. */
function fused(name: string, family: Family): Kernel {
  return kernel<FusedInputs, Attributes & Finish["attributes"]>(name, (inputs, attributes, backend) => {
    const { x, filter, bias, preluActivationWeights } = inputs;
    if (!isFloat(bias, preluActivationWeights)) return undefined;
    const shape = family.info(backend, x.shape, filter.shape, attributes);
    const sizes = [shape.inShape, shape.outShape, shape.filterShape].map(sizeOf);
    const fits = isFloat(x, filter) && !sizes.includes(0) && (!bias || sizeOf(bias.shape) === shape.outChannels);
    if (fits && isFused(backend, family, shape, attributes)) {
      const out = backend.output(shape.outShape, "float32");
      const convolution = { out: [out], a: [x], b: filter, bias, relu: attributes.activation === "relu" };
      const table = convolutionTable(shape, precisionOn(backend.device));
      convolveFused(backend, TensorConvolution.CONVOLUTION, convolution, table);
      return out;
    }
    const out = run(backend, family.call, TensorConvolution.CONVOLUTION, x, filter, shape);
    return out && finish(backend, out, inputs, attributes);
  });
}

export const convolutionKernels: readonly Kernel[] = [
  ...family(["Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter"], planar),
  ...family(["Conv3D", "Conv3DBackpropInputV2", "Conv3DBackpropFilterV2"], spatial),
  ...family(
    ["DepthwiseConv2dNative", "DepthwiseConv2dNativeBackpropInput", "DepthwiseConv2dNativeBackpropFilter"],
    depthwise,
  ),
  fused("FusedConv2D", planar),
  fused("FusedDepthwiseConv2D", depthwise),
];
