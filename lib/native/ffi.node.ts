import { createRequire } from "node:module";
import type { Calls, Open } from "./calls.ts";
import { symbols } from "./symbols.ts";

const require = createRequire(import.meta.url);

/** node:ffi is in Node 26.9 and later; koffi does the same in older ones. */
function load<T>(name: string): T | undefined {
  try {
    return require(name) as T;
  } catch {
    return undefined;
  }
}

interface NodeFfi {
  dlopen(path: string, table: object): { functions: unknown };
}

interface Koffi {
  load(path: string): { func(name: string, result: string, parameters: string[]): unknown };
}

const koffiKinds = { i32: "int32_t", i64: "int64_t", f64: "double", buffer: "void *" } as const;

export const open: Open = (path, names) => {
  const ffi = load<NodeFfi>("node:ffi");
  if (ffi) {
    const table = names.map((name) => [name, { arguments: symbols[name], return: "i32" }]);
    return ffi.dlopen(path, Object.fromEntries(table)).functions as Calls;
  }
  const koffi = load<Koffi>("koffi");
  if (!koffi) throw new Error("this Node has no node:ffi (26.9 or newer has it): npm install koffi");
  const library = koffi.load(path);
  const bound = names.map((name) => [
    name,
    library.func(
      name,
      "int32_t",
      symbols[name].map((kind) => koffiKinds[kind]),
    ),
  ]);
  return Object.fromEntries(bound) as Calls;
};
