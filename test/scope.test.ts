import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { DeviceArray } from "../lib/array.ts";
import { device } from "../lib/device.ts";
import { scope } from "../lib/scope.ts";

const where = device();
const make = (value = 1) => DeviceArray.full([4], value);
const alive = () => where.memory().arrays;

/** Runs `body` and tells how many more arrays are alive after it. */
function left<T>(body: () => T): [result: T, arrays: number] {
  const before = alive();
  const result = body();
  return [result, alive() - before];
}

// Synchronous throughout: between two turns of the event loop arrays of other tests may be collected.
describe("scope", () => {
  it("frees what was made inside and hands over what is returned", () => {
    using a = make(2);
    const [result, arrays] = left(() => scope(() => a.mul(3).add(make(4)).sub(1)));
    assert.equal(arrays, 1);
    assert.deepEqual(result.readSync(), Float32Array.of(9, 9, 9, 9));
    assert.equal(a.disposed, false);
    result.dispose();
  });

  it("returns whatever the function returns", () => {
    for (const value of [undefined, null, 5, "text", Symbol.iterator, false])
      assert.deepEqual(
        left(() =>
          scope(() => {
            make();
            return value;
          }),
        ),
        [value, 0],
      );
  });

  it("keeps arrays that are returned in lists and objects, however deep", () => {
    const [result, arrays] = left(() =>
      scope(() => {
        make(0);
        return { one: make(1), list: [make(2), [make(3), 7, null]], deep: { deeper: { four: make(4) } }, text: "x" };
      }),
    );
    assert.equal(arrays, 4);
    const kept = [result.one, result.list[0], (result.list[1] as DeviceArray[])[0], result.deep.deeper.four];
    kept.forEach((array, k) => {
      assert.equal((array as DeviceArray).readSync()[0], k + 1);
      (array as DeviceArray).dispose();
    });
  });

  it("keeps an array that is returned twice, and objects that hold themselves", () => {
    interface Ring {
      array: DeviceArray;
      self?: Ring;
    }
    const [ring, arrays] = left(() =>
      scope(() => {
        const array = make();
        const made: Ring = { array };
        made.self = made;
        return [made, array, array] as const;
      }),
    );
    assert.equal(arrays, 1);
    ring[0].array.dispose();
    assert.equal(ring[2].disposed, true);
  });

  it("does not look into other objects", () => {
    class Holder {
      readonly array = make();
    }
    const [holder, arrays] = left(() => scope(() => new Holder()));
    assert.equal(arrays, 0);
    assert.equal(holder.array.disposed, true);
  });

  it("hands over to the scope around it", () => {
    const [, arrays] = left(() =>
      scope(() => {
        const inner = scope(() => {
          make();
          return [make(5), make(6)] as const;
        });
        assert.deepEqual([inner[0].disposed, inner[1].disposed], [false, false]);
        const outer = scope(() => inner[0].add(inner[1])); // made outside of it: left alone
        assert.equal(inner[0].disposed, false);
        assert.equal(outer.readSync()[0], 11);
        return scope(() => undefined);
      }),
    );
    assert.equal(arrays, 0);
  });

  it("frees everything when the function throws, at any depth", () => {
    const failure = new Error("inside");
    using outside = make();
    const before = alive();
    assert.throws(
      () =>
        scope(() => {
          make();
          scope(() => {
            make();
            outside.addAssign(1);
            throw failure;
          });
        }),
      (error) => error === failure,
    );
    assert.equal(alive(), before);
    assert.equal(outside.readSync()[0], 2);
    // And the scopes are closed again: this one belongs to nobody else.
    const after = make();
    scope(() => make());
    assert.equal(after.disposed, false);
    after.dispose();
  });

  it("goes on after an error that is caught inside", () => {
    const [result, arrays] = left(() =>
      scope(() => {
        const kept = make(3);
        try {
          scope(() => kept.add(DeviceArray.zeros([5])));
        } catch {
          return kept.add(kept);
        }
        return kept;
      }),
    );
    assert.equal(arrays, 1);
    assert.equal(result.readSync()[0], 6);
    result.dispose();
  });

  it("leaves alone what was disposed inside, and may return it", () => {
    const [result, arrays] = left(() =>
      scope(() => {
        const gone = make();
        gone.dispose();
        {
          using other = make();
          other.addAssign(1);
        }
        return gone;
      }),
    );
    assert.equal(arrays, 0);
    assert.equal(result.disposed, true);
  });

  it("may return arrays from outside and arrays changed in place", () => {
    using a = make();
    const [result, arrays] = left(() => scope(() => a.addAssign(make(2))));
    assert.equal(arrays, 0);
    assert.equal(result, a);
    assert.equal(a.readSync()[0], 3);
  });

  it("frees an array of which only a view is returned, and the view says so", () => {
    const [view, arrays] = left(() => scope(() => make().reshape([2, 2])));
    assert.equal(arrays, 0);
    assert.equal(view.disposed, true);
    assert.throws(() => view.readSync(), { code: "disposed", message: "this array [2, 2] was disposed" });
    // A view of an array from outside lives as long as that does.
    using a = make(8);
    assert.equal(scope(() => a.reshape([2, 2])).readSync()[0], 8);
  });

  it("refuses a function that returns a promise, and frees what it has made", async () => {
    const before = alive();
    let promise: Promise<number> | undefined;
    assert.throws(
      () =>
        scope(() => {
          make();
          promise = make().sum();
          return promise;
        }),
      { code: "argument", message: "scope: the function returned a promise; expected a synchronous function" },
    );
    assert.ok(alive() <= before + 1); // what the sum works with lives until it is done
    assert.equal(await promise, 4);
  });

  it("belongs to the turn of the event loop that it is in", async () => {
    const later = Promise.resolve().then(() => make());
    scope(() => make());
    const array = await later;
    assert.equal(array.disposed, false);
    array.dispose();
  });

  it("is for the loop of an iteration, at no cost in memory", () => {
    using x = make(0);
    using y = make(16);
    const before = where.memory();
    for (let k = 0; k < 10_000; k++) scope(() => x.addAssign(y.sub(x).mul(0.5)));
    where.finishedSync();
    const { arrays, inUse, cached } = where.memory();
    assert.deepEqual([arrays, inUse, cached], [before.arrays, before.inUse, before.cached]);
    assert.deepEqual(x.readSync(), Float32Array.of(16, 16, 16, 16));
  });
});
