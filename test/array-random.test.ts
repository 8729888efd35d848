import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { DeviceArray } from "../lib/array.ts";
import { devices } from "../lib/device.ts";
import { sizes } from "./support/elements.ts";

/** Philox4x32-10 of J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011: a block of four words. */
function philox(counter: readonly number[], key: readonly number[]): number[] {
  let [c0, c1, c2, c3] = counter.map(BigInt) as [bigint, bigint, bigint, bigint];
  let [k0, k1] = key.map(BigInt) as [bigint, bigint];
  const word = 0xffffffffn;
  for (let round = 0; round < 10; round++) {
    const [p, q] = [0xd2511f53n * c0, 0xcd9e8d57n * c2];
    [c0, c1, c2, c3] = [(q >> 32n) ^ c1 ^ k0, q & word, (p >> 32n) ^ c3 ^ k1, p & word];
    [k0, k1] = [(k0 + 0x9e3779b9n) & word, (k1 + 0xbb67ae85n) & word];
  }
  return [c0, c1, c2, c3].map(Number);
}

/** The words of elements 0 ... count - 1: block k of counter k, under the two words of the seed. */
function words(count: number, seed: number): number[] {
  const key = [BigInt.asUintN(32, BigInt(seed)), BigInt.asUintN(32, BigInt(seed) >> 32n)].map(Number);
  return Array.from({ length: Math.ceil(count / 4) }, (_, block) => philox([block, 0, 0, 0], key))
    .flat()
    .slice(0, count);
}

describe("the reference generator", () => {
  it("gives the answers published with the paper's code", () => {
    const ones = 0xffffffff;
    const hex = (list: number[]) => list.map((word) => word.toString(16).padStart(8, "0")).join(" ");
    assert.equal(hex(philox([0, 0, 0, 0], [0, 0])), "6627e8d5 e169c58d bc57ac4c 9b00dbd8");
    assert.equal(hex(philox([ones, ones, ones, ones], [ones, ones])), "408f276d 41c83b0e a20bc7c6 6d5451fd");
    assert.equal(
      hex(philox([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0])),
      "d16cfe09 94fdcceb 5001e420 24126ea1",
    );
  });
});

for (const where of devices()) {
  const uniform = (size: number, options: { seed: number; minimum?: number; maximum?: number }) => {
    using a = DeviceArray.uniform([size], { ...options, device: where });
    return a.readSync();
  };
  const normal = (size: number, options: { seed: number; mean?: number; deviation?: number }) => {
    using a = DeviceArray.normal([size], { ...options, device: where });
    return a.readSync();
  };

  describe(`random arrays on ${where.name}`, () => {
    it("begin with the published answer for counter 0 and key 0", () => {
      const published = [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8];
      assert.deepEqual(
        uniform(4, { seed: 0 }),
        Float32Array.from(published, (word) => (word >>> 8) / 2 ** 24),
      );
    });

    it("take each element from its place in the sequence of its seed", () => {
      for (const seed of [0, 1, -1, 2 ** 31, 2 ** 32 + 5, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER]) {
        const expected = Float32Array.from(words(1003, seed), (word) => (word >>> 8) / 2 ** 24);
        assert.deepEqual(uniform(1003, { seed }), expected, `seed ${seed}`);
      }
      // The same at every size, also across the chunks of the work.
      const longest = uniform(sizes.at(-1)!, { seed: 3 });
      for (const size of sizes) assert.deepEqual(uniform(size, { seed: 3 }), longest.slice(0, size));
      const block = [8192, 0, 0, 0]; // of elements 32768 ...
      const expected = Float32Array.from(philox(block, [3, 0]), (word) => (word >>> 8) / 2 ** 24);
      assert.deepEqual(longest.slice(32_768, 32_772), expected);
    });

    it("are normal by the rule of Box and Muller", () => {
      const list = words(2000, 12);
      const expected = list.map((word, k) => {
        const [first, second] = k % 2 ? [list[k - 1]!, word] : [word, list[k + 1]!];
        const radius = Math.sqrt(-2 * Math.log((first + 1) / 2 ** 32));
        const angle = (2 * Math.PI * second) / 2 ** 32;
        return 3 + 0.5 * radius * (k % 2 ? Math.sin(angle) : Math.cos(angle));
      });
      normal(2000, { seed: 12, mean: 3, deviation: 0.5 }).forEach((value, k) => {
        assert.ok(Math.abs(value - expected[k]!) <= 1e-6, `element ${k}: ${value}, expected ${expected[k]}`);
      });
    });

    it("have the moments of their distribution", () => {
      const size = 100_003;
      const moments = (values: Float32Array) => {
        const moment = (power: number, about: number) => values.reduce((s, x) => s + (x - about) ** power, 0) / size;
        const mean = moment(1, 0);
        const variance = moment(2, mean);
        return [mean, variance, moment(3, mean) / variance ** 1.5, moment(4, mean) / variance ** 2];
      };
      // Within five standard errors of each estimate.
      const near = (actual: number[], expected: number[], errors: number[]) =>
        actual.forEach((value, k) => {
          const error = (5 * errors[k]!) / Math.sqrt(size);
          assert.ok(Math.abs(value - expected[k]!) <= error, `moment ${k + 1} is ${value}, expected ${expected[k]}`);
        });
      near(moments(normal(size, { seed: 4 })), [0, 1, 0, 3], [1, 2 ** 0.5, 6 ** 0.5, 24 ** 0.5]);
      near(
        moments(normal(size, { seed: 5, mean: -7, deviation: 3 })),
        [-7, 9, 0, 3],
        [3, 9 * 2 ** 0.5, 6 ** 0.5, 24 ** 0.5],
      );
      near(moments(uniform(size, { seed: 6 })), [1 / 2, 1 / 12, 0, 9 / 5], [0.3, 0.08, 2, 2]);
    });

    it("are of the same seed the same, and of others others", () => {
      assert.deepEqual(normal(999, { seed: 8 }), normal(999, { seed: 8 }));
      const other = normal(999, { seed: 9 });
      const same = normal(999, { seed: 8 }).filter((value, k) => value === other[k]);
      assert.ok(same.length < 3);
    });

    it("are in the interval, without its end", () => {
      for (const [minimum, maximum] of [
        [-3, 5],
        [1, 1 + 2 ** -20],
        [1, 1 + 2 ** -23],
        [-1e30, 1e30],
      ] as const) {
        const values = uniform(40_000, { seed: 10, minimum, maximum });
        assert.ok(
          values.every((value) => value >= minimum && value < maximum),
          `[${minimum}, ${maximum})`,
        );
      }
      assert.ok(normal(100, { seed: 1, mean: 2, deviation: 0 }).every((value) => value === 2));
    });

    it("refuse what is no seed, interval or deviation", () => {
      const { arrays } = where.memory();
      for (const seed of [0.5, Number.NaN, 2 ** 53])
        assert.throws(() => uniform(4, { seed }), {
          code: "argument",
          message: `seed ${seed}: expected a whole number`,
        });
      for (const [minimum, maximum] of [
        [1, 1],
        [2, 1],
        [Number.NaN, 1],
        [0, Number.POSITIVE_INFINITY],
      ] as const)
        assert.throws(() => uniform(4, { seed: 1, minimum, maximum }), {
          code: "argument",
          message: `minimum ${minimum}, maximum ${maximum}: expected finite minimum < maximum`,
        });
      for (const [mean, deviation] of [
        [0, -1],
        [Number.NaN, 1],
        [0, Number.POSITIVE_INFINITY],
      ] as const)
        assert.throws(() => normal(4, { seed: 1, mean, deviation }), {
          code: "argument",
          message: `mean ${mean}, deviation ${deviation}: expected finite numbers, deviation >= 0`,
        });
      assert.equal(where.memory().arrays, arrays);
    });
  });
}
