import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { geometryFromJson } from "../lib/geometry/index.ts";
import { assertRefuses, randomPair, without } from "./support/geometry.ts";
import { seededRandom } from "./support/random.ts";

describe("geometry as JSON", () => {
  it("100 random volumes and beams come back as they were", () => {
    const random = seededRandom(5);
    for (let trial = 0; trial < 100; trial++) {
      const { volume: box, beam } = randomPair(random);
      assert.ok(box.equals(geometryFromJson(JSON.stringify(box)), 0));
      assert.ok(beam.equals(geometryFromJson(JSON.stringify(beam)), 0));
      const both = JSON.parse(JSON.stringify({ box, beam }));
      assert.ok(box.equals(geometryFromJson(both.box), 0));
      assert.ok(beam.equals(geometryFromJson(both.beam), 0));
    }
  });

  it("has a fixed form", () => {
    const box = { kind: "volume", shape: [1, 2, 3], voxelSize: [0.5, 1, 2], position: [0, 0, 7] };
    assert.deepEqual(JSON.parse(JSON.stringify(geometryFromJson(box))), box);
    const view = { source: [0, -3, 0], centre: [0, 4, 0], v: [1, 0, 0], u: [0, 0, 1] };
    for (const kind of ["parallel", "cone"]) {
      const beam = { kind, detectorShape: [2, 3], views: [view, view] };
      assert.deepEqual(JSON.parse(JSON.stringify(geometryFromJson(beam))), beam);
    }
  });

  it("is checked on the way in, without touching what was given", () => {
    const box = { kind: "volume", shape: [1, 2, 3], voxelSize: [1, 1, 1], position: [0, 0, 0] };
    const view = { source: [0, -3, 0], centre: [0, 4, 0], v: [1, 0, 0], u: [0, 0, 1] };
    const beam = { kind: "cone", detectorShape: [2, 3], views: [view] };
    const refuses = (json: unknown, ...fragments: string[]) =>
      assertRefuses(() => geometryFromJson(json as object), ...fragments);
    refuses("{ kind", "no JSON");
    for (const nothing of [null, "3", [], {}, { kind: "fan" }]) refuses(nothing, "kind of the geometry");
    refuses({ ...box, shape: [0, 1, 1] }, "shape [0, 1, 1]");
    refuses({ ...box, voxelSize: [1, 1, -1] }, "voxelSize [1, 1, -1]");
    refuses({ ...box, voxelSize: 1 }, "voxelSize 1");
    refuses({ ...box, position: [0, 0, null] }, "position [0, 0, null]");
    refuses(without(box, "position"), "geometry has no position");
    refuses({ ...box, size: 3 }, "geometry.size 3: unknown");
    refuses({ ...beam, detectorShape: [2] }, "detectorShape [2]");
    refuses({ ...beam, views: [] }, "views []");
    refuses({ ...beam, views: [view, { ...view, u: [1, 2] }] }, "views[1].u [1, 2]");
    refuses({ ...beam, views: [view, { ...view, v: [0, 0, 1] }] }, "detectorU[1] [0, 0, 1]", "parallel to detectorV");
    refuses({ ...beam, views: [without(view, "v")] }, "views[0] has no v");
    refuses({ ...beam, views: [3] }, "views[0] 3: expected an object");
    geometryFromJson(beam);
    assert.ok(![beam, view, view.u, beam.detectorShape].some(Object.isFrozen));
  });
});
