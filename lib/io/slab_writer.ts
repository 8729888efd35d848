import { randomUUID } from "node:crypto";
import { open, rename, rm } from "node:fs/promises";
import { RaysumError } from "../errors.ts";
import { formatShape, type Shape, sizeOf } from "../shape.ts";
import { blockBytes } from "./elements.ts";
import { checkPath, reasonOf, refuse } from "./refuse.ts";

/** A file in the making, written in slabs in C order. Disposing of it before `close` discards it. */
export interface SlabWriter extends AsyncDisposable {
  /**
   * Appends the next elements; `data` must not change until the promise resolves.
   *
   * @throws RaysumError `argument` when more is written than the shape holds, `file`, `disposed`
   */
  write(data: Float32Array): Promise<void>;
  /**
   * Gives the file its name, replacing what was there; calling it again does nothing.
   *
   * @throws RaysumError `file` when elements are missing: the unfinished file is then removed
   */
  close(): Promise<void>;
}

/**
 * Begins a file of `header` and, behind it, `shape` little-endian float32 elements. The data goes to a temporary file
 * beside `path`, which takes its name at `close`: a run that breaks off leaves what was there as it was.
 *
 * @throws RaysumError `file` when the file cannot be made
 */
export async function createSlabFile(path: string, shape: Shape, header: Uint8Array): Promise<SlabWriter> {
  checkPath(path);
  const total = sizeOf(shape);
  const unfinished = `${path}.${randomUUID()}.part`;
  const cannot = (error: unknown): never => refuse(path, `cannot be written: ${reasonOf(error)}`, error);
  const handle = await open(unfinished, "wx").catch(cannot);
  let accepted = 0; // elements that were handed to write, ...
  let written = 0; // ... and those that have reached the file
  let closed = false;

  async function put(bytes: Uint8Array, position: number): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const length = Math.min(bytes.length - done, blockBytes);
      done += (await handle.write(bytes, done, length, position + done).catch(cannot)).bytesWritten;
    }
  }

  async function write(data: Float32Array): Promise<void> {
    if (closed) throw new RaysumError("disposed", `${path}: write after close`);
    if (!(data instanceof Float32Array)) throw new RaysumError("argument", `${path}: expected a Float32Array to write`);
    if (data.length > total - accepted) {
      const sum = `${accepted} + ${data.length} elements`;
      throw new RaysumError("argument", `${path}: ${sum}, shape ${formatShape(shape)} holds ${total}`);
    }
    const position = header.length + accepted * 4;
    accepted += data.length;
    await put(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), position);
    written += data.length;
  }

  async function discard(): Promise<void> {
    if (closed) return;
    closed = true;
    await handle.close();
    await rm(unfinished, { force: true });
  }

  async function close(): Promise<void> {
    if (closed) return;
    if (written !== total) {
      await discard();
      refuse(path, `${written} elements were written, shape ${formatShape(shape)} needs ${total}`);
    }
    closed = true;
    try {
      await handle.close();
      await rename(unfinished, path);
    } catch (error) {
      await rm(unfinished, { force: true });
      cannot(error);
    }
  }

  try {
    await put(header, 0);
  } catch (error) {
    await discard();
    throw error;
  }
  return { write, close, [Symbol.asyncDispose]: discard };
}
