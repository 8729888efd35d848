import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { DeviceArray, device, operator, parallelBeam, scope, volume } from "../lib/index.ts";
import { check, native, readInteger } from "../lib/native/library.ts";
import { raysumError } from "./support/errors.ts";
import { relativeL2 } from "./support/random.ts";

const here = device();
const on = { device: here };

/** Records what `body` calls. */
function record(body: () => void): bigint {
  const number = readInteger((out) => native().rs_capture_begin(here.id, out));
  body();
  check(native().rs_capture_end(number));
  return number;
}

const run = (number: bigint) => check(native().rs_capture_run(number));
const free = (number: bigint) => check(native().rs_capture_free(number));

describe("captures of the native library", () => {
  it("do nothing while they record, and everything at each run, in the order of the queue", () => {
    using x = DeviceArray.ones([100], on);
    using y = DeviceArray.zeros([100], on);
    const number = record(() => {
      x.mulAssign(2);
      y.addAssign(x);
    });
    assert.equal(x.readSync()[0], 1);
    for (let k = 0; k < 3; k++) run(number);
    x.fill(100);
    run(number);
    free(number);
    assert.equal(y.readSync()[99], 2 + 4 + 8 + 200);
    assert.throws(() => run(number), raysumError("disposed", /capture \d+ is not alive/));
    assert.throws(() => free(number), raysumError("disposed", /capture \d+ is not alive/));
  });

  it("project, and keep an operator that was disposed", () => {
    const A = operator(
      volume({ shape: [6, 8, 7], size: 1 }),
      parallelBeam({ angleCount: 5, detectorShape: [6, 9], detectorSize: 1.4 }),
      on,
    );
    using x = DeviceArray.uniform(A.domainShape, { ...on, seed: 1 });
    using y = DeviceArray.empty(A.rangeShape, on);
    using z = DeviceArray.empty(A.domainShape, on);
    using expected = scope(() => A.T(A(x)));
    const { operators } = here.memory();
    const number = record(() => {
      A(x, { out: y });
      A.T(y, { out: z });
    });
    A.dispose();
    assert.throws(() => A(x), raysumError("disposed", /./));
    using other = DeviceArray.ones([100_000], on); // would get the operator's workspace
    run(number);
    assert.deepEqual(z.readSync(), expected.readSync());
    assert.equal(other.readSync()[0], 1);
    free(number);
    here.finishedSync();
    assert.equal(here.memory().operators, operators - 1);
  });

  it("keep the workspace of an operator that larger batches need more of", () => {
    const { inUse } = here.memory();
    {
      using A = operator(
        volume({ shape: [1, 40, 40], size: [1 / 40, 1, 1] }),
        parallelBeam({ angleCount: 60, detectorShape: [1, 60], detectorSize: [1 / 40, 1.5] }),
        on,
      );
      using x = DeviceArray.uniform(A.domainShape, { ...on, seed: 1 });
      using y = DeviceArray.empty(A.rangeShape, on);
      using expected = A(x);
      const number = record(() => void A(x, { out: y }));
      for (const batch of [3, 30]) {
        using images = DeviceArray.zeros([batch, ...A.domainShape], on);
        images
          .part(batch - 1, batch)
          .reshape(A.domainShape)
          .assign(x);
        using projected = A(images); // one slice at a time or many side by side: the same to the last digits
        const last = projected.part(batch - 1, batch).readSync();
        assert.ok(relativeL2(last, expected.readSync()) < 1e-6, `batch ${batch}`);
        using others = DeviceArray.ones([3_000_000], on); // would get what the operator has given back
        y.fill(0);
        run(number);
        assert.deepEqual(y.readSync(), expected.readSync());
        assert.equal(others.readSync()[2_999_999], 1);
      }
      free(number);
    }
    here.finishedSync();
    assert.equal(here.memory().inUse, inUse);
  });

  it("let the pool grow, and give back what they took", () => {
    const before = here.memory();
    using x = DeviceArray.ones([10], on);
    let large: DeviceArray | undefined;
    const number = record(() => {
      large = DeviceArray.full([40_000_000], 3, on); // more than a segment
      x.addAssign(large.part(0, 10));
      large.dispose();
    });
    assert.ok(here.memory().inUse >= before.inUse + 160_000_000, "its own while it lives");
    run(number);
    assert.equal(x.readSync()[9], 4);
    free(number);
    assert.equal(here.memory().inUse, before.inUse + 256);
    assert.ok(large?.disposed);
  });

  it("hand out memory again that was freed inside, but never what was there before", () => {
    const x = DeviceArray.full([1000], 5, on);
    using sum = DeviceArray.zeros([1000], on);
    let first: bigint | undefined;
    const number = record(() => {
      sum.addAssign(x);
      x.dispose(); // each run reads it
      for (let k = 0; k < 3; k++) {
        using own = DeviceArray.full([1000], k, on);
        first ??= own.address;
        assert.equal(own.address, first);
        sum.addAssign(own);
      }
    });
    using another = DeviceArray.full([1000], 1000, on);
    for (let k = 0; k < 2; k++) run(number);
    assert.equal(sum.readSync()[0], 2 * (5 + 0 + 1 + 2));
    assert.equal(another.readSync()[0], 1000);
    free(number);
  });

  it("share arrays with each other", () => {
    const x = DeviceArray.ones([50], on);
    using y = DeviceArray.zeros([50], on);
    const { inUse } = here.memory();
    const numbers = [2, 10].map((factor) => record(() => y.addProduct(x, x, factor)));
    x.dispose();
    assert.equal(here.memory().inUse, inUse);
    for (const number of numbers) run(number);
    free(numbers[0]!);
    run(numbers[1]!);
    assert.equal(y.readSync()[7], 22);
    assert.equal(here.memory().inUse, inUse);
    free(numbers[1]!);
    assert.equal(here.memory().inUse, inUse - 256);
  });

  it("take few bytes of the host along, and refuse many", () => {
    using x = DeviceArray.zeros([3000], on);
    const values = Float32Array.from({ length: 700 }, (_, k) => k + 0.5);
    const number = record(() => {
      x.writeSync(values, 20);
      values.fill(0);
      assert.throws(
        () => x.writeSync(new Float32Array(1025)),
        raysumError("argument", /an upload of 4100 bytes inside/),
      );
    });
    run(number);
    const found = x.readSync();
    for (const k of [0, 300, 699]) assert.equal(found[20 + k], k + 0.5);
    assert.equal(found[720], 0);
    free(number);
  });

  it("refuse what cannot be repeated", () => {
    using x = DeviceArray.zeros([10], on);
    const ready = record(() => x.fill(1));
    const mark = here.mark();
    const number = readInteger((out) => native().rs_capture_begin(here.id, out));
    const refused: [() => unknown, RegExp][] = [
      [() => x.readSync(), /a download inside a capture/],
      [() => here.finishedSync(), /inside a capture/],
      [() => here.record(), /asking how far the device is inside a capture/],
      [() => here.mark(), /a mark inside a capture/],
      [() => check(native().rs_elapsed(here.id, mark, mark, new Float64Array(1))), /inside a capture/],
      [() => DeviceArray.normal([10], { ...on, seed: 1 }), /random numbers inside a capture/],
      [() => check(native().rs_memory_trim(here.id)), /giving memory back to the system inside a capture/],
      [
        () => operator(volume({ shape: [4, 4, 4] }), parallelBeam({ angleCount: 2, detectorShape: [4, 4] }), on),
        /a new plan inside a capture/,
      ],
      [() => run(ready), /running a capture inside a capture/],
      [() => readInteger((out) => native().rs_capture_begin(here.id, out)), /a capture is recording already/],
    ];
    for (const [call, pattern] of refused) assert.throws(call, raysumError("argument", pattern));
    free(ready); // nothing of that is recorded
    x.fill(7);
    free(number); // ends it
    assert.equal(x.readSync()[0], 0);
    assert.throws(() => check(native().rs_capture_end(ready)), raysumError("disposed", /is not alive/));
    const ended = record(() => x.fill(2));
    assert.throws(() => check(native().rs_capture_end(ended)), raysumError("argument", /does not record/));
    free(ended);
    const many: bigint[] = [];
    for (let k = 0; k < 64; k++) many.push(record(() => {}));
    assert.throws(() => record(() => {}), raysumError("argument", /64 captures are alive/));
    for (const one of many) run(one);
    for (const one of many) free(one);
  });

  it("leave a download open that began before them", () => {
    using x = DeviceArray.full([4], 3, on);
    const begun = readInteger((out) => native().rs_download_begin(x.pointer, 16n, out));
    const values = new Float32Array(4);
    const end = () => check(native().rs_download_end(begun, values, 16n));
    const number = record(() => assert.throws(end, raysumError("argument", /the end of a download inside a capture/)));
    free(number);
    here.finishedSync();
    end();
    assert.deepEqual(values, Float32Array.of(3, 3, 3, 3));
  });

  it("are of a device that exists", () => {
    assert.throws(() => readInteger((out) => native().rs_capture_begin(99, out)), raysumError("device", /device 99/));
  });
});
