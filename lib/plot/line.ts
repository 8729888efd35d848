import type { Markish } from "@observablehq/plot";
import { RaysumError } from "../errors.ts";
import { checkChoice, checkText, refuse } from "./check.ts";
import { type Drawing, join, moved, SIZE, text, textWidth } from "./drawing.ts";
import { FREE_AREA, frame, type Kit, type Panel, withLabels } from "./frame.ts";
import { finiteExtent, widened } from "./range.ts";
import type { Axis, Scale } from "./ticks.ts";

/** One curve; the line has a gap where a value is not finite, or not positive on a log axis. */
export interface Series {
  readonly name: string;
  readonly x: ArrayLike<number>;
  readonly y: ArrayLike<number>;
}

export interface LineOptions {
  readonly series: readonly Series[];
  readonly title: string;
  readonly xLabel: string;
  readonly yLabel: string;
  /** `linear` if not given. */
  readonly xScale?: Scale;
  /** `linear` if not given. */
  readonly yScale?: Scale;
}

/** M. Okabe and K. Ito's colours, which the colour-blind can tell apart; the second round is dashed. */
const COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

type Point = [x: number, y: number];

interface Curve {
  readonly name: string;
  /** NaN where there is nothing to draw. */
  readonly points: readonly Point[];
  readonly stroke: string;
  readonly strokeDasharray: string;
}

/**
 * Curves over common axes, with a legend below when there are several. The values are read at once.
 * @throws RaysumError `shape` when x and y of a series differ in length, `argument` for any other option.
 */
export function linePanel(options: LineOptions): Panel {
  const { series, xScale = "linear", yScale = "linear" } = options;
  for (const name of ["title", "xLabel", "yLabel"] as const) checkText(name, options[name]);
  checkChoice("xScale", xScale, ["linear", "log"]);
  checkChoice("yScale", yScale, ["linear", "log"]);
  if (series.length === 0) refuse("series []", "at least one is needed");
  const curves = series.map((one, i) => curve(one, i, xScale, yScale));
  const drawn = curves.flatMap(({ points }) => points.filter(isDrawn));
  const x = { scale: xScale, domain: domainOf(drawn, 0, xScale, 0), grid: true };
  const y = { scale: yScale, domain: domainOf(drawn, 1, yScale, 0.05), grid: true };

  function draw(kit: Kit, height: number): Drawing {
    const area = { ...FREE_AREA, height };
    const marks = ({ line, dot }: Kit["Plot"]): Markish =>
      curves.flatMap(({ points, stroke, strokeDasharray }) => [
        line(points, { stroke, strokeDasharray, strokeWidth: 1.5 }),
        dot(points.filter(isAlone), { fill: stroke, r: 2 }),
      ]);
    const labelled = withLabels(frame(kit, { ...area, x, y, marks }), area, options);
    return curves.length === 1 ? labelled : join(labelled, moved(legend(curves), 0, labelled.bottom + 14));
  }
  return { height: FREE_AREA.height, draw };
}

function curve({ name, x, y }: Series, index: number, xScale: Scale, yScale: Scale): Curve {
  checkText("series name", name);
  if (x.length !== y.length) {
    throw new RaysumError("shape", `series "${name}": ${x.length} values of x and ${y.length} of y, not equally many`);
  }
  const points = Array.from(x, (value, i): Point => [drawable(value, xScale), drawable(y[i]!, yScale)]);
  if (!points.some(isDrawn)) {
    const need = (axis: string, scale: Scale): string =>
      `${scale === "log" ? "positive and finite" : "finite"} ${axis}`;
    refuse(`series "${name}"`, `none of its ${x.length} points has ${need("x", xScale)} and ${need("y", yScale)}`);
  }
  const strokeDasharray = index % (2 * COLORS.length) < COLORS.length ? "none" : "5,3";
  return { name, points, stroke: COLORS[index % COLORS.length]!, strokeDasharray };
}

function drawable(value: number, scale: Scale): number {
  return Number.isFinite(value) && (scale === "linear" || value > 0) ? value : Number.NaN;
}

function isDrawn(point: Point | undefined): boolean {
  return point !== undefined && !point.some(Number.isNaN);
}

/** A point without a neighbour is no line: it needs a dot to be seen. */
function isAlone(point: Point, index: number, points: readonly Point[]): boolean {
  return isDrawn(point) && !isDrawn(points[index - 1]) && !isDrawn(points[index + 1]);
}

/** What an axis shows: the values and some room, as a fraction; on a log axis two powers of ten at least. */
function domainOf(points: readonly Point[], axis: 0 | 1, scale: Scale, room: number): Axis["domain"] {
  const extent = finiteExtent(points.map((point) => point[axis]))!;
  if (scale === "linear") return padded(widened(extent), room);
  const exponents = padded([Math.log10(extent[0]), Math.log10(extent[1])], room);
  let [lo, hi] = exponents;
  if (Math.floor(hi + 1e-9) - Math.ceil(lo - 1e-9) < 1) [lo, hi] = [Math.floor(lo + 1e-9), Math.ceil(hi - 1e-9)];
  return lo < hi ? [10 ** lo, 10 ** hi] : [10 ** (lo - 1), 10 ** (hi + 1)];
}

function padded([lo, hi]: readonly [number, number], room: number): readonly [number, number] {
  return [lo - room * (hi - lo), hi + room * (hi - lo)];
}

/** The curves' names, each behind a piece of its line, in as many rows as they need. */
function legend(curves: readonly Curve[]): Drawing {
  const entries: Drawing[] = [];
  let [x, y] = [0, 0];
  for (const { name, stroke, strokeDasharray } of curves) {
    const width = 24 + textWidth(name, SIZE.tick);
    if (x > 0 && x + width > FREE_AREA.width) [x, y] = [0, y + SIZE.tick * 1.5];
    const dash = strokeDasharray === "none" ? "" : ` stroke-dasharray="${strokeDasharray}"`;
    const markup = `<path d="M0,-3.5h18" stroke="${stroke}" stroke-width="1.5"${dash}/>`;
    const key = { markup, left: 0, top: -5, right: 18, bottom: -2 };
    entries.push(moved(join(key, text(24, 0, name, { size: SIZE.tick, anchor: "start" })), x, y));
    x += width + 14;
  }
  return join(...entries);
}
