import { createRequire } from "node:module";
import type { Calls, Open } from "./calls.ts";
import { symbols } from "./symbols.ts";

const require = createRequire(import.meta.url);

/** A module, or undefined where it is not there; one that is there and does not load throws. */
function load<T>(name: string): T | undefined {
  try {
    return require(name) as T;
  } catch (error) {
    const { code = "" } = error as { code?: string };
    if (code === "ERR_UNKNOWN_BUILTIN_MODULE" || code === "MODULE_NOT_FOUND") return undefined;
    throw error;
  }
}

interface NodeFfi {
  dlopen(path: string, table: object): { functions: unknown };
}

interface Koffi {
  load(path: string): { func(name: string, result: string, parameters: string[]): unknown };
}

const koffiKinds = { i32: "int32_t", i64: "int64_t", f64: "double", buffer: "void *" } as const;

/** Node 26.9 and later have node:ffi; koffi does the same in older ones. */
export const open: Open = (path, names) => {
  const ffi = load<NodeFfi>("node:ffi");
  if (ffi) {
    const table = names.map((name) => [name, { arguments: symbols[name], return: "i32" }]);
    return ffi.dlopen(path, Object.fromEntries(table)).functions as Calls;
  }
  const koffi = load<Koffi>("koffi");
  if (!koffi) throw new Error("this Node has no node:ffi (26.9 or newer has it): npm install koffi");
  const library = koffi.load(path);
  const bind = (name: keyof typeof symbols) => {
    const parameters = symbols[name].map((kind) => koffiKinds[kind]);
    return [name, library.func(name, "int32_t", parameters)];
  };
  return Object.fromEntries(names.map(bind)) as Calls;
};
