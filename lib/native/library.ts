import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { open } from "#ffi";
import { type ErrorCode, RaysumError } from "../errors.ts";
import type { Calls } from "./calls.ts";
import { libraryDefect } from "./elf.ts";
import { environment } from "./environment.ts";
import { RS_ABI, Status, symbols } from "./symbols.ts";

const built = ["libraysum_cuda.so", "libraysum.so"].map((name) =>
  fileURLToPath(new URL(`../../build/${name}`, import.meta.url)),
);

function attempt(path: string): Calls | string {
  const defect = libraryDefect(path);
  if (defect) return defect;
  try {
    // The ABI number first: a library of another ABI may lack functions.
    const abi = open(path, ["rs_abi"]).rs_abi();
    if (abi !== RS_ABI) return `has ABI ${abi}, these sources need ABI ${RS_ABI}`;
    return open(path, Object.keys(symbols) as (keyof typeof symbols)[]);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/**
 * Opens the native library at one of `paths`, the first that fits.
 *
 * @throws RaysumError "library" that lists every path tried with its reason, and the fix.
 */
export function openLibrary(paths: readonly string[]): Calls {
  const failures: string[] = [];
  for (const path of paths) {
    const result = attempt(path);
    if (typeof result !== "string") return result;
    failures.push(`  ${path}: ${result}`);
  }
  const fix = "Build it with `make`, or set RAYSUM_LIBRARY to the path of a library that fits.";
  throw new RaysumError("library", `the native library could not be opened. Tried:\n${failures.join("\n")}\n${fix}`);
}

let calls: Calls | undefined;

/** The library's functions: RAYSUM_LIBRARY where it is set, else what `make` has built. Opened at the first call. */
export function native(): Calls {
  if (calls) return calls; // reading the environment takes longer than many a call
  const chosen = environment("RAYSUM_LIBRARY");
  calls = openLibrary(chosen ? [resolve(chosen)] : built); // the system's loader would look for a bare name elsewhere
  return calls;
}

const codes: Record<number, ErrorCode> = {
  [Status.EARGUMENT]: "argument",
  [Status.EPOINTER]: "disposed",
  [Status.EMEMORY]: "memory",
  [Status.EDEVICE]: "device",
};

/** Passes a status of at least 0 on; throws the library's sentence for one below. */
export function check(status: number): number {
  if (status >= 0) return status;
  const text = new Uint8Array(new ArrayBuffer(512));
  const length = native().rs_error(text, text.length);
  throw new RaysumError(codes[status] ?? "internal", new TextDecoder().decode(text.slice(0, length)));
}

/** Calls a function that writes a text and its length. */
export function readText(call: (text: Uint8Array, capacity: number, length: Int32Array) => number): string {
  const text = new Uint8Array(new ArrayBuffer(256));
  const length = new Int32Array(new ArrayBuffer(4));
  check(call(text, text.length, length));
  return new TextDecoder().decode(text.slice(0, length[0]));
}

/** Calls a function that writes one int64_t. */
export function readInteger(call: (out: BigInt64Array) => number): bigint {
  const out = new BigInt64Array(new ArrayBuffer(8));
  check(call(out));
  return out[0]!;
}
