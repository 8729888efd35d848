import assert from "node:assert/strict";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { hollowBox, operator, parallelBeam, volume } from "../lib/index.ts";
import { readNpy, readTiffStack, writeNpy, writeTiff, writeTiffStack } from "../lib/io/index.ts";
import { runScript } from "./support/command.ts";
import { emulated } from "./support/emulated.ts";
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

function sirtExample(args: readonly string[], environment: Record<string, string> = {}): Record<string, unknown> {
  const { status, stdout, stderr } = runScript("examples/sirt.ts", [...args, "--json"], environment);
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
    "reconstructs radiographs in TIFF files, with flats and darks and as line integrals",
    inFolder(async (folder) => {
      const [N, views, columns] = [16, 24, 24];
      using A = operator(
        volume({ shape: [N, N, N], size: 1 }),
        parallelBeam({ angleCount: views, detectorShape: [N, columns], pixelSize: 1 / N }),
      );
      using phantom = hollowBox(A);
      using y = A(phantom);
      const integrals = await y.read();
      const frame = N * columns;
      const flat = Float32Array.from({ length: frame }, (_, i) => 900 + 7 * (i % 31));
      const dark = Float32Array.from({ length: frame }, (_, i) => 50 + (i % 13));
      const radiographs = new Float32Array(views * frame); // counts, (views, rows, columns)
      const turned = new Float32Array(views * frame); // line integrals, (views, rows, columns)
      for (let i = 0; i < turned.length; i++) {
        const [view, row, column] = [Math.floor(i / frame), Math.floor(i / columns) % N, i % columns];
        turned[i] = integrals[(row * views + view) * columns + column]!;
        const pixel = i % frame;
        radiographs[i] = dark[pixel]! + (flat[pixel]! - dark[pixel]!) * Math.exp(-turned[i]!);
      }
      const path = (name: string) => join(folder, name);
      await writeTiffStack(path("views"), { shape: [views, N, columns], data: radiographs });
      await writeTiffStack(path("flats"), { shape: [1, N, columns], data: flat });
      await writeTiff(path("darks.tif"), { shape: [2, N, columns], data: Float32Array.of(...dark, ...dark) });
      await writeTiff(path("small.tif"), { shape: [1, 4, columns], data: dark.subarray(0, 4 * columns) });
      await writeTiff(path("integrals.tiff"), { shape: [views, N, columns], data: turned });
      writeFileSync(
        path("scan.json"),
        JSON.stringify({ pixelSize: 1 / N, volumeShape: [8, N, N], rotationCentre: 11.5 }),
      );
      const args = ["--geometry", path("scan.json"), "--rows", "4:12", "--iterations", "30", "--out", path("out")];

      const corrected = sirtExample([
        ...["--input", path("views"), "--flats", path("flats"), "--darks", path("darks.tif"), "--format", "tiff"],
        ...args,
      ]);
      assert.equal(corrected["volume"], path("out/volume.tif"));
      assert.deepEqual(corrected["projectionShape"], [8, views, columns]);
      const found = await readTiffStack(path("out/volume.tif"));
      assert.deepEqual(found.shape, [8, N, N]);
      const middle = (await phantom.read()).subarray(4 * N * N, 12 * N * N);
      assert.ok(relativeL2(found.data, middle) < 0.25, `${relativeL2(found.data, middle)}`);

      const plain = sirtExample(["--input", path("integrals.tiff"), ...args]);
      const same = await readNpy(String(plain["volume"]));
      assert.ok(relativeL2(found.data, same.data) < 1e-4, `${relativeL2(found.data, same.data)}`);

      const wrong: [string[], RegExp][] = [
        [["--input", path("views"), "--darks", path("darks.tif")], /--darks .*darks\.tif: needs --flats too/],
        [["--input", path("views"), "--flats", path("small.tif")], /small\.tif: 4 x 24 pixels, .* 16 x 24/],
        [["--input", path("views"), "--rows", "4:17"], /--rows 4:17: .*views has 16 rows/],
        [["--input", path("scan.json"), "--flats", path("flats")], /--flats and --darks go with .* TIFF files/],
        [["--input", path("views"), "--format", "png"], /--format png: expected npy or tiff/],
      ];
      for (const [words, pattern] of wrong) {
        const { status, stderr } = runScript("examples/sirt.ts", words);
        assert.equal(status, 1, `${words}`);
        assert.match(stderr, pattern);
      }
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
        [["--law", "strip"], /--law strip: expected exact or astra/],
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
      const onCpu = emulated ? { RAYSUM_DEVICE: "cpu" } : {}; // minutes otherwise
      const found = sirtExample([...args, "--out", join(out, "found")], onCpu);
      const centre = Number(found["rotationCentre"]);
      assert.ok(Math.abs(centre - 296) < 1.5, `centre ${centre}`);
      for (const wrong of [centre - 3, centre + 3]) {
        const off = sirtExample([...args, "--center", String(wrong), "--out", join(out, "off")], onCpu);
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
  const args = ["--device", "cpu", "--sizes", "8", "--slices", "16", "--seconds", "0.01"];

  it("prints a table of projections and SIRT that fits 120 columns", () => {
    const { status, stdout, stderr } = runScript("examples/benchmark.ts", args);
    assert.equal(status, 0, stderr);
    for (const work of ["parallel 8", "cone 8", "curved 8", "tilted 8", "slice 16", "fan 16"])
      assert.match(stdout, new RegExp(`^${work} forward .*\\n${work} back `, "m"));
    assert.match(stdout, /^sirt parallel 8, 20 iterations /m);
    for (const line of stdout.split("\n")) assert.ok(line.length <= 120, line);
  });

  it("writes the same as JSON, with errors and gaps that law exact allows", () => {
    const { stdout } = runScript("examples/benchmark.ts", [...args, "--json"]);
    const rows = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    assert.equal(rows.length, 6 * 2 * 2 + 2);
    for (const row of rows) {
      assert.ok((row.milliseconds ?? row.wholeMilliseconds) > 0, JSON.stringify(row));
      if (row.law === "exact" && row.milliseconds) assert.ok(row.error < 2e-6 && row.gap < 1e-6, JSON.stringify(row));
    }
  });

  it("says in a sentence what is wrong with its arguments", () => {
    for (const [words, pattern] of [
      [["--work", "helix"], /--work helix: expected parallel or cone or /],
      [["--sizes", "8,x"], /--sizes x: expected a whole number of at least 2/],
      [["--seconds", "0"], /--seconds 0: expected a number above 0/],
    ] as const) {
      const { status, stderr } = runScript("examples/benchmark.ts", words);
      assert.equal(status, 1);
      assert.match(stderr, pattern);
    }
  });
});

describe("examples/convolution_benchmark.ts", () => {
  const bench = (...args: readonly string[]) =>
    runScript("examples/convolution_benchmark.ts", ["--device", "cpu", "--sizes", "8", "--seconds", "0.001", ...args]);

  it("times every layer three ways", () => {
    const { status, stdout, stderr } = bench();
    assert.equal(status, 0, stderr);
    for (const layer of ["7 to 32", "32 to 32", "32 to 5"])
      for (const work of ["forward", "input gradient", "filter gradient"])
        assert.match(stdout, new RegExp(`^8, ${layer}, float32 ${work} .*\\d$`, "m"));
    const rows = bench("--json").stdout.trim().split("\n");
    assert.equal(rows.length, 9);
    for (const row of rows) assert.ok(JSON.parse(row).gigaflops > 0, row);
  });

  it("refuses what does not exist", () => {
    const { status, stderr } = bench("--conv_precision", "tf32");
    assert.equal(status, 1);
    assert.match(stderr, /--conv_precision tf32: expected float32/);
  });
});

describe("examples/learned_pd.ts", () => {
  const tiny = ["--N", "8", "--n_iters", "2", "--rate", "3e-3"];
  const train = (args: readonly string[]) => {
    const { status, stdout, stderr } = runScript("examples/learned_pd.ts", [...tiny, ...args, "--json"]);
    assert.equal(status, 0, stderr);
    return JSON.parse(stdout) as Record<string, unknown>;
  };

  it(
    "trains, draws three slices and the loss, and writes weights",
    inFolder((out) => {
      const { firstEpochLoss, lastEpochLoss, steps, files } = train([
        "--epochs",
        "12",
        "--batch_size",
        "3",
        "--out",
        out,
      ]);
      assert.equal(steps, 36);
      assert.ok(Number(lastEpochLoss) < 0.9 * Number(firstEpochLoss), `${firstEpochLoss} to ${lastEpochLoss}`);
      assert.deepEqual(
        files,
        ["slices.png", "loss.png", "weights.safetensors"].map((name) => join(out, name)),
      );
      assert.ok((files as string[]).slice(0, 2).every(isPng));
    }),
  );

  it(
    "trains in the same way when its steps are captured",
    inFolder((out) => {
      const args = ["--epochs", "3", "--batch_size", "4", "--out", out];
      const [eager, captured] = [train(args), train([...args, "--capture"])];
      assert.equal(captured["lastEpochLoss"], eager["lastEpochLoss"]);
    }),
  );

  it(
    "goes on from a checkpoint as if it had not stopped",
    inFolder((out) => {
      const whole = train(["--epochs", "4", "--out", out]);
      const args = ["--checkpoint", join(out, "run"), "--out", out];
      train(["--epochs", "2", ...args]);
      const { lastEpochLoss, steps } = train(["--epochs", "4", ...args]);
      assert.deepEqual([lastEpochLoss, steps], [whole["lastEpochLoss"], whole["steps"]]);
    }),
  );

  it(
    "starts from given weights and data, and compares with the losses of another run",
    inFolder(async (folder) => {
      const first = train(["--epochs", "1", "--out", folder]);
      const [N, epochs, batch, unrolledIterations] = [8, 2, 4, 2];
      copyFileSync(join(folder, "weights.safetensors"), join(folder, "weights0.safetensors"));
      await writeNpy(join(folder, "sinogram_noisy.npy"), { shape: [N, 12, 12], data: new Float32Array(N * 144) });
      writeFileSync(
        join(folder, "manifest.json"),
        JSON.stringify({ N, epochs, batch, unrolledIterations, losses: [4, 3, 2, 1] }),
      );
      const { law, steps, referenceLoss, firstEpochLoss } = train(["--reference", folder, "--out", folder]);
      assert.deepEqual([law, steps, referenceLoss], ["astra", 4, 1.5]);
      assert.ok(Number(first["firstEpochLoss"]) > 0 && Number(firstEpochLoss) > 0);
    }),
  );

  it("says in a sentence what is wrong with its arguments", () => {
    for (const [args, pattern] of [
      [["--N", "10"], /--N 10: expected a multiple of 4/],
      [["--rate", "0"], /--rate 0: expected a number between 0 and 1/],
      [["--epochs", "0"], /--epochs 0: expected a whole number of at least 1/],
      [["--capture", "--batch_size", "5"], /--batch_size 5: expected a divisor of 32/],
      [["--reference", "nowhere"], /nowhere/],
    ] as const) {
      const { status, stderr } = runScript("examples/learned_pd.ts", args);
      assert.equal(status, 1, `${args}`);
      assert.match(stderr, pattern);
      assert.equal(stderr.includes("    at "), false, `a stack trace: ${stderr}`);
    }
  });
});

describe("examples/learned_pd_benchmark.ts", () => {
  const tiny = [
    "--N",
    "8",
    "--n_iters",
    "2",
    "--num_burnin",
    "1",
    "--num_trials",
    "2",
    "--num_iterations_per_trial",
    "1",
  ];
  const bench = (...args: readonly string[]) => runScript("examples/learned_pd_benchmark.ts", [...tiny, ...args]);

  it("times training and inference, eager, captured and bounced through the host", () => {
    const { status, stdout, stderr } = bench("--train", "--inference", "--batch_size", "2");
    assert.equal(status, 0, stderr);
    for (const work of ["train", "inference"]) assert.match(stdout, new RegExp(`${work} 8, batch 2, .* ms a step`));
    assert.match(bench("--train", "--inference", "--capture").stdout, /train 8, .*, captured: .* ms a step/);
    const ended = bench("--pingpong", "--recompute", "--json");
    const { milliseconds, pingpong, recompute } = JSON.parse(ended.stdout);
    assert.ok(milliseconds > 0 && pingpong && recompute, ended.stderr);
  });

  it("refuses what does not exist", () => {
    for (const [args, pattern] of [
      [["--conv_precision", "int4"], /--conv_precision int4: expected float32/],
      [["--N", "7"], /--N 7: expected an even number/],
      [["--capture", "--pingpong"], /--capture: .*--pingpong .*cannot be captured/],
    ] as const) {
      const { status, stderr } = bench(...args);
      assert.equal(status, 1, `${args}`);
      assert.match(stderr, pattern);
    }
  });
});
