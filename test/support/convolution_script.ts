// Compares the native convolution and its gradients with their definition, on random shapes; prints the device and the largest
// relative errors. Usage: convolution_script.ts <seed> <device> [precision]: a script, because RAYSUM_SIMD is read when the library
// starts. With a precision other than float32 the shapes are those that tensor cores take, and the numbers have so few digits that
// every precision holds them.
import process from "node:process";
import { DeviceArray, device } from "../../lib/index.ts";
import { check, native } from "../../lib/native/library.ts";
import { ConvolutionPrecision, TensorConvolution } from "../../lib/native/symbols.ts";
import { type Convolution, countsOf, numbersOf, visitProducts } from "./convolution.ts";
import { relativeL2, seededRandom } from "./random.ts";

const random = seededRandom(Number(process.argv[2] ?? 1));
const precision = Number(
  Object.entries(ConvolutionPrecision).find(([name]) => name === `CONVOLVE_${process.argv[4] ?? "FLOAT32"}`)![1],
);
const coarse = precision !== ConvolutionPrecision.CONVOLVE_FLOAT32;

function randomConvolution(): Convolution {
  const axes = <T>(of: (axis: number) => T) => [0, 1, 2].map(of);
  const flat = coarse || random.uniform() < 0.6;
  const filter = axes((axis) => (axis === 0 && flat ? 1 : random.integer(1, coarse ? 3 : 4)));
  const stride = axes(() => (coarse || random.uniform() < 0.6 ? 1 : random.integer(2, 3)));
  const dilation = axes(() => (coarse || random.uniform() < 0.7 ? 1 : random.integer(2, 3)));
  const before = axes((axis) => random.integer(0, (filter[axis]! - 1) * dilation[axis]!));
  const size = axes((axis) =>
    axis === 0 && flat ? 1 : random.integer(1, axis === 2 ? (coarse ? 50 : 30) : coarse ? 20 : 9),
  );
  const outSize = axes((axis) => {
    const room = size[axis]! + 2 * before[axis]! - (filter[axis]! - 1) * dilation[axis]! - 1;
    return Math.max(1, Math.floor(room / stride[axis]!) + 1);
  });
  const channels = () => [1, 2, 5, 7, 16, 19, 32, 33, 40, 72][random.integer(0, coarse ? 9 : 8)]!;
  return {
    batch: random.integer(1, 3),
    size,
    inChannels: channels(),
    outSize,
    outChannels: channels(),
    filter,
    stride,
    dilation,
    before,
    precision,
  };
}

const on = { device: device(process.argv[3]) };
const worst = [0, 0, 0];
for (let round = 0; round < (coarse ? 12 : 40); round++) {
  const c = randomConvolution();
  const counts = countsOf(c);
  const [x, dy, w] = counts.map((count) =>
    random.float32(count, -1, 1).map((value) => (coarse ? Math.round(value * 128) / 128 : value)),
  ) as [Float32Array<ArrayBuffer>, Float32Array<ArrayBuffer>, Float32Array<ArrayBuffer>];
  const expected = counts.map((count) => new Float64Array(count)) as [Float64Array, Float64Array, Float64Array];
  visitProducts(c, (input, output, filter) => {
    expected[0][input]! += dy[output]! * w[filter]!;
    expected[1][output]! += x[input]! * w[filter]!;
    expected[2][filter]! += x[input]! * dy[output]!;
  });
  const runs = [
    [TensorConvolution.CONVOLUTION, 1, x, w],
    [TensorConvolution.CONVOLUTION_INPUT_GRADIENT, 0, dy, w],
    [TensorConvolution.CONVOLUTION_FILTER_GRADIENT, 2, x, dy],
  ] as const;
  for (const [kind, result, a, b] of runs) {
    using left = DeviceArray.from(a, [a.length], on);
    using right = DeviceArray.from(b, [b.length], on);
    using out = DeviceArray.full([counts[result]!], Number.NaN, on);
    check(native().rs_tensor_convolve(kind, out.pointer, left.pointer, right.pointer, numbersOf(c)));
    const error = relativeL2(out.readSync(), expected[result]);
    if (!(error <= 1e-6)) console.log(JSON.stringify({ kind, error, ...c }));
    worst[kind] = Math.max(worst[kind]!, error);
  }
}
console.log(JSON.stringify({ device: on.device.description, worst }));
