import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { type HostArray, readSafetensors, readSafetensorsMetadata, writeSafetensors } from "../lib/io/index.ts";
import { raysumError } from "./support/errors.ts";
import { seededRandom } from "./support/random.ts";

const folder = mkdtempSync(join(tmpdir(), "raysum-safetensors-"));
after(() => rmSync(folder, { recursive: true }));
const path = (name: string) => join(folder, name);

function fileOf(header: unknown, bytes: number): Uint8Array {
  const text = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const file = new Uint8Array(8 + text.length + bytes);
  new DataView(file.buffer).setBigUint64(0, BigInt(text.length), true);
  file.set(text, 8);
  return file;
}

describe("safetensors", () => {
  it("come back as they were written", async () => {
    const random = seededRandom(1);
    const tensors = new Map<string, HostArray>([
      ["a.weight", { shape: [2, 3, 4], data: random.float32(24) }],
      ["ä", { shape: [5], data: random.float32(5) }],
      ["scalar", { shape: [], data: Float32Array.of(Number.NaN) }],
    ]);
    await writeSafetensors(path("a"), tensors);
    assert.deepEqual(await readSafetensors(path("a")), tensors);
    assert.equal((await readSafetensorsMetadata(path("a"))).size, 0);
    const texts = new Map([["where", '"x" é']]);
    await writeSafetensors(path("a"), tensors, texts);
    assert.deepEqual(await readSafetensors(path("a")), tensors);
    assert.deepEqual(await readSafetensorsMetadata(path("a")), texts);
    const bytes = new DataView((await readFile(path("a"))).buffer.slice(0));
    assert.equal(Number(bytes.getBigUint64(0, true)) % 8, 0);
  });

  it("are read as PyTorch writes them", async () => {
    const weights = fileURLToPath(new URL("reference/learned-pd/weights0.safetensors", import.meta.url));
    const tensors = await readSafetensors(weights);
    assert.equal(tensors.size, 60);
    assert.deepEqual(tensors.get("9_dual.block.0.weight")!.shape, [32, 7, 3, 3]);
    const parameters = [...tensors.values()].reduce((sum, { data }) => sum + data.length, 0);
    assert.equal(parameters, 250_560);
    await writeSafetensors(path("again"), tensors);
    assert.deepEqual(await readSafetensors(path("again")), tensors);
  });

  it("are refused where the file is damaged", async () => {
    const entry = { dtype: "F32", shape: [2], data_offsets: [0, 8] };
    const cases: readonly (readonly [Uint8Array, RegExp])[] = [
      [new Uint8Array(0), /no safetensors header: 0 bytes are announced, the file has 0/],
      [new Uint8Array(8), /no safetensors header/],
      [new Uint8Array(16).fill(255), /no safetensors header: 18446744073709551615 bytes/],
      [fileOf("{", 0), /no JSON/],
      [fileOf("7", 0), /no table of tensors/],
      [fileOf({ a: { ...entry, dtype: "BF16" } }, 8), /"a" has elements of type "BF16": expected F32/],
      [fileOf({ a: { ...entry, shape: [-2] } }, 8), /"a" has no shape/],
      [fileOf({ a: { ...entry, data_offsets: [0] } }, 8), /"a" has no data_offsets/],
      [fileOf({ a: { ...entry, data_offsets: [4, 12] } }, 8), /"a" lies at bytes 4 to 12 of 8: expected 8 bytes/],
      [fileOf({ a: { ...entry, shape: [3] } }, 8), /expected 12 bytes for its shape/],
      [fileOf({ a: null }, 8), /"a" has elements of type "undefined"/],
    ];
    for (const [bytes, sentence] of cases) {
      await writeFile(path("damaged"), bytes);
      await assert.rejects(readSafetensors(path("damaged")), raysumError("file", sentence));
    }
    await assert.rejects(readSafetensors(path("missing")), raysumError("file", /cannot be read/));
  });

  it("leave what was there when they cannot be written", async () => {
    await writeSafetensors(path("kept"), new Map([["a", { shape: [1], data: Float32Array.of(1) }]]));
    const wrong = new Map([["a", { shape: [2], data: Float32Array.of(1) }]]);
    await assert.rejects(writeSafetensors(path("kept"), wrong), raysumError("shape", /needs 2/));
    assert.equal((await readSafetensors(path("kept"))).get("a")!.data[0], 1);
  });
});
