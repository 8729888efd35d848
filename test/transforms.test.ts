import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { compose, reflect, rotate, scale, type Transform, translate, type ZYX } from "../lib/geometry/index.ts";
import { assertClose, assertRefuses, randomVector } from "./support/geometry.ts";
import { seededRandom } from "./support/random.ts";

const [z, y, x]: readonly ZYX[] = [
  [1, 0, 0],
  [0, 1, 0],
  [0, 0, 1],
] as const;

const random = seededRandom(7);
const list = <T>(length: number, make: () => T): T[] => Array.from({ length }, make);
const vectors = (n: number) => list(n, () => randomVector(random));
const angles = (n: number) => list(n, () => random.uniform(-4, 4));

/** Transforms of every kind, with one step and with `n`. */
function samples(n: number): Transform[] {
  return [1, n].flatMap((steps) => [
    translate(vectors(steps)),
    rotate({ axis: vectors(steps), angles: angles(steps), position: vectors(1) }),
    scale([1.5, 0.5, 2], { about: vectors(steps) }),
    reflect({ axis: vectors(1), position: vectors(steps) }),
  ]);
}

function assertSame(actual: Transform, expected: Transform): void {
  assertClose(actual.matrices, expected.matrices, 1e-8);
}

const identity = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];

describe("transforms: golden numbers", () => {
  it("rotate by +90 degrees", () => {
    const about = (axis: ZYX) => rotate({ axis, angles: [Math.PI / 2] });
    assertClose(about(z!).applyToDirection([x!]), [[0, 1, 0]]);
    assertClose(about(z!).applyToDirection([y!]), [[0, 0, -1]]);
    assertClose(about(x!).applyToDirection([z!]), [[0, -1, 0]]);
    assertClose(about(y!).applyToDirection([z!]), [[0, 0, 1]]);
  });

  it("into a frame of twice the unit at (1, 2, 3): the inverse of getting there", () => {
    const into = compose(translate([1, 2, 3]), scale(2)).inverse();
    assertClose(into.matrices, [0.5, 0, 0, -0.5, 0, 0.5, 0, -1, 0, 0, 0.5, -1.5, 0, 0, 0, 1]);
  });

  it("matrices act on columns, row after row, one step after the other", () => {
    const moved = translate([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    const shifted = (a: number, b: number, c: number) => [1, 0, 0, a, 0, 1, 0, b, 0, 0, 1, c, 0, 0, 0, 1];
    assertClose(moved.matrices, [...shifted(1, 2, 3), ...shifted(4, 5, 6)]);
    assert.equal(moved.stepCount, 2);
  });
});

describe("transforms: algebra", () => {
  it("compose applies from right to left, and is associative", () => {
    const all = samples(4);
    for (const [i, a] of all.entries()) {
      const b = all[(i + 3) % all.length]!;
      const c = all[(i + 6) % all.length]!;
      const p = randomVector(random);
      assertClose(compose(a, b).applyToPoint(p), a.applyToPoint(b.applyToPoint(p)));
      assertClose(compose(a, b).applyToDirection(p), a.applyToDirection(b.applyToDirection(p)));
      assertSame(compose(a, compose(b, c)), compose(compose(a, b), c));
      assertSame(compose(a, b, c), compose(a, compose(b, c)));
    }
    assertClose(compose().matrices, identity);
  });

  it("inverse undoes, and turns the order around", () => {
    const all = samples(3);
    for (const [i, a] of all.entries()) {
      const b = all[(i + 5) % all.length]!;
      const still = list(a.stepCount, () => identity).flat();
      assertClose(compose(a, a.inverse()).matrices, still, 1e-8);
      assertClose(compose(a.inverse(), a).matrices, still, 1e-8);
      assertSame(compose(a, b).inverse(), compose(b.inverse(), a.inverse()));
    }
  });

  it("shifts add, scales multiply, rotations about one axis add", () => {
    const [a, b] = [vectors(5), vectors(5)];
    const sum = a.map((vector, i) => vector.map((value, axis) => value + b[i]![axis]!)) as unknown as ZYX[];
    assertSame(compose(translate(a), translate(b)), translate(sum));
    const about = randomVector(random);
    assertSame(compose(scale([1, 2, 3], { about }), scale(0.7, { about })), scale([0.7, 1.4, 2.1], { about }));
    const [s, t] = [angles(5), angles(5)];
    const turn = (by: number[]) => rotate({ axis: [1, 2, 3], angles: by, position: about });
    assertSame(compose(turn(s), turn(t)), turn(s.map((angle, i) => angle + t[i]!)));
  });

  it("a rotation: the sign of angle and axis, full turns, the length of the axis; it keeps lengths and its axis", () => {
    const axis = randomVector(random);
    const position = randomVector(random);
    const turn = (angle: number, factor = 1) =>
      rotate({ axis: axis.map((value) => factor * value) as unknown as ZYX, angles: [angle], position });
    assertSame(turn(-0.3), turn(0.3, -1));
    assertSame(turn(-0.3), turn(0.3).inverse());
    assertSame(turn(0.3), turn(0.3 + 2 * Math.PI));
    assertSame(turn(0.3), turn(0.3, 17));
    const d = randomVector(random);
    assertClose(Math.hypot(...turn(1.1).applyToDirection(d)[0]!), Math.hypot(...d));
    assertClose(turn(1.1).applyToPoint(position), [position]);
    assertClose(turn(1.1).applyToDirection(axis), [axis]);
    assert.deepEqual(rotate({ axis: [2, 0, 0], angles: [0.3] }).applyToDirection([1, 0, 0]), [[1, 0, 0]]);
  });

  it("a reflection undoes itself, fixes its plane and turns its normal around", () => {
    const mirror = reflect({ axis: [0, 3, 4], position: [1, 2, 3] });
    assertClose(compose(mirror, mirror).matrices, identity);
    assertClose(mirror.applyToPoint([1, 2, 3]), [[1, 2, 3]]);
    assertClose(mirror.applyToPoint([-5, 6, 0]), [[-5, 6, 0]]);
    assertClose(mirror.applyToDirection([0, 3, 4]), [[0, -3, -4]]);
    assertClose(reflect({ axis: [0, 1, 0], position: [0, 2, 0] }).applyToPoint([0, 0, 0]), [[0, 4, 0]]);
  });

  it("a scale leaves its centre, a shift leaves directions", () => {
    assertClose(scale(3, { about: [1, 1, 1] }).applyToPoint([1, 1, 2]), [[1, 1, 4]]);
    assertClose(scale(3, { about: [1, 1, 1] }).applyToDirection([1, 0, 2]), [[3, 0, 6]]);
    assertClose(translate([5, 6, 7]).applyToDirection([1, 2, 3]), [[1, 2, 3]]);
  });

  it("one entry serves all steps, in every parameter", () => {
    for (const n of [2, 5, 10]) {
      const [axes, positions, many] = [vectors(n), vectors(n), angles(n)];
      const axis = axes[0]!;
      assert.equal(rotate({ axis, angles: many }).stepCount, n);
      assert.equal(rotate({ axis: axes, angles: [1], position: positions }).stepCount, n);
      assertSame(
        rotate({ axis, angles: [0.5], position: positions }),
        rotate({
          axis: list(n, () => axis),
          angles: list(n, () => 0.5),
          position: Float64Array.from(positions.flat()),
        }),
      );
      const one = translate([1, 2, 3]);
      const all = translate(positions);
      assert.equal(compose(one, all).stepCount, n);
      assert.equal(compose(all, one).stepCount, n);
      assert.equal(all.applyToPoint([0, 0, 0]).length, n);
      assert.equal(one.applyToPoint(positions).length, n);
      assertClose(
        all.applyToPoint(positions)[n - 1]!,
        positions[n - 1]!.map((value) => 2 * value),
      );
    }
  });

  it("is safe against mutation", () => {
    const offset: [number, number, number] = [1, 2, 3];
    const moved = translate(offset);
    offset[0] = 99;
    moved.matrices.fill(0);
    assertClose(moved.applyToPoint([0, 0, 0]), [[1, 2, 3]]);
    assert.ok(Object.isFrozen(moved));
  });
});

describe("transforms: what is refused", () => {
  it("counts that differ, with both in the sentence", () => {
    const [two, three] = [translate(vectors(2)), translate(vectors(3))];
    assertRefuses(() => compose(two, three), "2", "3", "the counts must be equal, or 1");
    assertRefuses(() => two.applyToPoint(vectors(3)), "2 steps, 3 points");
    assertRefuses(() => rotate({ axis: vectors(2), angles: [1, 2, 3] }), "2 axes, 3 angles, 1 positions");
    assertRefuses(() => reflect({ axis: vectors(2), position: vectors(3) }), "2 axes, 3 positions");
  });

  it("an axis of zero, no angles, a bare angle, factors that are not positive, NaN", () => {
    assertRefuses(() => rotate({ axis: [0, 0, 0], angles: [1] }), "axis [0, 0, 0]", "zero");
    assertRefuses(() => reflect({ axis: [0, 0, 0] }), "axis [0, 0, 0]", "zero");
    assertRefuses(() => rotate({ axis: [1, 0, 0], angles: [] }), "angles []");
    assertRefuses(() => rotate({ axis: [1, 0, 0], angles: 0.3 as unknown as number[] }), "angles 0.3", "radians");
    assertRefuses(() => rotate({ axis: [1, 0, 0] } as unknown as Parameters<typeof rotate>[0]), "angles undefined");
    assertRefuses(() => rotate({ axis: [1, 0, 0], angles: [1, Number.NaN] }), "angles [1, NaN]");
    assertRefuses(() => rotate({ axis: [1, Number.NaN, 0], angles: [1] }), "axis [1, NaN, 0]");
    assertRefuses(() => scale(0), "factor 0");
    assertRefuses(() => scale(-1), "factor -1", "positive");
    assertRefuses(() => scale([1, 2] as unknown as ZYX), "factor [1, 2]");
    assertRefuses(() => translate([1, 2] as unknown as ZYX), "offsets [1, 2]");
    assertRefuses(() => translate([]), "offsets []");
    assertRefuses(
      () =>
        translate([
          [1, 2, 3],
          [1, 2],
        ] as unknown as ZYX[]),
      "offsets[1] [1, 2]",
    );
    assertRefuses(() => translate(new Float64Array(4)), "4 numbers");
    assertRefuses(() => translate([0, 0, 0]).applyToPoint([0, 0, "1"] as unknown as ZYX), 'points [0, 0, "1"]');
  });

  it("an inverse beyond the range of numbers", () => {
    assertRefuses(() => scale(1e-120).inverse(), "determinant", "no inverse");
  });
});
