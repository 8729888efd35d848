import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { buildFolder, type Ended, type Runtime, runScript } from "./support/child.ts";

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

const runtimes: readonly Runtime[] = ["bun", "deno"];
const nowhere = join(buildFolder, "nowhere", "libraysum.so");
const script = "runtime_script.ts";
const onCpu = { RAYSUM_DEVICE: "cpu" };

describe("the same source in Bun and Deno", () => {
  it("gives the same numbers", () => {
    const [bun, deno] = runtimes.map((runtime) => reportOf(runScript(runtime, script, { environment: onCpu })));
    assert.equal(bun!.values.length, 125);
    assert.ok(new Set(bun!.values).size > 25);
    assert.ok(Math.abs(bun!.sum - bun!.values.reduce((sum, value) => sum + value, 0)) < 1e-9);
    assert.equal(bun!.blocking, true);
    assert.equal(bun!.arrays, 3);
    assert.deepEqual(deno, bun);
  });

  it("runs in Deno with leave to open the build folder and to read, and no other", () => {
    assert.ok(existsSync(join(buildFolder, "libraysum.so")), "make has not built build/libraysum.so");
    const permissions = [`--allow-ffi=${buildFolder}`, "--allow-read"];
    const { values } = reportOf(runScript("deno", script, { permissions }));
    assert.equal(values.length, 125);
  });

  it("says what Deno lacks when it may not open or read the library", () => {
    const unread = reportOf(runScript("deno", script, { permissions: [`--allow-ffi=${buildFolder}`] }));
    assert.equal(unread.code, "library");
    assert.match(unread.message, /libraysum\.so: .*--allow-read/);
    const unopened = reportOf(runScript("deno", script, { permissions: ["--allow-read"] }));
    assert.equal(unopened.code, "library");
    assert.match(unopened.message, /libraysum\.so: .*--allow-ffi/);
  });
});

for (const runtime of runtimes)
  describe(`a process of its own in ${runtime}`, () => {
    it("touches nothing native on import", () => {
      const report = reportOf(runScript(runtime, script, { environment: { RAYSUM_LIBRARY: nowhere } }));
      assert.equal(report.code, "library");
      assert.ok(report.message.includes(`  ${nowhere}: no such file\n`), report.message);
      assert.match(report.message, /`make`.*RAYSUM_LIBRARY/);
    });

    it("takes the device that RAYSUM_DEVICE names", () => {
      assert.equal(reportOf(runScript(runtime, script, { environment: onCpu })).device, "cpu");
      const report = reportOf(runScript(runtime, script, { environment: { RAYSUM_DEVICE: "cuda:31" } }));
      assert.equal(report.code, "device");
      assert.match(report.message, /^there is no device "cuda:31": this library has cpu/);
    });

    it("takes as many threads as RAYSUM_THREADS says", () => {
      const report = reportOf(runScript(runtime, script, { environment: { ...onCpu, RAYSUM_THREADS: "3" } }));
      assert.match(report.description, /^CPU, 3 threads, /);
    });
  });
