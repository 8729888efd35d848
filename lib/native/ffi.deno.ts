import type { Calls, Open } from "./calls.ts";
import { symbols } from "./symbols.ts";

declare const Deno: { dlopen(path: string, table: object): { symbols: unknown } };

export const open: Open = (path, names) => {
  const table = names.map((name) => [name, { parameters: symbols[name], result: "i32" }]);
  return Deno.dlopen(path, Object.fromEntries(table)).symbols as Calls;
};
