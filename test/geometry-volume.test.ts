import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Volume, type VolumeOptions, volume, type ZYX } from "../lib/geometry/index.ts";
import { assertClose, assertRefuses, randomVector } from "./support/geometry.ts";
import { seededRandom } from "./support/random.ts";

/** Where the centre of a voxel is. */
function voxelCentre({ extent, voxelSize }: Volume, index: ZYX): number[] {
  return index.map((i, axis) => extent[axis]![0] + (i + 0.5) * voxelSize[axis]!);
}

function assertVolume(actual: Volume, shape: ZYX, voxelSize: ZYX, position: ZYX): void {
  assert.deepEqual([...actual.shape], shape);
  assertClose(actual.voxelSize, voxelSize, 1e-12);
  assertClose(actual.position, position, 1e-12);
}

describe("volume", () => {
  it("has unit voxels about the origin by default", () => {
    const v = volume({ shape: [2, 3, 4] });
    assertVolume(v, [2, 3, 4], [1, 1, 1], [0, 0, 0]);
    assertClose(v.size, [2, 3, 4]);
    assertClose(v.extent, [
      [-1, 1],
      [-1.5, 1.5],
      [-2, 2],
    ]);
  });

  it("takes the total size or the spacing, for all axes or for each", () => {
    assertVolume(volume({ shape: [2, 4, 5], size: 2 }), [2, 4, 5], [1, 0.5, 0.4], [0, 0, 0]);
    assertVolume(volume({ shape: [2, 4, 5], size: [1, 2, 3] }), [2, 4, 5], [0.5, 0.5, 0.6], [0, 0, 0]);
    assertVolume(volume({ shape: [2, 4, 5], voxelSize: 0.1 }), [2, 4, 5], [0.1, 0.1, 0.1], [0, 0, 0]);
    assertVolume(
      volume({ shape: [2, 4, 5], voxelSize: [1, 2, 3], position: [7, 8, 9] }),
      [2, 4, 5],
      [1, 2, 3],
      [7, 8, 9],
    );
  });

  it("takes an extent, and gives it back", () => {
    const extent = [
      [-1, 3],
      [0.5, 1],
      [-7, -4],
    ] as const;
    const v = volume({ shape: [2, 5, 6], extent });
    assertVolume(v, [2, 5, 6], [2, 0.1, 0.5], [1, 0.75, -5.5]);
    assertClose(v.extent, extent, 1e-12);
    assert.ok(v.equals(volume({ shape: [2, 5, 6], size: v.size, position: v.position })));
  });

  it("is frozen, and does not follow the lists that it was made from", () => {
    const shape: [number, number, number] = [2, 3, 4];
    const position: [number, number, number] = [1, 2, 3];
    const v = volume({ shape, position });
    shape[0] = position[0] = 99;
    assertVolume(v, [2, 3, 4], [1, 1, 1], [1, 2, 3]);
    for (const part of [v, v.shape, v.voxelSize, v.position]) assert.ok(Object.isFrozen(part));
  });

  it("keeps shape and size when it is moved", () => {
    const v = volume({ shape: [2, 3, 4], voxelSize: [1, 2, 3], position: [1, 1, 1] });
    assertVolume(v.translate([5, -1, 0.5]), [2, 3, 4], [1, 2, 3], [6, 0, 1.5]);
    assert.ok(v.translate([1, 2, 3]).translate([-1, -2, -3]).equals(v));
  });

  it("is scaled about the origin or a point", () => {
    const v = volume({ shape: [2, 3, 4], position: [1, 2, 3] });
    assertVolume(v.scale(2), [2, 3, 4], [2, 2, 2], [2, 4, 6]);
    assertVolume(v.scale(2, v.position), [2, 3, 4], [2, 2, 2], [1, 2, 3]);
    assertVolume(v.scale([1, 2, 3], [0, 0, 1]), [2, 3, 4], [1, 2, 3], [1, 4, 7]);
    assert.ok(
      v
        .scale(3, [1, 0, 0])
        .scale(1 / 3, [1, 0, 0])
        .equals(v),
    );
  });

  it("is cropped in place: every voxel that stays is where it was", () => {
    const random = seededRandom(1);
    for (let trial = 0; trial < 50; trial++) {
      const shape: ZYX = [random.integer(1, 9), random.integer(1, 9), random.integer(1, 9)];
      const v = volume({ shape, size: random.uniform(0.1, 4), position: randomVector(random) });
      const ranges = shape.map((n) => {
        const start = random.integer(0, n - 1);
        return { start, stop: random.integer(start + 1, n) };
      });
      const cropped = v.crop({ z: ranges[0]!, y: ranges[1]!, x: ranges[2]! });
      assert.deepEqual(
        [...cropped.shape],
        ranges.map(({ start, stop }) => stop - start),
      );
      for (const at of [0, 1]) {
        const inside = cropped.shape.map((n) => at * (n - 1)) as unknown as ZYX;
        const outside = inside.map((i, axis) => i + ranges[axis]!.start) as unknown as ZYX;
        assertClose(voxelCentre(cropped, inside), voxelCentre(v, outside));
      }
    }
  });

  it("crops to the given axes only, with the ends as defaults", () => {
    const v = volume({ shape: [4, 3, 3] });
    assert.ok(v.crop({}).equals(v));
    assertVolume(v.crop({ z: { start: 1 } }), [3, 3, 3], [1, 1, 1], [0.5, 0, 0]);
    assertVolume(v.crop({ x: { stop: 1 } }), [4, 3, 1], [1, 1, 1], [0, 0, -1]);
  });

  it("compares within a tolerance and never throws", () => {
    const v = volume({ shape: [2, 3, 4] });
    assert.ok(v.equals(v.translate([0, 0, 5e-9])));
    assert.ok(!v.equals(v.translate([0, 0, 5e-8])));
    assert.ok(v.equals(v.translate([0, 0, 5e-8]), 1e-7));
    assert.ok(!v.equals(v.scale(1.1)));
    assert.ok(!v.equals(volume({ shape: [2, 4, 3] })));
    for (const other of [undefined, null, 3, "volume", {}, [2, 3, 4], { shape: [2, 3, 4] }])
      assert.ok(!v.equals(other));
  });

  it("refuses what is no volume, with the value in the sentence", () => {
    const refuses = (options: object, ...fragments: string[]) =>
      assertRefuses(() => volume(options as VolumeOptions), ...fragments);
    refuses({ shape: [0, 3, 3] }, "shape [0, 3, 3]: every count must be positive");
    refuses({ shape: [2, -3, 3] }, "shape [2, -3, 3]");
    refuses({ shape: [2.5, 3, 3] }, "shape [2.5, 3, 3]");
    refuses({ shape: [2] }, "shape [2]", "3 finite numbers");
    refuses({ shape: 4 }, "shape 4");
    refuses({}, "shape undefined");
    refuses({ shape: ["2", 3, 3] }, 'shape ["2", 3, 3]');
    refuses({ shape: [2, 3, 4], size: 0 }, "size 0: expected a positive number, or [z, y, x]");
    refuses({ shape: [2, 3, 4], size: -1 }, "size -1");
    refuses({ shape: [2, 3, 4], size: "big" }, 'size "big"');
    refuses({ shape: [2, 3, 4], size: Number.NaN }, "size NaN");
    refuses({ shape: [2, 3, 4], voxelSize: [1, 0, 1] }, "voxelSize [1, 0, 1]");
    refuses({ shape: [2, 3, 4], voxelSize: null }, "voxelSize null");
    refuses({ shape: [2, 3, 4], position: 3 }, "position 3");
    refuses({ shape: [2, 3, 4], position: [0, Number.POSITIVE_INFINITY, 0] }, "position [0, Infinity, 0]");
    refuses({ shape: [2, 3, 4], size: 1, voxelSize: 2 }, "size 1", "voxelSize 2", "give one of the two");
  });

  it("refuses an extent beside another size or position, and one that is no box", () => {
    const unit = [
      [0, 1],
      [0, 1],
      [0, 1],
    ];
    const refuses = (options: object, ...fragments: string[]) =>
      assertRefuses(() => volume({ shape: [1, 1, 1], ...options } as unknown as VolumeOptions), ...fragments);
    refuses({ extent: unit, size: 1 }, "size 1", "extent");
    refuses({ extent: unit, voxelSize: 1 }, "voxelSize 1", "extent");
    refuses({ extent: unit, position: [0, 0, 0] }, "position [0, 0, 0]", "extent");
    refuses({ extent: [0, 1] }, "extent [0, 1]");
    refuses({ extent: [[0, 1], [0, 1], [0]] }, "extent[2] [0]");
    refuses(
      {
        extent: [
          [0, 1],
          [1, 1],
          [0, 1],
        ],
      },
      "extent [[0, 1], [1, 1], [0, 1]]",
      "from low to high",
    );
  });

  it("refuses bad moves, factors and ranges", () => {
    const v = volume({ shape: [3, 3, 3] });
    assertRefuses(() => v.translate([1, 2] as unknown as ZYX), "offset [1, 2]");
    assertRefuses(() => v.scale(0), "factor 0");
    assertRefuses(() => v.scale([1, -2, 1]), "factor [1, -2, 1]");
    assertRefuses(() => v.crop({ z: { start: 9 } }), "z { start: 9 }", "0 <= start < stop <= 3");
    assertRefuses(() => v.crop({ y: { start: 2, stop: 1 } }), "y { start: 2, stop: 1 }");
    assertRefuses(() => v.crop({ x: { start: -1 } }), "x { start: -1 }");
    assertRefuses(() => v.crop({ x: { stop: 4 } }), "x { stop: 4 }");
    assertRefuses(() => v.crop({ x: { stop: 1.5 } }), "x { stop: 1.5 }");
    assertRefuses(() => v.crop({ x: { step: 2 } as object }), "x { step: 2 }");
    assertRefuses(() => v.crop({ x: [0, 2] as object }), "x [0, 2]");
  });

  it("has types that allow one way to say the size", () => {
    // @ts-expect-error the size and the spacing
    const both = () => volume({ shape: [1, 1, 1], size: 1, voxelSize: 1 });
    // @ts-expect-error a bare number
    const cube = () => volume({ shape: 4 });
    const side = [0, 1] as const;
    // @ts-expect-error an extent and a position
    const placed = () => volume({ shape: [1, 1, 1], extent: [side, side, side], position: [0, 0, 0] });
    for (const action of [both, cube, placed]) assertRefuses(action);
  });
});
