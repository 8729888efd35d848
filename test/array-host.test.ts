import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { DeviceArray } from "../lib/array.ts";
import { devices } from "../lib/device.ts";
import { numbers } from "./support/elements.ts";

const counting = (count: number, first = 0) => Float32Array.from({ length: count }, (_, k) => first + k);

for (const where of devices()) {
  const on = { device: where };

  describe(`making arrays on ${where.name}`, () => {
    it("gives what was asked for", () => {
      using empty = DeviceArray.empty([4, 5, 6], on);
      assert.deepEqual([empty.shape, empty.size, empty.device], [[4, 5, 6], 120, where]);
      assert.ok(Object.isFrozen(empty.shape));
      using zeros = DeviceArray.zeros([40_000], on);
      using ones = DeviceArray.ones([40_000], on);
      using full = DeviceArray.full([2, 20_000], -2.5, on);
      for (const [array, value] of [
        [zeros, 0],
        [ones, 1],
        [full, -2.5],
      ] as const)
        assert.ok(array.readSync().every((element) => element === value));
      using scalar = DeviceArray.from([7], [], on);
      assert.deepEqual([scalar.shape, scalar.size, scalar.readSync()[0]], [[], 1, 7]);
      using listed = DeviceArray.from([1, 2, 3, 0.1], [2, 2], on);
      assert.deepEqual(listed.readSync(), Float32Array.of(1, 2, 3, 0.1));
    });

    it("keeps a copy of the shape", () => {
      const shape = [2, 3];
      using a = DeviceArray.zeros(shape, on);
      shape[0] = 5;
      assert.deepEqual(a.shape, [2, 3]);
    });

    it("refuses shapes that are none, and data that does not fill them", () => {
      for (const [shape, text] of [
        [[0, 192], "[0, 192]"],
        [[-1], "[-1]"],
        [[2.5, 2], "[2.5, 2]"],
        [[Number.NaN], "[NaN]"],
        [[2 ** 53], "[9007199254740992]"],
      ] as const)
        assert.throws(() => DeviceArray.empty(shape, on), {
          code: "shape",
          message: `shape ${text}: every count must be a positive whole number`,
        });
      const { arrays } = where.memory();
      assert.throws(() => DeviceArray.empty([2 ** 30, 2 ** 30], on), {
        code: "shape",
        message: /more than 2\^53 elements$/,
      });
      assert.throws(() => DeviceArray.from([1, 2, 3], [2, 2], on), {
        code: "shape",
        message: "3 values for the shape [2, 2]",
      });
      assert.equal(where.memory().arrays, arrays);
    });
  });

  describe(`reading and writing arrays on ${where.name}`, () => {
    it("moves any part, at once or while waiting", async () => {
      using a = DeviceArray.zeros([10, 10], on);
      assert.equal(await a.write(counting(100)), a);
      assert.equal(a.writeSync(Float32Array.of(-1, -2), 98), a);
      await a.write(Float32Array.of(-3), 0);
      await a.write(new Float32Array(0), 100);
      const expected = counting(100);
      expected[0] = -3;
      expected.set([-1, -2], 98);
      assert.deepEqual(await a.read(), expected);
      assert.deepEqual(a.readSync(), expected);
      for (const [start, count] of [
        [0, 100],
        [0, 1],
        [99, 1],
        [37, 20],
      ] as const) {
        const part = expected.slice(start, start + count);
        assert.deepEqual(await a.read({ start, count }), part);
        assert.deepEqual(a.readSync({ start, count }), part);
      }
      assert.deepEqual(a.readSync({ start: 90 }), expected.slice(90));
      assert.deepEqual([(await a.read({ start: 100 })).length, a.readSync({ count: 0 }).length], [0, 0]);
    });

    it("reads into an array of the caller", async () => {
      using a = DeviceArray.from(counting(100), [100], on);
      const buffer = new Float32Array(30).fill(-1);
      const into = buffer.subarray(10, 20);
      assert.equal(await a.read({ start: 5, count: 10, into }), into);
      assert.deepEqual(buffer.subarray(8, 22), Float32Array.of(-1, -1, ...counting(10, 5), -1, -1));
      assert.equal(a.readSync({ start: 90, into }), into);
      assert.deepEqual(into, counting(10, 90));
      const message = "into has 10 elements: expected 11";
      await assert.rejects(a.read({ count: 11, into }), { code: "shape", message });
      assert.throws(() => a.readSync({ count: 11, into }), { code: "shape", message });
    });

    it("refuses parts that are not inside, and bytes of another kind", async () => {
      using a = DeviceArray.from(counting(10), [2, 5], on);
      for (const [start, count] of [
        [-1, 2],
        [9, 2],
        [11, 0],
        [0, 11],
        [0.5, 1],
        [0, 1.5],
        [0, -1],
        [Number.NaN, 1],
      ] as const) {
        const expected = {
          code: "argument",
          message: `elements ${start} ... ${start + count}: expected a part of 0 ... 10`,
        };
        assert.throws(() => a.readSync({ start, count }), expected);
        await assert.rejects(a.read({ start, count }), expected);
        if (!(Number.isInteger(count) && count >= 0)) continue;
        assert.throws(() => a.writeSync(new Float32Array(count), start), expected);
        await assert.rejects(a.write(new Float32Array(count), start), expected);
      }
      const doubles = new Float64Array(10) as unknown as Float32Array<ArrayBuffer>;
      const expected = (what: string) => ({
        code: "argument",
        message: `${what} is a Float64Array: expected a Float32Array`,
      });
      assert.throws(() => a.writeSync(doubles), expected("values"));
      await assert.rejects(a.write(doubles), expected("values"));
      assert.throws(() => a.readSync({ into: doubles }), expected("into"));
      await assert.rejects(a.read({ into: doubles }), expected("into"));
      assert.deepEqual(a.readSync(), counting(10));
    });

    it("takes its turn: what is read is what was there then, what is written is copied at once", async () => {
      using a = DeviceArray.zeros([50_000], on);
      const values = counting(50_000);
      const reads: Promise<Float32Array>[] = [];
      for (let turn = 0; turn < 10; turn++) {
        a.addAssign(1); // so that the queue is not empty when the upload comes
        values.fill(turn, 0, 3);
        a.writeSync(values);
        values.fill(-1, 0, 3); // too late to matter
        a.addAssign(0.5);
        reads.push(a.read({ count: 4 }));
      }
      a.fill(-7);
      (await Promise.all(reads)).forEach((read, turn) => {
        assert.deepEqual(read, Float32Array.of(turn + 0.5, turn + 0.5, turn + 0.5, 3.5));
      });
    });

    it("keeps what is on its way when the array is disposed", async () => {
      const a = DeviceArray.from(counting(1000), [1000], on);
      const read = a.read();
      a.dispose();
      using heir = DeviceArray.full([1000], -1, on);
      assert.deepEqual(await read, counting(1000));
      assert.equal(heir.readSync()[0], -1);
    });

    it("moves more than one slab", async () => {
      const slab = 2 ** 24; // 64 MiB
      const size = slab + 1_500_001;
      const values = new Float32Array(size);
      for (let k = 0; k < size; k++) values[k] = (k * 7) % 16_777_213;
      using a = DeviceArray.empty([size], on);
      let turns = 0;
      const timer = setInterval(() => turns++, 0);
      await a.write(values);
      assert.ok(turns > 0, "the event loop was free between the slabs");
      clearInterval(timer);
      const same = (read: Float32Array, start: number) => {
        for (let k = 0; k < read.length; k++) if (read[k] !== values[start + k]) assert.fail(`element ${start + k}`);
      };
      const all = await a.read();
      assert.equal(all.length, size);
      same(all, 0);
      a.fill(0).writeSync(values); // staged: the queue is busy
      same(a.readSync({ into: all }), 0);
      const [start, count] = [slab - 3, 10];
      same(await a.read({ start, count }), start);
      a.writeSync(values.subarray(0, 20), slab - 10); // across the edge
      assert.deepEqual(a.readSync({ start: slab - 10, count: 20 }), values.slice(0, 20));
    });

    it("writes large arrays one right after the other, and behind queued work", () => {
      const size = 2 ** 24 + 9 * 2 ** 20 + 5; // 64 MiB and somewhat more than 36
      const pattern = (first: number) => Float32Array.from({ length: size }, (_, k) => (first + 7 * k) % 16_777_213);
      const [one, other] = [pattern(0), pattern(3)];
      using a = DeviceArray.empty([size], on);
      using b = DeviceArray.empty([size], on);
      const same = (array: DeviceArray, values: Float32Array) => {
        const read = array.readSync();
        for (let k = 0; k < size; k++) if (read[k] !== values[k]) assert.fail(`element ${k}`);
      };
      const sent = one.slice();
      a.writeSync(other).writeSync(sent);
      sent.fill(-1); // too late to matter
      b.writeSync(one).writeSync(other);
      same(a, one);
      same(b, other);
      const few = a.part(0, 300_000);
      for (let turn = 0; turn < 5; turn++) few.addAssign(1);
      a.writeSync(other);
      a.part(0, 1).fill(-1); // the first and the last to come
      a.part(size - 1, size).fill(-2);
      for (const [k, value] of [
        [0, -1],
        [size - 1, -2],
      ] as const)
        other[k] = value;
      same(a, other);
    });
  });

  describe(`views of arrays on ${where.name}`, () => {
    it("share the memory", () => {
      using a = DeviceArray.from(counting(24), [4, 6], on);
      const reshaped = a.reshape([2, 3, 4]);
      assert.deepEqual([reshaped.shape, reshaped.size, reshaped.pointer], [[2, 3, 4], 24, a.pointer]);
      const part = a.part(1, 3);
      assert.deepEqual([part.shape, part.address], [[2, 6], a.address + 24n]);
      assert.deepEqual(part.readSync(), counting(12, 6));
      const cell = part.part(1, 2).reshape([6]).part(2, 3);
      assert.deepEqual([cell.shape, cell.readSync()[0]], [[1], 14]);
      cell.fill(-1);
      part.part(0, 1).mulAssign(2);
      const expected = counting(24);
      for (let k = 6; k < 12; k++) expected[k]! *= 2;
      expected[14] = -1;
      assert.deepEqual(a.readSync(), expected);
      assert.deepEqual(reshaped.readSync(), expected);
    });

    it("die with their owner, which does not die with them", () => {
      const { arrays } = where.memory();
      const a = DeviceArray.from(counting(24), [4, 6], on);
      const part = a.part(0, 2);
      const deep = part.reshape([12]).part(3, 6);
      const other = a.reshape([24]);
      other.dispose();
      other.dispose();
      assert.deepEqual([other.disposed, a.disposed, deep.disposed], [true, false, false]);
      assert.equal(where.memory().arrays, arrays + 1);
      part.dispose(); // and with it what was made of it
      assert.deepEqual([part.disposed, deep.disposed, a.disposed], [true, true, false]);
      const last = a.part(0, 1);
      a.dispose();
      assert.deepEqual([last.disposed, a.disposed], [true, true]);
      assert.throws(() => last.readSync(), { code: "disposed", message: "this array [1, 6] was disposed" });
      assert.equal(where.memory().arrays, arrays);
    });

    it("are refused where they do not fit", () => {
      using a = DeviceArray.zeros([4, 6], on);
      assert.throws(() => a.reshape([5, 5]), { code: "shape", message: "[4, 6] cannot be reshaped to [5, 5]" });
      assert.throws(() => a.reshape([24, 0]), { code: "shape", message: /every count must be a positive/ });
      for (const [start, stop] of [
        [-1, 2],
        [0, 5],
        [2, 2],
        [3, 1],
        [0.5, 2],
        [0, Number.NaN],
      ] as const)
        assert.throws(() => a.part(start, stop), {
          code: "argument",
          message: `part ${start} ... ${stop}: expected a part of 0 ... 4`,
        });
      using scalar = DeviceArray.zeros([], on);
      assert.throws(() => scalar.part(0, 1), { code: "argument", message: "part 0 ... 1: expected a part of 0 ... 0" });
    });
  });

  describe(`the life of arrays on ${where.name}`, () => {
    it("ends with dispose(), once", () => {
      const { arrays, inUse } = where.memory();
      const a = DeviceArray.zeros([100], on);
      a.dispose();
      a.dispose();
      a[Symbol.dispose]();
      assert.equal(a.disposed, true);
      assert.deepEqual([where.memory().arrays, where.memory().inUse], [arrays, inUse]);
    });

    it("is over for every method", async () => {
      const a = DeviceArray.zeros([6], on);
      using b = DeviceArray.zeros([6], on);
      a.dispose();
      const uses: Record<string, () => unknown> = {
        pointer: () => a.pointer,
        address: () => a.address,
        readSync: () => a.readSync(),
        writeSync: () => a.writeSync(new Float32Array(6)),
        fill: () => a.fill(1),
        assign: () => a.assign(b),
        "assign from": () => b.assign(a),
        add: () => a.add(b),
        "add to": () => b.add(a),
        addAssign: () => a.addAssign(1),
        addProduct: () => b.addProduct(b, a),
        exp: () => a.exp(),
        clone: () => a.clone(),
        reciprocal: () => a.reciprocal(),
        reshape: () => a.reshape([2, 3]),
        part: () => a.part(0, 1),
      };
      const { arrays } = where.memory();
      const expected = { code: "disposed", message: "this array [6] was disposed" };
      for (const [name, use] of Object.entries(uses)) assert.throws(use, expected, name);
      assert.equal(where.memory().arrays, arrays, "a refused call has left an array behind");
      for (const use of [() => a.read(), () => a.write(new Float32Array(6)), () => a.sum(), () => b.dot(a)])
        await assert.rejects(use, expected);
      assert.deepEqual([a.shape, a.size, a.disposed], [[6], 6, true]);
    });

    it("goes on for queued work after it has ended", () => {
      const values = numbers(500_000, 1);
      using result = DeviceArray.zeros([values.length], on);
      for (let turn = 0; turn < 4; turn++) {
        const a = DeviceArray.from(values, [values.length], on);
        const b = a.mul(2);
        a.dispose();
        const c = b.sub(1); // may get the memory of `a` while `b` still waits for its turn
        b.dispose();
        result.addAssign(c);
        c.dispose();
      }
      const expected = Float32Array.from(values, (value) => {
        const term = Math.fround(2 * value - 1);
        return [term, term, term, term].reduce((sum, one) => Math.fround(sum + one), 0);
      });
      assert.deepEqual(result.readSync(), expected);
    });
  });
}
