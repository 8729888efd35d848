import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { compile, noCompiler } from "./support/child.ts";

const cases = {
  errors: "tells an error of queued work once, with the name of its call",
  kept_errors: "keeps an error for those who ask, while others wait for it to be idle",
  loops: "runs every task of a loop once, for any number of threads",
  cancelling: "drops cancelled work but for what must run",
  leaving_whole: "lets a running call in place finish where that is asked",
};

// From C, because no call of the library on the CPU fails once it is queued, and none can be made to wait.
describe("the CPU's queue", () => {
  const folder = mkdtempSync(join(tmpdir(), "raysum-queue-"));
  const program = join(folder, "queue_check");
  const sources = ["csrc/queue.c", "csrc/status.c", "test/support/queue_check.c"];
  before(() => noCompiler || compile(["-std=c11", "-O1", "-g", "-Icsrc", ...sources, "-o", program, "-lpthread"]));
  after(() => rmSync(folder, { recursive: true }));

  for (const [name, does] of Object.entries(cases))
    it(does, { skip: noCompiler }, () => {
      const { status, stdout, stderr } = spawnSync(program, [name], { encoding: "utf8", timeout: 60_000 });
      assert.equal(status, 0, stderr);
      assert.equal(stdout, "checked\n");
    });
});
