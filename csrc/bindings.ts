// Reads csrc/raysum.h and writes lib/native/symbols.ts; with --check, fails where the written file is out of date.
import { readFileSync, writeFileSync } from "node:fs";

const headerPath = new URL("./raysum.h", import.meta.url);
const symbolsPath = new URL("../lib/native/symbols.ts", import.meta.url);

const kinds: Record<string, string> = { int32_t: "i32", int64_t: "i64", double: "f64" };

function kindOf(name: string, parameter: string): string {
  if (parameter.includes("*")) return "buffer";
  const kind = kinds[parameter.trim().split(" ")[0] ?? ""];
  if (!kind)
    throw new Error(`${name}: '${parameter.trim()}' is none of the argument kinds that every runtime agrees on`);
  return kind;
}

export function generate(header: string): string {
  const functions = [...header.matchAll(/^RS_API int32_t (rs_\w+)\(([^)\n]*)\); \/\/ (.+)$/gm)];
  const declared = header.match(/^RS_API /gm)?.length ?? 0;
  if (declared !== functions.length)
    throw new Error(`${declared} declarations, ${functions.length} of the expected form`);
  const symbols = functions.map(([, name = "", list = ""]) => {
    const parameters = list === "void" ? [] : list.split(",").map((parameter) => `"${kindOf(name, parameter)}"`);
    return `  ${name}: [${parameters.join(", ")}],`;
  });
  const defines = [...header.matchAll(/^#define (RS_\w+) (\d+)/gm)].map(
    ([, name, value]) => `export const ${name} = ${value};`,
  );
  const enums = [...header.matchAll(/^enum rs_(\w+) \{ (.+) \};/gm)].map(([, name = "", members = ""]) => {
    const title = name.replace(/(^|_)(\w)/g, (_, __, letter: string) => letter.toUpperCase());
    const lines = members.split(", ").map((member) => `  ${member.replace("RS_", "").replace(" = ", ": ")},`);
    return `export const ${title} = {\n${lines.join("\n")}\n} as const;`;
  });
  const table = `export const symbols = {\n${symbols.join("\n")}\n} as const;`;
  return `${["// Written by csrc/bindings.ts from csrc/raysum.h. Do not edit.", defines.join("\n"), ...enums, table].join("\n\n")}\n`;
}

if (import.meta.main) {
  const text = generate(readFileSync(headerPath, "utf8"));
  if (!process.argv.includes("--check")) writeFileSync(symbolsPath, text);
  else if (readFileSync(symbolsPath, "utf8") !== text) {
    console.error("lib/native/symbols.ts is out of date: run make symbols");
    process.exit(1);
  }
}
