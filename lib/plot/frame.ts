import type { AxisXOptions, AxisYOptions, GridXOptions, GridYOptions, Markish } from "@observablehq/plot";
import { RaysumError } from "../errors.ts";
import { type Drawing, heading, join, SIZE, text, textWidth } from "./drawing.ts";
import { type Axis, type Ticks, ticksOf } from "./ticks.ts";

/** The two packages that draw axes and lines, loaded when the first figure is made. */
export interface Kit {
  readonly Plot: typeof import("@observablehq/plot");
  readonly document: Document;
}

/** One picture of a figure: made by `imagePanel` or `linePanel`, drawn by `figure`. */
export interface Panel {
  /** Height of the plot area, in pixels at scale 1. */
  readonly height: number;
  /** Draws with the tallest plot area's height in its row of the figure; a panel of a fixed shape keeps its own. */
  readonly draw: (kit: Kit, height: number) => Drawing;
}

/** The size of a plot area, in pixels at scale 1. */
export interface Area {
  readonly width: number;
  readonly height: number;
}

/** The plot area of panels that may have any shape. */
export const FREE_AREA: Area = { width: 256, height: 192 };

export interface FrameOptions extends Area {
  readonly x?: Axis;
  readonly y: Axis;
  readonly ySide?: "left" | "right";
  /** What is drawn inside, in the scales of the axes. */
  readonly marks: (Plot: Kit["Plot"]) => Markish;
}

export async function loadPackage<T>(name: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (cause) {
    const message = `figures need the package ${name}, which could not be loaded; install it with: npm install ${name}`;
    throw new RaysumError("library", message, { cause });
  }
}

export async function loadKit(): Promise<Kit> {
  const Plot = await loadPackage("@observablehq/plot", () => import("@observablehq/plot"));
  const { parseHTML } = await loadPackage("linkedom", () => import("linkedom"));
  return { Plot, document: parseHTML("<html></html>").document };
}

/** The plot area with its marks, its box, its ticks and their labels. */
export function frame({ Plot, document }: Kit, options: FrameOptions): Drawing {
  const { width, height, x, y, ySide = "left" } = options;
  const xTicks = x && horizontalTicks(x, width);
  const yTicks = ticksOf(y, height < 24 ? 0 : Math.max(2, height / (y.scale === "log" ? 22 : 38)));
  const scaleOf = (axis: Axis | undefined) => ({ axis: null, ...(axis && { type: axis.scale, domain: axis.domain }) });
  const svg = Plot.plot({
    document,
    width,
    height,
    margin: 0,
    x: scaleOf(x),
    y: scaleOf(y),
    marks: [
      x && xTicks ? axisMarks(Plot.axisX, Plot.gridX, x, xTicks, "bottom") : null,
      axisMarks(Plot.axisY, Plot.gridY, y, yTicks, ySide),
      options.marks(Plot),
      Plot.frame({ stroke: "#000", strokeWidth: 0.8 }),
    ],
  });
  for (const style of svg.querySelectorAll("style")) style.remove(); // for web pages; what it sets is not used here
  const yLabels = widest(yTicks) + 8;
  const overhang = xTicks ? widest(xTicks) / 2 : 0;
  return {
    markup: `<g fill="currentColor" text-anchor="middle">${svg.innerHTML}</g>`,
    left: ySide === "left" ? -yLabels : -overhang,
    top: -SIZE.tick / 2,
    right: width + (ySide === "right" ? yLabels : overhang),
    bottom: height + (x ? 8 + SIZE.tick : SIZE.tick / 2),
  };
}

function widest({ labels }: Ticks): number {
  return Math.max(0, ...labels.map((label) => textWidth(label, SIZE.tick)));
}

/** As many ticks as have room for their labels side by side. */
function horizontalTicks(axis: Axis, width: number): Ticks {
  let count = Math.max(2, width / 45);
  let ticks = ticksOf(axis, count);
  while (count > 2 && widest(ticks) * ticks.labels.length > 0.85 * width) {
    count = Math.max(2, count / 1.5);
    ticks = ticksOf(axis, count);
  }
  return ticks;
}

function axisMarks<Side extends "left" | "right" | "bottom">(
  axisOf: (options: AxisXOptions & AxisYOptions & { anchor: Side }) => Markish,
  gridOf: (options: GridXOptions & GridYOptions & { anchor: Side }) => Markish,
  axis: Axis,
  { values, labels, minor }: Ticks,
  anchor: Side,
): Markish[] {
  const style = { anchor, label: null, tickPadding: 3, fontSize: SIZE.tick, stroke: "#000", strokeWidth: 0.8 };
  return [
    axis.grid ? gridOf({ anchor, ticks: values, stroke: "#000", strokeOpacity: 0.12, strokeWidth: 0.8 }) : null,
    axisOf({ ...style, ticks: values, tickSize: 4, tickFormat: (value: number) => labels[values.indexOf(value)] }),
    axisOf({ ...style, ticks: minor, tickSize: 2, tickFormat: () => "" }),
  ];
}

/** A frame with the title above it and the names of its axes. */
export function withLabels(
  drawn: Drawing,
  { width, height }: Area,
  words: { readonly title: string; readonly xLabel?: string; readonly yLabel?: string },
): Drawing {
  const parts = [drawn, heading(width / 2, -9, words.title, Math.max(width, 200), SIZE.title)];
  if (words.xLabel) parts.push(text(width / 2, drawn.bottom + 14, words.xLabel, { size: SIZE.label }));
  if (words.yLabel) parts.push(text(drawn.left - 7, height / 2, words.yLabel, { size: SIZE.label, upwards: true }));
  return join(...parts);
}
