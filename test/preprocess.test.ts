import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type HostArray, readDataExchange } from "../lib/io/index.ts";
import { absorption, findRotationCentre, flatFieldCorrect, transmission } from "../lib/preprocess/index.ts";
import { raysumError } from "./support/errors.ts";
import { seededRandom } from "./support/random.ts";
import { noRealScan, onRealScan, tooth } from "./support/real_scan.ts";

function host(shape: number[], data: ArrayLike<number>): HostArray {
  return { shape, data: Float32Array.from(data) };
}

function assertNear(actual: Float32Array, expected: ArrayLike<number>, tolerance = 1e-6): void {
  assert.equal(actual.length, expected.length);
  for (const [i, value] of actual.entries()) {
    assert.ok(Math.abs(value - expected[i]!) <= tolerance, `element ${i}: ${value} is not ${expected[i]}`);
  }
}

describe("flat field", () => {
  it("takes the means of flats and darks at each pixel", () => {
    const projections = host([2, 2, 2], [60, 35, 110, 60, 30, 20, 10, 5]); // (row, view, column)
    const flats = host([2, 2, 2], [100, 50, 40, 15, 120, 70, 20, 25]); // means [[110, 60], [30, 20]]
    const darks = host([2, 2, 2], [9, 8, 1, 0, 11, 12, 19, 10]); // means [[10, 10], [10, 5]]
    const { shape, data } = transmission(projections, { flats, darks });
    assert.deepEqual(shape, [2, 2, 2]);
    assertNear(data, [0.5, 0.5, 1, 1, 1, 1, 0, 0]);
  });

  it("works without darks", () => {
    const { data } = transmission(host([1, 1, 2], [1, 3]), { flats: host([1, 1, 2], [2, 4]) });
    assertNear(data, [0.5, 0.75]);
  });

  it("fills dead pixels from the nearest live ones in their row", () => {
    // Dead: 0 (flat = dark), 3 and 4 (flat < dark, flat not a number), 7 (end of the row).
    const flats = host([1, 1, 8], [5, 105, 105, 4, Number.NaN, 105, 105, 0]);
    const darks = host([1, 1, 8], [5, 5, 5, 5, 5, 5, 5, 5]);
    const projections = host([1, 2, 8], [0, 25, 35, 9, 9, 65, 75, 9, 9, 105, 105, 0, 0, 75, 55, 0]);
    const { data } = transmission(projections, { flats, darks });
    assertNear(data, [0.2, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.7, 1, 1, 1, 0.9, 0.8, 0.7, 0.5, 0.5]);
  });

  it("finds the line integrals that counts were made of", () => {
    const random = seededRandom(1);
    const [rows, views, columns] = [3, 4, 5];
    const flat = random.float32(rows * columns, 1e4, 3e4);
    const dark = random.float32(rows * columns, 50, 150);
    const integrals = random.float32(rows * views * columns, 0, 4);
    const counts = integrals.map((integral, i) => {
      const pixel = Math.floor(i / (views * columns)) * columns + (i % columns);
      return dark[pixel]! + (flat[pixel]! - dark[pixel]!) * Math.exp(-integral);
    });
    const { shape, data } = flatFieldCorrect(host([rows, views, columns], counts), {
      flats: host([2, rows, columns], [...flat.map((f) => f * 0.98), ...flat.map((f) => f * 1.02)]),
      darks: host([1, rows, columns], dark),
    });
    assert.deepEqual(shape, [rows, views, columns]);
    assertNear(data, integrals, 2e-5);
  });

  it("keeps line integrals finite by a floor, and leaves its input alone", () => {
    const input = host([2, 2], [1, 0.5, 0, -0.1]);
    assertNear(absorption(input).data, [0, Math.log(2), 6 * Math.log(10), 6 * Math.log(10)]);
    assertNear(absorption(input, { floor: 0.6 }).data, [0, -Math.log(0.6), -Math.log(0.6), -Math.log(0.6)]);
    assertNear(input.data, [1, 0.5, 0, -0.1]);
    assert.ok(Number.isNaN(absorption(host([1], [Number.NaN])).data[0]));
    const dim = flatFieldCorrect(host([1, 1, 2], [0, 50]), { flats: host([1, 1, 2], [100, 100]), floor: 0.01 });
    assertNear(dim.data, [2 * Math.log(10), Math.log(2)]);
  });

  it("refuses what does not fit together", () => {
    const projections = host([2, 3, 4], new Float32Array(24).fill(1));
    const flats = host([1, 2, 4], new Float32Array(8).fill(2));
    const none = undefined as unknown as HostArray;
    const cases: [run: () => unknown, code: "argument" | "shape", sentence: RegExp][] = [
      [() => transmission(none, { flats }), "argument", /projections: expected \{ shape, data \}/],
      [() => transmission(projections, { flats: none }), "argument", /flats: expected \{ shape, data \}/],
      [() => transmission({ shape: [24], data: projections.data }, { flats }), "shape", /\(rows, views, columns\)/],
      [() => transmission({ shape: [2, 3, 5], data: projections.data }, { flats }), "shape", /24 elements.* needs 30/],
      [
        () => transmission({ shape: [0, 3, 4], data: new Float32Array() }, { flats }),
        "shape",
        /\[0, 3, 4\]: every count/,
      ],
      [() => transmission(projections, { flats: host([1, 4, 2], flats.data) }), "shape", /4 rows and 2 columns/],
      [() => transmission(projections, { flats: host([2, 4], flats.data) }), "shape", /\(count, rows, columns\)/],
      [() => transmission(projections, { flats, darks: host([1, 1, 4], [0, 0, 0, 0]) }), "shape", /darks have 1 rows/],
      [() => transmission(projections, { flats, darks: flats }), "argument", /no pixel of row 0 has a mean flat above/],
      [() => absorption(projections, { floor: 0 }), "argument", /floor 0: expected one positive transmission/],
      [() => flatFieldCorrect(projections, { flats, floor: Number.NaN }), "argument", /floor NaN/],
    ];
    for (const [run, code, sentence] of cases) assert.throws(run, raysumError(code, sentence));
  });
});

interface Ellipse {
  centre: [x: number, y: number];
  axes: [a: number, b: number];
  turned: number;
  density: number;
}

/** Line integrals through ellipses, averaged over each pixel; the axis falls on column `axis`. Lengths in pixels. */
function sinogram(columns: number, angles: readonly number[], axis: number, ellipses: readonly Ellipse[]): HostArray {
  const perPixel = 4;
  const data = new Float32Array(angles.length * columns);
  for (const [view, angle] of angles.entries()) {
    for (const { centre, axes, turned, density } of ellipses) {
      const shadow = Math.hypot(axes[0] * Math.cos(angle - turned), axes[1] * Math.sin(angle - turned)); // half its width
      const middle = axis + centre[0] * Math.cos(angle) + centre[1] * Math.sin(angle);
      for (let i = 0; i < columns * perPixel; i++) {
        const distance = ((i + 0.5) / perPixel - 0.5 - middle) / shadow;
        const chord = (2 * axes[0] * axes[1] * Math.sqrt(Math.max(0, 1 - distance ** 2))) / shadow;
        data[view * columns + Math.floor(i / perPixel)]! += (density * chord) / perPixel;
      }
    }
  }
  return { shape: [angles.length, columns], data };
}

/** Adds normal noise whose standard deviation is this share of the largest line integral. */
function noisy({ shape, data }: HostArray, share: number, seed = 7): HostArray {
  const random = seededRandom(seed);
  const sigma = share * data.reduce((most, value) => Math.max(most, value), 0);
  return { shape, data: data.map((value) => value + sigma * random.normal()) };
}

describe("rotation centre", () => {
  const several: Ellipse[] = [
    { centre: [0, 0], axes: [50, 45], turned: 0.2, density: 0.3 },
    { centre: [20, -10], axes: [18, 12], turned: 0.5, density: 1 },
    { centre: [-25, 15], axes: [10, 10], turned: 0, density: 0.5 },
    { centre: [5, 30], axes: [6, 3], turned: 1.2, density: 2 },
  ];
  const wide: Ellipse[] = [{ centre: [0, 0], axes: [120, 100], turned: 0.3, density: 1 }, ...several];
  const discOnAxis: Ellipse[] = [{ centre: [0, 0], axes: [40, 40], turned: 0, density: 1 }];
  const discBeside: Ellipse[] = [{ centre: [30, -12], axes: [20, 20], turned: 0, density: 1 }];
  const steps = (count: number, step: number) => Array.from({ length: count }, (_, i) => i * step);
  const half = (count: number) => steps(count, Math.PI / count);
  const degrees = (count: number) => steps(count, Math.PI / 180);
  const golden = steps(181, (Math.PI * (Math.sqrt(5) - 1)) / 2);

  const cases: [what: string, columns: number, angles: number[], axis: number, ellipses: Ellipse[], noise: number][] = [
    ["an even width", 160, half(120), 88.3, several, 0],
    ["an odd width", 161, half(120), 71.65, several, 0],
    ["an axis in the middle", 160, half(120), 79.5, several, 0.01],
    ["an axis far from the middle", 160, half(120), 110.4, several, 0.01],
    ["noise of 2 %", 160, half(120), 88.3, several, 0.02],
    ["noise of 5 %, odd width", 161, half(180), 71.65, several, 0.05],
    ["noise of 8 %, 400 views", 160, half(400), 88.3, several, 0.08],
    ["45 views", 161, half(45), 71.65, several, 0.02],
    ["20 views", 160, half(20), 84.2, several, 0.01],
    ["a disc on the axis", 160, half(120), 88.3, discOnAxis, 0.02],
    ["a disc beside the axis", 160, half(120), 88.3, discBeside, 0.02],
    ["an object wider than the detector", 160, half(120), 88.3, wide, 0.005],
    ["an object wider than the detector, the axis far off", 161, half(200), 50.3, wide, 0.005],
    ["both ends of the half turn", 160, steps(121, Math.PI / 120), 88.3, several, 0.01],
    ["two degrees missing", 160, degrees(178), 88.3, several, 0.01],
    ["a full turn", 160, degrees(360), 88.3, several, 0.01],
    ["angles that go down", 160, half(120).map((angle) => -angle), 88.3, several, 0.01],
    ["golden angles, many turns", 160, golden, 88.3, several, 0.01],
    ["golden angles, within half a turn", 160, golden.map((angle) => angle % Math.PI), 88.3, several, 0.01],
  ];
  for (const [what, columns, angles, axis, ellipses, noise] of cases) {
    it(`is found within a quarter of a column: ${what}`, () => {
      const { centre, score } = findRotationCentre(noisy(sinogram(columns, angles, axis, ellipses), noise), angles);
      assert.ok(Math.abs(centre - axis) <= 0.25, `found ${centre}, the axis is at ${axis}`);
      assert.ok(score >= 0 && score < 0.1, `score ${score}`);
    });
  }

  it("is not moved by a constant background", () => {
    const angles = half(120);
    const clean = sinogram(160, angles, 88.3, several);
    const raised = { ...clean, data: clean.data.map((value) => value + 5) };
    const difference = findRotationCentre(raised, angles).centre - findRotationCentre(clean, angles).centre;
    assert.ok(Math.abs(difference) < 0.01, String(difference));
  });

  it("is looked for in the range that is given", () => {
    const angles = half(180);
    const small = several.map(({ centre, axes, turned, density }): Ellipse => {
      return { centre: [centre[0] / 3, centre[1] / 3], axes: [axes[0] / 3, axes[1] / 3], turned, density };
    });
    const scan = noisy(sinogram(160, angles, 25.4, small), 0.01);
    const { centre, score } = findRotationCentre(scan, angles, { range: [10, 40] });
    assert.ok(Math.abs(centre - 25.4) <= 0.25, String(centre));
    const elsewhere = findRotationCentre(scan, angles, { range: [60, 100] });
    assert.ok(elsewhere.centre >= 60 && elsewhere.centre <= 100, JSON.stringify(elsewhere));
    assert.ok(elsewhere.score > 10 * score, `${elsewhere.score} and ${score}`);
  });

  it("has a score near 1 in noise", () => {
    const angles = half(120);
    const { score } = findRotationCentre(noisy(host([120, 160], new Float32Array(120 * 160).fill(1)), 0.1), angles);
    assert.ok(score > 0.9 && score <= 1, String(score));
  });

  it("refuses what shows no axis", () => {
    const angles = half(120);
    const good = sinogram(160, angles, 88.3, several);
    const holed = { ...good, data: good.data.with(3 * 160 + 7, Number.NaN) };
    const few = (count: number) => sinogram(160, half(count), 88.3, several);
    const cases: [run: () => unknown, code: "argument" | "shape", sentence: RegExp][] = [
      [
        () => findRotationCentre(host([4], [1, 2, 3, 4]), angles),
        "shape",
        /sinogram shape \[4\]: expected \(views, col/,
      ],
      [() => findRotationCentre(good, half(119)), "shape", /119 angles for a sinogram of 120 views/],
      [() => findRotationCentre(holed, angles), "argument", /NaN in view 3, column 7/],
      [() => findRotationCentre(good, angles.with(5, Number.POSITIVE_INFINITY)), "argument", /angles: Infinity among/],
      [() => findRotationCentre(few(7), half(7)), "argument", /7 views in the first half turn: expected at least 8/],
      [() => findRotationCentre(good, steps(120, Math.PI / 150)), "argument", /gap of 0\.6493 rad .* at most 0\.1047/],
      [
        () => findRotationCentre(host([120, 15], new Float32Array(1800)), angles),
        "argument",
        /15 columns: expected at/,
      ],
      [() => findRotationCentre(host([120, 160], new Float32Array(19200)), angles), "argument", /shows no axis/],
      [() => findRotationCentre(good, angles, { range: [90, 80] }), "argument", /range \[90,80\]: expected 0 <= first/],
      [() => findRotationCentre(good, angles, { range: [0, 160] }), "argument", /last <= 159/],
    ];
    for (const [run, code, sentence] of cases) assert.throws(run, raysumError(code, sentence));
  });

  it(onRealScan("is near column 296 in the tooth, in both of its rows"), { skip: noRealScan }, async () => {
    const { projections, flats, darks, angles } = await readDataExchange(tooth);
    const { data } = flatFieldCorrect(projections, { flats: flats!, darks });
    const [views, columns] = [181, 640];
    const centres = [0, 1].map((row) => {
      const rowData = data.subarray(row * views * columns, (row + 1) * views * columns);
      return findRotationCentre({ shape: [views, columns], data: rowData }, angles!).centre;
    });
    for (const centre of centres) assert.ok(Math.abs(centre - 296) < 0.5, String(centre));
    assert.ok(Math.abs(centres[0]! - centres[1]!) < 0.1, String(centres));
  });
});
