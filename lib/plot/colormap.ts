/** The names of the colour maps. `diverging` is for signed values: blue below, white in the middle, red above. */
export type Colormap = "gray" | "viridis" | "diverging";

/** Equally spaced colours; between them the map is linear in sRGB. */
const ANCHORS: Record<Colormap, readonly number[]> = {
  gray: [0x000000, 0xffffff],
  // viridis of S. van der Walt and N. Smith (CC0), every 32nd of its 256 colours
  viridis: [0x440154, 0x472d7b, 0x3b528b, 0x2c728e, 0x21918c, 0x28ae80, 0x5ec962, 0xaddc30, 0xfde725],
  // RdBu of C. Brewer's ColorBrewer, reversed
  diverging: [
    0x053061, 0x2166ac, 0x4393c3, 0x92c5de, 0xd1e5f0, 0xf7f7f7, 0xfddbc7, 0xf4a582, 0xd6604d, 0xb2182b, 0x67001f,
  ],
};

export const COLORMAPS: readonly string[] = Object.keys(ANCHORS);

/** Magenta: in none of the maps. */
export const NAN_COLOR = 0xff00ff;

const LEVELS = 256;
const channels = (color: number): number[] => [color >> 16, (color >> 8) & 255, color & 255];

/** The map as LEVELS colours of three bytes. */
function table(colormap: Colormap): Uint8Array {
  const anchors = ANCHORS[colormap].map(channels);
  const bytes = new Uint8Array(LEVELS * 3);
  for (let level = 0; level < LEVELS; level++) {
    const position = (level / (LEVELS - 1)) * (anchors.length - 1);
    const left = Math.min(Math.floor(position), anchors.length - 2);
    for (let c = 0; c < 3; c++) {
      const [a, b] = [anchors[left]![c]!, anchors[left + 1]![c]!];
      bytes[level * 3 + c] = Math.round(a + (b - a) * (position - left));
    }
  }
  return bytes;
}

/** RGB bytes of values: `lo` and below is the first colour, `hi` and above the last one, NaN is NAN_COLOR. */
export function colorize(
  values: ArrayLike<number>,
  [lo, hi]: readonly [number, number],
  colormap: Colormap,
): Uint8Array {
  const colors = table(colormap);
  const nan = channels(NAN_COLOR);
  const rgb = new Uint8Array(values.length * 3);
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (Number.isNaN(value)) {
      rgb.set(nan, i * 3);
      continue;
    }
    const fraction = Math.min(Math.max((value - lo) / (hi - lo), 0), 1);
    const level = Math.round(fraction * (LEVELS - 1)) * 3;
    rgb[i * 3] = colors[level]!;
    rgb[i * 3 + 1] = colors[level + 1]!;
    rgb[i * 3 + 2] = colors[level + 2]!;
  }
  return rgb;
}
