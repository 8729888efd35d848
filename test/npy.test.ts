import assert from "node:assert/strict";
import { mkdtemp, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { allocate } from "../lib/io/host_array.ts";
import { createNpy, openNpy, readNpy, writeNpy } from "../lib/io/index.ts";
import { raysumError } from "./support/errors.ts";

let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "raysum-npy-"));
});
after(() => rm(folder, { recursive: true }));

interface Parts {
  magic?: string;
  version?: number;
  /** The dictionary as text. */
  header?: string;
  /** What the length field says, where it is not the truth. */
  headerLength?: number;
  data?: Uint8Array;
}

function npy({ magic = "\x93NUMPY", version = 1, header = "", headerLength, data = new Uint8Array() }: Parts): Buffer {
  const text = Buffer.from(`${header}\n`, version === 3 ? "utf8" : "latin1");
  const length = Buffer.alloc(version === 1 ? 2 : 4);
  if (version === 1) length.writeUInt16LE(headerLength ?? text.length);
  else length.writeUInt32LE(headerLength ?? text.length);
  return Buffer.concat([Buffer.from(magic, "latin1"), Buffer.from([version, 0]), length, text, data]);
}

function dictionary(descr: string, shape: string, order = "False"): string {
  return `{'descr': ${descr}, 'fortran_order': ${order}, 'shape': ${shape}, }`;
}

async function save(name: string, bytes: Uint8Array): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, bytes);
  return path;
}

const floats = (count: number): Float32Array<ArrayBuffer> => Float32Array.from({ length: count }, (_, i) => i + 0.5);
const bytesOf = (array: ArrayBufferView): Uint8Array =>
  new Uint8Array(array.buffer as ArrayBuffer, array.byteOffset, array.byteLength);

describe("NPY: reading", () => {
  const write: Record<
    string,
    [bytes: number, set: (view: DataView, at: number, value: number, little: boolean) => void]
  > = {
    b1: [1, (view, at, value) => view.setUint8(at, value)],
    u1: [1, (view, at, value) => view.setUint8(at, value)],
    i1: [1, (view, at, value) => view.setInt8(at, value)],
    u2: [2, (view, at, value, little) => view.setUint16(at, value, little)],
    i2: [2, (view, at, value, little) => view.setInt16(at, value, little)],
    u4: [4, (view, at, value, little) => view.setUint32(at, value, little)],
    i4: [4, (view, at, value, little) => view.setInt32(at, value, little)],
    f4: [4, (view, at, value, little) => view.setFloat32(at, value, little)],
    f8: [8, (view, at, value, little) => view.setFloat64(at, value, little)],
  };
  const samples: Record<string, number[]> = {
    b1: [0, 1, 1, 0, 1, 0],
    u1: [0, 1, 2, 127, 128, 255],
    i1: [0, 1, -1, 127, -128, 5],
    u2: [0, 1, 258, 32768, 65535, 7],
    i2: [0, -1, 258, 32767, -32768, 7],
    u4: [0, 1, 65536, 2 ** 31, 2 ** 32 - 1, 16777217],
    i4: [0, -1, 65536, 2 ** 31 - 1, -(2 ** 31), 16777217],
    f4: [0, -0.1, 1e30, Number.NaN, Number.NEGATIVE_INFINITY, 2 ** -140],
    f8: [0, -0.1, 1e300, Number.NaN, Math.PI, 2 ** -140],
  };
  for (const [type, [width, set]] of Object.entries(write)) {
    for (const byteOrder of width === 1 ? ["|", "<", ">"] : ["<", ">"]) {
      it(`reads ${byteOrder}${type}`, async () => {
        const values = samples[type]!;
        const data = new DataView(new ArrayBuffer(values.length * width));
        for (const [i, value] of values.entries()) set(data, i * width, value, byteOrder === "<");
        const header = dictionary(`'${byteOrder}${type}'`, "(2, 3)");
        const path = await save("types.npy", npy({ header, data: bytesOf(data) }));
        const array = await readNpy(path);
        assert.deepEqual(array.shape, [2, 3]);
        assert.deepEqual(array.data, Float32Array.from(values));
      });
    }
  }

  const headers: [what: string, parts: Parts, shape: number[]][] = [
    ["version 2", { version: 2, header: dictionary("'<f4'", "(2, 3)") }, [2, 3]],
    ["version 3", { version: 3, header: dictionary("'<f4'", "(2, 3)") }, [2, 3]],
    ["keys in another order and spacing", { header: `{"shape" :( 6 , ),"fortran_order":False , "descr":"<f4"}` }, [6]],
    ["the long integers of Python 2", { header: dictionary("'<f4'", "(2L, 3L)") }, [2, 3]],
    ["one-dimensional Fortran order", { header: dictionary("'<f4'", "(6,)", "True") }, [6]],
    ["rank 6", { header: dictionary("'<f4'", "(1, 2, 1, 3, 1, 1)") }, [1, 2, 1, 3, 1, 1]],
  ];
  for (const [what, parts, shape] of headers) {
    it(`reads ${what}`, async () => {
      const path = await save("header.npy", npy({ ...parts, data: bytesOf(floats(6)) }));
      assert.deepEqual(await readNpy(path), { shape, data: floats(6) });
    });
  }

  it("reads a scalar as an array without axes", async () => {
    const path = await save("scalar.npy", npy({ header: dictionary("'<f4'", "()"), data: bytesOf(floats(1)) }));
    assert.deepEqual(await readNpy(path), { shape: [], data: floats(1) });
  });

  it("turns Fortran order into C order, whole and in slabs", async () => {
    const [z, y, x] = [3, 4, 5];
    const fortran = new Float32Array(z * y * x);
    for (let i = 0; i < fortran.length; i++) {
      const [iz, iy, ix] = [Math.floor(i / (y * x)), Math.floor(i / x) % y, i % x];
      fortran[iz + z * (iy + y * ix)] = i;
    }
    const header = dictionary("'<f4'", `(${z}, ${y}, ${x})`, "True");
    const path = await save("fortran.npy", npy({ header, data: bytesOf(fortran) }));
    const expected = Float32Array.from(fortran, (_, i) => i);
    assert.deepEqual((await readNpy(path)).data, expected);
    await using file = await openNpy(path);
    assert.deepEqual(await file.read(17, 25), expected.slice(17, 42));
  });

  it("reads slabs, also across its own blocks of 16 MiB", async () => {
    const count = 2 ** 21 + 1000; // of 8 bytes
    const values = Float64Array.from({ length: count }, (_, i) => i);
    const header = dictionary("'<f8'", `(${count},)`);
    const path = await save("long.npy", npy({ header, data: bytesOf(values) }));
    await using file = await openNpy(path);
    const whole = await file.read(0, count);
    assert.ok(whole.every((value, i) => value === i));
    assert.deepEqual(await file.read(2 ** 21 - 2, 4), new Float32Array([-2, -1, 0, 1].map((i) => 2 ** 21 + i)));
    assert.deepEqual(await file.read(count, 0), new Float32Array(0));
  });

  it("reads beyond 4 GiB in a file of 12 GiB", async () => {
    const count = 3 * 2 ** 30;
    const head = npy({ header: dictionary("'<f4'", `(3, ${2 ** 30})`) });
    const path = await save("sparse.npy", head);
    const handle = await open(path, "r+");
    await handle.write(bytesOf(floats(4)), 0, 16, head.length + (count - 4) * 4);
    await handle.close();
    await using file = await openNpy(path);
    assert.deepEqual(await file.read(count - 5, 5), new Float32Array([0, ...floats(4)]));
  });

  it("refuses slabs outside the array, and reads after close", async () => {
    const path = await save("slab.npy", npy({ header: dictionary("'<f4'", "(2, 3)"), data: bytesOf(floats(6)) }));
    const file = await openNpy(path);
    for (const [offset, count] of [
      [0, 7],
      [6, 1],
      [-1, 2],
      [0.5, 1],
      [0, -1],
      [Number.NaN, 1],
    ] as const) {
      await assert.rejects(file.read(offset, count), raysumError("argument", /slab of .* elements .* the array has 6/));
    }
    await file.close();
    await file.close();
    await assert.rejects(file.read(0, 1), raysumError("disposed", /read after close/));
  });
});

describe("NPY: damaged and foreign files", () => {
  const good = dictionary("'<f4'", "(2, 3)");
  const data = bytesOf(floats(6));
  const cases: [what: string, bytes: Uint8Array, sentence: RegExp][] = [
    ["an empty file", new Uint8Array(), /has 0 bytes, too few for a NPY file/],
    ["a file of 11 bytes", npy({ header: good }).subarray(0, 11), /has 11 bytes, too few/],
    ["another magic", npy({ magic: "\x93NUMPX", header: good, data }), /does not begin as a NPY file/],
    ["a zip archive", npy({ magic: "PK\x03\x04ab", header: good, data }), /does not begin as a NPY file/],
    ["version 0", npy({ version: 0, header: good, data }), /version 0\.0, expected 1, 2 or 3/],
    ["version 4", npy({ version: 4, header: good, data }), /version 4\.0, expected 1, 2 or 3/],
    ["a header beyond the file", npy({ header: good, headerLength: 5000 }), /header of 5000 bytes in a file of/],
    ["a header of 4 GiB", npy({ version: 2, header: good, headerLength: 2 ** 32 - 1, data }), /expected at most 10000/],
    ["an empty header", npy({ header: "", data }), /expected a Python dictionary/],
    ["a header cut short", npy({ header: good.slice(0, -4), data }), /expected a Python dictionary/],
    ["code as header", npy({ header: "{__import__('os')}", data }), /has "__import__.*expected key: value/],
    ["a key twice", npy({ header: `${good.slice(0, -1)}'descr': '<f4'}`, data }), /names 'descr' twice/],
    ["no descr", npy({ header: "{'fortran_order': False, 'shape': (6,)}", data }), /keys \[fortran_order,shape\]/],
    ["no shape", npy({ header: "{'descr': '<f4', 'fortran_order': False}", data }), /keys \[descr,fortran_order\]/],
    ["a key too many", npy({ header: `${good.slice(0, -1)}'a': True}`, data }), /keys \[.*a\], expected descr/],
    ["fortran_order 'yes'", npy({ header: dictionary("'<f4'", "(2, 3)", "'yes'"), data }), /expected True or False/],
    ["a negative count", npy({ header: dictionary("'<f4'", "(-2, -3)"), data }), /every count must be a positive/],
    ["a zero count", npy({ header: dictionary("'<f4'", "(0, 3)") }), /every count must be a positive/],
    ["a fractional count", npy({ header: dictionary("'<f4'", "(2.0, 3)"), data }), /every count must be a positive/],
    ["a missing count", npy({ header: dictionary("'<f4'", "(2,, 3)"), data }), /every count must be a positive/],
    [
      "a count of 2^53",
      npy({ header: dictionary("'<f4'", `(${2 ** 53}, 1)`), data }),
      /positive whole number below 2\^53/,
    ],
    [
      "a shape that overflows",
      npy({ header: dictionary("'<f4'", `(${2 ** 32}, ${2 ** 32})`), data }),
      /24 bytes of data/,
    ],
    [
      "an infinite shape",
      npy({ header: dictionary("'<f4'", `(${"9007199254740991,".repeat(64)})`), data }),
      /24 bytes/,
    ],
    ["65 axes", npy({ header: dictionary("'<f4'", `(${"1,".repeat(65)})`), data }), /65 axes, expected at most 64/],
    ["a shape that is no tuple", npy({ header: dictionary("'<f4'", "[2, 3]"), data }), /expected a tuple of counts/],
    ["data cut short", npy({ header: good, data: data.subarray(0, 23) }), /has 23 bytes of data.*needs 24/],
    ["data too long", npy({ header: good, data: bytesOf(floats(7)) }), /has 28 bytes of data.*needs 24/],
    ["objects", npy({ header: dictionary("'|O'", "(2, 3)"), data }), /type "'\|O'", expected one of/],
    ["complex numbers", npy({ header: dictionary("'<c8'", "(3,)"), data }), /type "'<c8'", expected one of/],
    ["strings", npy({ header: dictionary("'<U1'", "(6,)"), data }), /type "'<U1'", expected one of.*convert with/],
    ["records", npy({ header: dictionary("[('a', '<f4')]", "(6,)"), data }), /expected one of/],
    ["float16", npy({ header: dictionary("'<f2'", "(12,)"), data }), /type "'<f2'", expected one of/],
    ["int64", npy({ header: dictionary("'<i8'", "(3,)"), data }), /type "'<i8'", expected one of/],
    ["f4 without byte order", npy({ header: dictionary("'|f4'", "(6,)"), data }), /type "'\|f4'", expected one of/],
    ["9000 opening brackets", npy({ header: `{'shape': ${"(".repeat(9000)}}`, data }), /expected key: value/],
  ];
  for (const [what, bytes, sentence] of cases) {
    it(`refuses ${what}`, async () => {
      const path = await save("damaged.npy", bytes);
      await assert.rejects(readNpy(path), raysumError("file", sentence));
      await assert.rejects(readNpy(path), raysumError("file", /damaged\.npy: /));
    });
  }

  it("refuses a missing file and a folder", async () => {
    await assert.rejects(readNpy(join(folder, "none.npy")), raysumError("file", /none\.npy: cannot be read: .*ENOENT/));
    await assert.rejects(readNpy(folder), raysumError("file", /is not a regular file/));
  });

  it("names the place where a file that became shorter ends", async () => {
    const path = await save("shrinking.npy", npy({ header: good, data }));
    await using file = await openNpy(path);
    const handle = await open(path, "r+");
    await handle.truncate((await handle.stat()).size - 5);
    await handle.close();
    await assert.rejects(file.read(0, 6), raysumError("file", /ends at byte \d+, expected \d+/));
  });

  it("has a sentence for arrays that no runtime holds in one piece", () => {
    assert.throws(() => allocate("x.npy", 2 ** 42), raysumError("memory", /x\.npy: no room for 4398046511104 float32/));
  });
});

describe("NPY: writing", () => {
  it("writes the bytes that NumPy writes", async () => {
    const path = join(folder, "bytes.npy");
    await writeNpy(path, { shape: [2, 3], data: floats(6) });
    const header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }".padEnd(117);
    assert.deepEqual(new Uint8Array(await readFile(path)), new Uint8Array(npy({ header, data: bytesOf(floats(6)) })));
  });

  for (const shape of [[6], [], [1, 2, 3], Array.from({ length: 64 }, () => 1)]) {
    it(`reads back what it wrote in rank ${shape.length}`, async () => {
      const data = floats(shape.reduce((a, b) => a * b, 1));
      const path = join(folder, "round.npy");
      await writeNpy(path, { shape, data });
      assert.deepEqual(await readNpy(path), { shape, data });
      assert.equal((await readFile(path)).length % 64, (data.length * 4) % 64, "the data begins at a multiple of 64");
    });
  }

  it("writes a part of a larger buffer", async () => {
    const path = join(folder, "part.npy");
    await writeNpy(path, { shape: [3], data: floats(9).subarray(2, 5) });
    assert.deepEqual((await readNpy(path)).data, floats(9).slice(2, 5));
  });

  it("writes slabs in the order of the calls, and gives the name only at close", async () => {
    const path = join(folder, "slabs.npy");
    const file = await createNpy(path, [2, 5]);
    await Promise.all([file.write(floats(10).subarray(0, 4)), file.write(floats(10).subarray(4, 9))]);
    await file.write(floats(10).subarray(9));
    assert.ok(!(await readdir(folder)).includes("slabs.npy"));
    await file.close();
    await file.close();
    assert.deepEqual((await readNpy(path)).data, floats(10));
    await assert.rejects(file.write(floats(1)), raysumError("disposed", /write after close/));
  });

  it("refuses more elements than the shape holds, and still takes the right number", async () => {
    const path = join(folder, "more.npy");
    await using file = await createNpy(path, [3]);
    await file.write(floats(2));
    await assert.rejects(file.write(floats(2)), raysumError("argument", /2 \+ 2 elements, shape \[3\] holds 3/));
    await file.write(floats(1));
    await file.close();
    assert.deepEqual((await readNpy(path)).data, new Float32Array([0.5, 1.5, 0.5]));
  });

  it("leaves the old file, and nothing else, when elements are missing or the writer is dropped", async () => {
    const path = join(folder, "old.npy");
    await writeNpy(path, { shape: [1], data: floats(1) });
    const before = await readdir(folder);
    const short = await createNpy(path, [2, 2]);
    await short.write(floats(3));
    await assert.rejects(short.close(), raysumError("file", /3 elements were written, shape \[2, 2\] needs 4/));
    {
      await using dropped = await createNpy(path, [2]);
      await dropped.write(floats(2));
    }
    assert.deepEqual((await readdir(folder)).sort(), before.sort());
    assert.deepEqual((await readNpy(path)).data, floats(1));
  });

  it("refuses what is no array, before a file is made", async () => {
    const path = join(folder, "refused.npy");
    const three = floats(3);
    await assert.rejects(writeNpy(path, { shape: [2], data: three }), raysumError("shape", /3 elements.*needs 2/));
    await assert.rejects(createNpy(path, [0]), raysumError("shape", /shape \[0\]: every count/));
    await assert.rejects(createNpy(path, [1.5]), raysumError("shape", /shape \[1\.5\]: every count/));
    await assert.rejects(
      writeNpy(path, { shape: [1], data: [1] as unknown as Float32Array }),
      raysumError("argument", /Float32Array/),
    );
    const nowhere = join(folder, "none", "x.npy");
    await assert.rejects(writeNpy(nowhere, { shape: [3], data: three }), raysumError("file", /cannot be written/));
    assert.ok(!(await readdir(folder)).some((name) => name.startsWith("refused")));
  });

  it("removes the unfinished file when the name is taken by a folder", async () => {
    const before = await readdir(folder);
    await assert.rejects(writeNpy(folder, { shape: [1], data: floats(1) }), raysumError("file", /cannot be written/));
    assert.deepEqual(await readdir(folder), before);
    assert.ok(
      !(await readdir(tmpdir())).some((name) => name.startsWith(folder.split("/").at(-1)!) && name.endsWith(".part")),
    );
  });
});
