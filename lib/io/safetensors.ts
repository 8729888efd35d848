import { Buffer } from "node:buffer";
import { type FileHandle, open } from "node:fs/promises";
import { RaysumError } from "../errors.ts";
import { type Shape, sizeOf } from "../shape.ts";
import { readFully } from "./elements.ts";
import { allocate, checkHostArray, type HostArray } from "./host_array.ts";
import { fileSize, quote, refuse } from "./refuse.ts";
import { createSlabFile } from "./slab_writer.ts";

/** The name in the header that is no tensor's. */
const METADATA = "__metadata__";

/** More than any header of names needs, and little enough to read in one go. */
const MOST_HEADER_BYTES = 100_000_000;

interface Entry {
  readonly shape: Shape;
  readonly begin: number;
  readonly end: number;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** An entry of the header, where it is one of float32 that lies within `room` bytes. */
function entryOf(path: string, name: string, value: unknown, room: number): Entry {
  const { dtype, shape, data_offsets: offsets } = (value ?? {}) as Record<string, unknown>;
  const cannot = (sentence: string): never => refuse(path, `tensor ${quote(name)} ${sentence}`);
  if (dtype !== "F32") cannot(`has elements of type ${quote(String(dtype))}: expected F32`);
  if (!Array.isArray(shape) || !shape.every(isCount)) cannot("has no shape");
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) cannot("has no data_offsets");
  const [begin, end] = offsets as [number, number];
  const bytes = 4 * sizeOf(shape as number[]);
  if (end - begin !== bytes || end > room)
    cannot(`lies at bytes ${begin} to ${end} of ${room}: expected ${bytes} bytes for its shape`);
  return { shape: Object.freeze([...(shape as number[])]), begin, end };
}

/** Opens a safetensors file and reads its header. */
async function withHeader<T>(
  path: string,
  body: (header: Record<string, unknown>, handle: FileHandle, start: number, size: number) => T | Promise<T>,
): Promise<T> {
  const size = await fileSize(path);
  const handle = await open(path, "r");
  try {
    const read = (position: number, count: number) => readFully(path, handle, Buffer.alloc(count), position);
    const length = size < 8 ? 0n : (await read(0, 8)).readBigUInt64LE(0);
    if (length === 0n || length > MOST_HEADER_BYTES || Number(length) > size - 8)
      refuse(path, `has no safetensors header: ${length} bytes are announced, the file has ${size}`);
    let header: unknown;
    try {
      header = JSON.parse((await read(8, Number(length))).toString("utf8"));
    } catch (error) {
      refuse(path, "has a header that is no JSON", error);
    }
    if (typeof header !== "object" || header === null) refuse(path, "has a header that is no table of tensors");
    return await body(header as Record<string, unknown>, handle, 8 + Number(length), size);
  } finally {
    await handle.close();
  }
}

/**
 * Reads the tensors of a safetensors file (Hugging Face's format: a JSON header of names, shapes and places, then the elements), as
 * PyTorch writes weights. Elements of float32 only.
 *
 * @throws RaysumError `file` when the file is missing, damaged, or has elements of another type
 */
export async function readSafetensors(path: string): Promise<Map<string, HostArray>> {
  return await withHeader(path, async (header, handle, start, size) => {
    const tensors = new Map<string, HostArray>();
    for (const [name, value] of Object.entries(header)) {
      if (name === METADATA) continue;
      const { shape, begin, end } = entryOf(path, name, value, size - start);
      const data = allocate(path, (end - begin) / 4);
      await readFully(path, handle, Buffer.from(data.buffer), start + begin);
      tensors.set(name, { shape, data });
    }
    return tensors;
  });
}

/**
 * Reads the texts that a safetensors file holds beside its tensors, by name.
 *
 * @throws RaysumError `file` when the file is missing or damaged
 */
export async function readSafetensorsMetadata(path: string): Promise<Map<string, string>> {
  return await withHeader(path, (header) => {
    const metadata = Object.entries((header[METADATA] ?? {}) as object);
    if (!metadata.every(([, text]) => typeof text === "string")) refuse(path, "has metadata that are no texts");
    return new Map(metadata);
  });
}

/**
 * Writes tensors of float32 as a safetensors file, in the order given, and texts beside them, under a temporary name that is then
 * renamed: a run that breaks off leaves what was there as it was.
 *
 * @throws RaysumError `argument` or `shape` for what is no array, `file` when the file cannot be written
 */
export async function writeSafetensors(
  path: string,
  tensors: ReadonlyMap<string, HostArray>,
  metadata: ReadonlyMap<string, string> = new Map(),
): Promise<void> {
  let bytes = 0;
  const entries = [...tensors].map(([name, array]) => {
    checkHostArray(name, array);
    if (name === METADATA) throw new RaysumError("argument", `${path}: no tensor can have the name ${name}`);
    const begin = bytes;
    bytes += 4 * array.data.length;
    return [name, { dtype: "F32", shape: array.shape, data_offsets: [begin, bytes] }];
  });
  const texts = metadata.size > 0 ? { [METADATA]: Object.fromEntries(metadata) } : {};
  const text = Buffer.from(JSON.stringify({ ...texts, ...Object.fromEntries(entries) }));
  // Padded with spaces so that the elements begin at a multiple of 8 bytes.
  const header = Buffer.alloc(8 + Math.ceil(text.length / 8) * 8, " ");
  header.writeBigUInt64LE(BigInt(header.length - 8), 0);
  text.copy(header, 8);
  await using file = await createSlabFile(path, [bytes / 4], header);
  for (const { data } of tensors.values()) await file.write(data);
  await file.close();
}
