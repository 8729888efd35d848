import { Buffer } from "node:buffer";
import { formatShape, type Shape, sizeOf } from "../shape.ts";
import { type Elements, isElementType, type ReadBytes, viewOf } from "./elements.ts";
import { quote, refuse } from "./refuse.ts";

/** What the header of a NPY file says, checked against the size of the file. */
export interface NpyHeader extends Elements {
  readonly shape: Shape;
  readonly fortranOrder: boolean;
  /** Where the data begins, in bytes. */
  readonly begin: number;
}

const magic = "\x93NUMPY";
const longestHeader = 10_000; // NumPy's own limit (numpy.lib.format, max_header_size); plain arrays need about 120
const highestRank = 64; // of NumPy 2

/**
 * Reads the header of a file of `size` bytes. Format: NEP 1 and numpy.lib.format, versions 1, 2 and 3.
 *
 * @throws RaysumError `file`
 */
export async function readHeader(path: string, size: number, readBytes: ReadBytes): Promise<NpyHeader> {
  if (size < 12) refuse(path, `has ${size} bytes, too few for a NPY file`);
  const start = await readBytes(0, 12);
  if (start.toString("latin1", 0, 6) !== magic) refuse(path, `does not begin as a NPY file ("\\x93NUMPY")`);
  const version = start[6]!;
  if (version < 1 || version > 3) refuse(path, `NPY version ${version}.${start[7]}, expected 1, 2 or 3`);

  const [length, textBegin] = version === 1 ? [start.readUInt16LE(8), 10] : [start.readUInt32LE(8), 12];
  if (length > longestHeader) refuse(path, `header of ${length} bytes, expected at most ${longestHeader}`);
  const begin = textBegin + length;
  if (begin > size) refuse(path, `header of ${length} bytes in a file of ${size} bytes`);
  const text = (await readBytes(textBegin, length)).toString(version === 3 ? "utf8" : "latin1");

  const header = { ...parseHeader(path, text), begin };
  const { shape, type } = header;
  const needed = sizeOf(shape) * viewOf[type].BYTES_PER_ELEMENT;
  if (size - begin !== needed) {
    refuse(path, `has ${size - begin} bytes of data, shape ${formatShape(shape)} of ${type} needs ${needed}`);
  }
  return header;
}

// One `'key': value` of the dictionary. No two alternatives match the same text, so a hostile header costs linear time.
const entry = /\s*(['"])(\w+)\1\s*:\s*(True|False|'[^']*'|"[^"]*"|\([^()]*\)|\[[^[\]]*\])\s*(?:,|(?=\}))/y;

function parseHeader(path: string, text: string): Omit<NpyHeader, "begin"> {
  const body = text.trim();
  if (!body.startsWith("{") || !body.endsWith("}")) refuse(path, `header ${quote(text)}, expected a Python dictionary`);
  const fields: Record<string, string> = Object.create(null);
  entry.lastIndex = 1;
  for (let at = 1; body.slice(at).trim() !== "}"; at = entry.lastIndex) {
    const [, , key, value] =
      entry.exec(body) ?? refuse(path, `header has ${quote(body.slice(at))}, expected key: value`);
    if (key! in fields) refuse(path, `header names '${key}' twice`);
    fields[key!] = value!;
  }
  const { descr, fortran_order: order, shape, ...others } = fields;
  if (descr === undefined || order === undefined || shape === undefined || Object.keys(others).length > 0) {
    refuse(path, `header keys [${Object.keys(fields)}], expected descr, fortran_order and shape`);
  }
  if (order !== "True" && order !== "False") refuse(path, `fortran_order ${quote(order)}, expected True or False`);

  const [, byteOrder, type] = /^['"]([<>|])(\w\d)['"]$/.exec(descr) ?? [];
  if (!isElementType(type) || (byteOrder === "|" && viewOf[type].BYTES_PER_ELEMENT > 1)) {
    const types = Object.keys(viewOf).join(", ");
    refuse(path, `elements of type ${quote(descr)}, expected one of ${types}: convert with .astype(numpy.float32)`);
  }
  return { shape: parseShape(path, shape), fortranOrder: order === "True", type, bigEndian: byteOrder === ">" };
}

function parseShape(path: string, text: string): Shape {
  if (!text.startsWith("(")) refuse(path, `shape ${quote(text)}, expected a tuple of counts`);
  const counts = text.slice(1, -1).split(",");
  if (counts.at(-1)!.trim() === "") counts.pop(); // "()" and "(3,)"
  if (counts.length > highestRank) refuse(path, `shape with ${counts.length} axes, expected at most ${highestRank}`);
  const shape = counts.map((count) => (/^\s*\d+L?\s*$/.test(count) ? Number.parseInt(count, 10) : Number.NaN)); // Python 2 wrote 3L
  if (!shape.every((count) => Number.isSafeInteger(count) && count > 0)) {
    refuse(path, `shape ${quote(text)}: every count must be a positive whole number below 2^53`);
  }
  return Object.freeze(shape);
}

/** The header of a file of version 1 with little-endian float32 data in C order. */
export function formatHeader(shape: Shape): Buffer {
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`;
  const text = `{'descr': '<f4', 'fortran_order': False, 'shape': ${tuple}, }`;
  const length = Math.ceil((10 + text.length + 1) / 64) * 64 - 10; // the data begins at a multiple of 64 bytes
  const header = Buffer.from(`${magic}\x01\x00\x00\x00${text.padEnd(length - 1)}\n`, "latin1");
  header.writeUInt16LE(length, 8);
  return header;
}
