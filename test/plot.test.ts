import assert from "node:assert/strict";
import { cp, mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { RaysumError } from "../lib/errors.ts";
import { encodePng, type Figure, figure, type ImageOptions, imagePanel, linePanel } from "../lib/plot/index.ts";
import { decodePng, type Picture } from "./support/decode_png.ts";

/** The PNG files inside an SVG: of an image panel the image and then its colour bar. */
function embedded({ svg }: Figure): Picture[] {
  const found = svg.matchAll(/href="data:image\/png;base64,([^"]+)"/g);
  return Array.from(found, ([, base64]) => decodePng(Buffer.from(base64!, "base64")));
}

async function pixelsOf(options: Partial<ImageOptions> & Pick<ImageOptions, "data" | "shape">): Promise<number[][]> {
  const [picture] = embedded(await figure([imagePanel({ title: "", ...options })]));
  const { width, height, color } = picture!;
  return Array.from({ length: height }, (_, row) => Array.from({ length: width }, (_, column) => color(row, column)));
}

function labelsOf({ svg }: Figure): string[] {
  return Array.from(svg.matchAll(/<text[^>]*>([^<]*)</g), ([, words]) => words!);
}

/** How many pixels of some rows are darker than middle gray. */
function ink({ width, color }: Picture, rows: number): number {
  let count = 0;
  for (let row = 0; row < rows; row++) for (let c = 0; c < width; c++) if ((color(row, c) & 255) < 128) count += 1;
  return count;
}

async function withFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "raysum-plot-"));
  try {
    await use(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

function refuses(make: () => unknown, code: string, sentence: string): void {
  assert.throws(make, (error) => error instanceof RaysumError && error.code === code && error.message === sentence);
}

const square = { data: new Float32Array([0, 1, 2, 3]), shape: [2, 2] as const, title: "Square" };
const line = { title: "Line", xLabel: "x", yLabel: "y" };
const iterations = Array.from({ length: 101 }, (_, i) => i);

describe("encodePng", () => {
  it("writes what a decoder reads back", () => {
    const rgb = Uint8Array.from({ length: 3 * 5 * 3 }, (_, i) => (i * 37) % 256);
    const { width, height, color } = decodePng(encodePng(rgb, [3, 5]));
    assert.deepEqual([width, height], [5, 3]);
    const read = Array.from({ length: 15 }, (_, i) => color(Math.floor(i / 5), i % 5));
    assert.deepEqual(
      read.flatMap((c) => [c >> 16, (c >> 8) & 255, c & 255]),
      [...rgb],
    );
  });

  it("refuses a wrong number of bytes", () => {
    refuses(() => encodePng(new Uint8Array(11), [2, 2]), "shape", "rgb of 11 bytes: [2, 2] pixels need 12");
  });
});

describe("imagePanel", () => {
  it("maps the ends of the value range to the ends of each colour map", async () => {
    const data = [-1, 0, 1];
    assert.deepEqual(await pixelsOf({ data, shape: [1, 3] }), [[0x000000, 0x808080, 0xffffff]]);
    const [viridis] = await pixelsOf({ data, shape: [1, 3], colormap: "viridis" });
    assert.deepEqual([viridis![0], viridis![2]], [0x440154, 0xfde725]);
    const [diverging] = await pixelsOf({ data, shape: [1, 3], colormap: "diverging" });
    assert.deepEqual([diverging![0], diverging![2]], [0x053061, 0x67001f]);
    assert.ok(
      [16, 8, 0].every((shift) => ((diverging![1]! >> shift) & 255) > 0xf2),
      "0 is nearly white",
    );
  });

  it("clamps to valueRange, and centres the diverging map at 0", async () => {
    const [clamped] = await pixelsOf({ data: [-9, 1, 2, 3, 9], shape: [1, 5], valueRange: [1, 3] });
    assert.deepEqual(clamped, [0x000000, 0x000000, 0x808080, 0xffffff, 0xffffff]);
    const labels = labelsOf(await figure([imagePanel({ ...square, data: [-1, 0, 2, 4], colormap: "diverging" })]));
    assert.ok(labels.includes("−4") && labels.includes("4"), labels.join(" "));
  });

  it("puts row 0 at the top, or with origin lower at the bottom", async () => {
    const data = [0, 0, 0, 1, 1, 1];
    assert.deepEqual(await pixelsOf({ data, shape: [2, 3] }), [Array(3).fill(0), Array(3).fill(0xffffff)]);
    const lower = await pixelsOf({ data, shape: [2, 3], origin: "lower" });
    assert.deepEqual(lower, [Array(3).fill(0xffffff), Array(3).fill(0)]);
    // the y axis turns with it: its first label, that of 0, is at the end where row 0 is
    for (const [origin, y] of [
      ["upper", "0"],
      ["lower", "256"],
    ] as const) {
      const { svg } = await figure([imagePanel({ ...square, origin })]);
      const label = /aria-label="y-axis tick label"[^>]*><text[^>]*translate\(0,([\d.]+)\)[^>]*>0</.exec(svg);
      assert.equal(label?.[1], y, origin);
    }
  });

  it("draws NaN in magenta and names it, and infinities as the ends", async () => {
    const data = [Number.NaN, Number.NEGATIVE_INFINITY, 1, 2, Number.POSITIVE_INFINITY];
    assert.deepEqual(await pixelsOf({ data, shape: [1, 5] }), [[0xff00ff, 0x000000, 0x000000, 0xffffff, 0xffffff]]);
    assert.ok(labelsOf(await figure([imagePanel({ data, shape: [1, 5], title: "" })])).includes("NaN"));
    assert.ok(!labelsOf(await figure([imagePanel(square)])).includes("NaN"));
  });

  it("draws constant images, and images without any finite value", async () => {
    assert.deepEqual(await pixelsOf({ data: [7, 7], shape: [1, 2] }), [[0x808080, 0x808080]]);
    assert.deepEqual(await pixelsOf({ data: [0, 0], shape: [1, 2] }), [[0x808080, 0x808080]]);
    assert.deepEqual(await pixelsOf({ data: [Number.NaN], shape: [1, 1] }), [[0xff00ff]]);
  });

  it("reduces more than 1024 pixels by averaging and loses no NaN", async () => {
    const data = Float32Array.from({ length: 3 * 2048 }, (_, i) => (i % 2048 < 1024 ? (i % 2) * 2 : 3));
    data[2048 + 7] = Number.NaN;
    const [top, middle] = await pixelsOf({ data, shape: [3, 2048], valueRange: [0, 3] });
    assert.equal(top!.length, 1024);
    assert.deepEqual(new Set(top!.slice(0, 512)), new Set([0x555555]), "the average of 0 and 2");
    assert.deepEqual(new Set(top!.slice(512)), new Set([0xffffff]));
    assert.deepEqual(
      middle!.flatMap((color, i) => (color === 0xff00ff ? [i] : [])),
      [3],
    );
  });

  it("has two numbers at the shortest colour bar", async () => {
    const panel = imagePanel({ data: [0.001, 0.98], shape: [1, 2], xRange: [0, 60], title: "", aspect: "equal" });
    const bar = /aria-label="y-axis tick label"[^>]*>(?:<text[^>]*>[^<]*<\/text>){2,5}<\/g>/;
    assert.match((await figure([panel])).svg, bar);
  });

  it("reads the values at once", async () => {
    const data = new Float32Array([0, 1]);
    const panel = imagePanel({ data, shape: [1, 2], title: "" });
    data.fill(5);
    const [picture] = embedded(await figure([panel]));
    assert.equal(picture!.color(0, 0), 0x000000);
  });

  it("draws pixels as crisp squares", async () => {
    const panel = imagePanel({ data: [0, 1, 1, 0], shape: [2, 2], title: "", colormap: "viridis" });
    const { width, height, color } = decodePng(await (await figure([panel])).png(1));
    const count = { 4456788: 0, 16639781: 0 };
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width - 60; column++) {
        const found = color(row, column);
        if (found === 0x440154 || found === 0xfde725) count[found] += 1;
      }
    }
    // half of 256 x 256 each, less what the frame covers: smoothing would leave far less
    for (const found of Object.values(count)) assert.ok(found > 31000 && found <= 32768, `${found} pixels`);
  });

  it("keeps the aspect, and fills the plot area when the image is far too long", async () => {
    const sizeOf = async (options: Partial<ImageOptions>): Promise<string[]> => {
      const { svg } = await figure([imagePanel({ ...square, data: new Float32Array(64), shape: [4, 16], ...options })]);
      return /<image[^>]*>/
        .exec(svg)![0]
        .match(/(?<=(width|height)=")[\d.]+/g)!
        .sort();
    };
    assert.deepEqual(await sizeOf({}), ["256", "64"]);
    assert.deepEqual(await sizeOf({ yRange: [0, 8] }), ["128", "256"]);
    assert.deepEqual(await sizeOf({ aspect: "fill" }), ["192", "256"]);
    assert.deepEqual(await sizeOf({ shape: [1, 64] }), ["192", "256"]);
    assert.deepEqual(await sizeOf({ shape: [1, 64], aspect: "equal" }), ["256", "4"]);
  });

  it("refuses what does not fit, with a sentence", () => {
    const bad =
      (options: object): (() => unknown) =>
      () =>
        imagePanel({ ...square, ...options });
    refuses(bad({ shape: [3, 4] }), "shape", "data of 4 values: shape [3, 4] needs 12");
    refuses(bad({ shape: [0, 4] }), "argument", "shape [0, 4]: it must be [rows, columns], two positive integers");
    refuses(bad({ shape: [4] }), "argument", "shape [4]: it must be [rows, columns], two positive integers");
    const range = "it must be two finite numbers, the smaller one first";
    refuses(bad({ valueRange: [2, 2] }), "argument", `valueRange [2, 2]: ${range}`);
    refuses(bad({ xRange: [1, -1] }), "argument", `xRange [1, -1]: ${range}`);
    refuses(bad({ yRange: [0, Number.NaN] }), "argument", `yRange [0, NaN]: ${range}`);
    refuses(bad({ colormap: "jet" }), "argument", 'colormap "jet": it must be one of gray, viridis, diverging');
    refuses(bad({ origin: "left" }), "argument", 'origin "left": it must be one of upper, lower');
    refuses(bad({ aspect: "auto" }), "argument", 'aspect "auto": it must be one of equal, fill');
    refuses(bad({ title: undefined }), "argument", "title undefined: it must be a string");
    refuses(bad({ colorLabel: 5 }), "argument", "colorLabel 5: it must be a string");
  });
});

describe("linePanel", () => {
  it("labels the decades of a log axis", async () => {
    const y = iterations.map((i) => 1e3 * 10 ** (-i / 25));
    const labels = labelsOf(
      await figure([linePanel({ ...line, series: [{ name: "a", x: iterations, y }], yScale: "log" })]),
    );
    for (const label of ["10³", "10²", "10¹", "10⁰", "10⁻¹"]) assert.ok(labels.includes(label), labels.join(" "));
    assert.ok(!labels.includes("10⁴") && !labels.includes("10⁻²"));
    const many = linePanel({ ...line, series: [{ name: "a", x: [0, 1], y: [1e-30, 1] }], yScale: "log" });
    const count = labelsOf(await figure([many])).filter((label) => label.startsWith("10")).length;
    assert.ok(count >= 3 && count <= 9, `${count} labels`);
    const flat = linePanel({ ...line, series: [{ name: "a", x: [0, 1], y: [20, 30] }], yScale: "log" });
    const decades = labelsOf(await figure([flat])).filter((label) => label.startsWith("10"));
    assert.deepEqual(decades, ["10¹", "10²"]);
  });

  it("writes numbers in one short form an axis", async () => {
    const labels = async (lo: number, hi: number): Promise<string> => {
      const panel = linePanel({ ...line, title: "", series: [{ name: "a", x: [lo, hi], y: [0, 1] }] });
      const { svg } = await figure([panel]);
      const group = /aria-label="x-axis tick label"[^>]*>(.*?)<\/g>/.exec(svg)![1]!;
      return Array.from(group.matchAll(/>([^<]+)</g), ([, label]) => label).join(" ");
    };
    assert.equal(await labels(0, 1), "0.0 0.2 0.4 0.6 0.8 1.0");
    assert.equal(await labels(-100, 100), "−100 −50 0 50 100");
    assert.equal(await labels(0, 0.004), "0 1e−3 2e−3 3e−3 4e−3");
    assert.equal(await labels(-1.5e-4, 0), "−1.5e−4 −1.0e−4 −0.5e−4 0");
    assert.equal(await labels(0, 40000), "0 10000 20000 30000 40000");
    assert.equal(await labels(0, 4e6), "0 1e6 2e6 3e6 4e6");
    assert.equal(await labels(1000, 1000.001), "1000.0000 1000.0005 1000.0010");
  });

  it("leaves gaps, and shows points that stand alone", async () => {
    const draw = async (y: number[]): Promise<Figure> => {
      return figure([linePanel({ ...line, series: [{ name: "a", x: y.map((_, i) => i), y }], yScale: "log" })]);
    };
    const path = ({ svg }: Figure): string =>
      /<path[^>]*d="([^"]*)"/.exec(/aria-label="line".*?<\/g>/s.exec(svg)![0])![1]!;
    assert.equal(path(await draw([1, 2, 3, 4])).match(/M/g)!.length, 1);
    const gap = await draw([1, 2, 0, 3, 4, Number.NaN, 5]);
    assert.equal(path(gap).match(/M/g)!.length, 3);
    assert.doesNotMatch(gap.svg, /NaN|Infinity/);
    assert.equal(gap.svg.match(/<circle/g)?.length, 1);
    assert.equal((await draw([1, 2])).svg.match(/<circle/g), null);
  });

  it("has a legend when there are several series", async () => {
    const series = ["first", "second"].map((name, i) => ({ name, x: [0, 1], y: [i, 2 * i] }));
    const both = labelsOf(await figure([linePanel({ ...line, series })]));
    assert.ok(both.includes("first") && both.includes("second"));
    assert.ok(!labelsOf(await figure([linePanel({ ...line, series: series.slice(1) })])).includes("second"));
  });

  it("refuses what cannot be drawn, with a sentence", () => {
    const bad = (x: number[], y: number[], more: object = {}): (() => unknown) => {
      return () => linePanel({ ...line, series: [{ name: "a", x, y }], ...more });
    };
    refuses(bad([1, 2], [1]), "shape", 'series "a": 2 values of x and 1 of y, not equally many');
    const none = "none of its 2 points has";
    refuses(
      bad([1, 2], [0, -1], { yScale: "log" }),
      "argument",
      `series "a": ${none} finite x and positive and finite y`,
    );
    refuses(
      bad([0, -2], [1, 1], { xScale: "log" }),
      "argument",
      `series "a": ${none} positive and finite x and finite y`,
    );
    refuses(bad([1, 2], [Number.NaN, Number.NaN]), "argument", `series "a": ${none} finite x and finite y`);
    refuses(bad([], [], { series: [] }), "argument", "series []: at least one is needed");
    refuses(bad([1], [1], { yScale: "dB" }), "argument", 'yScale "dB": it must be one of linear, log');
    refuses(bad([1], [1], { xLabel: undefined }), "argument", "xLabel undefined: it must be a string");
  });
});

describe("figure", () => {
  it("is well-formed SVG with all labels, whatever these contain", async () => {
    const odd = `a < b & "c" 'd' > \u0000\uffff\ud800 ‖y − Ax‖`;
    const words = { title: odd, xLabel: "x (mm)", yLabel: "y (mm)" };
    const panels = [
      imagePanel({ ...square, ...words, colorLabel: "line integral" }),
      linePanel({ ...words, series: [{ name: odd, x: [0], y: [1] }] }),
    ];
    const made = await figure(panels, { title: "Everything" });
    for (const label of ["x (mm)", "y (mm)", "line integral", "Everything"])
      assert.ok(labelsOf(made).includes(label), label);
    assert.ok(made.svg.includes("&lt;") && made.svg.includes("&amp;") && made.svg.includes("‖y − Ax‖"));
    assert.match(made.svg, /^<svg xmlns="http:\/\/www.w3.org\/2000\/svg" width="\d+" height="\d+"/);
    decodePng(await made.png(1)); // the renderer's XML parser is a strict one
  });

  it("draws text, without any font of the machine", async () => {
    const titled = async (title: string): Promise<number> =>
      ink(decodePng(await (await figure([imagePanel({ ...square, title })])).png()), 50);
    const [without, short, long] = [await titled(""), await titled("Slice"), await titled("A longer title")];
    assert.ok(short > without + 200 && long > short + 200, `${without}, ${short}, ${long} dark pixels`);
  });

  it("leaves a margin all around", async () => {
    const series = [{ name: "a", x: [-1e-7, 123456], y: [-12345.5, 1e-3] }];
    const words = { xLabel: "a label that is far wider than the narrow image below it", yLabel: "y" };
    const tall = imagePanel({
      ...words,
      data: new Float32Array(80).fill(1e6),
      shape: [20, 4],
      title: "A title of several lines",
      colorLabel: "value",
    });
    const made = await figure([linePanel({ ...line, series, title: "Wide" }), tall], { title: "All" });
    const { width, height, color } = decodePng(await made.png(1));
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        if (Math.min(row, column, height - 1 - row, width - 1 - column) >= 8) continue;
        assert.equal(color(row, column), 0xffffff, `row ${row}, column ${column} of ${height} x ${width}`);
      }
    }
  });

  it("puts panels into rows and columns", async () => {
    const sizeOf = async (count: number, columns?: number): Promise<number[]> => {
      const { svg } = await figure(Array(count).fill(imagePanel(square)), columns ? { columns } : {});
      return /width="(\d+)" height="(\d+)"/.exec(svg)!.slice(1).map(Number);
    };
    const [[w1, h1], [w3, h3], [w6, h6], [w4, h4]] = [
      await sizeOf(1),
      await sizeOf(3),
      await sizeOf(6),
      await sizeOf(4),
    ] as [number[], number[], number[], number[]];
    assert.ok(w3! > 2.8 * w1! && h3 === h1);
    assert.ok(w6 === w3 && h6! > 1.8 * h1!);
    assert.ok(w4! < w3! && h4 === h6);
    const [w, h] = await sizeOf(3, 1);
    assert.ok(w === w1 && h! > 2.8 * h1!);
  });

  it("gives line plots the height of the images beside them", async () => {
    const plot = linePanel({ ...line, series: [{ name: "a", x: [0, 1], y: [0, 1] }] });
    const alone = await figure([plot]);
    const beside = await figure([imagePanel(square), plot]);
    assert.match(alone.svg, /aria-label="x-grid"><line[^>]*y2="192"/);
    assert.match(beside.svg, /aria-label="x-grid"><line[^>]*y2="256"/);
  });

  it("scales the PNG", async () => {
    const made = await figure([imagePanel(square)]);
    const [once, twice] = [decodePng(await made.png(1)), decodePng(await made.png())];
    assert.deepEqual([twice.width, twice.height], [2 * once.width, 2 * once.height]);
    assert.match(made.svg, new RegExp(`width="${once.width}" height="${once.height}"`));
    await assert.rejects(made.png(0), /^RaysumError: scale 0: it must be a number from 0.1 to 10$/);
  });

  it("saves by the ending of the name", async () => {
    const made = await figure([imagePanel(square)]);
    await withFolder(async (folder) => {
      await made.save(join(folder, "a.svg"));
      assert.equal(await readFile(join(folder, "a.svg"), "utf8"), made.svg);
      await made.save(join(folder, "a.PNG"));
      const { width, height } = decodePng(await readFile(join(folder, "a.PNG")));
      assert.ok(width > 600 && height > 500);
      await assert.rejects(made.save(join(folder, "a.pdf")), {
        code: "argument",
        message: /a.pdf": its name must end in .svg or .png$/,
      });
      await assert.rejects(made.save(join(folder, "no", "a.svg")), {
        code: "file",
        message: /cannot be written \(ENOENT/,
      });
    });
  });

  it("shows itself in a notebook", async () => {
    const made = await figure([imagePanel(square)]);
    const show = Reflect.get(made, Symbol.for("Jupyter.display")) as () => unknown;
    assert.deepEqual(show.call(made), { "image/svg+xml": made.svg });
  });

  it("refuses no panels and odd columns", async () => {
    await assert.rejects(figure([]), { code: "argument", message: "panels []: at least one is needed" });
    const columns = "it must be a positive integer";
    await assert.rejects(figure([imagePanel(square)], { columns: 0 }), {
      code: "argument",
      message: `columns 0: ${columns}`,
    });
    await assert.rejects(figure([imagePanel(square)], { columns: 1.5 }), {
      code: "argument",
      message: `columns 1.5: ${columns}`,
    });
  });

  it("names the package that is missing", async () => {
    await withFolder(async (folder) => {
      await mkdir(join(folder, "node_modules")); // without it Bun would fetch packages by itself
      const lib = fileURLToPath(new URL("../lib/", import.meta.url));
      for (const part of ["errors.ts", "plot"]) await cp(join(lib, part), join(folder, part), { recursive: true });
      const copy: typeof import("../lib/plot/index.ts") = await import(
        pathToFileURL(join(folder, "plot/index.ts")).href
      );
      await assert.rejects(copy.figure([copy.imagePanel(square)]), {
        code: "library",
        message:
          "figures need the package @observablehq/plot, which could not be loaded; install it with: npm install @observablehq/plot",
      });
    });
  });
});
