import { writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { RaysumError } from "../errors.ts";
import { checkText, refuse } from "./check.ts";
import { type Drawing, FONT_FAMILY, heading, join, moved, SIZE } from "./drawing.ts";
import { loadKit, loadPackage, type Panel } from "./frame.ts";

const jupyterDisplay: unique symbol = Symbol.for("Jupyter.display");

/** A finished figure. In a notebook it shows itself. */
export interface Figure {
  /** The whole figure as an SVG file that needs nothing beside it. */
  readonly svg: string;
  /**
   * The figure as a PNG file, `scale` (0.1 to 10, 2 if not given) pixels for each pixel of the SVG's size.
   * @throws RaysumError `argument` for another scale, `library` when a package is missing.
   */
  png(scale?: number): Promise<Uint8Array>;
  /**
   * Writes the file; the ending of its name, `.svg` or `.png`, says which kind.
   * @throws RaysumError `argument` for another ending, `file` when it cannot be written, and what `png` throws.
   */
  save(path: string): Promise<void>;
  [jupyterDisplay](): Record<string, string>;
}

export interface FigureOptions {
  /** Panels side by side; up to three if not given, and two for four panels. */
  readonly columns?: number;
  /** Stands above all panels. */
  readonly title?: string;
}

/** Pixels at scale 1: around everything, and between panels. */
const MARGIN = 12;
const GAP = 26;

/**
 * Panels in rows, left to right and top to bottom; the plot areas of a column share their left edge, those of a row
 * their top edge.
 * @throws RaysumError `argument` for the options, `library` when a package is missing.
 */
export async function figure(panels: readonly Panel[], options: FigureOptions = {}): Promise<Figure> {
  const { columns = panels.length === 4 ? 2 : Math.min(panels.length, 3), title } = options;
  if (panels.length === 0) refuse("panels []", "at least one is needed");
  if (!Number.isSafeInteger(columns) || columns < 1) refuse(`columns ${columns}`, "it must be a positive integer");
  if (title !== undefined) checkText("title", title);
  const kit = await loadKit();
  const rows: Drawing[][] = [];
  for (let first = 0; first < panels.length; first += columns) {
    const row = panels.slice(first, first + columns);
    const height = Math.max(...row.map((panel) => panel.height));
    rows.push(row.map((panel) => panel.draw(kit, height)));
  }
  return new SvgFigure(svgFile(withTitle(arrange(rows), title)));
}

/** Every row and column gets the room that its largest panel needs on each side of the plot area. */
function arrange(rows: readonly Drawing[][]): Drawing {
  const columns = rows[0]!.map((_, c) => join(...rows.flatMap((row) => row[c] ?? [])));
  const placed: Drawing[] = [];
  let y = 0;
  for (const row of rows) {
    const { top, bottom } = join(...row);
    let x = 0;
    for (const [c, drawing] of row.entries()) {
      const { left, right } = columns[c]!;
      placed.push(moved(drawing, x - left, y - top));
      x += right - left + GAP;
    }
    y += bottom - top + GAP;
  }
  return join(...placed);
}

function withTitle(drawing: Drawing, words: string | undefined): Drawing {
  if (!words) return drawing;
  const { left, right, top } = drawing;
  return join(heading((left + right) / 2, top - 16, words, right - left, SIZE.figureTitle), drawing);
}

function svgFile({ markup, left, top, right, bottom }: Drawing): string {
  const [width, height] = [right - left + 2 * MARGIN, bottom - top + 2 * MARGIN].map(Math.ceil);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="${FONT_FAMILY}" color="#000">
<rect width="100%" height="100%" fill="#fff"/>
<g transform="translate(${MARGIN - left},${MARGIN - top})">
${markup}
</g>
</svg>
`;
}

class SvgFigure implements Figure {
  readonly svg: string;

  constructor(svg: string) {
    this.svg = svg;
  }

  async png(scale = 2): Promise<Uint8Array> {
    if (!(scale >= 0.1 && scale <= 10)) refuse(`scale ${scale}`, "it must be a number from 0.1 to 10");
    const { Resvg } = await loadPackage("@resvg/resvg-js", () => import("@resvg/resvg-js"));
    const fontFiles = await loadPackage("dejavu-fonts-ttf", async () => fontPaths());
    const renderer = new Resvg(this.svg, {
      fitTo: { mode: "zoom", value: scale },
      font: { fontFiles, loadSystemFonts: false, defaultFontFamily: "DejaVu Sans" },
      imageRendering: 1, // for the images marked "pixelated", a word which resvg does not know
    });
    return renderer.render().asPng();
  }

  async save(path: string): Promise<void> {
    const ending = /\.(svg|png)$/i.exec(path)?.[1]?.toLowerCase();
    if (ending === undefined) refuse(`figure file "${path}"`, "its name must end in .svg or .png");
    const content = ending === "svg" ? this.svg : await this.png();
    try {
      await writeFile(path, content);
    } catch (cause) {
      throw new RaysumError("file", `figure file "${path}": it cannot be written (${(cause as Error).message})`, {
        cause,
      });
    }
  }

  [jupyterDisplay](): Record<string, string> {
    return { "image/svg+xml": this.svg };
  }
}

function fontPaths(): string[] {
  const { resolve } = createRequire(import.meta.url);
  return ["DejaVuSans", "DejaVuSans-Bold"].map((name) => resolve(`dejavu-fonts-ttf/ttf/${name}.ttf`));
}
