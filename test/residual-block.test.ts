/** The residual block as one kernel: bit by bit what three fused convolutions make of it, and what it refuses. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { devices } from "../lib/index.ts";
import {
  BlockOperand as B,
  ConvolutionPrecision,
  FusedOperand as F,
  FusedHalves,
  Status,
  TensorConvolution,
} from "../lib/native/symbols.ts";
import { allocate, CPU, calls, integerFrom, refused, sentence } from "./support/boundary.ts";
import { numbersOf } from "./support/convolution.ts";
import { seededRandom } from "./support/random.ts";

interface Case {
  readonly batch?: number;
  readonly size: readonly [height: number, width: number];
  readonly x: readonly number[];
  readonly hidden?: readonly [number, number];
  /** Which convolutions have one. */
  readonly biases?: readonly number[];
  /** Activations that are kept, 0 or 1. */
  readonly keep?: readonly number[];
  readonly infinite?: boolean;
}

const cases: readonly Case[] = [
  { size: [1, 1], x: [5, 1, 1] },
  { size: [2, 3], x: [1], biases: [0, 1, 2], keep: [1] },
  { size: [9, 60], x: [5, 1, 1], keep: [0, 1] },
  { size: [14, 61], x: [5, 1], biases: [0, 1, 2], keep: [0, 1] },
  { batch: 3, size: [7, 5], x: [3, 2, 3], hidden: [8, 24], biases: [1], keep: [0] },
  { batch: 2, size: [1, 125], x: [8], hidden: [16, 8], keep: [0, 1] },
  { size: [133, 4], x: [4, 4], biases: [0, 2], keep: [0, 1] },
  { size: [6, 8], x: [2, 1], hidden: [24, 16], keep: [0, 1], infinite: true },
];

/** A device's arrays, all freed by `run`. */
class Memory {
  readonly #device: number;
  readonly #pointers: bigint[] = [];
  constructor(device: number) {
    this.#device = device;
  }
  allocate(count: number): bigint {
    const pointer = integerFrom((out) => calls.rs_allocate(this.#device, BigInt(4 * count), out));
    this.#pointers.push(pointer);
    return pointer;
  }
  from(values: Float32Array): bigint {
    const pointer = this.allocate(values.length);
    assert.equal(calls.rs_upload(pointer, values, BigInt(values.byteLength)), Status.OK, sentence());
    return pointer;
  }
  /** As unsigned numbers: bits are what is compared. */
  bits(pointer: bigint, count: number): Uint32Array {
    const values = new Uint32Array(count);
    const bytes = BigInt(values.byteLength);
    const download = integerFrom((out) => calls.rs_download_begin(pointer, bytes, out));
    this.wait();
    assert.equal(calls.rs_download_end(download, values, bytes), Status.OK, sentence());
    return values;
  }
  wait(): void {
    const event = integerFrom((out) => calls.rs_record(this.#device, out));
    assert.equal(calls.rs_wait(this.#device, event), Status.OK, sentence());
  }
  free(): void {
    for (const pointer of this.#pointers) calls.rs_free(pointer);
  }
}

function tableOf(values: Partial<Record<keyof typeof B, readonly (number | bigint)[]>>): BigInt64Array {
  const table = new BigInt64Array(B.BLOCK_NUMBERS);
  for (const [name, list] of Object.entries(values)) table.set(list.map(BigInt), B[name as keyof typeof B]);
  return table;
}

/** Bits of the result and of both activations: of three convolutions, and of one kernel that keeps what the case says. */
function bothWays(device: number, one: Case, precision: number, halves: boolean): Uint32Array[][] {
  const { batch = 1, size, x, hidden = [32, 32], biases = [], keep = [], infinite } = one;
  const memory = new Memory(device);
  const random = seededRandom(7);
  const pixels = batch * size[0] * size[1];
  const widths = [x.reduce((a, b) => a + b), ...hidden, x[0]!];
  const share = (k: number) => (halves && k < 2 ? 2 : 1);
  const images = x.map((channels) => random.float32(pixels * channels, -1, 1));
  if (infinite) images[0]![17] = Number.POSITIVE_INFINITY;
  const arrays = images.map((values) => memory.from(values));
  const filters = [0, 1, 2].map((k) => {
    const bound = 3 / Math.sqrt(9 * widths[k]!);
    return memory.from(random.float32(9 * widths[k]! * widths[k + 1]!, -bound, bound));
  });
  const bias = [0, 1, 2].map((k) => (biases.includes(k) ? memory.from(random.float32(widths[k + 1]!, -0.5, 0.5)) : 0n));
  const outputs = () => [0, 1, 2].map((k) => memory.allocate((pixels * widths[k + 1]!) / share(k)));
  const [chain, block] = [outputs(), outputs()] as [bigint[], bigint[]];
  for (const k of [0, 1, 2]) {
    const operands = new BigInt64Array(F.FUSED_NUMBERS);
    operands[F.FUSED_OUT] = chain[k]!;
    operands[F.FUSED_OUT_CHANNELS] = BigInt(widths[k + 1]!);
    operands.set(k === 0 ? arrays : [chain[k - 1]!], F.FUSED_A);
    operands.set((k === 0 ? x : [widths[k]!]).map(BigInt), F.FUSED_A_CHANNELS);
    operands[F.FUSED_B] = filters[k]!;
    operands[F.FUSED_BIAS] = bias[k]!;
    if (k === 2) operands[F.FUSED_ADD] = arrays[0]!;
    operands[F.FUSED_RELU] = k < 2 ? 1n : 0n;
    if (halves)
      operands[F.FUSED_HALVES] = BigInt((k < 2 ? FusedHalves.HALVES_OUT : 0) | (k > 0 ? FusedHalves.HALVES_A : 0));
    const image: [number, number, number] = [1, ...size];
    const unit: [number, number, number] = [1, 1, 1];
    const shape = {
      batch,
      size: image,
      inChannels: widths[k]!,
      outSize: image,
      outChannels: widths[k + 1]!,
      precision,
    };
    const all = { ...shape, filter: [1, 3, 3], stride: unit, dilation: unit, before: [0, 1, 1] } as const;
    const status = calls.rs_tensor_convolve_fused(TensorConvolution.CONVOLUTION, operands, numbersOf(all));
    assert.equal(status, Status.OK, sentence());
  }
  const table = tableOf({
    BLOCK_BATCH: [batch, ...size, precision],
    BLOCK_X_CHANNELS: x,
    BLOCK_CHANNELS: hidden,
    BLOCK_X: arrays,
    BLOCK_FILTERS: filters,
    BLOCK_BIASES: bias,
    BLOCK_OUT: [block[2]!],
    BLOCK_KEPT: [0, 1].map((k) => (keep.includes(k) ? block[k]! : 0n)),
    BLOCK_HALVES: [halves ? 1 : 0],
  });
  const fits = new Int32Array(1);
  assert.equal(calls.rs_tensor_residual_block_fits(device, table, fits), Status.OK, sentence());
  if (fits[0] === 0) {
    refused(
      calls.rs_tensor_residual_block(table),
      "EARGUMENT",
      /^no kernel of this device computes this residual block/,
    );
    memory.wait();
    memory.free();
    return [[], []];
  }
  assert.equal(calls.rs_tensor_residual_block(table), Status.OK, sentence());
  // Once more without a result: the activations alone.
  table[B.BLOCK_OUT] = 0n;
  assert.equal(calls.rs_tensor_residual_block(table), Status.OK, sentence());
  const read = (pointers: bigint[]) =>
    [...keep, 2].map((k) => memory.bits(pointers[k]!, (pixels * widths[k + 1]!) / share(k)));
  const result = [read(chain), read(block)];
  memory.free();
  return result;
}

const wide = {
  BLOCK_BATCH: [1, 4, 5, ConvolutionPrecision.CONVOLVE_TF32],
  BLOCK_X_CHANNELS: [3],
  BLOCK_CHANNELS: [8, 8],
};

describe("a residual block as one kernel", () => {
  for (const device of devices().slice(1))
    for (const [name, precision, halves] of [
      ["tf32", ConvolutionPrecision.CONVOLVE_TF32, false],
      ["bf16", ConvolutionPrecision.CONVOLVE_BF16, false],
      ["bf16, packed", ConvolutionPrecision.CONVOLVE_BF16, true],
    ] as const)
      for (const one of cases)
        it(`is bit by bit what three fused convolutions are: ${device.name}, ${name}, ${JSON.stringify(one)}`, () => {
          const [expected, got] = bothWays(device.id, one, precision, halves);
          assert.deepEqual(got, expected);
          assert.ok(expected!.every((bits) => bits.some((word) => word !== 0)));
        });

  it("fits no CPU, no other precision, and no other counts of channels", () => {
    const fits = new Int32Array(1);
    const asked = (device: number, changes: object): number => {
      fits[0] = -1;
      assert.equal(calls.rs_tensor_residual_block_fits(device, tableOf({ ...wide, ...changes }), fits), Status.OK);
      return fits[0]!;
    };
    assert.equal(asked(CPU, {}), 0);
    for (const { id } of devices().slice(1))
      for (const changes of [
        { BLOCK_BATCH: [1, 4, 5, ConvolutionPrecision.CONVOLVE_FLOAT32] },
        { BLOCK_BATCH: [1, 4, 5, 3] },
        { BLOCK_BATCH: [0, 4, 5, ConvolutionPrecision.CONVOLVE_TF32] },
        { BLOCK_BATCH: [1 << 12, 1 << 12, 1 << 12, ConvolutionPrecision.CONVOLVE_TF32] },
        { BLOCK_X_CHANNELS: [5, 1, 3] },
        { BLOCK_X_CHANNELS: [0, 1, 3] },
        { BLOCK_X_CHANNELS: [5, -1, 3] },
        { BLOCK_CHANNELS: [32, 40] },
        { BLOCK_CHANNELS: [4, 32] },
        { BLOCK_HALVES: [1] },
      ])
        assert.equal(asked(id, changes), 0, JSON.stringify(changes));
    refused(calls.rs_tensor_residual_block_fits(99, tableOf(wide), fits), "EDEVICE", /^device 99 does not exist/);
  });

  it("is refused on the CPU, and for channels and memory that are not there", () => {
    const pixels = 4 * 5;
    const [x, out, activation, second] = [3, 3, 8, 8].map((n) => allocate(4 * pixels * n)) as [
      bigint,
      bigint,
      bigint,
      bigint,
    ];
    const filters = [9 * 3 * 8, 9 * 8 * 8, 9 * 8 * 3].map((count) => allocate(4 * count));
    const plain = { ...wide, BLOCK_X: [x], BLOCK_FILTERS: filters, BLOCK_OUT: [out], BLOCK_KEPT: [activation, second] };
    const call = (changes: object) => calls.rs_tensor_residual_block(tableOf({ ...plain, ...changes }));
    refused(call({}), "EDEVICE", /^residual blocks run on a GPU, and these arrays are on the CPU$/);
    refused(call({ BLOCK_BATCH: [1, -4, 5, 1] }), "EARGUMENT", /^images: extent -4: expected a positive count/);
    refused(call({ BLOCK_CHANNELS: [33, 8] }), "EARGUMENT", /^a residual block with 33 channels: expected 1 to 32$/);
    refused(call({ BLOCK_X_CHANNELS: [0] }), "EARGUMENT", /^a residual block with 0 channels: expected 1 to 32$/);
    refused(call({ BLOCK_X_CHANNELS: [3, 2] }), "EARGUMENT", /^x has 3 channels in all: expected 5$/);
    refused(call({ BLOCK_X: [0] }), "EARGUMENT", /^x has 0 channels in all: expected 3$/);
    refused(call({ BLOCK_FILTERS: [-1] }), "EPOINTER", /^filter 0x\w+ is not a device pointer of this library$/);
    refused(call({ BLOCK_FILTERS: [filters[0]!, filters[0]!] }), "EPOINTER", /^filter 0x\w+: 2304 bytes are needed/);
    refused(call({ BLOCK_BIASES: [0, 0, out + 4n * 58n] }), "EPOINTER", /^bias 0x\w+: 12 bytes are needed and 8 are/);
    refused(call({ BLOCK_OUT: [out + 4n] }), "EPOINTER", /^out 0x\w+: 240 bytes are needed/);
    refused(call({ BLOCK_OUT: [x] }), "EARGUMENT", /^out and x share memory$/);
    refused(call({ BLOCK_KEPT: [activation, activation] }), "EARGUMENT", /^out and activation share memory$/);
    const odd = { BLOCK_BATCH: [1, 4, 4, ConvolutionPrecision.CONVOLVE_TF32], BLOCK_KEPT: [activation, second + 4n] };
    refused(call(odd), "EARGUMENT", /^activation 1 does not begin at a multiple of 16 bytes$/);
    for (const pointer of [x, out, activation, second, ...filters]) calls.rs_free(pointer);
  });
});
