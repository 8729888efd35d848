import { type Elements, isElementType, type ReadBytes, viewOf } from "./elements.ts";
import { refuse } from "./refuse.ts";
import { type Directory, readDirectories, type TagName } from "./tiff_header.ts";

/** Where the numbers of one page lie in a file, checked against the size of the file. */
export interface Page extends Elements {
  readonly rows: number;
  readonly columns: number;
  readonly tiled: boolean;
  readonly compression: Compression;
  /** 1: none, 2: differences along a row, 3: differences of the bytes of floating point numbers. */
  readonly predictor: number;
  /** (rows, columns) of a strip or tile. The last strip may have fewer rows; tiles are always full. */
  readonly blockShape: readonly [number, number];
  /** Strips or tiles, row by row. Strips without compression that follow each other in the file are one. */
  readonly extents: readonly Extent[];
}

export type Compression = "none" | "lzw" | "deflate" | "packbits";

export interface Extent {
  readonly offset: number;
  readonly bytes: number;
}

/** By the number in the file: the scheme, and what one byte can become at most. */
const schemes: Readonly<Record<number, readonly [Compression, expansion: number]>> = {
  1: ["none", 1],
  5: ["lzw", 2560], // 3838 bytes from 12 bits
  8: ["deflate", 1032], // 258 bytes from 2 bits
  32946: ["deflate", 1032],
  32773: ["packbits", 64], // 128 bytes from 2
};
const kinds: Readonly<Record<number, string>> = { 1: "u", 2: "i", 3: "f" };
const largestBlock = 2 ** 30;

/**
 * The pages of a file of `size` bytes. Their data together is not larger than the file.
 *
 * @throws RaysumError `file`
 */
export async function readPages(path: string, size: number, readBytes: ReadBytes): Promise<readonly Page[]> {
  const pages: Page[] = [];
  let taken = 0;
  let declared = 1;
  for await (const directory of readDirectories(path, size, readBytes)) {
    const page = layOut(path, size, pages.length, directory);
    for (const { bytes } of page.extents) taken += bytes;
    if (taken > size) refuse(path, `page ${pages.length}: pages overlap, their data is larger than the file`);
    if (pages.length === 0) declared = pagesIn(directory.description, page);
    pages.push(page);
  }
  return pages.length === 1 && declared !== 1 ? withoutDirectories(path, size, pages[0]!, declared) : pages;
}

function layOut(path: string, size: number, index: number, { numbers, bigEndian }: Directory): Page {
  const wrong = (sentence: string): never => refuse(path, `page ${index}: ${sentence}`);
  function one(name: TagName, ifMissing?: number): number {
    const values = numbers.get(name) ?? (ifMissing === undefined ? wrong(`has no ${name}`) : [ifMissing]);
    return values.length === 1 ? values[0]! : wrong(`${name} has ${values.length} values, expected one`);
  }
  const samples = one("SamplesPerPixel", 1);
  if (samples !== 1) wrong(`has ${samples} samples a pixel, expected 1 (grey values)`);
  const photometric = one("PhotometricInterpretation", 1);
  if (photometric > 1) wrong(`PhotometricInterpretation ${photometric}, expected 0 or 1 (grey values)`);
  const fillOrder = one("FillOrder", 1);
  if (fillOrder !== 1) wrong(`FillOrder ${fillOrder}, expected 1`);

  const rows = one("ImageLength");
  const columns = one("ImageWidth");
  if (rows === 0 || columns === 0) wrong(`has ${rows} rows and ${columns} columns`);
  const [bits, format] = [one("BitsPerSample", 1), one("SampleFormat", 1)];
  const type = `${kinds[format]}${bits / 8}`;
  if (!isElementType(type)) {
    const expected = "integers (SampleFormat 1 or 2) of 8, 16 or 32 bits or floating point numbers (3) of 32 or 64";
    return wrong(`elements of SampleFormat ${format} with ${bits} bits, expected ${expected}`);
  }
  const width = viewOf[type].BYTES_PER_ELEMENT;
  const [compression, expansion] =
    schemes[one("Compression", 1)] ??
    wrong(`Compression ${one("Compression")}, expected 1 (none), 5 (LZW), 8 (deflate) or 32773 (PackBits)`);
  const predictor = compression === "lzw" || compression === "deflate" ? one("Predictor", 1) : 1;
  if (predictor !== 1 && !(predictor === 2 && width <= 4) && !(predictor === 3 && format === 3)) {
    wrong(`Predictor ${predictor} for elements of type ${type}`);
  }

  const tiled = numbers.has("TileWidth");
  const block = tiled ? "tile" : "strip";
  const blockRows = tiled ? one("TileLength") : Math.min(one("RowsPerStrip", rows), rows);
  const blockColumns = tiled ? one("TileWidth") : columns;
  if (blockRows === 0 || blockColumns === 0) wrong(`a ${block} of ${blockRows} rows and ${blockColumns} columns`);
  const blocks = Math.ceil(rows / blockRows) * Math.ceil(columns / blockColumns);
  const list = (name: TagName) => numbers.get(name) ?? wrong(`has no ${name}`);
  const offsets = list(tiled ? "TileOffsets" : "StripOffsets");
  const byteCounts = list(tiled ? "TileByteCounts" : "StripByteCounts");
  if (offsets.length !== blocks || byteCounts.length !== blocks) {
    wrong(`${offsets.length} offsets and ${byteCounts.length} byte counts for ${blocks} ${block}s`);
  }
  if (compression !== "none" && blockRows * blockColumns * width > largestBlock) {
    wrong(`a ${block} of ${blockRows * blockColumns * width} bytes, compressed ones have at most ${largestBlock}`);
  }

  const extents: { offset: number; bytes: number }[] = [];
  for (let i = 0; i < blocks; i++) {
    const offset = offsets[i]!;
    const needed = (tiled ? blockRows : Math.min(blockRows, rows - i * blockRows)) * blockColumns * width;
    if (byteCounts[i]! * expansion < needed) {
      wrong(`${block} ${i} has ${byteCounts[i]} bytes, too few for ${needed} (compression: ${compression})`);
    }
    const bytes = compression === "none" ? needed : byteCounts[i]!;
    if (offset + bytes > size) wrong(`${block} ${i} of ${bytes} bytes at byte ${offset}, the file has ${size} bytes`);
    const last = extents.at(-1);
    if (last && compression === "none" && !tiled && last.offset + last.bytes === offset) last.bytes += bytes;
    else extents.push({ offset, bytes });
  }
  const blockShape = [blockRows, blockColumns] as const;
  return { rows, columns, type, bigEndian, tiled, compression, predictor, blockShape, extents };
}

/** How many pages a description speaks of: `ImageJ=1.54\nimages=9\n`, or tifffile's `{"shape": [9, 4, 5], "truncated": true}`. */
function pagesIn(description: string, { rows, columns }: Page): number {
  const imageJ = /^ImageJ=/.test(description) && /^images=(\d+)/m.exec(description);
  if (imageJ) return Number(imageJ[1]);
  const truncated = /^\{.*"truncated": true/.test(description) && /"shape": \[([\d, ]+)\]/.exec(description);
  if (!truncated) return 1;
  return truncated[1]!.split(",").reduce((product, count) => product * Number(count), 1) / (rows * columns);
}

/**
 * All pages where only the first has a directory and the others follow its data, as ImageJ writes stacks of more than
 * 4 GiB (ij.io.TiffDecoder) and tifffile does on request.
 */
function withoutDirectories(path: string, size: number, page: Page, count: number): readonly Page[] {
  const [{ offset, bytes }, ...others] = page.extents as [Extent, ...Extent[]];
  const found = `has one directory and a description of ${count} pages`;
  if (page.tiled || page.compression !== "none" || others.length > 0)
    refuse(path, `${found} that are not in one piece`);
  if (!Number.isInteger(count) || count < 1 || offset + count * bytes > size) {
    refuse(path, `${found} of ${bytes} bytes from byte ${offset} on, the file has ${size} bytes`);
  }
  return Array.from({ length: count }, (_, i) => ({ ...page, extents: [{ offset: offset + i * bytes, bytes }] }));
}
