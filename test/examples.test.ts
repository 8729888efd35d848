import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { hollowBox, operator, parallelBeam, volume } from "../lib/index.ts";
import { readNpy, writeNpy } from "../lib/io/index.ts";
import { runScript } from "./support/command.ts";
import { relativeL2 } from "./support/random.ts";
import { noRealScan, onRealScan, tooth } from "./support/real_scan.ts";

function inFolder(body: (folder: string) => Promise<void> | void): () => Promise<void> {
  return async () => {
    const folder = mkdtempSync(join(tmpdir(), "raysum-example-"));
    try {
      await body(folder);
    } finally {
      rmSync(folder, { recursive: true });
    }
  };
}

function sirtExample(args: readonly string[]): Record<string, unknown> {
  const { status, stdout, stderr } = runScript("examples/sirt.ts", [...args, "--json"]);
  assert.equal(status, 0, stderr);
  return JSON.parse(stdout);
}

function isPng(path: unknown): boolean {
  return readFileSync(String(path))
    .subarray(0, 8)
    .equals(Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]));
}

describe("examples/sirt.ts", () => {
  it(
    "reconstructs the hollow box both ways and writes figures",
    inFolder((out) => {
      const result = sirtExample(["--size", "32", "--iterations", "40", "--out", out, "--min", "0"]);
      assert.equal(result["law"], "exact");
      assert.equal(result["views"], 48);
      assert.ok(Number(result["relativeError"]) < 0.3, `${result["relativeError"]}`);
      assert.ok(Number(result["oneLineAgainstFused"]) <= 1e-5, `${result["oneLineAgainstFused"]}`);
      const figures = result["figures"] as string[];
      const names = [
        "phantom",
        "projection",
        "sinogram",
        "sinogram_noisy",
        "reconstruction",
        "difference",
        "residual",
        "overview",
      ];
      assert.deepEqual(
        figures,
        names.map((name) => join(out, `${name}.png`)),
      );
      assert.ok(figures.every(isPng));
    }),
  );

  it(
    "prints a table and paths for people, and progress beside them",
    inFolder((out) => {
      const { status, stdout, stderr } = runScript("examples/sirt.ts", [
        "--size",
        "16",
        "--iterations",
        "10",
        "--out",
        out,
      ]);
      assert.equal(status, 0, stderr);
      assert.match(stdout, /one-line, per iteration .* m?s/);
      assert.match(stdout, /relative error to the phantom {2,}0\.\d+/);
      assert.match(stdout, /reconstruction\.png/);
      assert.match(stderr, /fused SIRT .*10\/10/);
    }),
  );

  it(
    "reconstructs line integrals from NPY with a geometry file",
    inFolder(async (folder) => {
      const N = 24;
      const pixelSize = 0.1;
      using A = operator(
        volume({ shape: [N, N, N], voxelSize: pixelSize }),
        parallelBeam({ angleCount: 36, detectorShape: [N, 36], pixelSize, detectorOffset: [0, 2 * pixelSize] }),
      );
      using phantom = hollowBox(A);
      using y = A(phantom);
      await writeNpy(join(folder, "scan.npy"), { shape: y.shape, data: await y.read() });
      writeFileSync(
        join(folder, "scan.json"),
        JSON.stringify({ pixelSize, volumeShape: [N, N, N], rotationCentre: 15.5 }),
      );
      const args = [
        "--input",
        join(folder, "scan.npy"),
        "--geometry",
        join(folder, "scan.json"),
        "--out",
        join(folder, "out"),
      ];
      const result = sirtExample([...args, "--iterations", "60"]);
      const { shape, data } = await readNpy(String(result["volume"]));
      assert.deepEqual([...shape], [N, N, N]);
      assert.ok(relativeL2(data, await phantom.read()) < 0.2, `${relativeL2(data, await phantom.read())}`);
      assert.ok((result["figures"] as string[]).every(isPng));
    }),
  );

  it(
    "says in a sentence what is wrong with its arguments and files",
    inFolder((folder) => {
      writeFileSync(join(folder, "bad.npy"), "no");
      writeFileSync(join(folder, "bad.json"), '{"pixelsize": 1}');
      const cases: [string[], RegExp][] = [
        [["--size", "1"], /--size 1: expected a whole number of at least 2/],
        [["--iterations", "0"], /--iterations 0/],
        [["--noise", "lots"], /--noise lots/],
        [["--law", "strip"], /--law strip: expected exact/],
        [["--device", "cuda:99"], /there is no device "cuda:99"/],
        [["--rows", "5:2"], /--rows 5:2/],
        [["--bogus"], /--bogus/],
        [["--input", join(folder, "missing.h5")], /missing\.h5/],
        [["--input", join(folder, "bad.npy")], /bad\.npy/],
        [["--input", join(folder, "x.npy"), "--geometry", join(folder, "bad.json")], /unknown pixelsize/],
      ];
      for (const [args, pattern] of cases) {
        const { status, stdout, stderr } = runScript("examples/sirt.ts", args);
        assert.equal(status, 1, `${args}`);
        assert.match(stderr, pattern);
        assert.equal(stderr.includes("    at "), false, `a stack trace: ${stderr}`);
        assert.equal(stdout, "");
      }
    }),
  );

  it(
    onRealScan("reconstructs a tooth from its scan, and better with the centre of rotation it finds"),
    { skip: noRealScan, timeout: 120_000 },
    inFolder(async (out) => {
      const args = ["--input", tooth, "--rows", "0:1", "--iterations", "30"];
      const found = sirtExample([...args, "--out", join(out, "found")]);
      const centre = Number(found["rotationCentre"]);
      assert.ok(Math.abs(centre - 296) < 1.5, `centre ${centre}`);
      for (const wrong of [centre - 3, centre + 3]) {
        const off = sirtExample([...args, "--center", String(wrong), "--out", join(out, "off")]);
        assert.ok(Number(off["residual"]) > 1.005 * Number(found["residual"]), `${off["residual"]} at ${wrong}`);
      }
      // Enamel attenuates about twice as much as dentine, air not at all; the tooth fills about a tenth of the picture.
      const { data } = await readNpy(String(found["volume"]));
      const sorted = data.toSorted();
      const at = (part: number) => sorted[Math.floor(part * data.length)]!;
      assert.ok(Math.abs(at(0.5)) < 3e-4, `air ${at(0.5)}`);
      assert.ok(at(0.98) > 4e-3 && at(0.98) < 1e-2, `enamel ${at(0.98)}`);
      const inside = data.filter((value) => value > 0.002).length / data.length;
      assert.ok(inside > 0.06 && inside < 0.16, `tooth ${inside}`);
    }),
  );
});

describe("examples/benchmark.ts", () => {
  it("prints one line a row of work, and the same as JSON", () => {
    const args = ["--sizes", "8", "--slices", "16", "--seconds", "0.01"];
    const { status, stdout, stderr } = runScript("examples/benchmark.ts", args);
    assert.equal(status, 0, stderr);
    for (const work of ["parallel 8 forward", "cone 8 back", "slice 16 sirt"])
      assert.match(stdout, new RegExp(`${work} float32 exact +[0-9.]+ ms +[0-9.]+ GUPS`));
    const rows = runScript("examples/benchmark.ts", [...args, "--json"])
      .stdout.trim()
      .split("\n");
    assert.equal(rows.length, 9);
    assert.ok(rows.every((row) => JSON.parse(row).milliseconds > 0));
  });
});
