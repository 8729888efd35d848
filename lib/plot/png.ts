import { crc32, deflateSync } from "node:zlib";
import { RaysumError } from "../errors.ts";

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];

function chunk(type: string, body: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(body.length + 12);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, body.length);
  bytes.set(new TextEncoder().encode(type), 4);
  bytes.set(body, 8);
  view.setUint32(body.length + 8, crc32(bytes.subarray(4, body.length + 8)));
  return bytes;
}

/**
 * A PNG file (8 bits a channel, RGB) of `rgb`: [rows, columns, 3] bytes, the first row on top. PNG specification, W3C.
 * @throws RaysumError `shape` when there are more or fewer bytes.
 */
export function encodePng(rgb: Uint8Array, [rows, columns]: readonly [number, number]): Uint8Array {
  if (rgb.length !== rows * columns * 3) {
    const message = `rgb of ${rgb.length} bytes: [${rows}, ${columns}] pixels need ${rows * columns * 3}`;
    throw new RaysumError("shape", message);
  }
  const header = new Uint8Array(13);
  new DataView(header.buffer).setUint32(0, columns);
  new DataView(header.buffer).setUint32(4, rows);
  header.set([8, 2], 8); // bit depth, colour type RGB
  const stride = columns * 3;
  const filtered = new Uint8Array(rows * (stride + 1)); // each row behind a byte 0: no filter
  for (let row = 0; row < rows; row++) {
    filtered.set(rgb.subarray(row * stride, (row + 1) * stride), row * (stride + 1) + 1);
  }
  const chunks = [chunk("IHDR", header), chunk("IDAT", deflateSync(filtered)), chunk("IEND", new Uint8Array(0))];
  return Buffer.concat([Uint8Array.from(SIGNATURE), ...chunks]);
}
