// tfjs-core's own suite, as `make build/tfjs_specs.cjs` has bundled it, on our backends in every runtime.
// Usage: bun test/tfjs/run.ts [--bun] [device ...]: --bun leaves the other runtimes out.
import { spawnSync } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { devices } from "../../lib/index.ts";
import { allRuntimes, bun, deno } from "../support/runtimes.ts";

interface Report {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly failures: readonly string[];
  readonly fallbacks: readonly (readonly [string, number])[];
  readonly native: number;
}

const path = (name: string) => fileURLToPath(new URL(name, import.meta.url));
const bundle = path("../../build/tfjs_specs.cjs");
const given = process.argv.slice(2).filter((name) => name !== "--bun");
const names = given.length > 0 ? given : devices().map(({ name }) => name);
const runtimes = process.argv.includes("--bun") ? [bun] : allRuntimes();
let failed = false;
for (const device of names)
  for (const { name, missing, command, script } of runtimes) {
    const title = `raysum-${device} in ${name}`;
    if (missing) {
      console.log(`${title}: skipped (${missing})`);
      continue;
    }
    const flags = command === deno.command ? [...script, "-A"] : script;
    const start = performance.now();
    const ended = spawnSync(command, [...flags, path("suite.ts"), bundle, device], {
      encoding: "utf8",
      maxBuffer: 1 << 28,
    });
    const last = ended.stdout.trimEnd().split("\n").at(-1) ?? "";
    if (!last.startsWith("{")) {
      failed = true;
      console.log(`${title}: ended with status ${ended.status ?? ended.signal}\n${ended.stdout}${ended.stderr}`);
      continue;
    }
    const report: Report = JSON.parse(last);
    for (const failure of report.failures) console.log(`  ${failure}`);
    if (name === "Bun") {
      console.log(`${report.native} native kernels on ${device}. Left to the stock CPU kernels (calls):`);
      console.log(`  ${report.fallbacks.map(([kernel, calls]) => `${kernel} ${calls}`).join(", ")}`);
    }
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    console.log(`${title}: ${report.passed} passed, ${report.failed} failed, ${report.skipped} skipped, ${seconds} s`);
    failed ||= report.failed > 0 || report.passed < 4225;
  }
process.exit(failed ? 1 : 0);
