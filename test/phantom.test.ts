import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { device, hollowBox } from "../lib/index.ts";

describe("hollowBox", () => {
  it("is symmetric, with margins of whole voxels", () => {
    for (const [shape, edges] of [
      [
        [64, 64, 64],
        [12, 25, 39, 52],
      ],
      [
        [10, 10, 10],
        [2, 4, 6, 8],
      ],
      [
        [1, 13, 13],
        [2, 5, 8, 11],
      ],
    ] as const) {
      using box = hollowBox({ domainShape: shape, device: device() });
      const [depth, height, width] = shape;
      const middle = ((depth >> 1) * height + (height >> 1)) * width;
      const line = box.readSync().subarray(middle, middle + width);
      assert.deepEqual(
        [...line.keys()].filter((x) => line[x] !== (line[x - 1] ?? 0)),
        edges,
        `${shape}`,
      );
    }
  });

  it("has walls all around", () => {
    using box = hollowBox({ domainShape: [10, 10, 10], device: device() });
    const values = box.readSync();
    assert.equal(
      values.reduce((sum, value) => sum + value, 0),
      6 ** 3 - 2 ** 3,
    );
    for (const index of [0, 1, 4]) {
      const slice = values.subarray(index * 100, (index + 1) * 100);
      assert.equal(
        slice.reduce((sum, value) => sum + value, 0),
        index < 2 ? 0 : 36 - 4,
      );
    }
  });
});
