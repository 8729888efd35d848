import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { runScript } from "./support/command.ts";
import { emulated } from "./support/emulated.ts";

const skip = !emulated && "only an emulated device fails on demand";

/** What the script says, by what it did, in a process where a kernel of the first of two devices fails. */
function lose(how: string, kernel: number): Record<string, string> {
  const { status, stdout, stderr } = runScript("test/support/lost_device_script.ts", [how], {
    RAYSUM_EMULATED_DEVICES: "2",
    RAYSUM_EMULATED_ILLEGAL_ADDRESS: String(kernel),
  });
  assert.equal(status, 0, stderr);
  return JSON.parse(stdout);
}

const sentence =
  /^device: cuda:0 is lost: an illegal memory access was encountered \(cudaErrorIllegalAddress\), seen by (.+); start the process again$/;
const works = ["dispose", "sirt on cuda:1", "arrays left on cuda:1", "sirt on cpu", "arrays left on cpu"];

describe("a lost CUDA device", { skip }, () => {
  for (const [how, kernel] of Object.entries({
    wait: 10,
    allocation: 1,
    upload: 1,
    "large upload": 1,
    capture: 5,
    sirt: 300,
  }))
    it(`is told and refused, and everything else works on (${how})`, () => {
      const said = Object.entries(lose(how, kernel));
      assert.ok(said.length >= 18);
      const seen = sentence.exec(said[0]![1]);
      assert.ok(seen, `${said[0]}`);
      for (const [what, answer] of said) assert.equal(answer, works.includes(what) ? "done" : said[0]![1], what);
      if (how === "wait") assert.match(seen[1]!, /wait for queued work/);
    });
});

describe("a CUDA device that is not there", { skip }, () => {
  const why = (environment: Record<string, string>): string => {
    const { stdout } = runScript("test/support/runtime_script.ts", [], { RAYSUM_DEVICE: "cuda:0", ...environment });
    return JSON.parse(stdout.trim().split("\n").at(-1)!).message;
  };

  it("says that there is no driver", () => {
    assert.match(
      why({ RAYSUM_EMULATED_DRIVER: "0" }),
      /there is no device "cuda:0": this library has cpu \(no CUDA device: there is no NVIDIA driver here\)/,
    );
  });

  it("says that the driver is too old, and what is needed", () => {
    assert.match(
      why({ RAYSUM_EMULATED_DRIVER: "12080" }),
      /the NVIDIA driver is too old: it has CUDA 12\.8, this library needs 13\.0/,
    );
  });

  it("says that the driver shows none", () => {
    assert.match(
      why({ RAYSUM_EMULATED_DEVICES: "0" }),
      /the NVIDIA driver \(CUDA 13\.0\) shows no GPU: no CUDA-capable device is detected/,
    );
  });
});
