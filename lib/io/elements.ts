import { Buffer } from "node:buffer";
import type { FileHandle } from "node:fs/promises";
import { refuse } from "./refuse.ts";

/** How numbers lie in a file: kind and bytes in NumPy's words (u2 is an unsigned integer of 16 bits), and byte order. */
export interface Elements {
  readonly type: ElementType;
  readonly bigEndian: boolean;
}

export type ElementType = "b1" | "i1" | "u1" | "i2" | "u2" | "i4" | "u4" | "f4" | "f8";

interface ViewConstructor {
  readonly BYTES_PER_ELEMENT: number;
  new (buffer: ArrayBuffer, byteOffset: number, length: number): Values;
}

/** What the typed arrays of numbers have in common. */
export interface Values extends ArrayLike<number> {
  subarray(begin: number, end: number): ArrayLike<number>;
}

/** The typed array that shows the elements of each type which can be read. */
export const viewOf: Readonly<Record<ElementType, ViewConstructor>> = {
  b1: Uint8Array,
  i1: Int8Array,
  u1: Uint8Array,
  i2: Int16Array,
  u2: Uint16Array,
  i4: Int32Array,
  u4: Uint32Array,
  f4: Float32Array,
  f8: Float64Array,
};

export function isElementType(type: string | undefined): type is ElementType {
  return type !== undefined && Object.hasOwn(viewOf, type);
}

/** Bytes that are read or written at once. */
export const blockBytes: number = 1 << 24;

/** Turns the elements of `bytes` into the byte order of the machine, in place. */
export function toHostOrder(bytes: Buffer, { type, bigEndian }: Elements): void {
  if (!bigEndian) return;
  const width = viewOf[type].BYTES_PER_ELEMENT;
  if (width === 2) bytes.swap16();
  if (width === 4) bytes.swap32();
  if (width === 8) bytes.swap64();
}

/** Gives `count` bytes from `position` on, or throws. */
export type ReadBytes = (position: number, count: number) => Promise<Buffer>;

/** Fills `bytes` from `position` of the file: the system may give less than was asked for in one call. */
export async function readFully(path: string, handle: FileHandle, bytes: Buffer, position: number): Promise<Buffer> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesRead } = await handle.read(bytes, done, bytes.length - done, position + done);
    if (bytesRead === 0) refuse(path, `ends at byte ${position + done}, expected ${position + bytes.length}`);
    done += bytesRead;
  }
  return bytes;
}

/** Calls `visit` with consecutive blocks of the `count` elements that begin at byte `position` of the file. */
export async function forEachBlock(
  path: string,
  handle: FileHandle,
  elements: Elements,
  position: number,
  count: number,
  visit: (values: Values) => void,
): Promise<void> {
  const View = viewOf[elements.type];
  const width = View.BYTES_PER_ELEMENT;
  const scratch = Buffer.from(new ArrayBuffer(Math.min(blockBytes, count * width)));
  for (let done = 0; done < count; ) {
    const length = Math.min(count - done, blockBytes / width);
    const bytes = scratch.subarray(0, length * width);
    await readFully(path, handle, bytes, position + done * width);
    toHostOrder(bytes, elements);
    visit(new View(scratch.buffer, 0, length));
    done += length;
  }
}
