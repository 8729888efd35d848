import { describe, it } from "node:test";
import { ConvolutionPrecision, FusedOperand as F, TensorConvolution } from "../lib/native/symbols.ts";
import { allocate, calls, refused } from "./support/boundary.ts";
import { type Convolution, numbersOf } from "./support/convolution.ts";

const [rows, columns] = [4, 5];
const shape: Convolution = {
  batch: 1,
  size: [1, rows, columns],
  inChannels: 3,
  outSize: [1, rows, columns],
  outChannels: 2,
  filter: [1, 3, 3],
  stride: [1, 1, 1],
  dilation: [1, 1, 1],
  before: [0, 1, 1],
  precision: ConvolutionPrecision.CONVOLVE_TF32,
};
const [image, one, result, filter] = [3, 1, 2, 54 / (rows * columns)].map((channels) =>
  allocate(4 * rows * columns * channels),
) as [bigint, bigint, bigint, bigint];

type Operands = Partial<Record<keyof typeof F, bigint | number>>;

function call(kind: number, changes: Operands, other: Partial<Convolution> = {}): number {
  const operands = new BigInt64Array(F.FUSED_NUMBERS);
  const plain: Operands = {
    FUSED_OUT: result,
    FUSED_OUT_CHANNELS: 2,
    FUSED_A: image,
    FUSED_A_CHANNELS: 3,
    FUSED_B: filter,
  };
  for (const [name, value] of Object.entries({ ...plain, ...changes }))
    operands[F[name as keyof typeof F]] = BigInt(value);
  return calls.rs_tensor_convolve_fused(kind, operands, numbersOf({ ...shape, ...other }));
}

const { CONVOLUTION, CONVOLUTION_FILTER_GRADIENT } = TensorConvolution;

describe("a fused convolution", () => {
  it("is refused on the CPU", () => {
    refused(call(CONVOLUTION, {}), "EDEVICE", /^fused convolutions run on a GPU, and these arrays are on the CPU$/);
  });

  it("is refused where tensor cores do not compute it", () => {
    const no = /expected two dimensions, stride and dilation 1, a filter of at most 3 x 3 and a precision other than/;
    for (const other of [
      { precision: ConvolutionPrecision.CONVOLVE_FLOAT32 },
      { stride: [1, 2, 1] },
      { dilation: [1, 1, 2] },
      { filter: [1, 5, 3] },
      { filter: [2, 1, 1] },
      { size: [2, rows, columns] },
    ])
      refused(call(CONVOLUTION, {}, other), "EARGUMENT", no);
    refused(call(CONVOLUTION, {}, { precision: 3 }), "EARGUMENT", /^precision 3 does not exist$/);
    refused(call(3, {}), "EARGUMENT", /^kind 3 does not exist$/);
  });

  it("is refused when its arrays do not make up its channels", () => {
    refused(call(CONVOLUTION, { FUSED_A: 0 }), "EARGUMENT", /^a has 0 channels in all: expected 3$/);
    refused(call(CONVOLUTION, { FUSED_A_CHANNELS: 2 }), "EARGUMENT", /^a has 2 channels in all: expected 3$/);
    for (const count of [4, 0, -1])
      refused(
        call(CONVOLUTION, { FUSED_OUT_CHANNELS: count }),
        "EARGUMENT",
        new RegExp(`^out 0 has ${count} channels: expected a positive count, and no more than 2 in all$`),
      );
  });

  it("is refused with halves where there is no bf16, or not a multiple of 8 channels", () => {
    const form = /^halves \d+: expected arrays of the call with a multiple of 8 channels, in precision bf16$/;
    const bf16 = { precision: ConvolutionPrecision.CONVOLVE_BF16 };
    for (const halves of [1, 2, 4, 8, 16])
      refused(call(CONVOLUTION, { FUSED_HALVES: halves }, bf16), "EARGUMENT", form);
    const wide = { inChannels: 8, outChannels: 8 };
    const operands = { FUSED_HALVES: 1, FUSED_A_CHANNELS: 8, FUSED_OUT_CHANNELS: 8 };
    refused(call(CONVOLUTION, operands, wide), "EARGUMENT", form);
    refused(call(CONVOLUTION, operands, { ...wide, ...bf16 }), "EPOINTER", /^out 0x\w+: 640 bytes are needed/);
    const back = TensorConvolution.CONVOLUTION_INPUT_GRADIENT;
    refused(call(back, { ...operands, FUSED_HALVES: 4 }, { ...wide, ...bf16 }), "EARGUMENT", form);
  });

  it("is refused for what the gradient of a filter does not have, and for memory that is not there", () => {
    const ofFilter = { FUSED_OUT: filter, FUSED_B: result };
    for (const extra of [{ FUSED_RELU: 1 }, { FUSED_BIAS: image }])
      refused(
        call(CONVOLUTION_FILTER_GRADIENT, { ...ofFilter, ...extra }),
        "EARGUMENT",
        /^the gradient of a filter takes no bias, sum, mask or ReLU$/,
      );
    refused(call(CONVOLUTION, { FUSED_B: -1 }), "EPOINTER", /^b 0x\w+ is not a device pointer of this library$/);
    refused(
      call(CONVOLUTION, { FUSED_BIAS: result + 4n * 39n }),
      "EPOINTER",
      /^bias 0x\w+: 8 bytes are needed and 4 are/,
    );
    refused(call(CONVOLUTION, { FUSED_ADD: one }), "EPOINTER", /^add 0x\w+: 160 bytes are needed/);
    refused(call(CONVOLUTION, { FUSED_MASK: one }), "EPOINTER", /^mask 0x\w+: 160 bytes are needed/);
  });
});
