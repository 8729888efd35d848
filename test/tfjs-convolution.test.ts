import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { device, devices } from "../lib/index.ts";
import { runScript } from "./support/child.ts";
import { thisRuntime } from "./support/runtimes.ts";

const wide = /avx512|avx2|plain/.exec(device("cpu").description)![0];
const targets = ["avx512", "avx2", "plain"];

function check(seed: number, name: string, target?: string, precision = "FLOAT32"): void {
  const environment = { RAYSUM_SIMD: target };
  const script = "test/support/convolution_script.ts";
  const ended = runScript(thisRuntime, script, { args: [String(seed), name, precision], environment });
  assert.equal(ended.status, 0, ended.stderr);
  const lines = ended.stdout.trim().split("\n");
  assert.equal(lines.length, 1, ended.stdout);
  const { device: description, worst } = JSON.parse(lines[0]!) as { device: string; worst: number[] };
  if (target) assert.match(description, new RegExp(target));
  const float32 = precision === "FLOAT32"; // the numbers for the others leave nothing to round
  for (const error of worst) assert.ok(float32 ? error > 0 && error < 1e-6 : error === 0, `${worst}`);
}

describe("convolutions and their gradients agree with their definition in float64", () => {
  // What this processor can run: its own kernels and the narrower ones.
  for (const [seed, target] of targets.slice(targets.indexOf(wide)).entries())
    it(`with the kernels for ${target}`, () => check(seed, "cpu", target));

  for (const { name } of devices().slice(1)) {
    it(`with the kernels for ${name}`, () => check(4, name));
    for (const precision of ["TF32", "BF16"])
      it(`on numbers that ${precision} holds, with the kernels for ${name}`, () =>
        check(5, name, undefined, precision));
  }
});
