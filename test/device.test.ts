import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { DeviceArray } from "../lib/array.ts";
import { Device, device, devices, poll } from "../lib/device.ts";
import { RaysumError } from "../lib/errors.ts";
import { native } from "../lib/native/library.ts";
import { RS_MARKS, Status } from "../lib/native/symbols.ts";

const cpu = device("cpu");
const on = { device: cpu };
const MiB = 2 ** 20;

// Counters are compared within synchronous code only: between two turns of the event loop arrays of other tests may be collected.

describe("devices", () => {
  it("begin with the CPU and are always the same objects", () => {
    const all = devices();
    assert.ok(all.length >= 1 && Object.isFrozen(all));
    assert.equal(all[0]!.name, "cpu");
    all.forEach((one, id) => {
      assert.equal(one.id, id);
      assert.equal(device(one.name), one);
    });
    assert.equal(devices(), all);
  });

  it("are described for people", () => {
    assert.match(cpu.description, new RegExp(`^CPU, ${cpu.threads} threads, (avx512|avx2|plain)$`));
  });

  it("are refused by a name that none has", () => {
    for (const name of ["", "CPU", "cuda:99", "gpu"])
      assert.throws(() => device(name), {
        name: "RaysumError",
        code: "device",
        message: new RegExp(
          `^there is no device "${name}": this library has ${devices()
            .map((one) => one.name)
            .join(", ")}`,
        ),
      });
    assert.throws(() => new Device(99).memory(), { code: "device", message: /^device 99 does not exist/ });
    assert.throws(() => DeviceArray.zeros([1], { device: new Device(99) }), { code: "device" });
  });
});

describe("CUDA devices", () => {
  it("say why there are none", () => {
    if (devices().length > 1) return assert.equal(device("cuda:0").id, 1);
    assert.throws(() => device("cuda:0"), {
      code: "device",
      message: /\(no CUDA device: (this is the library for the CPU alone|.* NVIDIA driver .*)\)$/,
    });
  });

  it("alone have a stream", () => {
    assert.throws(() => cpu.useStream(0n), { code: "argument", message: /^device 0 is the CPU/ });
    for (const gpu of devices().slice(1)) gpu.useStream(0n);
  });
});

describe("threads of the CPU device", () => {
  it("are set and told, and work does not change with them", () => {
    const before = cpu.threads;
    using a = DeviceArray.normal([100_003], { seed: 1, device: cpu });
    const values: Float32Array[] = [];
    try {
      for (const threads of [1, 2, 5, 256, 1]) {
        using sum = a.add(a); // queued work that setting waits for
        cpu.threads = threads;
        assert.equal(cpu.threads, threads);
        assert.match(cpu.description, new RegExp(`^CPU, ${threads} threads`));
        using product = sum.mul(a);
        values.push(product.readSync());
      }
    } finally {
      cpu.threads = before;
    }
    for (const other of values) assert.deepEqual(other, values[0]);
  });

  it("are refused unless they are a whole number from 1 to 256", () => {
    const before = cpu.threads;
    for (const count of [0, -1, 1.5, 257, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 32 + 2])
      assert.throws(
        () => {
          cpu.threads = count;
        },
        { code: "argument", message: `threads ${count}: expected a whole number from 1 to 256` },
      );
    assert.equal(cpu.threads, before);
  });
});

describe("the queue of a device", () => {
  it("numbers its calls", () => {
    using a = DeviceArray.zeros([8], on);
    const before = cpu.record();
    assert.equal(cpu.record(), before);
    a.addAssign(1).mulAssign(2);
    assert.equal(cpu.record(), before + 2n);
  });

  it("finishes in order, telling when", async () => {
    using big = DeviceArray.zeros([1000, 1000], on);
    for (let step = 0; step < 20; step++) big.addAssign(1);
    const event = cpu.record();
    for (let step = 0; step < 20; step++) big.addAssign(1);
    await cpu.finished(event);
    assert.ok(big.readSync({ start: 999_999, count: 1 })[0]! >= 20);
    cpu.finishedSync();
    await cpu.finished();
    await cpu.finished(0n);
    assert.deepEqual(await big.read({ start: 0, count: 2 }), Float32Array.of(40, 40));
  });

  it("leaves the event loop free while it works", async () => {
    using big = DeviceArray.ones([2000, 1000], on);
    for (let step = 0; step < 30; step++) big.exp().dispose();
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    await cpu.finished();
    clearInterval(timer);
    assert.ok(turns > 0);
  });

  it("refuses events that it has not handed out", async () => {
    const event = cpu.record() + 5n;
    const expected = { code: "argument", message: `event ${event} is not one of this queue's` };
    await assert.rejects(cpu.finished(event), expected);
    assert.throws(() => cpu.finishedSync(event), expected);
  });

  it("drops what is cancelled, but nothing before, after, or uploaded", () => {
    using small = DeviceArray.zeros([4], on);
    using uploaded = DeviceArray.zeros([4], on);
    using big = DeviceArray.ones([2000, 1000], on);
    cpu.finishedSync();
    small.fill(1);
    const first = cpu.record() + 1n;
    for (let step = 0; step < 100; step++) big.exp().dispose(); // much longer than it takes to get to `cancel`
    small.fill(2);
    uploaded.writeSync(Float32Array.of(1, 2, 3, 4));
    const last = cpu.record();
    small.addAssign(10);
    cpu.cancel(first, last);
    assert.deepEqual(small.readSync(), Float32Array.of(11, 11, 11, 11));
    assert.deepEqual(uploaded.readSync(), Float32Array.of(1, 2, 3, 4));
  });

  it("leaves no array half changed when a cancelled call in place is left whole", async () => {
    using big = DeviceArray.zeros([1_000_000], on);
    for (let turn = 0; turn < 6; turn++) {
      big.fill(0);
      await cpu.finished();
      const first = cpu.record() + 1n;
      for (let step = 0; step < 10; step++) big.addAssign(1);
      const last = cpu.record();
      if (turn % 2) await new Promise((resolve) => setTimeout(resolve, 1));
      cpu.cancel(first, last, { leaveWhole: true });
      const [least, most] = await Promise.all([big.min(), big.max()]);
      assert.equal(least, most);
      assert.ok(Number.isInteger(least) && least >= 0 && least <= 10);
    }
  });

  it("is asked until it is no longer busy, and an error of queued work is passed on", async () => {
    let asked = 0;
    await poll(() => (++asked < 45 ? Status.BUSY : Status.OK));
    assert.equal(asked, 45);
    await assert.rejects(
      poll(() => (++asked < 50 ? Status.BUSY : Status.EMEMORY)),
      RaysumError,
    );
    assert.equal(asked, 50);
  });
});

describe("marks of a device", () => {
  const here = device();

  it("tell the time between them, which holds the work between them and no other", async () => {
    using x = DeviceArray.ones([2000, 500], { device: here });
    const work = () => {
      for (let step = 0; step < 20; step++) x.exp().dispose();
    };
    work();
    await here.finished();
    const began = performance.now();
    const first = here.mark();
    const second = here.mark();
    work();
    const third = here.mark();
    work();
    const whole = await here.elapsed(first);
    const parts = [await here.elapsed(first, second), await here.elapsed(second, third)] as const;
    assert.ok(whole <= performance.now() - began + 0.01);
    assert.ok(parts[0] >= 0 && parts[1] > parts[0], `${parts}`);
    assert.ok(whole >= parts[0] + parts[1] - 0.01, `${whole} of which ${parts}`);
    assert.equal(await here.elapsed(third, third), 0);
  });

  it("are there before the device is, and what is cancelled around them leaves them", async () => {
    using x = DeviceArray.ones([2000, 1000], on);
    await cpu.finished();
    const first = cpu.mark();
    for (let step = 0; step < 100; step++) x.exp().dispose(); // much longer than it takes to get to `cancel`
    const last = cpu.mark();
    assert.equal(native().rs_elapsed(cpu.id, first, last, new Float64Array(1)), Status.BUSY);
    cpu.cancel(1n, cpu.record());
    assert.ok((await cpu.elapsed(first, last)) > 0);
  });

  it("are forgotten one after the other, the oldest first", async () => {
    const marks = Array.from({ length: RS_MARKS + 1 }, () => here.mark());
    const [oldest, kept, newest] = [marks[0]!, marks[1]!, marks.at(-1)!];
    assert.ok((await here.elapsed(kept, newest)) >= 0);
    const forgotten = (mark: bigint) => ({
      code: "argument",
      message: `mark ${mark} is not one of the last 64 of this device`,
    });
    await assert.rejects(here.elapsed(oldest, newest), forgotten(oldest));
    await assert.rejects(here.elapsed(0n, newest), forgotten(0n));
    await assert.rejects(here.elapsed(newest, newest + 1n), forgotten(newest + 1n));
    await assert.rejects(here.elapsed(newest, kept), {
      code: "argument",
      message: `mark ${newest} is behind mark ${kept}: expected the earlier one first`,
    });
  });
});

describe("the memory of a device", () => {
  it("is counted in whole blocks of 256 bytes", () => {
    const before = cpu.memory();
    using a = DeviceArray.zeros([1], on);
    using b = DeviceArray.zeros([65], on);
    const during = cpu.memory();
    assert.equal(during.arrays, before.arrays + 2);
    assert.equal(during.inUse, before.inUse + 256 + 512);
    assert.ok(during.peak >= during.inUse && during.free <= during.total && during.total > 0);
    const view = a.reshape([1, 1]);
    assert.equal(cpu.memory().arrays, before.arrays + 2);
    view.dispose();
    b.dispose();
    assert.equal(cpu.memory().arrays, before.arrays + 1);
    a.dispose();
    const { inUse, arrays, operators } = cpu.memory();
    assert.deepEqual([inUse, arrays, operators], [before.inUse, before.arrays, before.operators]);
  });

  it("keeps the most that was in use", () => {
    const { inUse, peak } = cpu.memory();
    const bytes = peak - inUse + MiB;
    using high = DeviceArray.empty([bytes / 4], on);
    const now = cpu.memory();
    assert.equal(now.inUse, inUse + bytes);
    assert.equal(now.peak, now.inUse);
    high.dispose();
    assert.equal(cpu.memory().peak, now.peak);
  });

  it("hands out the same addresses to a program that repeats itself", () => {
    const run = () => {
      const kept: DeviceArray[] = [];
      const addresses: bigint[] = [];
      for (let k = 1; k <= 12; k++) {
        const array = DeviceArray.zeros([1000 * k], on);
        addresses.push(array.address);
        if (k % 3 === 0) array.dispose();
        else kept.push(array);
      }
      for (const array of kept) array.dispose();
      return addresses;
    };
    const first = run();
    for (let turn = 0; turn < 5; turn++) assert.deepEqual(run(), first);
  });

  // Blocks of more than a segment of the pool, so that no gap which other tests have left is one of them. Nothing touches them.
  const large = (mebibytes: number) => DeviceArray.empty([(mebibytes * MiB) / 4], on);

  it("hands out the smallest block that is large enough, so that large ones stay whole", () => {
    cpu.trimMemory();
    const arrays = [144, 80, 144].map(large); // wherever they lie, a large one is first or last
    const addresses = arrays.map((array) => array.address);
    for (const array of arrays) array.dispose();
    using small = large(80);
    assert.equal(small.address, addresses[1]);
    using others = large(144);
    assert.ok([addresses[0], addresses[2]].includes(others.address));
  });

  it("joins freed neighbours", () => {
    cpu.trimMemory();
    const first = large(210);
    const { address } = first;
    first.dispose();
    const arrays = Array.from({ length: 3 }, () => large(70));
    const bytes = BigInt(70 * MiB);
    assert.deepEqual(
      arrays.map((array) => array.address - arrays[0]!.address),
      [0n, bytes, 2n * bytes],
    );
    for (const index of [0, 2, 1]) arrays[index]!.dispose();
    using whole = large(210);
    assert.equal(whole.address, address);
  });

  it("goes back to the system by trimming, but for segments in use", () => {
    cpu.trimMemory();
    const before = cpu.memory();
    // What fits in no free part of a segment in use is a segment of its own; segments are multiples of 2 MiB.
    const bytes = Math.ceil(before.cached / (2 * MiB)) * 2 * MiB + 80 * MiB;
    using big = DeviceArray.empty([bytes / 4], on);
    using other = DeviceArray.empty([bytes / 4], on);
    big.dispose();
    const { cached } = cpu.memory();
    assert.ok(cached >= before.cached + bytes);
    cpu.trimMemory();
    const after = cpu.memory();
    assert.equal(after.cached, before.cached);
    assert.equal(after.inUse, before.inUse + bytes);
    other.fill(1);
    other.dispose();
    cpu.trimMemory(); // waits for the work on it
    assert.equal(cpu.memory().inUse, before.inUse);
  });

  it("runs out with an error that gives the figures", () => {
    cpu.trimMemory();
    const before = cpu.memory();
    const half = [Math.floor((0.55 * before.free) / 4)];
    using first = DeviceArray.empty(half, on);
    const { inUse, cached, free, total } = cpu.memory();
    // Not a byte of it was touched, but it is promised.
    assert.ok(free < 0.6 * before.free, `${free} of ${before.free} bytes free after taking more than half`);
    let message = "";
    assert.throws(
      () => DeviceArray.empty(half, on),
      (error) => {
        assert.ok(error instanceof RaysumError && error.code === "memory");
        message = error.message;
        return true;
      },
    );
    const figures =
      /^CPU: out of memory: (\S+) MiB asked, (\S+) MiB in use, (\S+) MiB cached, (\S+) MiB of (\S+) MiB free$/.exec(
        message,
      );
    assert.ok(figures, message);
    const expected = [half[0]! * 4, inUse, cached, free, total];
    expected.forEach((bytes, k) => {
      const tolerance = k === 3 ? 200 : 0.06; // what is free changes by itself
      assert.ok(Math.abs(Number(figures[k + 1]) - bytes / MiB) <= tolerance, `${message}: expected ${expected}`);
    });
    assert.equal(cpu.memory().inUse, inUse);
    assert.throws(() => DeviceArray.empty([2 ** 43], on), { code: "memory", message: /33554432\.0 MiB asked/ });
    first.dispose();
    DeviceArray.empty(half, on).dispose();
    cpu.trimMemory();
  });

  it("gives cached memory back and tries again before it runs out", () => {
    cpu.trimMemory();
    const before = cpu.memory();
    DeviceArray.empty([Math.floor((0.55 * before.free) / 4)], on).dispose();
    assert.ok(cpu.memory().cached > 0.5 * before.free);
    using most = DeviceArray.empty([Math.floor((0.7 * before.free) / 4)], on);
    assert.ok(cpu.memory().cached <= before.cached + 2 * MiB); // segments are whole huge pages
    most.dispose();
    cpu.trimMemory();
    assert.deepEqual([cpu.memory().inUse, cpu.memory().cached], [before.inUse, before.cached]);
  });

  it("is back where it was after many rounds", () => {
    const before = cpu.memory();
    for (let round = 0; round < 10_000; round++) {
      using a = DeviceArray.full([(round % 50) + 1], round, on);
      using b = a.add(a);
      b.mulAssign(a);
      if (round % 1000 === 0) assert.equal(b.readSync()[0], 2 * round * round);
    }
    cpu.finishedSync();
    const { inUse, arrays } = cpu.memory();
    assert.deepEqual([inUse, arrays], [before.inUse, before.arrays]);
  });
});
