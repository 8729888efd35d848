/** Convolutions in three dimensions in float64, straight from their definition, channels last. */

export interface Convolution {
  readonly batch: number;
  readonly size: readonly number[];
  readonly inChannels: number;
  readonly outSize: readonly number[];
  readonly outChannels: number;
  readonly filter: readonly number[];
  readonly stride: readonly number[];
  readonly dilation: readonly number[];
  readonly before: readonly number[];
  /** ConvolutionPrecision of csrc/raysum.h; float32 by default. */
  readonly precision?: number;
}

/** The numbers of rs_convolution_shape. */
export function numbersOf(c: Convolution): BigInt64Array {
  const { batch, size, inChannels, outSize, outChannels, filter, stride, dilation, before, precision = 0 } = c;
  const counts = [batch, ...size, inChannels, ...outSize, outChannels, ...filter];
  const numbers = [...counts, ...stride, ...dilation, ...before, precision];
  return BigInt64Array.from(numbers.map(BigInt));
}

const product = (counts: readonly number[]) => counts.reduce((a, b) => a * b, 1);

/** Elements of input, output and filter. */
export function countsOf({
  batch,
  size,
  inChannels,
  outSize,
  outChannels,
  filter,
}: Convolution): [number, number, number] {
  return [
    batch * product(size) * inChannels,
    batch * product(outSize) * outChannels,
    product(filter) * inChannels * outChannels,
  ];
}

/** Calls `visit` with the place in input, output and filter of every product that a convolution adds up. */
export function visitProducts(c: Convolution, visit: (input: number, output: number, filter: number) => void): void {
  const { size, outSize, filter, stride, dilation, before } = c;
  const at = (axis: number, out: number, tap: number) => out * stride[axis]! + tap * dilation[axis]! - before[axis]!;
  const [outs, taps] = [product(outSize), product(filter)];
  const split = (index: number, extents: readonly number[]) => [
    Math.floor(index / (extents[1]! * extents[2]!)),
    Math.floor(index / extents[2]!) % extents[1]!,
    index % extents[2]!,
  ];
  for (let item = 0; item < c.batch; item++)
    for (let out = 0; out < outs; out++)
      for (let tap = 0; tap < taps; tap++) {
        const place = split(out, outSize);
        const part = split(tap, filter);
        const [z, y, x] = [0, 1, 2].map((axis) => at(axis, place[axis]!, part[axis]!)) as [number, number, number];
        if (z < 0 || y < 0 || x < 0 || z >= size[0]! || y >= size[1]! || x >= size[2]!) continue;
        const input = (((item * size[0]! + z) * size[1]! + y) * size[2]! + x) * c.inChannels;
        const output = (item * outs + out) * c.outChannels;
        for (let i = 0; i < c.inChannels; i++)
          for (let o = 0; o < c.outChannels; o++)
            visit(input + i, output + o, (tap * c.inChannels + i) * c.outChannels + o);
      }
}
