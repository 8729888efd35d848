/**
 * A piece of SVG and the box that it fills, in pixels at scale 1. Panels are drawn about their plot area, whose top
 * left corner is (0, 0): what lies left of it and above it has negative coordinates.
 */
export interface Drawing {
  readonly markup: string;
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

/** The first one wins when a machine has it; the PNG is always drawn with it. DejaVu is the widest of these. */
export const FONT_FAMILY = "DejaVu Sans, Verdana, sans-serif";

/** Text sizes in pixels. */
export const SIZE = { tick: 10, label: 11, title: 12, figureTitle: 15 } as const;

/** Several drawings over each other, as one. */
export function join(...drawings: Drawing[]): Drawing {
  return {
    markup: drawings.map((d) => d.markup).join("\n"),
    left: Math.min(...drawings.map((d) => d.left)),
    top: Math.min(...drawings.map((d) => d.top)),
    right: Math.max(...drawings.map((d) => d.right)),
    bottom: Math.max(...drawings.map((d) => d.bottom)),
  };
}

export function moved(drawing: Drawing, x: number, y: number): Drawing {
  const { markup, left, top, right, bottom } = drawing;
  return {
    markup: `<g transform="translate(${round(x)},${round(y)})">${markup}</g>`,
    left: left + x,
    top: top + y,
    right: right + x,
    bottom: bottom + y,
  };
}

export interface TextOptions {
  readonly size: number;
  readonly anchor?: "start" | "middle";
  readonly bold?: boolean;
  /** Written upwards, turned about (x, y). */
  readonly upwards?: boolean;
}

/** One line of text with its baseline at y. */
export function text(x: number, y: number, words: string, options: TextOptions): Drawing {
  const { size, anchor = "middle", bold = false, upwards = false } = options;
  const width = textWidth(words, size) * (bold ? 1.12 : 1);
  const before = anchor === "middle" ? width / 2 : 0;
  const [ascent, descent] = [size * 0.8, size * 0.25];
  const markup =
    `<text x="${round(x)}" y="${round(y)}" font-size="${size}" text-anchor="${anchor}"` +
    (bold ? ' font-weight="bold"' : "") +
    (upwards ? ` transform="rotate(-90,${round(x)},${round(y)})"` : "") +
    `>${escapeXml(words)}</text>`;
  return upwards
    ? { markup, left: x - ascent, right: x + descent, top: y - (width - before), bottom: y + before }
    : { markup, left: x - before, right: x + width - before, top: y - ascent, bottom: y + descent };
}

/** Lines of text that end above y, broken between words where a line would be wider than `width`. */
export function heading(x: number, y: number, words: string, width: number, size: number): Drawing {
  const lines: string[] = [];
  for (const word of words.split(/\s+/)) {
    const longer = lines.length === 0 ? word : `${lines.at(-1)} ${word}`;
    const fits = textWidth(longer, size) * 1.12 <= width;
    lines.splice(fits ? -1 : lines.length, 1, fits ? longer : word);
  }
  const height = size * 1.3;
  return join(...lines.map((line, i) => text(x, y - (lines.length - 1 - i) * height, line, { size, bold: true })));
}

/** Advance widths of the letters from space to ~ in DejaVu Sans, in thousandths of the text size. */
// biome-ignore format: a table
const WIDTHS = [
  318, 401, 460, 838, 636, 950, 780, 275, 390, 390, 500, 838, 318, 361, 318, 337, 636, 636, 636, 636, 636, 636, 636, 636,
  636, 636, 337, 337, 838, 838, 838, 531, 1000, 684, 686, 698, 770, 632, 575, 775, 752, 295, 295, 656, 557, 863, 748,
  787, 603, 787, 695, 635, 611, 732, 684, 989, 685, 611, 685, 390, 337, 390, 838, 500, 500, 613, 635, 550, 635, 615, 352,
  635, 634, 278, 278, 579, 278, 974, 634, 612, 635, 635, 411, 521, 392, 634, 592, 818, 592, 592, 525, 636, 337, 636, 838,
];

/** The width of text in DejaVu Sans; letters beyond ASCII count as wide ones. */
export function textWidth(words: string, size: number): number {
  let thousandths = 0;
  for (const letter of words) thousandths += WIDTHS[letter.charCodeAt(0) - 32] ?? 838;
  return (thousandths / 1000) * size;
}

/** Text for an SVG file; a space stands for each character that XML forbids, line breaks too. */
function escapeXml(words: string): string {
  const entities: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  return words.replace(/[\p{Cc}\p{Cs}\uFFFE\uFFFF]/gu, " ").replace(/[&<>"']/g, (letter) => entities[letter]!);
}

/** Coordinates to a hundredth of a pixel. */
function round(value: number): number {
  return Math.round(value * 100) / 100;
}
