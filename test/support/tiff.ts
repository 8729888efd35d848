/** Makes the bytes of TIFF files, good and bad ones, without any code of lib/io. */
import { deflateSync } from "node:zlib";

export type TiffType = "u1" | "i1" | "u2" | "i2" | "u4" | "i4" | "f4" | "f8";
export type TiffCompression = "none" | "lzw" | "deflate" | "packbits";

/** A tag: type of its values (3 SHORT, 4 LONG, 16 LONG8), then the values. Text is ASCII, null leaves the tag out. */
export type Tag = readonly [type: number, ...values: number[]] | string | null;

export interface TiffParts {
  /** Values of each page, row by row; two pages of `numbers` when not given. */
  pages?: readonly ArrayLike<number>[];
  rows?: number;
  columns?: number;
  type?: TiffType;
  bigEndian?: boolean;
  big?: boolean;
  rowsPerStrip?: number;
  /** (rows, columns) of tiles, instead of strips. */
  tile?: readonly [number, number];
  compression?: TiffCompression;
  predictor?: 1 | 2 | 3;
  /** Puts strips into the file from the last to the first. */
  backwards?: boolean;
  /** Tags of page 0 that replace the right ones. */
  tags?: Readonly<Record<number, Tag>>;
  /** Where the directory of page `page` says that the next one is; `right` is the truth. */
  next?: (page: number, right: number, directories: readonly number[]) => number;
  /** Bytes of a strip or tile, in place of the right ones. */
  block?: (stored: Uint8Array) => Uint8Array;
}

const compressionNumbers = { none: 1, lzw: 5, deflate: 8, packbits: 32773 } as const;

type Set = (view: DataView, at: number, value: number, little: boolean) => void;
const setters: Record<TiffType, [width: number, set: Set]> = {
  u1: [1, (view, at, value) => view.setUint8(at, value)],
  i1: [1, (view, at, value) => view.setInt8(at, value)],
  u2: [2, (view, at, value, little) => view.setUint16(at, value, little)],
  i2: [2, (view, at, value, little) => view.setInt16(at, value, little)],
  u4: [4, (view, at, value, little) => view.setUint32(at, value, little)],
  i4: [4, (view, at, value, little) => view.setInt32(at, value, little)],
  f4: [4, (view, at, value, little) => view.setFloat32(at, value, little)],
  f8: [8, (view, at, value, little) => view.setFloat64(at, value, little)],
};

/** `count` whole numbers that every type holds, with runs and jumps. */
export function numbers(count: number, seed = 1): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: count }, (_, i) => (Math.floor(i / 7) * 31 * seed + (i % 7 > 4 ? i : 0)) % 120);
}

function differences(bytes: Uint8Array): Uint8Array {
  return bytes.map((byte, i) => byte - (i > 0 ? bytes[i - 1]! : 0));
}

/** The bytes of one row. */
function rowBytes(values: readonly number[], type: TiffType, little: boolean, predictor: 1 | 2 | 3): Uint8Array {
  const [width, set] = setters[type];
  const view = new DataView(new ArrayBuffer(values.length * width));
  const bytes = new Uint8Array(view.buffer);
  if (predictor === 3) {
    for (const [i, value] of values.entries()) set(view, i * width, value, false);
    return differences(bytes.map((_, i) => bytes[(i % values.length) * width + Math.floor(i / values.length)]!));
  }
  const step = (i: number) => values[i]! - (predictor === 2 && i > 0 ? values[i - 1]! : 0); // setInt8 and its kin wrap
  for (let i = 0; i < values.length; i++) set(view, i * width, step(i), little);
  return bytes;
}

/** LZW codes, the highest bit first, as bytes. */
export function lzwCodes(codes: Iterable<readonly [code: number, width: number]>): Uint8Array {
  let bits = "";
  for (const [code, width] of codes) bits += code.toString(2).padStart(width, "0");
  return Uint8Array.from(bits.match(/.{1,8}/g) ?? [], (byte) => Number.parseInt(byte.padEnd(8, "0"), 2));
}

function lzw(bytes: Uint8Array): Uint8Array {
  const codes: [number, number][] = [[256, 9]];
  let table = new Map<string, number>();
  let width = 9;
  let word = "";
  const codeOf = (text: string) => (text.length === 1 ? text.charCodeAt(0) : table.get(text)!);
  for (const byte of bytes) {
    const longer = word + String.fromCharCode(byte);
    if (longer.length === 1 || table.has(longer)) {
      word = longer;
      continue;
    }
    codes.push([codeOf(word), width]);
    table.set(longer, 258 + table.size);
    word = String.fromCharCode(byte);
    if (258 + table.size === 4095) {
      codes.push([256, width]);
      table = new Map();
      width = 9;
    } else if (258 + table.size === 1 << width) width++;
  }
  codes.push([codeOf(word), width]);
  codes.push([257, 259 + table.size === 1 << width ? width + 1 : width]);
  return lzwCodes(codes);
}

function packBits(bytes: Uint8Array): Uint8Array {
  const out: number[] = [128]; // does nothing
  for (let i = 0; i < bytes.length; ) {
    let run = 1;
    while (run < 128 && bytes[i + run] === bytes[i]) run++;
    if (run > 1) out.push(257 - run, bytes[i]!);
    else out.push(0, bytes[i]!);
    i += run;
  }
  return Uint8Array.from(out);
}

const compress: Record<TiffCompression, (bytes: Uint8Array) => Uint8Array> = {
  none: (bytes) => bytes,
  lzw,
  deflate: (bytes) => deflateSync(bytes),
  packbits: packBits,
};

function blocksOf(
  page: ArrayLike<number>,
  parts: Required<Pick<TiffParts, "rows" | "columns">> & TiffParts,
): Uint8Array[] {
  const { rows, columns, tile, type = "f4", bigEndian = false, predictor = 1, compression = "none" } = parts;
  const [height, width] = tile ?? [parts.rowsPerStrip ?? rows, columns];
  const blocks: Uint8Array[] = [];
  for (let y = 0; y < rows; y += height) {
    for (let x = 0; x < columns; x += width) {
      const bytes: number[] = [];
      for (let v = y; v < (tile ? y + height : Math.min(y + height, rows)); v++) {
        const row = Array.from({ length: width }, (_, i) =>
          v < rows && x + i < columns ? page[v * columns + x + i]! : 99,
        );
        bytes.push(...rowBytes(row, type, !bigEndian, predictor));
      }
      const stored = compress[compression](Uint8Array.from(bytes));
      blocks.push(parts.block ? parts.block(stored) : stored);
    }
  }
  return blocks;
}

/** The bytes of a TIFF file: the blocks of each page, the values of its long tags, its directory. */
export function tiff(parts: TiffParts = {}): Buffer {
  const { rows = 3, columns = 4, type = "f4", bigEndian = false, big = false, tile, predictor, next } = parts;
  const { pages = [numbers(rows * columns), numbers(rows * columns, 2)], rowsPerStrip = rows } = parts;
  const word = big ? 8 : 4;
  const uint = (value: number, width: number): Buffer => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(BigInt.asUintN(8 * width, BigInt(value)));
    return bigEndian ? bytes.subarray(8 - width) : bytes.subarray(8 - width).reverse();
  };
  const file: Uint8Array[] = [Buffer.from(bigEndian ? "MM" : "II"), uint(big ? 43 : 42, 2)];
  if (big) file.push(uint(8, 2), uint(0, 2));
  const link = file.push(Buffer.alloc(word)) - 1;
  let at = big ? 16 : 8;
  const append = (bytes: Uint8Array): number => {
    file.push(bytes);
    at += bytes.length;
    return at - bytes.length;
  };

  const directories: number[] = [];
  const links = [link];
  for (const [index, page] of pages.entries()) {
    const blocks = blocksOf(page, { ...parts, rows, columns });
    const order = [...blocks.keys()];
    if (parts.backwards) order.reverse();
    const offsets: number[] = [];
    for (const i of order) offsets[i] = append(blocks[i]!);
    const long = big ? 16 : 4;
    const counts = blocks.map((bytes) => bytes.length);
    const tags: Record<number, Tag> = {
      256: [3, columns],
      257: [4, rows],
      258: [3, 8 * setters[type][0]],
      259: [3, compressionNumbers[parts.compression ?? "none"]],
      262: [3, 1],
      277: [3, 1],
      ...(tile
        ? { 322: [3, tile[1]], 323: [3, tile[0]], 324: [long, ...offsets], 325: [4, ...counts] }
        : { 273: [long, ...offsets], 278: [3, rowsPerStrip], 279: [4, ...counts] }),
      ...(predictor && { 317: [3, predictor] }),
      339: [3, { u: 1, i: 2, f: 3 }[type[0] as "u" | "i" | "f"]],
      ...(index === 0 && parts.tags),
    };
    const entries: Uint8Array[] = [];
    for (const [tag, value] of Object.entries(tags)) {
      if (value === null) continue;
      const [number, ...values] = typeof value === "string" ? [2, ...Buffer.from(`${value}\0`)] : value;
      const width = { 2: 1, 3: 2, 4: 4, 16: 8 }[number] ?? 4;
      const bytes = Buffer.concat(values.map((one) => uint(one, width)));
      const inside =
        bytes.length <= word ? Buffer.concat([bytes, Buffer.alloc(word - bytes.length)]) : uint(append(bytes), word);
      entries.push(uint(Number(tag), 2), uint(number, 2), uint(values.length, word), inside);
    }
    directories.push(append(Buffer.concat([uint(entries.length / 4, big ? 8 : 2), ...entries])));
    links.push(file.length);
    append(Buffer.alloc(word));
  }
  for (const [page, where] of links.entries()) {
    const right = directories[page] ?? 0;
    file[where] = uint(next ? next(page - 1, right, directories) : right, word);
  }
  return Buffer.concat(file);
}
