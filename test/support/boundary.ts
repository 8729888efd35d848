/** The native library's functions, and shorthand for the tests that call them directly on the CPU device. */
import assert from "node:assert/strict";
import type { Calls } from "../../lib/native/calls.ts";
import { native } from "../../lib/native/library.ts";
import { MemoryCounter, Status } from "../../lib/native/symbols.ts";

export const calls: Calls = native();
export const CPU = 0;
export const ADDRESS_MASK: bigint = (1n << 48n) - 1n;

const integer = new BigInt64Array(1);

/** Calls a function that writes one int64_t and must succeed. */
export function integerFrom(call: (out: BigInt64Array) => number): bigint {
  assert.equal(call(integer), Status.OK, sentence());
  return integer[0]!;
}

export function allocate(bytes: number): bigint {
  return integerFrom((out) => calls.rs_allocate(CPU, BigInt(bytes), out));
}

/** The last error sentence. */
export function sentence(from: Calls = calls): string {
  const text = new Uint8Array(512);
  return new TextDecoder().decode(text.slice(0, from.rs_error(text, text.length)));
}

/** Checks that a call was refused with this status and a sentence of this form. */
export function refused(status: number, expected: keyof typeof Status, form: RegExp): void {
  assert.equal(status, Status[expected], sentence());
  assert.match(sentence(), form);
}

export function counter(name: keyof typeof MemoryCounter): number {
  const counters = new BigInt64Array(Object.keys(MemoryCounter).length);
  assert.equal(calls.rs_memory(CPU, counters), Status.OK);
  return Number(counters[MemoryCounter[name]]);
}

/** Everything queued so far is done. */
export function wait(): void {
  assert.equal(
    calls.rs_wait(
      CPU,
      integerFrom((out) => calls.rs_record(CPU, out)),
    ),
    Status.OK,
    sentence(),
  );
}

export function upload(pointer: bigint, values: Float32Array): void {
  assert.equal(calls.rs_upload(pointer, values, BigInt(values.byteLength)), Status.OK, sentence());
}

export function download(pointer: bigint, count: number): Float32Array<ArrayBuffer> {
  const values = new Float32Array(count);
  const number = integerFrom((out) => calls.rs_download_begin(pointer, BigInt(values.byteLength), out));
  wait();
  assert.equal(calls.rs_download_end(number, values, BigInt(values.byteLength)), Status.OK, sentence());
  return values;
}

/** A pointer as error sentences write it. */
export function hex(pointer: bigint): string {
  return `0x${BigInt.asUintN(64, pointer).toString(16)}`;
}
