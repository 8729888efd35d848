import type { symbols } from "./symbols.ts";

/** What each argument kind of csrc/raysum.h is in JavaScript. */
interface Value {
  i32: number;
  i64: bigint;
  f64: number;
  /** The callee uses the bytes during the call only; never pass an address that was taken before. */
  buffer: ArrayBufferView;
}

type Arguments<Kinds extends readonly (keyof Value)[]> = { -readonly [I in keyof Kinds]: Value[Kinds[I]] };

/** The library's functions. Each returns a status. */
export type Calls = { [Name in keyof typeof symbols]: (...args: Arguments<(typeof symbols)[Name]>) => number };

/** Opens the library at a path and binds the named functions, or throws what the runtime throws. */
export type Open = (path: string, names: readonly (keyof typeof symbols)[]) => Calls;
