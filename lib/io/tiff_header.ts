import { Buffer } from "node:buffer";
import { type Shape, sizeOf } from "../shape.ts";
import type { ReadBytes } from "./elements.ts";
import { refuse } from "./refuse.ts";

const tagNames = {
  256: "ImageWidth",
  257: "ImageLength",
  258: "BitsPerSample",
  259: "Compression",
  262: "PhotometricInterpretation",
  266: "FillOrder",
  270: "ImageDescription",
  273: "StripOffsets",
  277: "SamplesPerPixel",
  278: "RowsPerStrip",
  279: "StripByteCounts",
  317: "Predictor",
  322: "TileWidth",
  323: "TileLength",
  324: "TileOffsets",
  325: "TileByteCounts",
  339: "SampleFormat",
} as const;

export type TagName = (typeof tagNames)[keyof typeof tagNames];

/** What a TIFF file says about one page: the tags that matter for its numbers. */
export interface Directory {
  readonly bigEndian: boolean;
  readonly numbers: ReadonlyMap<TagName, readonly number[]>;
  /** The first 1024 characters of ImageDescription. */
  readonly description: string;
}

const mostEntries = 65_535; // what a classic TIFF can hold; BigTIFF counts them with 64 bits
const mostValues = 2 ** 20; // strips or tiles of a page
const longestDescription = 1024;
const bytesOfType: Readonly<Record<number, number>> = { 1: 1, 3: 2, 4: 4, 16: 8 }; // BYTE, SHORT, LONG, LONG8
const ascii = 2;

/**
 * The directories of a file of `size` bytes, in the order of their chain. Whatever is read lies inside the file and is
 * together not more than the file, so that a hostile file costs no more time and memory than an honest one of its size.
 * Format: TIFF 6.0 (Adobe, 1992), and BigTIFF, which has 64-bit offsets.
 *
 * @throws RaysumError `file`
 */
export async function* readDirectories(path: string, size: number, readBytes: ReadBytes): AsyncGenerator<Directory> {
  if (size < 8) refuse(path, `has ${size} bytes, too few for a TIFF file`);
  const start = await readBytes(0, Math.min(size, 16));
  const order = start.toString("latin1", 0, 2);
  if (order !== "II" && order !== "MM") refuse(path, `does not begin as a TIFF file ("II" or "MM")`);
  const bigEndian = order === "MM";
  const uint = (bytes: Buffer, at: number, width: number) => readUint(bytes, at, width, bigEndian);

  const version = uint(start, 2, 2);
  if (version !== 42 && version !== 43) refuse(path, `TIFF version ${version}, expected 42, or 43 (BigTIFF)`);
  const big = version === 43;
  if (big && start.length < 16) refuse(path, `has ${size} bytes, too few for a BigTIFF file`);
  if (big && (uint(start, 4, 2) !== 8 || uint(start, 6, 2) !== 0)) {
    refuse(path, `BigTIFF with offsets of ${uint(start, 4, 2)} bytes, expected 8`);
  }
  const { counter, entry, word } = big ? { counter: 8, entry: 20, word: 8 } : { counter: 2, entry: 12, word: 4 };

  const visited = new Set<number>();
  let page = "page 0"; // for sentences
  let taken = 0;
  async function take(what: string, position: number, count: number): Promise<Buffer> {
    taken += count;
    if (position + count > size) {
      refuse(path, `${page}: ${what} of ${count} bytes at byte ${position}, the file has ${size} bytes`);
    }
    if (taken > size) refuse(path, `${page}: the directories overlap, they are longer than the file`);
    return await readBytes(position, count);
  }

  /** The bytes of a value: in the entry itself where they fit, else where it says. */
  async function readValue(bytes: Buffer, name: TagName, length: number, used = length): Promise<Buffer> {
    if (length <= word) return bytes.subarray(4 + word, 4 + word + used);
    return await take(name, uint(bytes, 4 + word, word), used);
  }

  async function readNumbers(bytes: Buffer, name: TagName): Promise<readonly number[]> {
    const [type, count] = [uint(bytes, 2, 2), uint(bytes, 4, word)];
    const width = bytesOfType[type];
    if (width === undefined || count === 0 || count > mostValues) {
      const expected = `1 to ${mostValues} whole numbers`;
      refuse(path, `${page}: ${name} has ${count} values of type ${type}, expected ${expected}`);
    }
    const value = await readValue(bytes, name, count * width);
    return Array.from({ length: count }, (_, i) => uint(value, i * width, width));
  }

  async function readText(bytes: Buffer, name: TagName): Promise<string> {
    const [type, count] = [uint(bytes, 2, 2), uint(bytes, 4, word)];
    if (type !== ascii) return "";
    return (await readValue(bytes, name, count, Math.min(count, longestDescription))).toString("latin1");
  }

  for (let next = uint(start, big ? 8 : 4, word); next !== 0; page = `page ${visited.size}`) {
    if (visited.has(next)) refuse(path, `${page}: its directory at byte ${next} is that of an earlier page`);
    visited.add(next);
    const entries = uint(await take("directory", next, counter), 0, counter);
    if (entries === 0 || entries > mostEntries) {
      refuse(path, `${page}: a directory of ${entries} tags, expected 1 to ${mostEntries}`);
    }
    const directory = await take("directory", next + counter, entries * entry + word);
    const numbers = new Map<TagName, readonly number[]>();
    let description = "";
    for (let at = 0; at < entries * entry; at += entry) {
      const bytes = directory.subarray(at, at + entry);
      const name = tagNames[uint(bytes, 0, 2) as keyof typeof tagNames];
      if (name === undefined || numbers.has(name)) continue; // the first of two counts, as in libtiff
      if (name === "ImageDescription") description = await readText(bytes, name);
      else numbers.set(name, await readNumbers(bytes, name));
    }
    yield { bigEndian, numbers, description };
    next = uint(directory, entries * entry, word);
  }
  if (visited.size === 0) refuse(path, "has no pages");
}

/** Numbers beyond 2^53 lose digits, but none of their size: they are beyond every file all the same. */
function readUint(bytes: Buffer, at: number, width: number, bigEndian: boolean): number {
  if (width === 8) return Number(bigEndian ? bytes.readBigUInt64BE(at) : bytes.readBigUInt64LE(at));
  return bigEndian ? bytes.readUIntBE(at, width) : bytes.readUIntLE(at, width);
}

/**
 * Everything in front of the data of a little-endian file of float32 pages (count, rows, columns), whose data lies in
 * one piece, a strip a page. BigTIFF where the file passes 4 GiB.
 */
export function formatHeader(shape: Shape): Buffer {
  const [pages, rows, columns] = shape as [number, number, number];
  const tags: [tag: number, value: number][] = [
    [256, columns],
    [257, rows],
    [258, 32], // bits
    [259, 1], // not compressed
    [262, 1], // 0 is black
    [273, 0], // where the strip begins, set below
    [277, 1], // one sample a pixel
    [278, rows],
    [279, rows * columns * 4],
    [339, 3], // floating point
  ];
  const long = 4;
  const long8 = 16;
  const lengthOf = (start: number, directory: number) => Math.ceil((start + pages * directory) / 64) * 64;
  const bytesOfData = sizeOf(shape) * 4;
  const classic = { start: 8, directory: 2 + tags.length * 12 + 4, counter: 2, word: 4, type: long };
  const bigTiff = { start: 16, directory: 8 + tags.length * 20 + 8, counter: 8, word: 8, type: long8 };
  const big = lengthOf(classic.start, classic.directory) + bytesOfData >= 2 ** 32;
  const { start, directory, counter, word, type } = big ? bigTiff : classic;

  const header = Buffer.alloc(lengthOf(start, directory));
  let at = 0;
  const put = (value: number, width: number) => {
    if (width === 8) header.writeBigUInt64LE(BigInt(value), at);
    else header.writeUIntLE(value, at, width);
    at += width;
  };
  put(0x4949, 2);
  put(big ? 43 : 42, 2);
  if (big) put(8, 4);
  put(start, word);
  for (let page = 0; page < pages; page++) {
    put(tags.length, counter);
    for (const [tag, value] of tags) {
      put(tag, 2);
      put(type, 2);
      put(1, word);
      put(tag === 273 ? header.length + page * rows * columns * 4 : value, word);
    }
    put(page + 1 < pages ? at + word : 0, word);
  }
  return header;
}
