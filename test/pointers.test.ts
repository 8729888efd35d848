import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { RS_TRANSFER_BYTES, Status, TensorOptimization } from "../lib/native/symbols.ts";
import {
  ADDRESS_MASK,
  allocate,
  CPU,
  calls,
  counter,
  download,
  hex,
  integerFrom,
  refused,
  sentence,
  upload,
  wait,
} from "./support/boundary.ts";
import { seededRandom } from "./support/random.ts";

const COUNT = 24;

/** A call with device pointers, and their names as its sentences write them. */
type PointerCall = readonly [names: readonly string[], call: (pointers: bigint[], count: bigint) => number];

const callsOnFloats: readonly PointerCall[] = [
  [["out"], ([out], n) => calls.rs_fill(out!, n, 9)],
  [["out", "a"], ([out, a], n) => calls.rs_unary(0, out!, a!, n, 0, 0)],
  [["out", "a", "b"], ([out, a, b], n) => calls.rs_binary(0, out!, a!, b!, n, n)],
  [["out", "a", "b"], ([out, a, b], n) => calls.rs_combine(out!, 1, a!, 1, b!, n, n)],
  [["out", "a", "b"], ([out, a, b], n) => calls.rs_multiply_add(out!, 1, a!, b!, n, n)],
  [["out", "a"], ([out, a], n) => calls.rs_reciprocal(out!, a!, n, 0, 0)],
  [["a", "b"], ([a, b], n) => calls.rs_reduce(1, spare, a!, b!, n)],
  [["out"], ([out], n) => calls.rs_random(0, out!, n, 1n, 0, 1)],
  [["copy target", "copy source"], ([to, from], n) => calls.rs_copy_strided(to!, from!, extents(n), unit, unit)],
];
/** The calls on tensors: elements are 4 bytes there too, and each of the shapes below has COUNT of them in every operand. */
const callsOnTensors: readonly PointerCall[] = [
  [["out"], ([out], n) => calls.rs_tensor_fill(0, out!, n, 9)],
  [["out", "a"], ([out, a], n) => calls.rs_tensor_cast(0, out!, a!, n)],
  [["out", "a"], ([out, a], n) => calls.rs_tensor_map(0, 0, out!, a!, n, 0, 0)],
  [["out", "a", "b"], ([out, a, b], n) => calls.rs_tensor_join(0, 0, out!, a!, b!, 1, BigInt64Array.of(n, 1n, 1n, 1n))],
  [["out", "a"], ([out, a], n) => calls.rs_tensor_copy(out!, a!, 1, BigInt64Array.of(n, 1n, 1n))],
  [
    ["out", "condition", "a"],
    ([out, c, a], n) => calls.rs_tensor_select(out!, c!, a!, a!, 1, BigInt64Array.of(n, 1n, 1n, 1n)),
  ],
  [["out", "a"], ([out, a], n) => calls.rs_tensor_fold(0, 0, out!, a!, n, 1n, 1n)],
  [["out", "a"], ([out, a], n) => calls.rs_tensor_softmax(out!, a!, 1n, n)],
  [["out", "a", "index"], ([out, a, i], n) => calls.rs_tensor_gather(out!, a!, i!, 1n, 1n, n, 1n, n)],
  [["out", "a", "index"], ([out, a, i], n) => calls.rs_tensor_segment_sum(0, out!, a!, i!, n, 1n, n)],
  [
    ["out", "a", "b"],
    ([out, a, b], n) => calls.rs_tensor_product(out!, a!, b!, BigInt64Array.of(n, 1n, 1n, 1n, n, n), 0, 0),
  ],
  [["out", "a", "b"], ([out, a, b], n) => calls.rs_tensor_convolve(0, out!, a!, b!, row(n))],
  [["out", "a", "b"], ([out, a, b], n) => calls.rs_tensor_convolve_depthwise(0, out!, a!, b!, row(n))],
  [["out", "a"], ([out, a], n) => calls.rs_tensor_pool(0, out!, a!, row(n))],
  [["out", "a", "b"], ([out, a, b], n) => calls.rs_tensor_pool_gradient(0, out!, a!, b!, row(n))],
  [["out", "a"], ([out, a], n) => calls.rs_tensor_resize(0, out!, a!, BigInt64Array.of(1n, 1n, 1n, 1n, 1n, n), 0, 0)],
  [
    ["out", "a"],
    ([out, a], n) => calls.rs_tensor_resize_gradient(0, out!, a!, BigInt64Array.of(1n, 1n, 1n, 1n, 1n, n), 0, 0),
  ],
  [["out", "a", "mean"], ([out, a, m], n) => calls.rs_tensor_normalize(out!, a!, m!, m!, 0n, 0n, n, n, 0.1)],
  ...["parameters", "first", "second", "gradient"].map(
    (name, place): PointerCall => [
      [name],
      ([bad], n) => {
        const row = adapted.with(place, bad!);
        return calls.rs_tensor_optimize(
          TensorOptimization.OPTIMIZE_ADAM,
          1,
          BigInt64Array.of(...row, n),
          spare,
          1,
          0.9,
          0.999,
          1e-8,
        );
      },
    ],
  ),
];
/** One row and one channel; a filter as long as the row. */
const row = (n: bigint) =>
  BigInt64Array.of(1n, 1n, 1n, n, 1n, 1n, 1n, n, 1n, 1n, 1n, n, ...new Array<bigint>(6).fill(1n), 0n, 0n, 0n, 0n);
const callsOnBytes: readonly PointerCall[] = [
  [["upload target"], ([to], n) => calls.rs_upload(to!, new Float32Array(COUNT), n * 4n)],
  [["download source"], ([from], n) => calls.rs_download_begin(from!, n * 4n, number)],
  [["copy target", "copy source"], ([to, from], n) => calls.rs_copy(to!, from!, n * 4n)],
];
const everyCall = [...callsOnFloats, ...callsOnTensors, ...callsOnBytes];
const number = new BigInt64Array(1);
const unit = BigInt64Array.of(0n, 0n, 0n, 1n);
const extents = (count: bigint) => BigInt64Array.of(1n, 1n, 1n, count);
const spare = allocate(24);
const adapted = Array.from({ length: 4 }, () => allocate(4 * COUNT));

/** Checks each pointer argument of the calls: `callWith` puts a bad pointer beside good ones. Nothing may be written. */
function forEachArgument(
  list: readonly PointerCall[],
  check: (name: string, callWith: (bad: bigint) => number) => void,
): void {
  const good = Array.from({ length: 3 }, () => allocate(4 * COUNT));
  for (const pointer of good) upload(pointer, new Float32Array(COUNT).fill(5));
  const open = counter("DOWNLOADS_OPEN");
  for (const [names, call] of list)
    names.forEach((name, index) => {
      check(name, (bad) => call(good.with(index, bad), BigInt(COUNT)));
    });
  for (const pointer of good) {
    assert.deepEqual(download(pointer, COUNT), new Float32Array(COUNT).fill(5));
    assert.equal(calls.rs_free(pointer), Status.OK);
  }
  assert.equal(counter("DOWNLOADS_OPEN"), open);
}

describe("device pointers", () => {
  it("are an address below a generation, 256 bytes aligned", () => {
    const pointers = [allocate(1), allocate(256), allocate(257)];
    for (const pointer of pointers) {
      assert.ok(pointer > ADDRESS_MASK && pointer < 1n << 63n);
      assert.equal((pointer & ADDRESS_MASK) % 256n, 0n);
    }
    assert.equal(new Set(pointers.map((pointer) => pointer >> 48n)).size, 3);
    for (const pointer of pointers) assert.equal(calls.rs_free(pointer), Status.OK);
  });

  it("are refused when they are stale", () => {
    const stale = allocate(4 * COUNT);
    calls.rs_free(stale);
    forEachArgument(everyCall, (name, callWith) =>
      refused(callWith(stale), "EPOINTER", new RegExp(`^${name} ${hex(stale)} is stale: its memory was freed$`)),
    );
    refused(calls.rs_free(stale), "EPOINTER", /^pointer 0x\w+ is stale/);
  });

  it("are refused when another allocation has got their address", () => {
    const before = allocate(4096);
    calls.rs_free(before);
    const after = allocate(4096);
    assert.equal(after & ADDRESS_MASK, before & ADDRESS_MASK);
    refused(calls.rs_fill(before, 1n, 1), "EPOINTER", /^out 0x\w+ is stale/);
    refused(calls.rs_free(before), "EPOINTER", /^pointer 0x\w+ is stale/);
    assert.equal(calls.rs_fill(after, 1024n, 3), Status.OK);
    assert.equal(download(after, 1024)[1023], 3);
    calls.rs_free(after);
  });

  it("are refused when they come from elsewhere", () => {
    const alive = allocate(64);
    const unknown = (1n << 48n) | 4096n;
    for (const foreign of [0n, -1n, 1n, unknown, alive & ADDRESS_MASK, -(1n << 63n), (1n << 63n) - 1n])
      forEachArgument(everyCall, (name, callWith) =>
        refused(
          callWith(foreign),
          "EPOINTER",
          new RegExp(`^${name} ${hex(foreign)} is not a device pointer of this library$`),
        ),
      );
    refused(calls.rs_free(unknown), "EPOINTER", /^pointer 0x1000000001000 is not a device pointer of this library$/);
    calls.rs_free(alive);
  });

  it("are refused when too little is left behind them", () => {
    const short = allocate(4 * COUNT - 4);
    const needs = (name: string, pointer: bigint, left: number) =>
      new RegExp(`^${name} ${hex(pointer)}: ${4 * COUNT} bytes are needed and ${left} are left in its allocation$`);
    forEachArgument(everyCall, (name, callWith) => {
      refused(callWith(short), "EPOINTER", needs(name, short, 4 * COUNT - 4));
      refused(callWith(short + 8n), "EPOINTER", needs(name, short + 8n, 4 * COUNT - 12));
      refused(callWith(short + 200n), "EPOINTER", needs(name, short + 200n, 0)); // in the padding
    });
    calls.rs_free(short);
  });

  it("may point inside an allocation", () => {
    const whole = allocate(4 * 8);
    upload(whole, Float32Array.of(0, 1, 2, 3, 4, 5, 6, 7));
    assert.equal(calls.rs_fill(whole + 8n, 3n, -1), Status.OK);
    assert.deepEqual(download(whole + 4n, 6), Float32Array.of(1, -1, -1, -1, 5, 6));
    refused(calls.rs_free(whole + 4n), "EPOINTER", /^pointer 0x\w+ points inside an allocation: expected its start$/);
    assert.equal(calls.rs_free(whole), Status.OK);
  });

  it("are refused when floats would be misaligned", () => {
    const wide = allocate(4 * COUNT + 8);
    forEachArgument(callsOnFloats, (name, callWith) => {
      for (const pointer of [wide + 1n, wide + 2n, wide + 3n])
        refused(
          callWith(pointer),
          "EPOINTER",
          new RegExp(`^${name} ${hex(pointer)} is misaligned: expected a multiple of 4 bytes$`),
        );
    });
    const status = calls.rs_reduce(0, wide + 4n, wide, 0n, 4n);
    refused(status, "EPOINTER", /^out 0x\w+ is misaligned: expected a multiple of 8 bytes$/);
    calls.rs_free(wide);
  });

  it("are refused by a model of random calls exactly when they should be", () => {
    const random = seededRandom(11);
    const live: { pointer: bigint; bytes: number }[] = [];
    const dead: bigint[] = [];
    const arrays = counter("ARRAYS_ALIVE");
    for (let step = 0; step < 4000; step++) {
      const kind = random.uniform();
      if (kind < 0.15 && live.length < 40) {
        const bytes = random.integer(1, 3000);
        live.push({ pointer: allocate(bytes), bytes });
      } else if (kind < 0.3 && live.length > 0) {
        const [freed] = live.splice(random.integer(0, live.length - 1), 1);
        assert.equal(calls.rs_free(freed!.pointer), Status.OK);
        dead.push(freed!.pointer);
      } else if (kind < 0.5 && dead.length > 0) {
        const pointer = dead[random.integer(0, dead.length - 1)]! + BigInt(4 * random.integer(0, 100));
        refused(calls.rs_fill(pointer, 1n, 1), "EPOINTER", /is stale|is not a device pointer/);
      } else if (live.length > 0) {
        const { pointer, bytes } = live[random.integer(0, live.length - 1)]!;
        const [offset, count] = [random.integer(0, bytes), random.integer(1, 800)];
        const fits = offset % 4 === 0 && offset + 4 * count <= bytes;
        assert.equal(
          calls.rs_fill(pointer + BigInt(offset), BigInt(count), 1),
          fits ? Status.OK : Status.EPOINTER,
          sentence(),
        );
      }
    }
    assert.equal(counter("ARRAYS_ALIVE"), arrays + live.length);
    wait();
    for (const { pointer } of live) assert.equal(calls.rs_free(pointer), Status.OK);
  });
});

describe("arguments of the boundary", () => {
  const [MOST, LEAST] = [(1n << 63n) - 1n, -(1n << 63n)];

  it("are refused with a count that is not positive, or absurd", () => {
    const pointer = allocate(4 * COUNT);
    const other = allocate(4 * COUNT);
    for (const count of [0n, -1n, LEAST, MOST]) {
      const says = new RegExp(`^(out|a) has ${count} elements: expected a positive count$`);
      refused(calls.rs_fill(pointer, count, 1), "EARGUMENT", says);
      refused(calls.rs_unary(0, pointer, pointer, count, 0, 0), "EARGUMENT", says);
      refused(calls.rs_binary(0, pointer, pointer, pointer, count, 1n), "EARGUMENT", says);
      refused(calls.rs_combine(pointer, 1, pointer, 1, pointer, count, 1n), "EARGUMENT", says);
      refused(calls.rs_multiply_add(pointer, 1, pointer, pointer, count, 1n), "EARGUMENT", says);
      refused(calls.rs_reciprocal(pointer, pointer, count, 0, 0), "EARGUMENT", says);
      refused(calls.rs_reduce(0, spare, pointer, 0n, count), "EARGUMENT", says);
      refused(calls.rs_random(0, pointer, count, 1n, 0, 1), "EARGUMENT", says);
    }
    for (const bytes of [0n, -1n, LEAST])
      refused(
        calls.rs_copy(pointer, other, bytes),
        "EARGUMENT",
        new RegExp(`^a copy of ${bytes} bytes: expected a positive`),
      );
    for (const bytes of [0n, -1n, LEAST, BigInt(RS_TRANSFER_BYTES) + 1n, MOST]) {
      const says = new RegExp(`^a transfer of ${bytes} bytes: expected 1 to ${RS_TRANSFER_BYTES}$`);
      refused(calls.rs_upload(pointer, new Float32Array(COUNT), bytes), "EARGUMENT", says);
      refused(calls.rs_download_begin(pointer, bytes, number), "EARGUMENT", says);
    }
    for (const bytes of [0n, -1n, LEAST, 1n << 48n, MOST])
      refused(
        calls.rs_allocate(CPU, bytes, number),
        "EARGUMENT",
        new RegExp(`^${bytes} bytes: expected 1 to 2\\^48 - 1$`),
      );
    for (const one of [pointer, other]) calls.rs_free(one);
  });

  it("are refused with a period that does not divide the count", () => {
    const pointer = allocate(4 * COUNT);
    const other = allocate(4 * COUNT);
    for (const period of [5n, 7n, 23n]) {
      const says = new RegExp(`^period ${period} does not divide the count 24$`);
      refused(calls.rs_binary(0, pointer, pointer, other, 24n, period), "EARGUMENT", says);
      refused(calls.rs_combine(pointer, 1, pointer, 1, other, 24n, period), "EARGUMENT", says);
      refused(calls.rs_multiply_add(pointer, 1, pointer, other, 24n, period), "EARGUMENT", says);
    }
    for (const period of [0n, -1n, LEAST, MOST])
      refused(
        calls.rs_binary(0, pointer, pointer, other, 24n, period),
        "EARGUMENT",
        new RegExp(`^b has ${period} elements`),
      );
    refused(
      calls.rs_binary(0, pointer, pointer, other, 12n, 24n),
      "EARGUMENT",
      /^period 24 does not divide the count 12$/,
    );
    for (const one of [pointer, other]) calls.rs_free(one);
  });

  it("are refused with an operation or threshold that does not exist", () => {
    const pointer = allocate(4 * COUNT);
    for (const op of [-1, 99]) {
      const says = new RegExp(`^operation ${op} does not exist$`);
      refused(calls.rs_unary(op, pointer, pointer, 1n, 0, 0), "EARGUMENT", says);
      refused(calls.rs_binary(op, pointer, pointer, pointer, 1n, 1n), "EARGUMENT", says);
      refused(calls.rs_reduce(op, spare, pointer, 0n, 1n), "EARGUMENT", says);
      refused(calls.rs_random(op, pointer, 1n, 1n, 0, 1), "EARGUMENT", says);
    }
    for (const threshold of [-1, Number.NaN])
      refused(calls.rs_reciprocal(pointer, pointer, 1n, threshold, 0), "EARGUMENT", /^thresholds \S+ and 0: expected/);
    calls.rs_free(pointer);
  });

  it("are refused with a device that does not exist", () => {
    const eight = new BigInt64Array(8);
    const threads = new Int32Array(1);
    for (const device of [-1, 32, 33, 2 ** 31 - 1, -(2 ** 31)]) {
      const says = new RegExp(`^device ${device} does not exist: this library has`);
      refused(calls.rs_device_name(device, new Uint8Array(9), 9, threads), "EDEVICE", says);
      refused(calls.rs_threads(device, 0, threads), "EDEVICE", says);
      refused(calls.rs_memory(device, eight), "EDEVICE", says);
      refused(calls.rs_memory_trim(device), "EDEVICE", says);
      refused(calls.rs_record(device, number), "EDEVICE", says);
      refused(calls.rs_query(device, 0n), "EDEVICE", says);
      refused(calls.rs_wait(device, 0n), "EDEVICE", says);
      refused(calls.rs_cancel(device, 0n, 1n, 0), "EDEVICE", says);
      refused(calls.rs_mark(device, number), "EDEVICE", says);
      refused(calls.rs_elapsed(device, 1n, 1n, new Float64Array(1)), "EDEVICE", says);
      refused(calls.rs_allocate(device, 4n, number), "EDEVICE", says);
      refused(calls.rs_adopt(device, 4096n, 4n, number), "EDEVICE", says);
    }
  });

  it("are refused where `out` overlaps an input in part", () => {
    const pointer = allocate(4 * COUNT);
    const other = allocate(4 * COUNT);
    const shifted = pointer + 4n;
    for (const [out, a] of [
      [pointer, shifted],
      [shifted, pointer],
    ] as const) {
      refused(calls.rs_unary(0, out, a, 20n, 0, 0), "EARGUMENT", /^out and a share memory$/);
      refused(calls.rs_reciprocal(out, a, 20n, 0, 0), "EARGUMENT", /^out and a share memory$/);
      refused(calls.rs_binary(0, out, a, other, 20n, 20n), "EARGUMENT", /^out and a share memory$/);
      refused(calls.rs_combine(out, 1, other, 1, a, 20n, 20n), "EARGUMENT", /^out and b share memory$/);
      refused(calls.rs_multiply_add(out, 1, other, a, 20n, 5n), "EARGUMENT", /^out and b share memory$/);
    }
    refused(calls.rs_binary(0, pointer, other, pointer, 20n, 5n), "EARGUMENT", /^out and b share memory$/);
    assert.equal(calls.rs_binary(0, pointer, pointer, pointer, 20n, 20n), Status.OK);
    assert.equal(calls.rs_unary(0, pointer, pointer + 48n, 12n, 0, 0), Status.OK);
    for (const one of [pointer, other]) calls.rs_free(one);
  });

  it("are refused with extents whose products and reaches no number holds", () => {
    const pointer = allocate(COUNT);
    const huge = 2n ** 62n + 1n;
    for (const [extents, strides] of [
      [
        [huge, 2n ** 31n - 1n],
        [1n, 1n],
      ],
      [
        [2n, 3n],
        [huge, -huge],
      ],
      [
        [2n ** 40n, 2n ** 40n],
        [1n, 1n],
      ],
    ] as const) {
      const table = BigInt64Array.of(...extents, ...strides, ...strides, ...strides);
      refused(calls.rs_tensor_join(0, 0, pointer, pointer, pointer, 2, table), "EARGUMENT", /extent|stride/);
      refused(calls.rs_tensor_copy(pointer, -(2n ** 63n), 2, table), "EARGUMENT", /extent|stride/);
    }
    const gather = (batch: bigint, picks: bigint) =>
      calls.rs_tensor_gather(pointer, pointer, pointer, batch, 1n, 1n, 1n, picks);
    refused(gather(huge, 18n), "EARGUMENT", /^gather source: extent \d+: expected a positive count/);
    refused(gather(18n, huge), "EARGUMENT", /^gather result: extent \d+: expected a positive count/);
    calls.rs_free(pointer);
  });

  it("are refused when tensors of one step share memory", () => {
    const whole = allocate(4 * 100);
    const call = (tensors: number, table: BigInt64Array, beta1 = 0.9, op: number = TensorOptimization.OPTIMIZE_ADAM) =>
      calls.rs_tensor_optimize(op, tensors, table, whole, 1, beta1, 0.999, 1e-8);
    const step = (...rows: readonly (readonly number[])[]) =>
      call(
        rows.length,
        BigInt64Array.from(
          rows.flatMap(([count, ...places]) => [...places.map((at) => whole + BigInt(4 * at)), BigInt(count!)]),
        ),
      );
    const fine = [5, 10, 20, 30, 40] as const;
    for (const [row, says] of [
      [[5, 50, 60, 70, 14], /^parameters and gradient share memory$/],
      [[5, 50, 60, 27, 80], /^second and second share memory$/],
      [[20, 50, 60, 75, 75], /share memory$/],
      [[5, 5, 60, 70, 80], /^state and parameters share memory$/],
      [[30, 7, 60, 60, 60], /share memory$/],
      [[5, 50, 60, 22, 80], /^first and second share memory$/],
    ] as const) {
      refused(step(fine, row), "EARGUMENT", says);
      refused(step(row, fine), "EARGUMENT", says);
    }
    assert.equal(step(fine, [5, 50, 60, 70, 42]), Status.OK, "gradients may");
    const table = new BigInt64Array(5 * 65);
    for (const tensors of [0, -1, 65])
      refused(call(tensors, table), "EARGUMENT", new RegExp(`^${tensors} tensors: expected 1 to 64$`));
    refused(call(1, table, 1), "EARGUMENT", /^betas 1 and 0.999, epsilon 1e-08: expected betas from 0 to below 1/);
    refused(call(1, table, 0.9, 4), "EARGUMENT", /^optimizer 4 does not exist$/);
    calls.rs_free(whole);
  });

  it("are refused with a text that has no room", () => {
    const [text, length] = [new Uint8Array(8), new Int32Array(1)];
    for (const capacity of [0, -1, -(2 ** 31)]) {
      const says = new RegExp(`^a text of at most ${capacity} bytes: expected a positive capacity$`);
      refused(calls.rs_device_name(CPU, text, capacity, length), "EARGUMENT", says);
      refused(calls.rs_device_missing(text, capacity, length), "EARGUMENT", says);
    }
    assert.equal(calls.rs_device_name(CPU, text, 4, length), Status.OK);
    assert.equal(new TextDecoder().decode(text), "CPU\0\0\0\0\0");
    assert.equal(length[0], 3);
  });

  it("are named by rs_error, cut to the room there is", () => {
    refused(calls.rs_free(-5n), "EPOINTER", /^pointer 0xfffffffffffffffb is not a device pointer of this library$/);
    const text = new Uint8Array(7);
    assert.equal(calls.rs_error(text, 7), 7);
    assert.equal(new TextDecoder().decode(text), "pointer");
    assert.equal(calls.rs_error(text, 0), 0);
    assert.equal(integerFrom((out) => calls.rs_record(CPU, out)) >= 0n, true);
    assert.match(sentence(), /^pointer 0xf/, "a call that succeeds leaves the sentence alone");
  });
});
