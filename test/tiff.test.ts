import assert from "node:assert/strict";
import { mkdir, mkdtemp, open, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { fromArrayBuffer } from "geotiff";
import { createTiff, openTiffStack, readTiffStack, writeTiff, writeTiffStack } from "../lib/io/index.ts";
import { formatHeader } from "../lib/io/tiff_header.ts";
import { raysumError } from "./support/errors.ts";
import { numbers, type Tag, type TiffCompression, type TiffParts, type TiffType, tiff } from "./support/tiff.ts";

let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "raysum-tiff-"));
});
after(() => rm(folder, { recursive: true }));

async function save(name: string, bytes: Uint8Array): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, bytes);
  return path;
}

async function emptyFolder(name: string): Promise<string> {
  const path = join(folder, name);
  await mkdir(path);
  return path;
}

/** The values of the pages one behind the other. */
function joined(...pages: ArrayLike<number>[]): Float32Array {
  return Float32Array.from(pages.flatMap((page) => Array.from(page)));
}

/** Names the first difference: the runtimes would print all of the values. */
function assertSame(actual: ArrayLike<number>, expected: ArrayLike<number>, what: string): void {
  assert.equal(actual.length, expected.length, what);
  const wrong = Array.from(expected).findIndex((value, i) => !Object.is(actual[i], value));
  assert.ok(wrong < 0, `${what}: value ${wrong} is ${actual[wrong]}, expected ${expected[wrong]}`);
}

/** What geotiff reads, which shares no code with Raysum. */
async function byGeotiff(path: string): Promise<Float32Array> {
  const file = await fromArrayBuffer(Uint8Array.from(await readFile(path)).buffer);
  const pages: ArrayLike<number>[] = [];
  for (let i = 0; i < (await file.getImageCount()); i++) {
    const [page] = await (await file.getImage(i)).readRasters({ interleave: false });
    pages.push(page as ArrayLike<number>);
  }
  return joined(...pages);
}

describe("TIFF: reading", () => {
  const samples: Record<TiffType, number[]> = {
    u1: [0, 1, 2, 127, 128, 255],
    i1: [0, 1, -1, 127, -128, 5],
    u2: [0, 1, 258, 32768, 65535, 7],
    i2: [0, -1, 258, 32767, -32768, 7],
    u4: [0, 1, 65536, 2 ** 31, 2 ** 32 - 1, 16777217],
    i4: [0, -1, 65536, 2 ** 31 - 1, -(2 ** 31), 16777217],
    f4: [0, -0.1, 1e30, Number.NaN, Number.NEGATIVE_INFINITY, 2 ** -140],
    f8: [0, -0.1, 1e300, Number.NaN, Math.PI, 2 ** -140],
  };
  for (const type of Object.keys(samples) as TiffType[]) {
    for (const bigEndian of [false, true]) {
      for (const big of [false, true]) {
        it(`reads ${type}, ${bigEndian ? "big" : "little"}-endian, ${big ? "BigTIFF" : "classic"}`, async () => {
          const values = samples[type];
          const turned = values.toReversed();
          const parts = { pages: [values, turned], rows: 3, columns: 2, rowsPerStrip: 2, type, bigEndian, big };
          const path = await save("types.tif", tiff(parts));
          assert.deepEqual(await readTiffStack(path), { shape: [2, 3, 2], data: joined(values, turned) });
        });
      }
    }
  }

  const layouts: [what: string, parts: TiffParts][] = [
    ["one strip", {}],
    ["strips of four rows, the last one shorter", { rowsPerStrip: 4 }],
    ["strips of one row in backward order", { rowsPerStrip: 1, backwards: true }],
    ["RowsPerStrip beyond the page", { tags: { 278: [4, 2 ** 32 - 1] } }],
    ["no RowsPerStrip", { tags: { 278: null } }],
    ["tiles that are cut at both ends", { tile: [8, 16] }],
    ["one tile larger than the page", { tile: [32, 48] }],
    ["tags without values for defaults", { type: "u2", tags: { 259: null, 277: null, 339: null, 262: null } }],
    ["strip tables of LONG8", { big: true, rowsPerStrip: 3, tags: { 256: [16, 37] } }],
  ];
  for (const [what, parts] of layouts) {
    it(`reads ${what}`, async () => {
      const pages = [numbers(11 * 37), numbers(11 * 37, 2)];
      const path = await save("layout.tif", tiff({ pages, rows: 11, columns: 37, ...parts }));
      assert.deepEqual(await readTiffStack(path), { shape: [2, 11, 37], data: joined(...pages) });
    });
  }

  for (const compression of ["lzw", "deflate", "packbits"] as TiffCompression[]) {
    for (const predictor of compression === "packbits" ? ([1] as const) : ([1, 2, 3] as const)) {
      const types: TiffType[] =
        predictor === 2 ? ["u1", "u2", "i2", "i4"] : predictor === 3 ? ["f4", "f8"] : ["u2", "f4"];
      for (const type of types) {
        it(`reads ${compression} of ${type} with predictor ${predictor}`, async () => {
          const pages = [numbers(90 * 61), numbers(90 * 61, 2)];
          for (const bigEndian of [false, true]) {
            for (const layout of [{ rowsPerStrip: 100 }, { rowsPerStrip: 8 }, { tile: [16, 32] }] as TiffParts[]) {
              const parts = { pages, rows: 90, columns: 61, type, compression, predictor, bigEndian, ...layout };
              const path = await save("packed.tif", tiff(parts));
              const what = JSON.stringify({ bigEndian, ...layout });
              assertSame((await readTiffStack(path)).data, joined(...pages), what);
              // geotiff 3.0.5 takes strip tables for little-endian, and the byte that does nothing in PackBits for a run.
              if (compression === "packbits" || bigEndian) continue;
              assertSame(await byGeotiff(path), joined(...pages), `geotiff, ${what}`);
            }
          }
        });
      }
    }
  }

  it("reads LZW whose table fills up several times, and runs that make long strings", async () => {
    const pages = [Float32Array.from({ length: 40_000 }, (_, i) => (i < 20_000 ? 7 : (i * i * 2654435761) % 65521))];
    const path = await save("lzw.tif", tiff({ pages, rows: 100, columns: 400, type: "u2", compression: "lzw" }));
    assert.deepEqual((await readTiffStack(path)).data, pages[0]);
    assert.deepEqual(await byGeotiff(path), pages[0]);
  });

  it("reads a last strip that was filled up, without compression and with it", async () => {
    for (const compression of ["none", "deflate", "lzw", "packbits"] as const) {
      const page = numbers(16);
      const parts = { pages: [page], rows: 4, columns: 4, rowsPerStrip: 3, type: "u1", compression } as const;
      const path = await save(
        "filled.tif",
        tiff({ ...parts, pages: [[...page, ...numbers(8)]], rows: 6, tags: { 257: [3, 4] } }),
      );
      assert.deepEqual((await readTiffStack(path)).data, page, compression);
    }
  });
});

describe("TIFF: stacks", () => {
  it("takes the files of a folder in natural order, and nothing else", async () => {
    const path = await emptyFolder("natural");
    const page = (value: number) => tiff({ pages: [[value]], rows: 1, columns: 1 });
    for (const [name, value] of [
      ["view_10.tif", 3],
      ["view_9.tiff", 2],
      ["view_100.TIF", 4],
      ["view_1.tif", 1],
    ] as const) {
      await writeFile(join(path, name), page(value));
    }
    await writeFile(join(path, "notes.txt"), "no image");
    assert.deepEqual(await readTiffStack(path), { shape: [4, 1, 1], data: new Float32Array([1, 2, 3, 4]) });
  });

  it("takes files with several pages in the order given", async () => {
    const a = await save("a.tif", tiff({ pages: [[1], [2]], rows: 1, columns: 1 }));
    const b = await save("b.tif", tiff({ pages: [[3]], rows: 1, columns: 1, type: "u2" }));
    assert.deepEqual((await readTiffStack([b, a])).data, new Float32Array([3, 1, 2]));
    await using stack = await openTiffStack([a, b, a]);
    assert.deepEqual(stack.shape, [5, 1, 1]);
    assert.deepEqual(await stack.read(1, 3), new Float32Array([2, 3, 1]));
    assert.deepEqual(await stack.read(5, 0), new Float32Array(0));
  });

  it("refuses pages outside the stack, and reads after close", async () => {
    const stack = await openTiffStack(await save("pages.tif", tiff()));
    for (const [first, count] of [
      [0, 3],
      [2, 1],
      [-1, 1],
      [0.5, 1],
      [0, -1],
      [Number.NaN, 1],
    ] as const) {
      await assert.rejects(stack.read(first, count), raysumError("argument", /pages from page .*, the stack has 2/));
    }
    await stack.close();
    await stack.close();
    await assert.rejects(stack.read(0, 1), raysumError("disposed", /read after close/));
  });

  it("reads stacks of which only the first page has a directory", async () => {
    const [rows, columns] = [2, 3];
    const values = numbers(5 * rows * columns);
    const first = values.subarray(0, rows * columns);
    const descriptions: [string, TiffType][] = [
      ["ImageJ=1.54f\nimages=5\nslices=5\nloop=false\n", "u2"],
      ['{"shape": [5, 2, 3], "truncated": true}', "f4"],
    ];
    for (const [description, type] of descriptions) {
      const head = tiff({ pages: [first], rows, columns, type, bigEndian: true, tags: { 270: description } });
      const tail = tiff({ pages: [values], rows: rows * 5, columns, type, bigEndian: true }).subarray(8);
      // The data is moved behind the directory of a file that has everything else.
      const tags = { 270: description, 273: [4, head.length] as Tag };
      const moved = tiff({ pages: [first], rows, columns, type, bigEndian: true, tags });
      const path = await save("imagej.tif", Buffer.concat([moved, tail]));
      assert.deepEqual(await readTiffStack(path), { shape: [5, rows, columns], data: values });
      await writeFile(path, Buffer.concat([moved, tail.subarray(0, 5 * rows * columns * (type === "u2" ? 2 : 4) - 1)]));
      await assert.rejects(readTiffStack(path), raysumError("file", /one directory and a description of 5 pages/));
    }
  });

  it("leaves a description alone where every page has a directory", async () => {
    const path = await save("described.tif", tiff({ tags: { 270: "ImageJ=1.54f\nimages=7\n" } }));
    assert.deepEqual((await readTiffStack(path)).shape, [2, 3, 4]);
  });

  it("refuses pages of different sizes, in one file and in several", async () => {
    const path = await save("sizes.tif", tiff({ tags: { 257: [3, 2] } }));
    await assert.rejects(readTiffStack(path), raysumError("file", /page 1 has 3 rows and 4 columns, .* 2 and 4/));
    const paths = [await save("one.tif", tiff()), await save("other.tif", tiff({ columns: 2 }))];
    await assert.rejects(openTiffStack(paths), raysumError("file", /other\.tif: page 0 has 3 rows and 2 columns/));
  });

  it("refuses what is missing, empty or no path", async () => {
    const none = join(folder, "none.tif");
    await assert.rejects(readTiffStack(none), raysumError("file", /none\.tif: cannot be read: .*ENOENT/));
    const empty = await emptyFolder("empty");
    await assert.rejects(readTiffStack(empty), raysumError("file", /empty: has no \.tif or \.tiff files/));
    await assert.rejects(readTiffStack([empty]), raysumError("file", /is not a regular file/));
    await assert.rejects(readTiffStack([]), raysumError("argument", /expected a file, a folder or a list of files/));
    await assert.rejects(readTiffStack(5 as unknown as string), raysumError("argument", /path 5: expected/));
  });

  it("refuses a file that has changed since it was opened", async () => {
    const path = await save("shrinking.tif", tiff());
    await using stack = await openTiffStack(path);
    await truncate(path, 100);
    await assert.rejects(stack.read(0, 2), raysumError("file", /has 100 bytes, when it was opened \d+/));
  });
});

describe("TIFF: writing", () => {
  const array = { shape: [3, 5, 7], data: numbers(105).map((value) => value / 3) };

  it("writes pages that Raysum and geotiff read", async () => {
    const path = join(folder, "round.tif");
    await writeTiff(path, array);
    assert.deepEqual(await readTiffStack(path), array);
    assert.deepEqual(await byGeotiff(path), array.data);
  });

  it("writes slabs, and gives the name only at close", async () => {
    const path = join(folder, "slabs.tif");
    const file = await createTiff(path, array.shape);
    await Promise.all([file.write(array.data.subarray(0, 30)), file.write(array.data.subarray(30, 100))]);
    await file.write(array.data.subarray(100));
    assert.ok(!(await readdir(folder)).includes("slabs.tif"));
    await file.close();
    assert.deepEqual(await readTiffStack(path), array);
    const short = await createTiff(path, array.shape);
    await assert.rejects(short.close(), raysumError("file", /0 elements were written, shape \[3, 5, 7\] needs 105/));
    assert.deepEqual(await readTiffStack(path), array, "the old file");
    assert.ok(!(await readdir(folder)).some((name) => name.endsWith(".part")));
  });

  it("becomes BigTIFF where the file passes 4 GiB, and reads what lies beyond", async () => {
    assert.equal(formatHeader([1, 2 ** 15, 2 ** 15 - 1])[2], 42);
    const shape = [3, 2 ** 14, 2 ** 15]; // 2 GiB a page
    const header = formatHeader(shape);
    assert.equal(header[2], 43);
    const path = await save("sparse.tif", header);
    const handle = await open(path, "r+");
    const end = header.length + 3 * 2 ** 31;
    await handle.write(new Uint8Array(new Float32Array([1, 2, 3]).buffer), 0, 12, end - 12);
    await handle.close();
    const file = await fromArrayBuffer(Uint8Array.from(header).buffer);
    assert.equal(await file.getImageCount(), 3);
    // Now one small page at the end of the same file: a page of 2 GiB would take as much memory here.
    const big = tiff({ pages: [[0, 0, 0]], rows: 1, columns: 3, big: true, tags: { 273: [16, end - 12] } });
    const again = await open(path, "r+");
    await again.write(big, 0, big.length, 0);
    await again.close();
    assert.deepEqual(await readTiffStack(path), { shape: [1, 1, 3], data: new Float32Array([1, 2, 3]) });
  });

  it("writes a folder of numbered slices", async () => {
    const path = join(folder, "new", "slices");
    await writeTiffStack(path, array);
    assert.deepEqual((await readdir(path)).sort(), ["slice_0000.tif", "slice_0001.tif", "slice_0002.tif"]);
    assert.deepEqual(await readTiffStack(path), array);
    await writeTiffStack(path, array);
    const fewer = { shape: [2, 5, 7], data: array.data.subarray(0, 70) };
    await assert.rejects(
      writeTiffStack(path, fewer),
      raysumError("file", /has slice_0002\.tif already, which is none of the 2 slices/),
    );
    await assert.rejects(
      writeTiffStack(path, array, { prefix: "z" }),
      raysumError("file", /has slice_0000\.tif already/),
    );
    assert.deepEqual(await readTiffStack(path), array);
    const numbered = await emptyFolder("numbered");
    await writeTiffStack(numbered, array, { prefix: "" });
    assert.deepEqual((await readdir(numbered)).sort(), ["0000.tif", "0001.tif", "0002.tif"]);
  });

  it("refuses what is no stack, before a file is made", async () => {
    const path = join(folder, "refused.tif");
    const refused: [shape: number[], sentence: RegExp][] = [
      [[5, 7], /expected \(count, rows, columns\)/],
      [[1, 0, 7], /every count must be a positive/],
      [[2 ** 21, 1, 1], /at most 1048576 pages/],
      [[1, 1, 2 ** 32], /less than 2\^32 rows and columns/],
    ];
    for (const [shape, sentence] of refused)
      await assert.rejects(createTiff(path, shape), raysumError("shape", sentence));
    await assert.rejects(writeTiff(path, { shape: [1, 1, 2], data: numbers(3) }), raysumError("shape", /needs 2/));
    await assert.rejects(
      writeTiffStack(path, array, { prefix: "../up" }),
      raysumError("argument", /prefix "\.\.\/up": no path separators/),
    );
    const nowhere = join(folder, "nowhere", "x.tif");
    await assert.rejects(writeTiff(nowhere, array), raysumError("file", /cannot be written/));
    const taken = await save("taken", new Uint8Array());
    await assert.rejects(writeTiffStack(taken, array), raysumError("file", /taken: cannot be made/));
    assert.ok(!(await readdir(folder)).some((name) => name.startsWith("refused")));
  });
});
