import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { DeviceArray } from "../lib/array.ts";
import { Device, devices } from "../lib/device.ts";
import { sizeOf } from "../lib/shape.ts";
import { assertElements, edges, numbers, pairs, sizes } from "./support/elements.ts";

interface Unary {
  readonly on: (a: DeviceArray) => DeviceArray;
  readonly of: (x: number) => number;
  readonly ulps: number;
}

/** Every method on one array, and what it is in float64. Numbers are those that float32 holds. */
const unary: Record<string, Unary> = {
  "add(number)": { on: (a) => a.add(2.5), of: (x) => x + 2.5, ulps: 0 },
  "sub(number)": { on: (a) => a.sub(2.5), of: (x) => x - 2.5, ulps: 0 },
  "mul(number)": { on: (a) => a.mul(-1.5), of: (x) => x * -1.5, ulps: 0 },
  "div(number)": { on: (a) => a.div(3), of: (x) => x / 3, ulps: 1 },
  "div(0)": { on: (a) => a.div(0), of: (x) => x / 0, ulps: 0 },
  "mul(NaN)": { on: (a) => a.mul(Number.NaN), of: () => Number.NaN, ulps: 0 },
  "minimum(number)": { on: (a) => a.minimum(0.75), of: (x) => Math.min(x, 0.75), ulps: 0 },
  "maximum(number)": { on: (a) => a.maximum(-0.75), of: (x) => Math.max(x, -0.75), ulps: 0 },
  "clamp(-1, 0.5)": { on: (a) => a.clamp(-1, 0.5), of: (x) => Math.min(Math.max(x, -1), 0.5), ulps: 0 },
  "clamp(2, 2)": { on: (a) => a.clamp(2, 2), of: (x) => (Number.isNaN(x) ? x : 2), ulps: 0 },
  "abs()": { on: (a) => a.abs(), of: Math.abs, ulps: 0 },
  "sqrt()": { on: (a) => a.sqrt(), of: Math.sqrt, ulps: 0 },
  "exp()": { on: (a) => a.exp(), of: Math.exp, ulps: 2 },
  "log()": { on: (a) => a.log(), of: Math.log, ulps: 2 },
  "reciprocal()": { on: (a) => a.reciprocal(), of: (x) => (x <= 0 ? 0 : 1 / x), ulps: 0 },
  "reciprocal({ absolute })": {
    on: (a) => a.reciprocal({ absolute: 0.25 }),
    of: (x) => (x <= 0.25 ? 0 : 1 / x),
    ulps: 0,
  },
  "clone()": { on: (a) => a.clone(), of: (x) => x, ulps: 0 },
};

interface Binary {
  readonly on: (a: DeviceArray, b: DeviceArray) => DeviceArray;
  readonly into: ((a: DeviceArray, b: DeviceArray) => DeviceArray) | undefined;
  readonly of: (x: number, y: number) => number;
}

/** Every method on two arrays, with the one that works in place; correctly rounded all. */
const binary: Record<string, Binary> = {
  add: { on: (a, b) => a.add(b), into: (a, b) => a.addAssign(b), of: (x, y) => x + y },
  sub: { on: (a, b) => a.sub(b), into: (a, b) => a.subAssign(b), of: (x, y) => x - y },
  mul: { on: (a, b) => a.mul(b), into: (a, b) => a.mulAssign(b), of: (x, y) => x * y },
  div: { on: (a, b) => a.div(b), into: (a, b) => a.divAssign(b), of: (x, y) => x / y },
  minimum: { on: (a, b) => a.minimum(b), into: undefined, of: Math.min },
  maximum: { on: (a, b) => a.maximum(b), into: undefined, of: Math.max },
};

for (const where of devices()) {
  const on = { device: where };

  describe(`elements of arrays on ${where.name}`, () => {
    for (const [name, { on: method, of, ulps }] of Object.entries(unary))
      it(`${name} is that of float64`, () => {
        for (const values of [...sizes.map((size) => numbers(size, size)), Float32Array.from(edges)]) {
          using a = DeviceArray.from(values, [values.length], on);
          using result = method(a);
          assert.notEqual(result, a);
          assert.deepEqual(result.shape, a.shape);
          assertElements(result.readSync(), (k) => of(values[k]!), ulps, name);
          assert.deepEqual(a.readSync(), values);
        }
      });

    for (const [name, { on: method, into, of }] of Object.entries(binary))
      it(`${name}(array) is that of float64`, () => {
        for (const [x, y] of [...sizes.map((size) => [numbers(size, size), numbers(size, size + 1)] as const), pairs]) {
          using a = DeviceArray.from(x, [x.length], on);
          using b = DeviceArray.from(y, [x.length], on);
          using result = method(a, b);
          assertElements(result.readSync(), (k) => of(x[k]!, y[k]!), 0, name);
          assert.deepEqual(a.readSync(), x);
          assert.equal(into?.(a, b) ?? a, a);
          if (into) assert.deepEqual(a.readSync(), result.readSync());
          assert.deepEqual(b.readSync(), y);
        }
      });

    it("repeat the second operand over leading dimensions", () => {
      for (const [shape, trailing] of [
        [
          [3, 5, 7],
          [5, 7],
        ],
        [[3, 5, 7], [7]],
        [[3, 5, 7], []],
        [[13, 7693], [7693]], // periods that end inside the chunks of the work
        [[40_000, 3], [3]],
      ] as const) {
        const [x, y] = [numbers(sizeOf(shape), 3), numbers(sizeOf(trailing), 4)];
        using a = DeviceArray.from(x, shape, on);
        using b = DeviceArray.from(y, trailing, on);
        for (const [name, { on: method, into, of }] of Object.entries(binary)) {
          const expected = (k: number) => of(x[k]!, y[k % y.length]!);
          using result = method(a, b);
          assert.deepEqual(result.shape, shape);
          assertElements(result.readSync(), expected, 0, `${name} [${shape}] [${trailing}]`);
          if (!into) continue;
          using target = a.clone();
          assert.equal(into(target, b), target);
          assertElements(target.readSync(), expected, 0, `${name}Assign [${shape}] [${trailing}]`);
        }
        using target = a.clone();
        assert.equal(target.addProduct(a, b, -0.75), target);
        // Two products and a sum, each rounded or not: as far as three roundings of the larger term.
        target.readSync().forEach((value, k) => {
          const [own, term] = [x[k]!, -0.75 * x[k]! * y[k % y.length]!];
          assert.ok(Math.abs(value - (own + term)) <= 3 * 2 ** -24 * (Math.abs(own) + Math.abs(term)), `element ${k}`);
        });
      }
    });

    it("change in place by a number", () => {
      const values = numbers(40_000, 5);
      using a = DeviceArray.from(values, [200, 200], on);
      assert.equal(a.addAssign(1).subAssign(0.5).mulAssign(4).divAssign(2), a);
      const [half, round] = [0.5, Math.fround];
      assertElements(a.readSync(), (k) => round(round(values[k]! + 1) - half) * 2, 0, "in place");
    });

    it("may be both operands, and the target too", () => {
      const values = numbers(100_003, 6);
      using a = DeviceArray.from(values, [values.length], on);
      using twice = a.add(a);
      assertElements(twice.readSync(), (k) => 2 * values[k]!, 0, "a + a");
      a.mulAssign(a);
      assertElements(a.readSync(), (k) => values[k]! ** 2, 0, "a *= a");
      a.subAssign(a);
      assertElements(a.readSync(), () => 0, 0, "a -= a");
    });

    it("must not be changed from a part of themselves", () => {
      using a = DeviceArray.from(numbers(12, 7), [4, 3], on);
      const before = a.readSync();
      const [first, second, row] = [a.part(0, 2), a.part(1, 3), a.part(0, 1).reshape([3])];
      assert.throws(() => first.addAssign(second), { code: "argument", message: "out and b share memory" });
      assert.throws(() => a.subAssign(row), { code: "argument", message: "out and b share memory" });
      assert.throws(() => first.assign(second), { code: "argument", message: "copy target and source share memory" });
      assert.deepEqual(a.readSync(), before);
      using copy = row.clone();
      a.subAssign(copy);
      assertElements(a.readSync(), (k) => before[k]! - before[k % 3]!, 0, "through a copy");
    });

    it("become weights: reciprocals of all that is above a part of the largest", () => {
      const values = numbers(70_001, 8).map(Math.abs);
      const largest = values.reduce((most, value) => Math.max(most, value));
      using a = DeviceArray.from(values, [values.length], on);
      for (const options of [{ relative: 1e-3 }, { absolute: 1e-3, relative: 1e-6 }, { relative: 1 }]) {
        const { absolute = 0, relative } = { ...options };
        const least = Math.fround(Math.max(absolute, relative * largest));
        using result = a.reciprocal(options);
        assertElements(result.readSync(), (k) => (values[k]! <= least ? 0 : 1 / values[k]!), 0, "reciprocal");
      }
      for (const threshold of [-1, Number.NaN])
        assert.throws(() => a.reciprocal({ relative: threshold }), { code: "argument", message: /^thresholds 0 and/ });
    });
  });

  describe(`reductions of arrays on ${where.name}`, () => {
    const reduced = async (a: DeviceArray, b: DeviceArray) => [
      await a.sum(),
      await a.mean(),
      await a.min(),
      await a.max(),
      await a.norm(),
      await a.dot(b),
      await a.distance(b),
      await a.meanAbsoluteDifference(b),
    ];
    const sum = (values: Float32Array, of: (x: number, k: number) => number) =>
      values.reduce((s, x, k) => s + of(x, k), 0);

    it("are those of float64", async () => {
      for (const size of sizes) {
        const [x, y] = [numbers(size, size), numbers(size, size + 1)];
        using a = DeviceArray.from(x, [size], on);
        using b = DeviceArray.from(y, [size], on);
        const results = await reduced(a, b);
        const total = sum(x, (value) => value);
        const absolute = sum(x, Math.abs);
        const expected = [
          total,
          total / size,
          x.reduce((least, value) => Math.min(least, value)),
          x.reduce((most, value) => Math.max(most, value)),
          Math.sqrt(sum(x, (value) => value ** 2)),
          sum(x, (value, k) => value * y[k]!),
          Math.sqrt(sum(x, (value, k) => (value - y[k]!) ** 2)),
          sum(x, (value, k) => Math.abs(value - y[k]!)) / size,
        ];
        // The sums may cancel, so they are held against the sum of their terms' magnitudes.
        const scales = expected
          .map((value) => Math.abs(value))
          .with(0, absolute)
          .with(1, absolute / size);
        scales[5] = sum(x, (value, k) => Math.abs(value * y[k]!));
        results.forEach((value, k) => {
          assert.ok(
            Math.abs(value - expected[k]!) <= 1e-12 * scales[k]!,
            `${size} elements, ${k}: ${value}, ${expected[k]}`,
          );
        });
      }
    });

    if (where.name === "cpu")
      it("do not depend on the number of threads", async () => {
        using a = DeviceArray.normal([300_007], { seed: 1, device: where });
        using b = DeviceArray.normal([300_007], { seed: 2, device: where });
        const before = where.threads;
        const results: number[][] = [];
        try {
          for (const threads of [1, 2, 3, 7, 1]) {
            where.threads = threads;
            results.push(await reduced(a, b));
          }
        } finally {
          where.threads = before;
        }
        for (const other of results) assert.deepEqual(other, results[0]);
      });

    it("carry NaN and infinities from wherever they are", async () => {
      for (const [size, place] of [
        [7, 0],
        [7, 6],
        [40, 9],
        [100_003, 32_768],
        [100_003, 100_002],
      ] as const) {
        const values = numbers(size, 9);
        values[place] = Number.NaN;
        using a = DeviceArray.from(values, [size], on);
        for (const result of [a.sum(), a.min(), a.max(), a.norm()])
          assert.ok(Number.isNaN(await result), `${size}, ${place}`);
        values[place] = Number.NEGATIVE_INFINITY;
        a.writeSync(values);
        assert.equal(await a.min(), Number.NEGATIVE_INFINITY);
        assert.equal(await a.sum(), Number.NEGATIVE_INFINITY);
        assert.equal(await a.norm(), Number.POSITIVE_INFINITY);
        assert.ok(Number.isFinite(await a.max()));
      }
    });

    it("free what they work with", () => {
      using a = DeviceArray.ones([5], on);
      const { arrays } = where.memory();
      const sums = Promise.all(Array.from({ length: 20 }, () => a.sum()));
      return sums.then((all) => {
        assert.deepEqual(all, Array(20).fill(5));
        assert.ok(where.memory().arrays <= arrays);
      });
    });
  });

  describe(`operands on ${where.name}`, () => {
    it("are refused where shapes do not go together", () => {
      using a = DeviceArray.zeros([2, 3], on);
      for (const shape of [[3, 2], [2], [1, 3], [2, 3, 1], [1, 2, 3], [6], [1]]) {
        using b = DeviceArray.ones(shape, on);
        const list = shape.join(", ");
        for (const [name, { on: method, into }] of Object.entries(binary)) {
          const message = (call: string) =>
            `${call}: shapes [2, 3] and [${list}]: expected equal shapes, or the second to be the trailing part of the first`;
          assert.throws(() => method(a, b), { code: "shape", message: message(name) });
          if (into) assert.throws(() => into(a, b), { code: "shape", message: message(`${name}Assign`) });
        }
        assert.throws(() => a.addProduct(a, b), { code: "shape", message: /^addProduct: shapes/ });
        assert.throws(() => a.addProduct(b, a), { code: "shape", message: `addProduct: shapes [2, 3] and [${list}]` });
        assert.throws(() => a.assign(b), { code: "shape", message: `assign: shapes [2, 3] and [${list}]` });
      }
      assert.deepEqual(a.readSync(), new Float32Array(6));
    });

    it("are refused where they must have the same shape and have not", async () => {
      using a = DeviceArray.zeros([2, 3], on);
      using row = DeviceArray.zeros([3], on);
      const message = (name: string) => ({ code: "shape", message: `${name}: shapes [2, 3] and [3]` });
      await assert.rejects(a.dot(row), message("dot"));
      await assert.rejects(a.distance(row), message("distance"));
      await assert.rejects(a.meanAbsoluteDifference(row), message("meanAbsoluteDifference"));
    });

    it("are refused on another device", async () => {
      using a = DeviceArray.zeros([2], on);
      // The same memory seen as another device's: nothing but the check may look at it.
      const other = new Device(where.id);
      using b = DeviceArray.zeros([2], { device: other });
      const expected = (name: string) => ({
        code: "device",
        message: `${name}: an array on ${where.name} and one on ${other.name}`,
      });
      for (const [name, { on: method }] of Object.entries(binary)) assert.throws(() => method(a, b), expected(name));
      assert.throws(() => a.assign(b), expected("assign"));
      assert.throws(() => a.addProduct(b, a), expected("addProduct"));
      assert.throws(() => a.addProduct(a, b), expected("addProduct"));
      await assert.rejects(a.dot(b), expected("dot"));
    });

    it("are refused in an interval that is none", () => {
      using a = DeviceArray.zeros([2], on);
      for (const [low, high] of [
        [1, 0],
        [Number.NaN, 1],
        [0, Number.NaN],
      ] as const)
        assert.throws(() => a.clamp(low, high), {
          code: "argument",
          message: `clamp(${low}, ${high}): expected minimum <= maximum`,
        });
    });
  });
}
