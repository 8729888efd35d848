// Lets a Node that cannot read the sources (before 24) run them: node --import ./test/support/typescript.js <script>.ts
// It is JavaScript, because such a Node reads it first; esbuild takes types away and lowers `using`.
import { readFile } from "node:fs/promises";
import { register } from "node:module";
import { fileURLToPath } from "node:url";
import { isMainThread } from "node:worker_threads";
import { transform } from "esbuild";

if (isMainThread) register(import.meta.url); // loads this file once more, beside the program, for `load`

/** Node's loader hook: every .ts file becomes an ES module. */
export async function load(url, context, next) {
  if (!url.startsWith("file:") || !url.endsWith(".ts")) return next(url, context);
  const sourcefile = fileURLToPath(url);
  const { code } = await transform(await readFile(sourcefile, "utf8"), {
    loader: "ts",
    format: "esm",
    target: "node20",
    sourcemap: "inline",
    sourcefile,
  });
  return { format: "module", source: code, shortCircuit: true };
}
