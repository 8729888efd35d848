import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import * as hdf5 from "h5wasm/node";
import { RaysumError } from "../lib/errors.ts";
import { readDataExchange } from "../lib/io/index.ts";
import { bytesAskedFor } from "./support/allocations.ts";
import { raysumError } from "./support/errors.ts";
import { seededRandom } from "./support/random.ts";

const folder = await mkdtemp(join(tmpdir(), "raysum-hdf5-damaged-"));
after(() => rm(folder, { recursive: true }));
await hdf5.ready;

type Fill = (exchange: hdf5.Group, file: hdf5.File) => void;

let made = 0;
/** The bytes of a file. "earliest" is the format of HDF5 1.6, without checksums; "latest" has them. */
async function fileOf(libver: "earliest" | "latest", fill: Fill): Promise<Buffer> {
  const path = join(folder, `made${made++}.h5`);
  const file = new hdf5.File(path, "w", { libver: [libver, "latest"] });
  fill(file.create_group("exchange"), file);
  file.close();
  return await readFile(path);
}

const counts = Uint16Array.from({ length: 2400 }, (_, i) => (i * 7919) % 65536);
const scan = { name: "data", data: counts, shape: [5, 16, 30] };
const packed = { ...scan, chunks: [1, 16, 30], compression: 5 };
const withTheta: Fill = (exchange) => {
  exchange.create_dataset(scan);
  exchange.create_dataset({ name: "theta", data: new Float64Array([0, 45, 90, 135, 180]) });
};

const [old, latest, chunked] = [
  await fileOf("earliest", withTheta),
  await fileOf("latest", withTheta),
  await fileOf("earliest", (exchange) => exchange.create_dataset(packed)),
];

/** A copy in which the bytes from `at`, or from where `at` is found (plus `offset`), are others. */
function changed(file: Buffer, at: number | string, offset: number, ...values: number[]): Buffer {
  const start = typeof at === "number" ? at : file.indexOf(at, 0, "latin1");
  assert.ok(start >= 0 && start + offset + values.length <= file.length);
  const bytes = Buffer.from(file);
  bytes.set(values, start + offset);
  return bytes;
}

/** Where the only dataspace message of [5, 16, 30] has its counts. */
const extent = (file: Buffer) => file.indexOf(Buffer.from([5, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 30]));
const eight = (value: bigint) => [...Buffer.from(BigUint64Array.of(value).buffer)];

/** A dataset that grew to a shape of which nothing is in the file. */
const grown = (shape: number[], chunks: number[]) =>
  fileOf("latest", (exchange) => {
    const data = new Uint16Array(chunks.reduce((n, m) => n * m, 1));
    const maxshape = shape.map(() => null) as unknown as number[];
    const dataset = exchange.create_dataset({ name: "data", data, shape: chunks, maxshape, chunks, compression: 1 });
    (dataset as hdf5.Dataset).resize(shape);
  });

const most = 2 ** 26;
// biome-ignore format: a row a line
const damaged: [what: string, bytes: Uint8Array, sentence: RegExp][] = [
  ["an empty file", new Uint8Array(), /file signature not found/],
  ["8 bytes", old.subarray(0, 8), /cannot be opened as HDF5: bad byte number/],
  ["another signature", changed(old, 0, 0, 0x88), /file signature not found/],
  ["a superblock of version 9", changed(old, 8, 0, 9), /bad superblock version number/],
  ["addresses of 3 bytes", changed(old, 13, 0, 3), /bad byte number in an address/],
  ["lengths of 255 bytes", changed(old, 14, 0, 255), /bad byte number for object size/],
  ["a lost end", old.subarray(0, old.length - 1), /truncated file/],
  ["a lost half", old.subarray(0, old.length / 2), /truncated file/],
  ["an end of the file at 2^63", changed(old, 40, 0, ...eight(2n ** 63n)), /truncated file: .* stored_eof = 9223372036854775808/],
  ["a root at 2^40", changed(old, 64, 0, ...eight(2n ** 40n)), /address of object past end of allocation/],
  ["a tree of another signature", changed(old, "TREE", 0, 0x55), /exchange\/data cannot be opened: wrong B-tree signature/],
  ["a heap of another signature", changed(old, "HEAP", 0, 0x55), /exchange\/data cannot be opened: bad local heap signature/],
  ["a heap of 2^62 bytes", changed(old, "HEAP", 8, ...eight(2n ** 62n)), /exchange\/data cannot be opened: bad heap free list/],
  ["symbols of another signature", changed(old, "SNOD", 0, 0x55), /exchange\/data cannot be opened: bad symbol table node signature/],
  ["65535 symbols", changed(old, "SNOD", 6, 255, 255), /exchange\/data cannot be opened: ran off the end of the image buffer/],
  ["2^40 views", changed(old, extent(old), 0, ...eight(2n ** 40n)), /exchange\/data cannot be read: .*size of 1099511627776 is greater/],
  ["2^63 rows", changed(old, extent(old), 8, ...eight(2n ** 63n)), /exchange\/data cannot be read: .*size of 9223372036854775808 is greater/],
  ["views that are one too many", changed(old, extent(old), 0, 6), /exchange\/data cannot be read: .*size of 6 is greater/],
  ["a rank of 255", changed(old, extent(old), -7, 255), /exchange\/data cannot be read: .*dimensionality is too large/],
  ["a scan of no columns", changed(old, extent(old), 16, 0), /exchange\/data cannot be read: .*invalid dataset size/],
  ["a checksum that does not fit", changed(latest, "OHDR", 5, 0x77), /exchange\/data cannot be opened: /],
  ["a header of another signature", changed(latest, "OHDR", 0, 0x55), /exchange\/data cannot be opened: bad object header version number/],
  ["packed data of noise", changed(chunked, chunked.length - 2000, 0, ...new Uint8Array(1500).fill(0xa5)), /exchange\/data cannot be read: /],
  ["2^50 bytes that are not there", await grown([2 ** 20, 2 ** 15, 2 ** 14], [1, 16, 30]), /needs 1125899906842624 bytes, which cannot be in a file of \d+$/],
  ["2^31 bytes that are not there", await grown([2 ** 16, 2 ** 7, 2 ** 7], [1, 16, 30]), /needs 2147483648 bytes, which cannot be in a file of \d+$/],
];

/** Bytes that reading `path` asks for: in JavaScript and, above what it had, in the memory of h5wasm. */
async function asked(path: string, check: (reading: Promise<unknown>) => Promise<void>): Promise<number> {
  const { grow } = WebAssembly.Memory.prototype;
  let bytes = 0;
  WebAssembly.Memory.prototype.grow = function (this: WebAssembly.Memory, pages: number): number {
    bytes += pages * 65536;
    return grow.call(this, pages);
  };
  try {
    bytes += await bytesAskedFor(() => check(readDataExchange(path)));
  } finally {
    WebAssembly.Memory.prototype.grow = grow;
  }
  return bytes;
}

describe("DataExchange: damaged files", () => {
  for (const [what, bytes, sentence] of damaged)
    it(`refuses ${what}`, async () => {
      const path = join(folder, `damaged${made++}.h5`);
      await writeFile(path, bytes);
      const refused = raysumError("file", sentence);
      const count = await asked(path, (reading) => assert.rejects(reading, refused));
      assert.ok(count < most, `${count} bytes`);
    });

  for (const [what, file] of Object.entries({ old, latest, chunked }))
    it(`reads or refuses files with changed bytes or a lost end, and asks for little memory (${what})`, async () => {
      const random = seededRandom(file.length);
      let refused = 0;
      for (let round = 0; round < 120; round++) {
        const bytes = Buffer.from(file);
        for (let i = random.integer(1, 4); i > 0; i--)
          bytes[random.integer(0, Math.min(bytes.length - 1, 2500))] = random.integer(0, 255);
        const path = join(folder, `changed${made++}.h5`);
        await writeFile(path, random.uniform() < 0.1 ? bytes.subarray(0, random.integer(0, bytes.length)) : bytes);
        const count = await asked(path, async (reading) => {
          await reading.catch((error) => {
            assert.ok(error instanceof RaysumError && error.code === "file", String(error));
            refused++;
          });
        });
        assert.ok(count < most, `${count} bytes in round ${round}`);
      }
      assert.ok(refused > 10, `${refused} refused`);
    });

  it("does not show a file again in which HDF5 has failed", async () => {
    const path = join(folder, "again.h5");
    await writeFile(path, damaged.find(([what]) => what === "packed data of noise")![1]);
    await assert.rejects(readDataExchange(path), raysumError("file", /cannot be read: /));
    await writeFile(path, chunked);
    await assert.rejects(readDataExchange(path), raysumError("file", /HDF5 has failed in this file before: copy it/));
    await writeFile(join(folder, "copy.h5"), chunked);
    assert.equal((await readDataExchange(join(folder, "copy.h5"))).projections.data[29], counts[29]);
  });

  it("leaves the library as it was", async () => {
    const path = join(folder, "whole.h5");
    await writeFile(path, old);
    const { projections, angles } = await readDataExchange(path);
    assert.deepEqual(projections.shape, [16, 5, 30]);
    assert.equal(angles?.length, 5);
  });
});
