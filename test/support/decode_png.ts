import assert from "node:assert/strict";
import { inflateSync } from "node:zlib";

export interface Picture {
  readonly width: number;
  readonly height: number;
  /** The colour of a pixel as 0xRRGGBB. */
  readonly color: (row: number, column: number) => number;
}

/** Reads a PNG file of 8-bit RGB or RGBA, after the W3C's specification. */
export function decodePng(bytes: Uint8Array): Picture {
  assert.deepEqual([...bytes.subarray(0, 8)], [137, 80, 78, 71, 13, 10, 26, 10]);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const packed: Uint8Array[] = [];
  for (let at = 8; at < bytes.length; at += view.getUint32(at) + 12) {
    const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (type === "IDAT") packed.push(bytes.subarray(at + 8, at + 8 + view.getUint32(at)));
  }
  const [width, height, depth, kind] = [view.getUint32(16), view.getUint32(20), bytes[24], bytes[25]];
  assert.equal(depth, 8);
  assert.ok(kind === 2 || kind === 6, `colour type ${kind}`);
  const size = kind === 2 ? 3 : 4;
  const stride = width * size;
  const lines = new Uint8Array(inflateSync(Buffer.concat(packed)));
  assert.equal(lines.length, height * (stride + 1));
  const pixels = new Uint8Array(height * stride);
  for (let row = 0; row < height; row++) {
    const filter = lines[row * (stride + 1)]!;
    for (let i = 0; i < stride; i++) {
      const left = i >= size ? pixels[row * stride + i - size]! : 0;
      const up = row > 0 ? pixels[(row - 1) * stride + i]! : 0;
      const corner = row > 0 && i >= size ? pixels[(row - 1) * stride + i - size]! : 0;
      const distances = [left, up, corner].map((value) => Math.abs(left + up - corner - value));
      const paeth = [left, up, corner][distances.indexOf(Math.min(...distances))]!;
      const predicted = [0, left, up, (left + up) >> 1, paeth][filter]!;
      pixels[row * stride + i] = lines[row * (stride + 1) + 1 + i]! + predicted;
    }
  }
  const color = (row: number, column: number): number => {
    const at = row * stride + column * size;
    return (pixels[at]! << 16) | (pixels[at + 1]! << 8) | pixels[at + 2]!;
  };
  return { width, height, color };
}
