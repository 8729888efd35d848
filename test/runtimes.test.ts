import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { buildFolder, type Ended, libraryPath, runScript } from "./support/child.ts";
import { bun, deno, thisRuntime } from "./support/runtimes.ts";

interface Report {
  device: string;
  description: string;
  values: number[];
  sum: number;
  blocking: boolean;
  arrays: number;
  code: string;
  message: string;
}

/** What test/support/runtime_script.ts has printed. */
function reportOf({ status, stdout, stderr }: Ended): Report {
  assert.equal(status, 0, stderr);
  const [first, line = ""] = stdout.split("\n");
  assert.equal(first, "imported");
  return JSON.parse(line) as Report;
}

const root = fileURLToPath(new URL("..", import.meta.url));
const nowhere = join(buildFolder, "nowhere", "libraysum.so");
const script = "test/support/runtime_script.ts";
const onCpu = { RAYSUM_DEVICE: "cpu" };

/** The numbers to which every runtime comes. */
function expected(): Report {
  return reportOf(runScript(bun, script, { environment: onCpu }));
}

describe(`a process of its own in ${thisRuntime.name}`, () => {
  it("comes to plausible numbers, the same as Bun", () => {
    const report = reportOf(runScript(thisRuntime, script, { environment: onCpu }));
    const { values, sum, blocking, arrays } = report;
    assert.equal(values.length, 125);
    assert.ok(new Set(values).size > 25);
    assert.ok(Math.abs(sum - values.reduce((total, value) => total + value, 0)) < 1e-9);
    assert.equal(blocking, true);
    assert.equal(arrays, 3);
    assert.deepEqual(report, expected());
  });

  it("touches nothing native on import", () => {
    const report = reportOf(runScript(thisRuntime, script, { environment: { RAYSUM_LIBRARY: nowhere } }));
    assert.equal(report.code, "library");
    assert.ok(report.message.includes(`  ${nowhere}: no such file\n`), report.message);
    assert.match(report.message, /`make`.*RAYSUM_LIBRARY/);
  });

  it("takes the device that RAYSUM_DEVICE names", () => {
    assert.equal(reportOf(runScript(thisRuntime, script, { environment: onCpu })).device, "cpu");
    const report = reportOf(runScript(thisRuntime, script, { environment: { RAYSUM_DEVICE: "cuda:31" } }));
    assert.equal(report.code, "device");
    assert.match(report.message, /^there is no device "cuda:31": this library has cpu/);
  });

  it("takes as many threads as RAYSUM_THREADS says", () => {
    const report = reportOf(runScript(thisRuntime, script, { environment: { ...onCpu, RAYSUM_THREADS: "3" } }));
    assert.match(report.description, /^CPU, 3 threads, /);
  });

  it("ends in peace while the device still works", () => {
    const { status, stdout, stderr } = runScript(thisRuntime, "test/support/busy_script.ts");
    assert.equal(status, 0, stderr);
    assert.equal(stdout, "queued\n");
  });
});

if (thisRuntime === deno)
  describe("Deno's permissions", () => {
    it("to open the build folder and to read are enough", () => {
      assert.ok(existsSync(join(buildFolder, "libraysum.so")), "make has not built build/libraysum.so");
      const permissions = [`--allow-ffi=${buildFolder}`, "--allow-read"];
      const { values } = reportOf(runScript(deno, script, { permissions }));
      assert.equal(values.length, 125);
    });

    it("are named where they lack", () => {
      const unread = reportOf(runScript(deno, script, { permissions: [`--allow-ffi=${buildFolder}`] }));
      assert.equal(unread.code, "library");
      assert.match(unread.message, /libraysum\.so: .*--allow-read/);
      const unopened = reportOf(runScript(deno, script, { permissions: ["--allow-read"] }));
      assert.equal(unopened.code, "library");
      assert.match(unopened.message, /libraysum\.so: .*--allow-ffi/);
    });
  });

if (thisRuntime.name === "Node with koffi")
  describe("a Node without node:ffi", () => {
    it("says what to install where koffi is missing", () => {
      const folder = mkdtempSync(join(tmpdir(), "raysum-without-koffi-"));
      try {
        mkdirSync(join(folder, "test/support"), { recursive: true });
        for (const path of ["lib", "package.json", script])
          cpSync(join(root, path), join(folder, path), { recursive: true });
        const environment = { RAYSUM_LIBRARY: libraryPath };
        const { code, message } = reportOf(runScript(thisRuntime, join(folder, script), { environment }));
        assert.equal(code, "library");
        assert.ok(
          message.includes(`  ${libraryPath}: this Node has no node:ffi (26.9 or newer has it): npm install koffi\n`),
          message,
        );
      } finally {
        rmSync(folder, { recursive: true });
      }
    });

    it("runs what esbuild has bundled for it", () => {
      const folder = mkdtempSync(join(buildFolder, "bundle-")); // in the project, where koffi is found
      try {
        const bundle = join(folder, "bundle.js");
        const options = ["--bundle", "--platform=node", "--format=esm", "--target=node20", "--packages=external"];
        const { status, stderr } = spawnSync(
          join(root, "node_modules/.bin/esbuild"),
          [script, ...options, `--outfile=${bundle}`],
          { cwd: root, encoding: "utf8" },
        );
        assert.equal(status, 0, stderr);
        const plain = { ...thisRuntime, script: thisRuntime.script.filter((flag) => !flag.startsWith("--import")) };
        const environment = { ...onCpu, RAYSUM_LIBRARY: libraryPath };
        assert.deepEqual(reportOf(runScript(plain, bundle, { environment })), expected());
      } finally {
        rmSync(folder, { recursive: true });
      }
    });
  });
