import type { Markish } from "@observablehq/plot";
import { RaysumError } from "../errors.ts";
import { checkChoice, checkText, refuse } from "./check.ts";
import { COLORMAPS, type Colormap, colorize, NAN_COLOR } from "./colormap.ts";
import { type Drawing, join, moved, SIZE, text } from "./drawing.ts";
import { type Area, FREE_AREA, frame, type Kit, type Panel, withLabels } from "./frame.ts";
import { encodePng } from "./png.ts";
import { checkRange, finiteExtent, widened } from "./range.ts";

export interface ImageOptions {
  /** rows * columns values, row by row. */
  readonly data: ArrayLike<number>;
  readonly shape: readonly [rows: number, columns: number];
  readonly title: string;
  readonly xLabel?: string;
  readonly yLabel?: string;
  /** Where the image's left and right edges are on the x axis; [0, columns] if not given. */
  readonly xRange?: readonly [lo: number, hi: number];
  /** Where the edge of row 0 and that of the last row are on the y axis; [0, rows] if not given. */
  readonly yRange?: readonly [lo: number, hi: number];
  /**
   * The values at the ends of the colour bar; what lies outside gets the colour of the nearer end. If not given: the
   * smallest and largest finite value, and for `diverging` the range about 0 that holds both.
   */
  readonly valueRange?: readonly [lo: number, hi: number];
  /** `gray` if not given. */
  readonly colormap?: Colormap;
  /** What the colour bar shows, with its unit. */
  readonly colorLabel?: string;
  /** Where row 0 is: at the top (`upper`, if not given) or at the bottom. */
  readonly origin?: "upper" | "lower";
  /**
   * `equal`: one unit is as long on the x axis as on the y axis. `fill`: the plot area has the size of a line plot's.
   * If not given: `equal`, unless one side were more than 8 times as long as the other.
   */
  readonly aspect?: "equal" | "fill";
}

/** Pixels at scale 1: size of the colour bar, at least, and its distance from the image. */
const BAR = { width: 10, height: 60, gap: 10 };

/** Larger images are averaged down to this: more than a figure can show. */
const MOST_PIXELS = 1024;

/**
 * An image with axes and a colour bar. The values are read at once; they may change or be freed afterwards. Images of
 * more than 1024 rows or columns are reduced by averaging. NaN is drawn in magenta, which the colour bar then names.
 * @throws RaysumError `shape` when data and shape do not fit, `argument` for any other option.
 */
export function imagePanel(options: ImageOptions): Panel {
  const { data, shape, colormap = "gray", origin = "upper" } = options;
  checkImage(options);
  const [rows, columns] = shape;
  const { xRange = [0, columns], yRange = [0, rows], valueRange = defaultRange(data, colormap) } = options;
  const { values, size } = reduce(data, shape, origin === "lower");
  const source = dataUri(colorize(values, valueRange, colormap), size);
  const fixedArea = areaOf(options.aspect, xRange[1] - xRange[0], yRange[1] - yRange[0]);
  const bar: Bar = { valueRange, colormap, label: options.colorLabel, hasNaN: values.some(Number.isNaN) };

  function draw(kit: Kit, height: number): Drawing {
    const area = fixedArea ?? { ...FREE_AREA, height };
    const picture = frame(kit, {
      ...area,
      x: { domain: xRange, scale: "linear", whole: !options.xRange },
      y: { domain: origin === "lower" ? yRange : [yRange[1], yRange[0]], scale: "linear", whole: !options.yRange },
      marks: (Plot) => imageMark(Plot, source, area, isCrisp(area.width / size[1], area.height / size[0])),
    });
    const beside = moved(drawBar(kit, Math.max(area.height, BAR.height), bar), area.width + BAR.gap, 0);
    return join(withLabels(picture, area, options), beside);
  }
  return { height: (fixedArea ?? FREE_AREA).height, draw };
}

function checkImage(options: ImageOptions): void {
  const { data, shape, xRange, yRange, valueRange, colormap = "gray", origin = "upper", aspect = "equal" } = options;
  const [rows, columns] = shape;
  if (shape.length !== 2 || ![rows, columns].every((count) => Number.isSafeInteger(count) && count > 0)) {
    refuse(`shape [${shape.join(", ")}]`, "it must be [rows, columns], two positive integers");
  }
  if (data.length !== rows * columns) {
    const message = `data of ${data.length} values: shape [${rows}, ${columns}] needs ${rows * columns}`;
    throw new RaysumError("shape", message);
  }
  checkText("title", options.title);
  for (const name of ["xLabel", "yLabel", "colorLabel"] as const) {
    if (options[name] !== undefined) checkText(name, options[name]);
  }
  if (xRange) checkRange("xRange", xRange);
  if (yRange) checkRange("yRange", yRange);
  if (valueRange) checkRange("valueRange", valueRange);
  checkChoice("colormap", colormap, COLORMAPS);
  checkChoice("origin", origin, ["upper", "lower"]);
  checkChoice("aspect", aspect, ["equal", "fill"]);
}

function defaultRange(data: ArrayLike<number>, colormap: Colormap): readonly [number, number] {
  const [lo, hi] = finiteExtent(data) ?? [0, 1];
  if (colormap !== "diverging") return widened([lo, hi]);
  const largest = Math.max(Math.abs(lo), Math.abs(hi)) || 1;
  return [-largest, largest];
}

/** Averages over blocks of whole values, as equal as can be; one NaN makes its block NaN, so that none gets lost. */
function reduce(
  data: ArrayLike<number>,
  [rows, columns]: readonly [number, number],
  upsideDown: boolean,
): { values: Float64Array; size: [number, number] } {
  const size: [number, number] = [Math.min(rows, MOST_PIXELS), Math.min(columns, MOST_PIXELS)];
  const values = new Float64Array(size[0] * size[1]);
  for (let i = 0; i < size[0]; i++) {
    const [top, bottom] = [Math.floor((i * rows) / size[0]), Math.floor(((i + 1) * rows) / size[0])];
    const target = (upsideDown ? size[0] - 1 - i : i) * size[1];
    for (let j = 0; j < size[1]; j++) {
      const [left, right] = [Math.floor((j * columns) / size[1]), Math.floor(((j + 1) * columns) / size[1])];
      let sum = 0;
      for (let row = top; row < bottom; row++) {
        for (let column = left; column < right; column++) sum += data[row * columns + column]!;
      }
      values[target + j] = sum / ((bottom - top) * (right - left));
    }
  }
  return { values, size };
}

/** The plot area of an image, `x` by `y` in the units of its axes; undefined if it may have any shape. */
function areaOf(aspect: ImageOptions["aspect"], x: number, y: number): Area | undefined {
  if (aspect === "fill" || (aspect === undefined && Math.max(x / y, y / x) > 8)) return undefined;
  const scale = FREE_AREA.width / Math.max(x, y);
  return { width: Math.max(x * scale, 1), height: Math.max(y * scale, 1) };
}

/** Whether pixels of this size are drawn with sharp edges: smaller ones would come out in uneven sizes. */
function isCrisp(width: number, height: number): boolean {
  return Math.min(width, height) >= 1 || Math.max(width, height) >= 3;
}

function dataUri(rgb: Uint8Array, size: [number, number]): string {
  return `data:image/png;base64,${Buffer.from(encodePng(rgb, size)).toString("base64")}`;
}

/** An image that fills the plot area. */
function imageMark(Plot: Kit["Plot"], src: string, { width, height }: Area, crisp: boolean): Markish {
  const imageRendering = crisp ? "pixelated" : "optimizeQuality";
  return Plot.image([0], { src, width, height, frameAnchor: "middle", preserveAspectRatio: "none", imageRendering });
}

interface Bar {
  readonly valueRange: readonly [number, number];
  readonly colormap: Colormap;
  readonly label: string | undefined;
  readonly hasNaN: boolean;
}

function drawBar(kit: Kit, height: number, { valueRange, colormap, label, hasNaN }: Bar): Drawing {
  const area = { width: BAR.width, height };
  const levels = Float64Array.from({ length: 256 }, (_, i) => 255 - i);
  const source = dataUri(colorize(levels, [0, 255], colormap), [256, 1]);
  const ramp = frame(kit, {
    ...area,
    y: { domain: valueRange, scale: "linear" },
    ySide: "right",
    marks: (Plot) => imageMark(Plot, source, area, true),
  });
  const parts = [ramp];
  if (label) parts.push(text(ramp.right + 14, height / 2, label, { size: SIZE.label, upwards: true }));
  if (hasNaN) {
    const color = `#${NAN_COLOR.toString(16)}`;
    const { width } = BAR;
    const markup = `<rect width="${width}" height="${width}" fill="${color}" stroke="#000" stroke-width="0.8"/>`;
    const square = { markup, left: 0, top: 0, right: width, bottom: width };
    const name = text(width + 7, 8.5, "NaN", { size: SIZE.tick, anchor: "start" });
    parts.push(moved(join(square, name), 0, height + 24)); // below the image's tick labels
  }
  return join(...parts);
}
