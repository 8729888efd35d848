// Runs the test files in every runtime (test/support/runtimes.ts) and adds up what they report; a missing runtime is one skip.
// Usage: bun test/run.ts [--no-skips] [--bun] [name ...]: only the files test/<name>.test.ts. With --no-skips a skip is a failure,
// unless its name says that it needs a CUDA device or a real scan. With --bun only Bun.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { allRuntimes, bun } from "./support/runtimes.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const noSkips = process.argv.includes("--no-skips");
const runtimes = process.argv.includes("--bun") ? [bun] : allRuntimes();
const names = process.argv.slice(2).filter((name) => !name.startsWith("--"));
const files = readdirSync(join(root, "test"))
  .filter((file) => file.endsWith(".test.ts") && (names.length === 0 || names.includes(file.replace(".test.ts", ""))))
  .map((file) => `./test/${file}`);
if (files.length === 0) throw new Error(`no test file of the names ${names.join(", ")}`);

const reports = mkdtempSync(join(tmpdir(), "raysum-test-"));
const total = { passed: 0, skipped: 0 };
/** Told once more at the end, where they are found. */
const failures: string[] = [];
for (const { name, missing, command, test } of runtimes) {
  console.log(`\n== ${name} ==`);
  if (missing) {
    console.log(`skipped: ${name} (${missing})`);
    total.skipped += 1;
    if (noSkips) failures.push(`${name}: ${missing}`);
    continue;
  }
  const report = join(reports, `${name}.xml`);
  const { status } = spawnSync(command, [...test(report), ...files], { cwd: root, stdio: "inherit" });
  let xml = "";
  try {
    xml = readFileSync(report, "utf8");
  } catch {
    console.log(`${name} left no report`);
  }
  const cases = [...xml.matchAll(/<testcase\b((?:[^>"]|"[^"]*")*?)(\/>|>([\s\S]*?)<\/testcase>)/g)].map(
    ([, attributes = "", , body = ""]) => ({ name: /\bname="([^"]*)"/.exec(attributes)?.[1] ?? "", body }),
  );
  const skips = cases.filter(({ body }) => /<skipped\b/.test(body)).map(({ name }) => name);
  for (const skip of skips) console.log(`skipped: ${skip}`);
  const skipped = skips.length;
  const failed = cases.filter(({ body }) => /<(failure|error)\b/.test(body));
  const refused = noSkips ? skips.filter((skip) => !/CUDA device|real scan/.test(skip)) : [];
  const reasons = [
    ...failed.map(({ name, body }) => `${textOf(name)}\n${textOf(body).slice(0, 1000)}`),
    ...refused.map((skip) => `${skip}: skipped`),
  ];
  // A runtime that fails without naming a test (a file that does not load, say) is one failure.
  if (status !== 0 && failed.length === 0) reasons.push(`ended with the exit status ${status}, and no test failed`);
  const passed = cases.length - failed.length - skipped;
  console.log(`${name}: ${passed} passed, ${reasons.length} failed, ${skipped} skipped`);
  total.passed += passed;
  total.skipped += skipped;
  failures.push(...reasons.map((reason) => `${name}: ${reason}`));
}
rmSync(reports, { recursive: true });
for (const failure of failures) console.log(`\nfailed: ${failure}`);
console.log(`\n${total.passed} passed, ${failures.length} failed, ${total.skipped} skipped`);
process.exit(failures.length === 0 && total.passed > 0 ? 0 : 1);

/** What an element of the report says, without its tags. */
function textOf(xml: string): string {
  const named: Record<string, string> = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&" };
  return xml
    .replace(/<(?:[^>"]|"[^"]*")*>/g, "")
    .replace(/&(?:#(\d+)|#x([\da-f]+)|(\w+));/gi, (_, ten, hex, name) =>
      name ? (named[name] ?? "?") : String.fromCodePoint(ten ? Number(ten) : Number.parseInt(hex, 16)),
    )
    .trim();
}
