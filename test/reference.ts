// Compares with what ASTRA and tomosipo computed, on every device present: the cases of test/reference, or of the folder in
// RAYSUM_REFERENCE. Usage: bun test/reference.ts
import process from "node:process";
import { fileURLToPath } from "node:url";
import { devices } from "../lib/index.ts";
import { compareReferences } from "./support/reference.ts";

const folder = process.env["RAYSUM_REFERENCE"] || fileURLToPath(new URL("reference", import.meta.url));
const total = { passed: 0, failed: 0, open: 0 };
for (const device of devices()) {
  console.log(
    `\n${device.description}\n${"case".padEnd(58)} ${"law".padEnd(8)} ${"what".padEnd(20)} relative L2    limit`,
  );
  for await (const { name, law, what, error, limit, reason } of compareReferences(folder, device)) {
    const start = `${name.padEnd(58)} ${law.padEnd(8)} ${what.padEnd(20)}`;
    if (reason) {
      total.open++;
      console.log(`${start} not covered: ${reason}`);
      continue;
    }
    const passes = error <= limit;
    if (passes) total.passed++;
    else total.failed++;
    console.log(
      `${start} ${error.toExponential(2).padStart(11)} ${limit.toExponential(0).padStart(8)}${passes ? "" : "  FAILED"}`,
    );
  }
}
console.log(`\n${total.passed} passed, ${total.failed} failed, ${total.open} not covered`);
process.exit(total.failed === 0 && total.passed > 0 ? 0 : 1);
