import assert from "node:assert/strict";
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { DeviceArray } from "../lib/array.ts";
import { device } from "../lib/device.ts";
import { openLibrary } from "../lib/native/library.ts";
import { Status } from "../lib/native/symbols.ts";
import {
  ADDRESS_MASK,
  allocate,
  CPU,
  calls,
  counter,
  download,
  integerFrom,
  refused,
  sentence,
  upload,
  wait,
} from "./support/boundary.ts";
import { libraryPath } from "./support/child.ts";

const number = new BigInt64Array(1);
const counting = (count: number) => Float32Array.from({ length: count }, (_, k) => k);

describe("uploads and downloads", () => {
  it("move any number of bytes, at any byte", () => {
    const pointer = allocate(32);
    upload(pointer, new Float32Array(8));
    assert.equal(calls.rs_upload(pointer + 3n, Uint8Array.of(1, 2, 3, 4, 5), 5n), Status.OK);
    const bytes = new Uint8Array(7);
    const open = integerFrom((out) => calls.rs_download_begin(pointer + 2n, 7n, out));
    wait();
    assert.equal(calls.rs_download_end(open, bytes, 7n), Status.OK);
    assert.deepEqual(bytes, Uint8Array.of(0, 1, 2, 3, 4, 5, 0));
    calls.rs_free(pointer);
  });

  it("take their turn in the queue", () => {
    const pointer = allocate(4 * 1e6);
    const begun: bigint[] = [];
    for (let turn = 1; turn <= 5; turn++) {
      // Queued work before each of them, so that neither can go straight to the memory.
      calls.rs_fill(pointer, 1_000_000n, -1);
      assert.equal(calls.rs_upload(pointer, new Float32Array(3).fill(turn), 12n), Status.OK);
      calls.rs_unary(4, pointer, pointer, 1_000_000n, 1, 0.5);
      begun.push(integerFrom((out) => calls.rs_download_begin(pointer, 16n, out)));
    }
    calls.rs_fill(pointer, 1_000_000n, 9);
    wait();
    begun.forEach((one, index) => {
      const values = new Float32Array(4);
      assert.equal(calls.rs_download_end(one, values, 16n), Status.OK);
      assert.deepEqual(values, Float32Array.of(index + 1.5, index + 1.5, index + 1.5, -0.5));
    });
    calls.rs_free(pointer);
  });

  it("ask to be asked again when too much is staged, having taken nothing", () => {
    const bytes = 48 * 2 ** 20;
    const pointer = allocate(bytes);
    const work = allocate(4 * 2e6);
    const values = new Float32Array(bytes / 4);
    const first = integerFrom((out) => calls.rs_record(CPU, out)) + 1n;
    for (let step = 0; step < 1000; step++) calls.rs_unary(2, work, work, 2_000_000n, 0, 0); // some seconds
    const last = integerFrom((out) => calls.rs_record(CPU, out));
    const taken: number[] = [];
    for (let turn = 1; turn <= 6; turn++) {
      values[0] = turn;
      taken.push(calls.rs_upload(pointer, values, BigInt(bytes)));
    }
    calls.rs_cancel(CPU, first, last, 0);
    // Five are 240 MiB, six are 288.
    assert.deepEqual(taken, [0, 0, 0, 0, 0, Status.BUSY]);
    assert.equal(download(pointer, 1)[0], 5);
    assert.equal(calls.rs_upload(pointer, values, BigInt(bytes)), Status.OK);
    assert.equal(download(pointer, 1)[0], 6);
    for (const one of [pointer, work]) calls.rs_free(one);
  });

  it("keep what was begun when its memory is freed", () => {
    const pointer = allocate(400);
    upload(pointer, counting(100));
    const begun = integerFrom((out) => calls.rs_download_begin(pointer, 400n, out));
    calls.rs_free(pointer);
    const heir = allocate(400);
    calls.rs_fill(heir, 100n, -1);
    wait();
    const values = new Float32Array(100);
    assert.equal(calls.rs_download_end(begun, values, 400n), Status.OK);
    assert.deepEqual(values, counting(100));
    calls.rs_free(heir);
  });

  it("are open until they are fetched or dropped, once", () => {
    const pointer = allocate(64);
    const open = counter("DOWNLOADS_OPEN");
    const [fetched, dropped] = [1, 2].map(() => integerFrom((out) => calls.rs_download_begin(pointer, 64n, out)));
    assert.equal(counter("DOWNLOADS_OPEN"), open + 2);
    wait();
    const target = new Float32Array(16);
    for (const bytes of [4n, 60n, 68n, -1n])
      refused(calls.rs_download_end(fetched!, target, bytes), "EARGUMENT", /^download \d+ has 64 bytes, not -?\d+$/);
    assert.equal(counter("DOWNLOADS_OPEN"), open + 2);
    assert.equal(calls.rs_download_end(fetched!, target, 64n), Status.OK);
    assert.equal(calls.rs_download_end(dropped!, target, 0n), Status.OK);
    assert.equal(counter("DOWNLOADS_OPEN"), open);
    for (const gone of [fetched!, dropped!, 0n, -1n, 1n << 60n])
      refused(calls.rs_download_end(gone, target, 64n), "EARGUMENT", new RegExp(`^download ${gone} is not open$`));
    calls.rs_free(pointer);
  });
});

describe("copies on a device", () => {
  it("move bytes between ranges that do not overlap", () => {
    const pointer = allocate(80);
    upload(pointer, counting(20));
    assert.equal(calls.rs_copy(pointer + 40n, pointer, 40n), Status.OK);
    assert.deepEqual(download(pointer + 40n, 10), counting(10));
    for (const [to, from, bytes] of [
      [0n, 0n, 4n],
      [0n, 4n, 8n],
      [4n, 0n, 8n],
      [0n, 6n, 7n], // the last byte only
      [6n, 0n, 7n],
      [10n, 0n, 70n],
    ] as const)
      refused(calls.rs_copy(pointer + to, pointer + from, bytes), "EARGUMENT", /^copy target and source share memory$/);
    assert.deepEqual(download(pointer + 40n, 10), counting(10));
    calls.rs_free(pointer);
  });

  it("permute and cut out of four dimensions", () => {
    const [shape, strides] = [
      [2, 3, 4, 5],
      [60, 20, 5, 1],
    ] as const;
    const [source, target] = [allocate(480), allocate(480)];
    upload(source, counting(120));
    calls.rs_fill(target, 120n, -1);
    // target[l][k][j][i] = source[i][j][k + 1][l] for the last three of the third axis
    const targetStrides = [1, 2, 6, 18];
    const copied = calls.rs_copy_strided(
      target,
      source + 20n,
      BigInt64Array.of(2n, 3n, 3n, 5n),
      BigInt64Array.from(targetStrides.map(BigInt)),
      BigInt64Array.from(strides.map(BigInt)),
    );
    assert.equal(copied, Status.OK, sentence());
    const expected = new Float32Array(120).fill(-1);
    for (let i = 0; i < shape[0]; i++)
      for (let j = 0; j < shape[1]; j++)
        for (let k = 1; k < shape[2]; k++)
          for (let l = 0; l < shape[3]; l++) expected[i + 2 * j + 6 * (k - 1) + 18 * l] = 60 * i + 20 * j + 5 * k + l;
    assert.deepEqual(download(target, 120), expected);
    for (const one of [source, target]) calls.rs_free(one);
  });

  it("repeat a source with stride 0", () => {
    const [source, target] = [allocate(12), allocate(60)];
    upload(source, counting(3));
    const status = calls.rs_copy_strided(
      target,
      source,
      BigInt64Array.of(1n, 1n, 5n, 3n),
      BigInt64Array.of(0n, 0n, 3n, 1n),
      BigInt64Array.of(0n, 0n, 0n, 1n),
    );
    assert.equal(status, Status.OK, sentence());
    assert.deepEqual(
      download(target, 15),
      Float32Array.from({ length: 15 }, (_, k) => k % 3),
    );
    for (const one of [source, target]) calls.rs_free(one);
  });

  it("refuse shapes and strides that reach outside or write twice", () => {
    const [source, target] = [allocate(80), allocate(80)];
    const copy = (shape: bigint[], to: bigint[], from: bigint[], into = target) =>
      calls.rs_copy_strided(into, source, BigInt64Array.from(shape), BigInt64Array.from(to), BigInt64Array.from(from));
    const row = [0n, 0n, 0n, 1n];
    const most = (1n << 63n) - 1n;
    for (const extent of [0n, -1n, most])
      refused(copy([1n, 1n, 1n, extent], row, row), "EARGUMENT", /^dimension 3: extent/);
    for (const stride of [-1n, most]) {
      refused(copy([1n, 1n, 2n, 1n], [0n, 0n, stride, 1n], row), "EARGUMENT", /^dimension 2: extent 2, strides/);
      refused(copy([1n, 1n, 2n, 1n], row, [0n, 0n, stride, 1n]), "EARGUMENT", /^dimension 2: extent 2, strides/);
    }
    const far = 1n << 40n;
    refused(
      copy([1n, far, far, 1n], [0n, 1n, far, 1n], row),
      "EARGUMENT",
      /^dimension 2: .*reaches beyond any allocation$/,
    );
    refused(copy([far, far, 1n, 1n], row, row), "EARGUMENT", /^dimension 1: extent \d+: more than 2\^48 elements$/);
    refused(copy([1n, 1n, 2n, 5n], row, row), "EARGUMENT", /^10 elements into 5: the target strides write some/);
    refused(copy([1n, 1n, 1n, 21n], row, row), "EPOINTER", /^copy target 0x\w+: 84 bytes are needed and 80 are left/);
    refused(copy([1n, 1n, 4n, 5n], [0n, 0n, 5n, 1n], [0n, 0n, 6n, 1n]), "EPOINTER", /^copy source 0x\w+: 92 bytes/);
    refused(copy([1n, 1n, 1n, 5n], row, row, source + 16n), "EARGUMENT", /^copy target and source share memory$/);
    assert.equal(copy([1n, 1n, 1n, 5n], row, row, source + 20n), Status.OK);
    for (const one of [source, target]) calls.rs_free(one);
  });
});

// A copy of the library is another library, with a pool of its own: an honest owner of memory that ours knows nothing of.
describe("memory of another owner", () => {
  const folder = mkdtempSync(join(tmpdir(), "raysum-transfers-"));
  after(() => rmSync(folder, { recursive: true }));
  const copy = join(folder, "owner.so");
  copyFileSync(libraryPath, copy);
  const owner = openLibrary([copy]);
  const cpu = device("cpu");

  const inOwner = (bytes: number) => {
    assert.equal(owner.rs_allocate(CPU, BigInt(bytes), number), Status.OK, sentence(owner));
    return number[0]!;
  };

  it("is shared by adopting its address, and stays its owner's", () => {
    const theirs = inOwner(4 * 100);
    refused(calls.rs_fill(theirs, 100n, 1), "EPOINTER", /^out 0x\w+ is not a device pointer of this library$/);
    assert.equal(owner.rs_upload(theirs, counting(100), 400n), Status.OK);
    const [arrays, inUse] = [counter("ARRAYS_ALIVE"), counter("BYTES_IN_USE")];
    const ours = DeviceArray.adopt(theirs & ADDRESS_MASK, [4, 25], cpu);
    assert.equal(ours.address, theirs & ADDRESS_MASK);
    assert.equal(counter("ARRAYS_ALIVE"), arrays + 1);
    assert.equal(counter("BYTES_IN_USE"), inUse);
    assert.deepEqual(ours.readSync(), counting(100));
    ours.mulAssign(2);
    cpu.finishedSync();
    refused(calls.rs_fill(ours.pointer, 101n, 1), "EPOINTER", /^out 0x\w+: 404 bytes are needed and 400 are left/);
    const pointer = ours.pointer;
    ours.dispose();
    refused(calls.rs_fill(pointer, 1n, 1), "EPOINTER", /is not a device pointer of this library$/);
    assert.equal(counter("ARRAYS_ALIVE"), arrays);
    // Still alive and changed at its owner's.
    assert.equal(owner.rs_download_begin(theirs, 400n, number), Status.OK);
    const begun = number[0]!;
    const values = new Float32Array(100);
    while (owner.rs_download_end(begun, values, 400n) === Status.BUSY);
    assert.deepEqual(
      values,
      counting(100).map((value) => 2 * value),
    );
    assert.equal(owner.rs_free(theirs), Status.OK);
  });

  it("is refused where it overlaps what is registered", () => {
    const theirs = inOwner(4096);
    const address = theirs & ADDRESS_MASK;
    using ours = DeviceArray.adopt(address + 1024n, [256], cpu);
    using mine = DeviceArray.zeros([256], { device: cpu });
    const freed = allocate(1024);
    calls.rs_free(freed);
    for (const [start, bytes] of [
      [address + 1024n, 1024n],
      [address, 1028n],
      [address, 4096n],
      [address + 2044n, 4n],
      [mine.address, 1024n],
      [mine.address + 512n, 4n],
      [freed & ADDRESS_MASK, 4n], // the pool still has it
    ] as const)
      refused(
        calls.rs_adopt(CPU, start, bytes, number),
        "EARGUMENT",
        new RegExp(`^address 0x${start.toString(16)} with ${bytes} bytes overlaps memory that is registered already$`),
      );
    for (const start of [address, address + 2048n]) {
      using beside = DeviceArray.adopt(start, [256], cpu);
      assert.equal(beside.fill(1).readSync()[255], 1);
    }
    ours.dispose();
    owner.rs_free(theirs);
  });

  it("is refused at addresses that cannot be", () => {
    for (const address of [0n, -4n, 4098n, 1n << 48n, (1n << 63n) - 4n])
      refused(
        calls.rs_adopt(CPU, address, 4n, number),
        "EARGUMENT",
        /^address 0x\w+ with 4 bytes: expected a multiple of 4/,
      );
    for (const bytes of [0n, -4n, 1n << 48n])
      refused(calls.rs_adopt(CPU, 4096n, bytes, number), "EARGUMENT", /^address 0x1000 with -?\d+ bytes: expected/);
    for (const address of [0n, -4096n, 1n << 48n, 2n ** 64n + 4096n])
      assert.throws(() => DeviceArray.adopt(address, [1], cpu), {
        code: "argument",
        message: `address ${address}: expected 1 to 2^48 - 1`,
      });
    assert.throws(() => DeviceArray.adopt(4098n, [1], cpu), {
      code: "argument",
      message: /^address 0x1002 with 4 bytes/,
    });
  });
});
