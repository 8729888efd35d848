import assert from "node:assert/strict";
import { mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { deflateSync } from "node:zlib";
import { RaysumError } from "../lib/errors.ts";
import { readTiffStack } from "../lib/io/index.ts";
import { bytesAskedFor } from "./support/allocations.ts";
import { raysumError } from "./support/errors.ts";
import { seededRandom } from "./support/random.ts";
import { lzwCodes, numbers, type TiffParts, tiff } from "./support/tiff.ts";

let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "raysum-damaged-"));
});
after(() => rm(folder, { recursive: true }));

async function save(name: string, bytes: Uint8Array): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, bytes);
  return path;
}

const most = 2 ** 26;
const good = tiff();

function changed(at: number, ...values: number[]): Buffer {
  const bytes = Buffer.from(good);
  bytes.set(values, at);
  return bytes;
}

/** Sets what every directory of a little-endian classic file says in tag `tag`, or how many values that has. */
function patched(file: Buffer, tag: number, what: "count" | "value", value: number): Buffer {
  const bytes = Buffer.from(file);
  for (let at = 8; at < bytes.length - 12; at++) {
    if (bytes.readUInt16LE(at) === tag && bytes.readUInt16LE(at + 2) === 4) {
      bytes.writeUInt32LE(value, at + (what === "count" ? 4 : 8));
    }
  }
  return bytes;
}

/** The only page of a little-endian classic file thirty times: thirty directories, one place of tables and data. */
function thirtyTimes(file: Buffer): Buffer {
  const directory = file.subarray(file.readUInt32LE(4));
  const copies = [file, ...Array.from({ length: 29 }, () => Buffer.from(directory))];
  const bytes = Buffer.concat(copies);
  for (let i = 0; i < 29; i++)
    bytes.writeUInt32LE(file.length + i * directory.length, file.length + i * directory.length - 4);
  return bytes;
}

function bigTiffOfTags(count: bigint): Buffer {
  const bytes = Buffer.alloc(200);
  bytes.set([0x49, 0x49, 43, 0, 8, 0, 0, 0, 16]);
  bytes.writeBigUInt64LE(count, 16);
  return bytes;
}

const packed = (compression: "lzw" | "deflate" | "packbits", block: (bytes: Uint8Array) => Uint8Array) =>
  tiff({ type: "u1", compression, block });

/** LZW whose table runs full, and which then names a string at its end. */
function fullTable(): Uint8Array {
  const codes: [number, number][] = [[256, 9]];
  for (let next = 257; next < 4095; next++) codes.push([0, Math.floor(Math.log2(Math.max(next, 258) + 1)) + 1]);
  return lzwCodes([...codes, [4095, 12], [257, 12]]);
}

const damaged: [what: string, bytes: Uint8Array, sentence: RegExp][] = [
  ["an empty file", new Uint8Array(), /has 0 bytes, too few for a TIFF file/],
  ["7 bytes", good.subarray(0, 7), /has 7 bytes, too few/],
  ["another first letter", changed(0, 0x50), /does not begin as a TIFF file/],
  ["mixed byte order marks", changed(1, 0x4d), /does not begin as a TIFF file/],
  ["the other byte order", changed(0, 0x4d, 0x4d), /TIFF version 10752, expected 42/],
  ["version 44", changed(2, 44), /TIFF version 44/],
  ["a BigTIFF of 12 bytes", tiff({ big: true }).subarray(0, 12), /has 12 bytes, too few for a BigTIFF/],
  [
    "a BigTIFF with offsets of 4 bytes",
    Buffer.from(tiff({ big: true })).fill(4, 4, 5),
    /offsets of 4 bytes, expected 8/,
  ],
  ["no directory", tiff({ next: () => 0 }), /has no pages/],
  [
    "a directory beyond the file",
    tiff({ next: () => 2 ** 31 }),
    /page 0: directory of 2 bytes at byte 2147483648, the file has/,
  ],
  ["a directory at 2^64 - 1", tiff({ big: true, next: () => -1 }), /page 0: directory of 8 bytes at byte 184467/],
  [
    "a loop of two directories",
    tiff({ next: (page, right, all) => (page === 1 ? all[0]! : right) }),
    /that of an earlier page/,
  ],
  [
    "a directory of itself",
    tiff({ next: (page, right, all) => (page === 0 ? all[0]! : right) }),
    /page 1: .*that of an earlier page/,
  ],
  [
    "pages that share their tables",
    thirtyTimes(tiff({ pages: [numbers(100)], rows: 100, columns: 1, type: "u1", rowsPerStrip: 1 })),
    /the directories overlap/,
  ],
  ["a directory without tags", changed(8, 0, 0).fill(0, 8).fill(8, 4, 5), /a directory of 0 tags/],
  ["a directory of 2^40 tags", bigTiffOfTags(2n ** 40n), /a directory of 1099511627776 tags, expected 1 to 65535/],
  ["a directory cut short", good.subarray(0, good.length - 3), /page 1: directory of \d+ bytes/],
  ["no ImageWidth", tiff({ tags: { 256: null } }), /page 0: has no ImageWidth/],
  ["no ImageLength", tiff({ tags: { 257: null } }), /page 0: has no ImageLength/],
  ["no StripOffsets", tiff({ tags: { 273: null } }), /page 0: has no StripOffsets/],
  ["no StripByteCounts", tiff({ tags: { 279: null } }), /page 0: has no StripByteCounts/],
  ["no BitsPerSample", tiff({ tags: { 258: null } }), /elements of SampleFormat 3 with 1 bits/],
  ["no TileLength", tiff({ tile: [4, 4], tags: { 323: null } }), /has no TileLength/],
  ["no columns", tiff({ tags: { 256: [3, 0] } }), /has 3 rows and 0 columns/],
  [
    "2^32 - 1 columns and rows",
    tiff({ tags: { 256: [4, 2 ** 32 - 1], 257: [4, 2 ** 32 - 1] } }),
    /for 1431655765 strips/,
  ],
  [
    "a width of 2^63",
    tiff({ big: true, tags: { 256: [16, 2 ** 63] } }),
    /strip 0 has 48 bytes, too few for 110680464442257/,
  ],
  [
    "a width as text",
    tiff({ tags: { 256: "wide" } }),
    /ImageWidth has 5 values of type 2, expected 1 to 1048576 whole numbers/,
  ],
  ["a width as a fraction", tiff({ tags: { 256: [5, 4] } }), /ImageWidth has 1 values of type 5/],
  ["two widths", tiff({ tags: { 256: [3, 4, 4] } }), /ImageWidth has 2 values, expected one/],
  ["a width without value", tiff({ tags: { 256: [3] } }), /ImageWidth has 0 values/],
  ["a strip beyond the file", tiff({ tags: { 273: [4, 400] } }), /strip 0 of 48 bytes at byte 400, the file has/],
  [
    "a strip at 2^64 - 1",
    tiff({ big: true, tags: { 273: [16, -1] } }),
    /strip 0 of 48 bytes at byte 18446744073709552000/,
  ],
  ["a strip too short", tiff({ tags: { 279: [4, 47] } }), /strip 0 has 47 bytes, too few for 48/],
  ["a strip table of 4 GiB", patched(good, 273, "count", 2 ** 30), /StripOffsets has 1073741824 values of type 4/],
  ["a strip table beyond the file", patched(good, 273, "count", 2 ** 20), /StripOffsets of 4194304 bytes at byte 8,/],
  ["strips of no rows", tiff({ tags: { 278: [3, 0] } }), /a strip of 0 rows and 4 columns/],
  ["one strip for two", tiff({ tags: { 278: [3, 2] } }), /1 offsets and 1 byte counts for 2 strips/],
  ["more offsets than strips", tiff({ tags: { 273: [4, 8, 8] } }), /2 offsets and 1 byte counts for 1 strips/],
  [
    "pages that share their data",
    thirtyTimes(tiff({ pages: [numbers(400)], rows: 20, columns: 20 })),
    /page \d+: pages overlap, their data is larger than the file/,
  ],
  [
    "huge tiles",
    tiff({ tile: [4, 4], tags: { 322: [4, 2 ** 31], 323: [4, 2 ** 31] } }),
    /tile 0 has 64 bytes, too few/,
  ],
  [
    "huge packed tiles",
    tiff({ tile: [4, 4], compression: "lzw", tags: { 322: [4, 2 ** 20], 323: [4, 2 ** 20] } }),
    /at most 1073741824/,
  ],
  [
    "a packed page of 2^40 bytes",
    tiff({ compression: "deflate", tags: { 256: [4, 2 ** 19], 257: [4, 2 ** 19], 278: null } }),
    /at most 1073741824/,
  ],
  [
    "a packed page of 2^29 bytes",
    tiff({ compression: "deflate", tags: { 256: [4, 2 ** 14], 257: [4, 2 ** 13], 278: null } }),
    /too few for 536870912 \(compression: deflate/,
  ],
  ["colour", tiff({ tags: { 277: [3, 3], 258: [3, 8, 8, 8] } }), /has 3 samples a pixel, expected 1/],
  ["a palette", tiff({ tags: { 262: [3, 3] } }), /PhotometricInterpretation 3, expected 0 or 1/],
  ["reversed bits", tiff({ tags: { 266: [3, 2] } }), /FillOrder 2, expected 1/],
  ["bits", tiff({ tags: { 258: [3, 1], 339: [3, 1] } }), /elements of SampleFormat 1 with 1 bits/],
  ["12 bits", tiff({ tags: { 258: [3, 12], 339: [3, 1] } }), /elements of SampleFormat 1 with 12 bits/],
  ["float16", tiff({ tags: { 258: [3, 16] } }), /elements of SampleFormat 3 with 16 bits/],
  ["complex numbers", tiff({ tags: { 258: [3, 64], 339: [3, 6] } }), /elements of SampleFormat 6 with 64 bits/],
  ["JPEG", tiff({ tags: { 259: [3, 7] } }), /Compression 7, expected 1 \(none\), 5 \(LZW\)/],
  [
    "predictor 2 of floating point numbers of 64 bits",
    tiff({ type: "f8", compression: "lzw", tags: { 317: [3, 2] } }),
    /Predictor 2 for elements of type f8/,
  ],
  [
    "predictor 3 of integers",
    tiff({ type: "u2", compression: "lzw", tags: { 317: [3, 3] } }),
    /Predictor 3 for elements of type u2/,
  ],
  [
    "a deflate stream cut short",
    packed("deflate", (bytes) => bytes.subarray(0, -6)),
    /page 0: strip 0 unexpected end of file/,
  ],
  ["junk as deflate", packed("deflate", () => new Uint8Array(40).fill(9)), /strip 0 .*header/],
  [
    "deflate that unpacks to too little",
    packed("deflate", () => deflateSync(new Uint8Array(5))),
    /unpacks to 5 bytes, expected 12/,
  ],
  ["a deflate bomb", packed("deflate", () => deflateSync(new Uint8Array(2 ** 27))), /strip 0 .*larger than 12 bytes/],
  ["LZW without a clear code", packed("lzw", () => new Uint8Array(9)), /does not begin with the clear code of LZW/],
  [
    "LZW of codes not in the table",
    packed("lzw", () =>
      lzwCodes([
        [256, 9],
        [300, 9],
      ]),
    ),
    /LZW code 300 of a table of 258/,
  ],
  [
    "LZW with a full table that ends early",
    tiff({ type: "u1", rows: 4096, columns: 4, pages: [numbers(16384)], compression: "lzw", block: fullTable }),
    /unpacks to 3840 bytes/,
  ],
  [
    "LZW that ends early",
    packed("lzw", () =>
      lzwCodes([
        [256, 9],
        [7, 9],
        [257, 9],
      ]),
    ),
    /unpacks to 1 bytes, expected 12/,
  ],
  ["PackBits that end in a run", packed("packbits", () => Uint8Array.of(0, 5, 255)), /unpacks to 1 bytes, expected 12/],
  [
    "PackBits that end in a copy",
    packed("packbits", () => Uint8Array.of(100, 5, 4)),
    /unpacks to 2 bytes, expected 12/,
  ],
];

describe("TIFF: damaged and foreign files", () => {
  for (const [what, bytes, sentence] of damaged) {
    it(`refuses ${what}`, async () => {
      const path = await save("damaged.tif", bytes);
      const asked = await bytesAskedFor(() => assert.rejects(readTiffStack(path), raysumError("file", sentence)));
      assert.ok(asked < most, `${asked} bytes`);
      await assert.rejects(readTiffStack(path), raysumError("file", /damaged\.tif: /));
    });
  }

  it("counts what is asked for", async () => {
    const path = await save("counted.tif", tiff({ pages: [numbers(10_000)], rows: 100, columns: 100 }));
    const asked = await bytesAskedFor(async () => void (await readTiffStack(path)));
    assert.ok(asked >= 80_000 && asked < 100_000, `${asked} bytes`);
  });

  it("refuses descriptions of pages that are not there", async () => {
    for (const images of ["0", "9", "4294967296", "9".repeat(400)]) {
      const file = tiff({ pages: [numbers(12)], tags: { 270: `ImageJ=1.54f\nimages=${images}\n` } });
      const path = await save("imagej.tif", file);
      await assert.rejects(readTiffStack(path), raysumError("file", /one directory and a description of .* pages/));
    }
    for (const layout of [{ tile: [4, 4] }, { compression: "lzw" }, { rowsPerStrip: 1, backwards: true }] as const) {
      const file = tiff({ pages: [numbers(12)], ...layout, tags: { 270: "ImageJ=1.54f\nimages=2\n" } });
      const path = await save("imagej.tif", file);
      await assert.rejects(readTiffStack(path), raysumError("file", /2 pages that are not in one piece/));
    }
  });

  it("refuses absurd claims in a file of 1 TiB without data", async () => {
    const path = await save("sparse.tif", patched(good, 279, "count", 2 ** 30));
    const handle = await open(path, "r+");
    await handle.truncate(2 ** 40);
    await handle.close();
    const asked = await bytesAskedFor(() =>
      assert.rejects(readTiffStack(path), raysumError("file", /StripByteCounts has 1073741824 values/)),
    );
    assert.ok(asked < most, `${asked} bytes`);
  });

  const files: [what: string, parts: TiffParts][] = [
    ["strips", { rowsPerStrip: 1 }],
    ["BigTIFF", { big: true, bigEndian: true, type: "u2" }],
    ["tiles", { tile: [2, 3], type: "i4" }],
    ["LZW", { compression: "lzw", predictor: 2, type: "u1" }],
    ["deflate", { compression: "deflate", predictor: 3, rowsPerStrip: 2 }],
    ["PackBits", { compression: "packbits", type: "u1" }],
    ["ImageJ", { pages: [numbers(12)], tags: { 270: "ImageJ=1.54f\nimages=1\n" } }],
  ];
  for (const [index, [what, parts]] of files.entries()) {
    it(`reads or refuses ${what} with changed bytes or a lost end, and asks for little memory`, async () => {
      const file = tiff(parts);
      const random = seededRandom(index);
      let refused = 0;
      for (let round = 0; round < 150; round++) {
        const bytes = Buffer.from(file);
        for (let i = random.integer(1, 3); i > 0; i--)
          bytes[random.integer(0, bytes.length - 1)] = random.integer(0, 255);
        const path = await save(
          "fuzz.tif",
          random.uniform() < 0.2 ? bytes.subarray(0, random.integer(0, bytes.length)) : bytes,
        );
        const asked = await bytesAskedFor(async () => {
          await readTiffStack(path).catch((error) => {
            assert.ok(error instanceof RaysumError && error.code === "file", String(error));
            refused++;
          });
        });
        assert.ok(asked < most, `${asked} bytes in round ${round}`);
      }
      assert.ok(refused > 10 && refused < 150, `${refused} refused`);
    });
  }
});
