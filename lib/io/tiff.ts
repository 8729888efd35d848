import { Buffer } from "node:buffer";
import { type FileHandle, open, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { RaysumError } from "../errors.ts";
import type { Shape } from "../shape.ts";
import { forEachBlock, readFully, viewOf } from "./elements.ts";
import { allocate, type HostArray } from "./host_array.ts";
import { fileSize, reasonOf, refuse } from "./refuse.ts";
import { decode } from "./tiff_decode.ts";
import { type Page, readPages } from "./tiff_page.ts";

/** Open TIFF files: pages of one size, read some at a time. */
export interface TiffStack extends AsyncDisposable {
  /** (count, rows, columns) */
  readonly shape: Shape;
  /**
   * `count` pages from page `first` on, in C order.
   *
   * @throws RaysumError `argument` for pages outside the stack, `file` when a file has changed or does not unpack,
   * `memory` when the pages do not fit in one typed array, `disposed` after `close`
   */
  read(first: number, count: number): Promise<Float32Array<ArrayBuffer>>;
  /** Ends reading; calling it again does nothing. */
  close(): Promise<void>;
}

interface Source {
  readonly path: string;
  readonly size: number;
}

interface PageOfFile {
  readonly source: Source;
  /** Its number in that file. */
  readonly index: number;
  readonly page: Page;
}

/**
 * Opens a stack of grey images: one file with any number of pages, a folder, all of whose .tif and .tiff files are taken
 * in natural order (2 before 10), or files in the order given. Classic TIFF and BigTIFF of either byte order; strips and
 * tiles without compression or with LZW, deflate or PackBits; integers of 8, 16 and 32 bits, signed or not, and floating
 * point numbers of 32 and 64 bits. They become float32, rounded to the nearest where they need it (integers are exact
 * up to 2^24), and are otherwise taken as they are stored: orientation and PhotometricInterpretation change nothing.
 * ImageJ's stacks with one directory for all images are read too. All directories are checked against the sizes of
 * their files before anything of the size of the stack is allocated; no file stays open between two reads.
 *
 * @throws RaysumError `file` when a file is missing, damaged, of another kind, or when pages differ in size
 */
export async function openTiffStack(path: string | readonly string[]): Promise<TiffStack> {
  const pages: PageOfFile[] = [];
  for (const file of await filesOf(path)) {
    const source = { path: file, size: await fileSize(file) };
    const handle = await openFile(file);
    try {
      const found = await readPages(file, source.size, (position, count) =>
        readFully(file, handle, Buffer.alloc(count), position),
      );
      for (const [index, page] of found.entries()) {
        const { rows, columns } = pages[0]?.page ?? page;
        if (page.rows !== rows || page.columns !== columns) {
          const others = `${page.rows} rows and ${page.columns} columns, those before it ${rows} and ${columns}`;
          refuse(file, `page ${index} has ${others}`);
        }
        pages.push({ source, index, page });
      }
    } finally {
      await handle.close();
    }
  }
  return stackOf(pages);
}

/**
 * Reads a whole stack; files, conversions and errors are those of `openTiffStack`. A stack that does not fit in one typed
 * array is a RaysumError `memory`: read that one in parts with `openTiffStack`.
 */
export async function readTiffStack(path: string | readonly string[]): Promise<HostArray> {
  await using stack = await openTiffStack(path);
  return { shape: stack.shape, data: await stack.read(0, stack.shape[0]!) };
}

const byNumber = new Intl.Collator("en", { numeric: true });

/** The .tif and .tiff files of a folder in natural order. */
export async function listTiffFiles(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch((error) => refuse(folder, `cannot be read: ${reasonOf(error)}`, error));
  return names.filter((name) => /\.tiff?$/i.test(name)).sort(byNumber.compare);
}

async function filesOf(path: string | readonly string[]): Promise<readonly string[]> {
  if (typeof path === "string") {
    const status = await stat(path).catch((error) => refuse(path, `cannot be read: ${reasonOf(error)}`, error));
    if (!status.isDirectory()) return [path];
    const names = await listTiffFiles(path);
    return names.length > 0 ? names.map((name) => join(path, name)) : refuse(path, "has no .tif or .tiff files");
  }
  if (!Array.isArray(path) || path.length === 0 || !path.every((file) => typeof file === "string")) {
    throw new RaysumError("argument", `path ${path}: expected a file, a folder or a list of files`);
  }
  return path;
}

async function openFile(path: string): Promise<FileHandle> {
  return await open(path, "r").catch((error) => refuse(path, `cannot be read: ${reasonOf(error)}`, error));
}

function stackOf(pages: readonly PageOfFile[]): TiffStack {
  const { rows, columns } = pages[0]!.page;
  const name = pages[0]!.source.path;
  let closed = false;

  async function read(first: number, count: number): Promise<Float32Array<ArrayBuffer>> {
    if (closed) throw new RaysumError("disposed", `${name}: read after close`);
    const counts = [first, count].every((value) => Number.isSafeInteger(value) && value >= 0);
    if (!counts || count > pages.length - first) {
      throw new RaysumError("argument", `${name}: ${count} pages from page ${first}, the stack has ${pages.length}`);
    }
    const out = allocate(name, count * rows * columns);
    let opened: { source: Source; handle: FileHandle } | undefined;
    try {
      for (let i = 0; i < count; i++) {
        const { source, index, page } = pages[first + i]!;
        if (opened?.source !== source) {
          await opened?.handle.close();
          opened = undefined;
          const size = await fileSize(source.path);
          if (size !== source.size) refuse(source.path, `has ${size} bytes, when it was opened ${source.size}`);
          opened = { source, handle: await openFile(source.path) };
        }
        const target = out.subarray(i * rows * columns, (i + 1) * rows * columns);
        await readPage(source.path, opened.handle, index, page, target);
      }
    } finally {
      await opened?.handle.close();
    }
    return out;
  }

  async function close(): Promise<void> {
    closed = true;
  }

  return { shape: Object.freeze([pages.length, rows, columns]), read, close, [Symbol.asyncDispose]: close };
}

async function readPage(path: string, handle: FileHandle, index: number, page: Page, out: Float32Array): Promise<void> {
  const { rows, columns, tiled, compression, extents } = page;
  if (!tiled && compression === "none") {
    let at = 0;
    for (const { offset, bytes } of extents) {
      await forEachBlock(path, handle, page, offset, bytes / viewOf[page.type].BYTES_PER_ELEMENT, (values) => {
        out.set(values, at);
        at += values.length;
      });
    }
    return;
  }
  const [blockRows, blockColumns] = page.blockShape;
  const across = Math.ceil(columns / blockColumns);
  for (const [i, { offset, bytes }] of extents.entries()) {
    const row = Math.floor(i / across) * blockRows;
    const column = (i % across) * blockColumns;
    const stored = await readFully(path, handle, Buffer.alloc(bytes), offset);
    const height = Math.min(blockRows, rows - row);
    const values = await decode(stored, page, tiled ? blockRows : height, (reason, cause) =>
      refuse(path, `page ${index}: ${tiled ? "tile" : "strip"} ${i} ${reason}`, cause),
    );
    const length = Math.min(blockColumns, columns - column);
    for (let y = 0; y < height; y++) {
      out.set(values.subarray(y * blockColumns, y * blockColumns + length), (row + y) * columns + column);
    }
  }
}
