import { Buffer } from "node:buffer";
import { promisify } from "node:util";
import { inflate as inflateCallback } from "node:zlib";
import { toHostOrder, type Values, viewOf } from "./elements.ts";
import { reasonOf } from "./refuse.ts";
import type { Page } from "./tiff_page.ts";

const inflate = promisify(inflateCallback);

/**
 * The numbers of a strip or tile of `rows` rows, which was stored as `bytes`. No more is unpacked than is needed,
 * whatever the bytes say. Compression and predictors: TIFF 6.0, sections 9, 13 and 14; Adobe's TIFF technical note 3
 * for the predictor of floating point numbers.
 *
 * @throws whatever `fail` throws, which gets the reason
 */
export async function decode(
  bytes: Buffer,
  page: Page,
  rows: number,
  fail: (reason: string, cause?: unknown) => never,
): Promise<Values> {
  const View = viewOf[page.type];
  const [blockRows, columns] = page.blockShape;
  const count = rows * columns;
  const block = Buffer.from(new ArrayBuffer(count * View.BYTES_PER_ELEMENT));
  let length = bytes.length;
  if (page.compression === "none") {
    block.set(bytes);
  } else if (page.compression === "deflate") {
    const maxOutputLength = blockRows * columns * View.BYTES_PER_ELEMENT; // some writers fill up the last strip
    const inflated = await inflate(bytes, { maxOutputLength }).catch((error) => fail(reasonOf(error), error));
    block.set(inflated.subarray(0, block.length));
    length = inflated.length;
  } else {
    length = page.compression === "lzw" ? unpackLzw(bytes, block, fail) : unpackBits(bytes, block);
  }
  if (length < block.length) fail(`unpacks to ${length} bytes, expected ${block.length}`);

  if (page.predictor === 3) addBytes(block, columns, View.BYTES_PER_ELEMENT);
  else toHostOrder(block, page);
  if (page.predictor === 2) addNeighbours(block, columns, View.BYTES_PER_ELEMENT as 1 | 2 | 4);
  return new View(block.buffer as ArrayBuffer, 0, count);
}

/**
 * LZW with codes of 9 to 12 bits, the highest bit first, that widen one code early. A string of the table is always one
 * that stands in the output already, so the table holds where.
 */
function unpackLzw(input: Uint8Array, out: Uint8Array, fail: (reason: string) => never): number {
  const [clear, end, full] = [256, 257, 4096];
  const begin = new Uint32Array(full);
  const length = new Uint16Array(full);
  let next = 258; // the code that the table gets next
  let width = 9;
  let previous = { at: 0, length: 0 }; // the string before; empty right after a clear
  let buffered = 0;
  let bits = 0;
  let at = 0;
  if (input[0] !== 0x80) fail("does not begin with the clear code of LZW");
  for (const byte of input) {
    buffered = (buffered << 8) | byte;
    bits += 8;
    if (bits < width) continue;
    bits -= width;
    const code = buffered >>> bits;
    buffered &= (1 << bits) - 1;
    if (code === end) break;
    if (code === clear) {
      next = 258;
      width = 9;
      previous = { at, length: 0 };
      continue;
    }
    if (previous.length > 0 && next < full) {
      begin[next] = previous.at; // the string before and the first byte of this one, which lies behind it
      length[next] = previous.length + 1;
      next++;
    }
    if (code >= next) fail(`LZW code ${code} of a table of ${next}`);
    const count = Math.min(code < clear ? 1 : length[code]!, out.length - at);
    if (code < clear) out[at] = code;
    else for (let i = 0, from = begin[code]!; i < count; i++) out[at + i] = out[from + i]!;
    previous = { at, length: count };
    at += count;
    if (at === out.length) break;
    if (next === (1 << width) - 1 && width < 12) width++;
  }
  return at;
}

function unpackBits(input: Uint8Array, out: Uint8Array): number {
  let at = 0;
  for (let i = 0; i < input.length && at < out.length; ) {
    const head = input[i++]!;
    if (head < 128) {
      const literal = input.subarray(i, i + Math.min(head + 1, out.length - at));
      out.set(literal, at);
      at += literal.length;
      i += head + 1;
    } else if (head > 128 && i < input.length) {
      const stop = Math.min(at + 257 - head, out.length);
      out.fill(input[i++]!, at, stop);
      at = stop;
    }
  }
  return at;
}

/** Undoes predictor 2, where every number but the first of a row is the difference from the one before, modulo 2^bits. */
function addNeighbours(block: Buffer, columns: number, width: 1 | 2 | 4): void {
  const View = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array }[width];
  const values = new View(block.buffer as ArrayBuffer);
  for (let i = 0; i < values.length; i++) if (i % columns > 0) values[i]! += values[i - 1]!;
}

/**
 * Undoes predictor 3, where a row holds first the highest bytes of all numbers, then the next ones, and so on, and of
 * these bytes the differences. The result is little-endian, whatever the file is.
 */
function addBytes(block: Buffer, columns: number, width: number): void {
  const stride = columns * width;
  const row = new Uint8Array(stride);
  for (let start = 0; start < block.length; start += stride) {
    let sum = 0;
    for (let i = 0; i < stride; i++) {
      sum += block[start + i]!;
      row[(i % columns) * width + width - 1 - Math.floor(i / columns)] = sum;
    }
    block.set(row, start);
  }
}
