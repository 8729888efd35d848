import { dlopen, type FFIFunction } from "bun:ffi";
import type { Calls, Open } from "./calls.ts";
import { symbols } from "./symbols.ts";

export const open: Open = (path, names) => {
  const table = names.map((name): [string, FFIFunction] => [name, { args: symbols[name], returns: "i32" }]);
  return dlopen(path, Object.fromEntries(table)).symbols as unknown as Calls;
};
