import assert from "node:assert/strict";
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import * as hdf5 from "h5wasm/node";
import { openDataExchange, readDataExchange } from "../lib/io/index.ts";
import { raysumError } from "./support/errors.ts";
import { noRealScan, onRealScan, tooth } from "./support/real_scan.ts";

let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "raysum-hdf5-"));
});
after(() => rm(folder, { recursive: true }));

type Values = Float32Array | Float64Array | Uint16Array | Int32Array | BigInt64Array;

interface Data {
  values: Values | string[];
  shape?: number[];
  chunks?: number[];
  /** Level of deflate. */
  compression?: number;
  units?: string;
  /** HDF5 type of the attribute `units`; text of variable length when not given. */
  unitsType?: string;
}

/** Makes an HDF5 file with a group `exchange`. Afterwards h5wasm does not throw any more, as right after its import. */
async function write(name: string, fill: (exchange: hdf5.Group) => void): Promise<string> {
  const library = await hdf5.ready;
  library.activate_throwing_error_handler();
  const path = join(folder, name);
  const file = new hdf5.File(path, "w");
  fill(file.create_group("exchange"));
  file.close();
  library.deactivate_throwing_error_handler();
  return path;
}

async function scan(name: string, datasets: Record<string, Data>): Promise<string> {
  return write(name, (exchange) => {
    for (const [key, { values, units, unitsType, ...layout }] of Object.entries(datasets)) {
      const dataset = exchange.create_dataset({ name: key, data: values, ...layout });
      if (units !== undefined) dataset.create_attribute("units", units, null, unitsType ?? null);
    }
  });
}

const [views, rows, columns] = [5, 4, 3];
/** 100 view + 10 row + column, as (views, rows, columns). */
const counts = Uint16Array.from({ length: views * rows * columns }, (_, i) => {
  const [view, row, column] = [Math.floor(i / (rows * columns)), Math.floor(i / columns) % rows, i % columns];
  return 100 * view + 10 * row + column;
});
const data = { values: counts, shape: [views, rows, columns] };
const theta = { values: new Float64Array([0, 45, 90, 135, 180]) };

/** What `data` is as (rows, views, columns). */
function expected(start: number, stop: number): Float32Array {
  const out: number[] = [];
  for (let row = start; row < stop; row++) {
    for (let view = 0; view < views; view++) {
      for (let column = 0; column < columns; column++) out.push(100 * view + 10 * row + column);
    }
  }
  return Float32Array.from(out);
}

const frames = (count: number, value: number) => ({
  values: Float32Array.from({ length: count * rows * columns }, (_, i) => value + i),
  shape: [count, rows, columns],
});

describe("DataExchange: reading", () => {
  const layouts: [what: string, layout: Partial<Data>][] = [
    ["contiguous", {}],
    ["chunked by view", { chunks: [1, rows, columns] }],
    ["chunked by two views and compressed", { chunks: [2, 2, columns], compression: 4 }],
  ];
  for (const [what, layout] of layouts) {
    it(`puts rows first (${what})`, async () => {
      const path = await scan("layout.h5", { data: { ...data, ...layout } });
      const { projections, flats, darks, angles } = await readDataExchange(path);
      assert.deepEqual(projections, { shape: [rows, views, columns], data: expected(0, rows) });
      assert.deepEqual([flats, darks, angles], [undefined, undefined, undefined]);
    });
  }

  const types: [what: string, values: Values][] = [
    ["float64", new Float64Array([0.1, -1e30, 2])],
    ["float32", new Float32Array([0.1, -1e30, 2])],
    ["int32", new Int32Array([-1, 2 ** 31 - 1, 5])],
    ["int64", new BigInt64Array([-1n, 2n ** 40n, 5n])],
  ];
  for (const [what, values] of types) {
    it(`makes float32 of ${what}`, async () => {
      const path = await scan("type.h5", { data: { values, shape: [1, 1, 3] } });
      assert.deepEqual((await readDataExchange(path)).projections.data, Float32Array.from(values, Number));
    });
  }

  it("reads a range of rows of projections, flats and darks", async () => {
    const path = await scan("rows.h5", { data, data_white: frames(2, 1000), data_dark: frames(1, 5), theta });
    using file = await openDataExchange(path);
    assert.deepEqual(file.shape, [rows, views, columns]);
    for (const [start, stop] of [
      [1, 3],
      [0, 1],
      [3, 4],
    ] as const) {
      const { projections, flats, darks } = await file.read({ rows: { start, stop } });
      assert.deepEqual(projections, { shape: [stop - start, views, columns], data: expected(start, stop) });
      const part = (array: Float32Array, frame: number) =>
        Array.from(array.subarray((frame * rows + start) * columns, (frame * rows + stop) * columns));
      const white = frames(2, 1000).values;
      assert.deepEqual(flats, {
        shape: [2, stop - start, columns],
        data: Float32Array.from([...part(white, 0), ...part(white, 1)]),
      });
      assert.deepEqual(darks, {
        shape: [1, stop - start, columns],
        data: Float32Array.from(part(frames(1, 5).values, 0)),
      });
    }
  });

  for (const [frameCount, rowCount, columnCount] of [
    [6, 2, 900_000],
    [1, 4, 3_000_000],
  ] as const) {
    it(`reads ${frameCount} views of ${rowCount} x ${columnCount} in slabs of 64 MiB`, async () => {
      const values = Float64Array.from({ length: frameCount * rowCount * columnCount }, (_, i) => i % 1009);
      const path = await scan("slabs.h5", { data: { values, shape: [frameCount, rowCount, columnCount] } });
      const { shape, data } = (await readDataExchange(path)).projections;
      assert.deepEqual(shape, [rowCount, frameCount, columnCount]);
      let wrong = 0;
      for (let row = 0, at = 0; row < rowCount; row++) {
        for (let view = 0; view < frameCount; view++) {
          const source = (view * rowCount + row) * columnCount;
          for (let column = 0; column < columnCount; column++, at++) {
            if (data[at] !== (source + column) % 1009) wrong++;
          }
        }
      }
      assert.equal(wrong, 0);
    });
  }

  const radians = [0, Math.PI / 4, Math.PI / 2, (3 * Math.PI) / 4, Math.PI];
  const units: [what: string, theta: Data, angles: number[]][] = [
    ["degrees without an attribute", theta, radians],
    ["degrees", { ...theta, units: "degrees" }, radians],
    ["deg of fixed length", { ...theta, units: "deg", unitsType: "S3" }, radians],
    ["radians", { values: new Float64Array([0, 1, 2, 3, 4]), units: "radians" }, [0, 1, 2, 3, 4]],
    ["rad in float32", { values: new Float32Array([0, 1, 2, 3, 0.5]), units: "rad" }, [0, 1, 2, 3, 0.5]],
    ["whole degrees", { values: new Int32Array([0, 45, 90, 135, 180]) }, radians],
  ];
  for (const [what, given, angles] of units) {
    it(`understands angles in ${what}`, async () => {
      const path = await scan("units.h5", { data, theta: given });
      const read = (await readDataExchange(path)).angles!;
      assert.ok(read instanceof Float64Array);
      assert.equal(read.length, angles.length);
      for (const [i, angle] of angles.entries()) assert.ok(Math.abs(read[i]! - angle) < 1e-12, `${read[i]}, ${angle}`);
    });
  }

  it("refuses rows outside the detector, and reads after close", async () => {
    const file = await openDataExchange(await scan("range.h5", { data }));
    for (const [start, stop] of [
      [0, 5],
      [-1, 2],
      [2, 2],
      [3, 1],
      [0.5, 2],
      [0, Number.NaN],
    ] as const) {
      const sentence = /rows .* to .*: expected 0 <= start < stop <= 4/;
      await assert.rejects(file.read({ rows: { start, stop } }), raysumError("argument", sentence));
    }
    file.close();
    file.close();
    await assert.rejects(file.read(), raysumError("disposed", /read after close/));
  });
});

describe("DataExchange: damaged and foreign files", () => {
  const refused: [what: string, datasets: Record<string, Data>, sentence: RegExp][] = [
    ["no projections", { theta }, /has no exchange\/data/],
    [
      "two axes",
      { data: { values: counts } },
      /exchange\/data has the shape \[60\], expected \(views, rows, columns\)/,
    ],
    ["text", { data: { values: ["a", "b"] } }, /exchange\/data has elements of type "S", expected integers/],
    ["an empty scan", { data: { values: new Uint16Array(), shape: [0, 4, 3] } }, /has the shape \[0, 4, 3\]/],
    ["too few angles", { data, theta: { values: new Float64Array(4) } }, /theta has 4 angles for 5 views/],
    [
      "angles in a table",
      { data, theta: { ...theta, shape: [5, 1] } },
      /theta has the shape \[5, 1\], expected \(views\)/,
    ],
    ["angles in turns", { data, theta: { ...theta, units: "turns" } }, /theta has the units "turns", expected degrees/],
    [
      "an angle that is none",
      { data, theta: { values: new Float64Array([0, 1, Number.NaN, 3, 4]) } },
      /angle 2 is NaN/,
    ],
    [
      "flats of another detector",
      { data, data_white: { values: counts, shape: [5, 3, 4] } },
      /white has .* 4 rows and 3/,
    ],
    ["a dark of two axes", { data, data_dark: { values: counts, shape: [5, 12] } }, /\(count, rows, columns\)/],
  ];
  for (const [what, datasets, sentence] of refused) {
    it(`refuses ${what}`, async () => {
      const path = await scan("refused.h5", datasets);
      await assert.rejects(readDataExchange(path), raysumError("file", sentence));
      await assert.rejects(readDataExchange(path), raysumError("file", /refused\.h5: /));
    });
  }

  it("refuses links that lead nowhere and groups in the place of data", async () => {
    const link = await write("link.h5", (exchange) => exchange.create_soft_link("/nowhere", "data"));
    await assert.rejects(readDataExchange(link), raysumError("file", /exchange\/data is a BrokenSoftLink/));
    const group = await write("group.h5", (exchange) => exchange.create_group("data"));
    await assert.rejects(readDataExchange(group), raysumError("file", /exchange\/data is a Group/));
  });

  it("refuses a missing file, a folder, text, and a file cut short", async () => {
    const whole = await readFile(await scan("whole.h5", { data }));
    const [text, cut] = [join(folder, "text.h5"), join(folder, "cut.h5")];
    await writeFile(text, "this is text\n".repeat(100));
    await writeFile(cut, whole.subarray(0, whole.length - 100));
    const sentences: [path: string, sentence: RegExp][] = [
      [join(folder, "none.h5"), /none\.h5: cannot be read: .*ENOENT/],
      [folder, /is not a regular file/],
      [text, /text\.h5: cannot be opened as HDF5: file signature not found/],
      [cut, /cut\.h5: cannot be opened as HDF5: truncated file/],
    ];
    for (const [path, sentence] of sentences) {
      await assert.rejects(readDataExchange(path), raysumError("file", sentence));
    }
  });

  it("refuses damaged data instead of giving zeros", async () => {
    const noise = Uint16Array.from({ length: 6000 }, (_, i) => (i * 7919) % 65536);
    const layout = { shape: [20, 20, 15], chunks: [20, 20, 15], compression: 9 };
    const path = await scan("damaged.h5", { data: { values: noise, ...layout } });
    const bytes = await readFile(path);
    bytes.fill(0xa5, bytes.length - 4000, bytes.length - 1000); // in the middle of the only chunk
    await writeFile(path, bytes);
    await assert.rejects(readDataExchange(path), raysumError("file", /exchange\/data cannot be read: /));
  });

  it("says how to install h5wasm where it is missing", async () => {
    const lib = fileURLToPath(new URL("../lib/", import.meta.url));
    const copy = join(folder, "alone");
    await mkdir(join(copy, "node_modules"), { recursive: true }); // an empty one, so that nothing is fetched
    await cp(join(lib, "errors.ts"), join(copy, "errors.ts"));
    await cp(join(lib, "options.ts"), join(copy, "options.ts"));
    await cp(join(lib, "shape.ts"), join(copy, "shape.ts"));
    await cp(join(lib, "io"), join(copy, "io"), { recursive: true });
    const alone = await import(pathToFileURL(join(copy, "io", "index.ts")).href);
    await assert.rejects(
      alone.readDataExchange(await scan("alone.h5", { data })),
      (error: Error & { code: string }) => {
        assert.equal(error.code, "library");
        assert.match(error.message, /h5wasm, which is not installed here: npm install h5wasm@0\.10\.3/);
        return true;
      },
    );
  });
});

describe("DataExchange: a real scan", () => {
  it(onRealScan("reads the tooth"), { skip: noRealScan }, async () => {
    const { projections, flats, darks, angles } = await readDataExchange(tooth);
    assert.deepEqual(projections.shape, [2, 181, 640]);
    assert.deepEqual(flats?.shape, [10, 2, 640]);
    assert.deepEqual(darks?.shape, [10, 2, 640]);
    assert.equal(angles?.length, 181);
    assert.ok(Math.abs(angles[180]! - (180 * Math.PI) / 181) < 1e-6);
    const mean = (array: Float32Array) => array.reduce((sum, value) => sum + value, 0) / array.length;
    const [dark, signal, flat] = [darks, projections, flats].map((array) => mean(array!.data)) as [
      number,
      number,
      number,
    ];
    assert.ok(dark < signal && signal < flat, `${dark}, ${signal}, ${flat}`);
  });
});
