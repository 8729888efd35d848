// The native calls on tensors: each queues its work and returns a new tensor, or writes into the one it is given.
import type { DataType, TensorInfo } from "@tensorflow/tfjs-core";
import { check, native } from "../native/library.ts";
import { TensorCast, TensorFold, TensorJoin, TensorMap, Type } from "../native/symbols.ts";
import { type Shape, sameShape, sizeOf } from "../shape.ts";
import type { RaysumBackend } from "./backend.ts";
import { broadcastStrides, stridesOf, strideTable } from "./layout.ts";

/** Types that the device holds. */
export function isHeld(...tensors: readonly TensorInfo[]): boolean {
  return tensors.every(({ dtype }) => dtype === "float32" || dtype === "int32" || dtype === "bool");
}

export function isFloat(...tensors: readonly (TensorInfo | undefined)[]): boolean {
  return tensors.every((tensor) => tensor === undefined || tensor.dtype === "float32");
}

function typeOf(dtype: DataType): number {
  return dtype === "float32" ? Type.FLOAT32 : Type.INT32;
}

export function fill(backend: RaysumBackend, shape: Shape, dtype: DataType, value: number): TensorInfo {
  const out = backend.output(shape, dtype);
  const size = sizeOf(shape);
  if (size > 0) check(native().rs_tensor_fill(typeOf(dtype), backend.pointer(out), BigInt(size), value));
  return out;
}

export function cast(backend: RaysumBackend, x: TensorInfo, dtype: DataType): TensorInfo {
  if (x.dtype === dtype) return backend.share(x);
  const out = backend.output(x.shape, dtype);
  const size = sizeOf(x.shape);
  const float = x.dtype === "float32";
  if (size === 0) return out;
  const [to, from] = [backend.pointer(out), backend.pointer(x)];
  if (float === (dtype === "float32") && dtype !== "bool") check(native().rs_copy(to, from, BigInt(size * 4)));
  else {
    const truth = float ? TensorCast.CAST_FLOAT_TO_TRUTH : TensorCast.CAST_INT_TO_TRUTH;
    const number = float ? TensorCast.CAST_FLOAT_TO_INT : TensorCast.CAST_INT_TO_FLOAT;
    check(native().rs_tensor_cast(dtype === "bool" ? truth : number, to, from, BigInt(size)));
  }
  return out;
}

export function map(backend: RaysumBackend, op: number, x: TensorInfo, p = 0, q = 0, out?: TensorInfo): TensorInfo {
  const result = out ?? backend.output(x.shape, x.dtype);
  const size = sizeOf(x.shape);
  if (size > 0)
    check(native().rs_tensor_map(op, typeOf(x.dtype), backend.pointer(result), backend.pointer(x), BigInt(size), p, q));
  return result;
}

/** a op b with broadcasting; both of one type. */
export function join(backend: RaysumBackend, op: number, a: TensorInfo, b: TensorInfo, dtype: DataType): TensorInfo {
  const same = sameShape(a.shape, b.shape);
  const shape = same ? a.shape : backend.tf.broadcast_util.assertAndGetBroadcastShape(a.shape, b.shape);
  const out = backend.output(shape, dtype);
  joinInto(backend, op, out, a, b);
  return out;
}

/** The same into `out`, which has the broadcast shape and may be an operand of that shape. */
export function joinInto(backend: RaysumBackend, op: number, out: TensorInfo, a: TensorInfo, b: TensorInfo): void {
  const read = (tensor: TensorInfo): Part => ({ tensor, start: 0, strides: broadcastStrides(tensor.shape, out.shape) });
  joinParts(backend, op, out.shape, whole(out), read(a), read(b));
}

export function select(backend: RaysumBackend, condition: TensorInfo, a: TensorInfo, b: TensorInfo): TensorInfo {
  const out = backend.output(a.shape, a.dtype);
  if (sizeOf(a.shape) === 0) return out;
  const strides = [condition, a, b].map(({ shape }) => broadcastStrides(shape, a.shape));
  const { rank, table } = strideTable(a.shape, strides);
  const [to, chooser, left, right] = [out, condition, a, b].map((tensor) => backend.pointer(tensor));
  check(native().rs_tensor_select(to!, chooser!, left!, right!, rank, table));
  return out;
}

/** An operand of a strided call: where its first element lies, in elements from the tensor's start, and its strides. */
export interface Part {
  readonly tensor: TensorInfo;
  readonly start: number;
  readonly strides: readonly number[];
}

/** What the strided calls of csrc/raysum.h are given: the addresses of the parts, and their table. */
function operands(backend: RaysumBackend, extents: Shape, parts: readonly Part[]) {
  const pointers = parts.map(({ tensor, start }) => backend.pointer(tensor) + BigInt(start * 4));
  const strides = parts.map((part) => part.strides);
  return { pointers, ...strideTable(extents, strides) };
}

/** Copies elements of 4 bytes: `to` over `extents` is `from` over `extents`. */
export function copy(backend: RaysumBackend, extents: Shape, to: Part, from: Part): void {
  if (sizeOf(extents) === 0) return;
  const { pointers, rank, table } = operands(backend, extents, [to, from]);
  check(native().rs_tensor_copy(pointers[0]!, pointers[1]!, rank, table));
}

/** `to` = a op b, each over `extents`. */
export function joinParts(backend: RaysumBackend, op: number, extents: Shape, to: Part, a: Part, b: Part): void {
  if (sizeOf(extents) === 0) return;
  const { pointers, rank, table } = operands(backend, extents, [to, a, b]);
  check(native().rs_tensor_join(op, typeOf(a.tensor.dtype), pointers[0]!, pointers[1]!, pointers[2]!, rank, table));
}

/** Adds `x` in place to the part of a tensor that begins at an index. */
export function addToPart(backend: RaysumBackend, sum: TensorInfo, begin: readonly number[], x: TensorInfo): void {
  const part = partFrom(sum, begin);
  joinParts(backend, TensorJoin.JOIN_ADD, x.shape, part, part, whole(x));
}

/** A whole tensor as an operand. */
export function whole(tensor: TensorInfo): Part {
  return { tensor, start: 0, strides: stridesOf(tensor.shape) };
}

/** The part of a tensor that begins at an index. */
export function partFrom(tensor: TensorInfo, begin: readonly number[]): Part {
  const strides = stridesOf(tensor.shape);
  return { tensor, start: begin.reduce((sum, index, axis) => sum + index * strides[axis]!, 0), strides };
}

export function slice(backend: RaysumBackend, x: TensorInfo, begin: readonly number[], size: Shape): TensorInfo {
  const out = backend.output(size, x.dtype);
  copy(backend, size, whole(out), partFrom(x, begin));
  return out;
}

export function transpose(backend: RaysumBackend, x: TensorInfo, order: readonly number[]): TensorInfo {
  const strides = stridesOf(x.shape);
  const shape = order.map((axis) => x.shape[axis]!);
  const out = backend.output(shape, x.dtype);
  copy(backend, shape, whole(out), { tensor: x, start: 0, strides: order.map((axis) => strides[axis]!) });
  return out;
}

/** Reduces some axes; the result has shape of the others, or all of them with 1 for those. */
export function fold(
  backend: RaysumBackend,
  op: number,
  x: TensorInfo,
  axes: readonly number[],
  dtype: DataType,
  keep = false,
): TensorInfo {
  const sorted = [...axes].sort((a, b) => a - b);
  const shape = x.shape.flatMap((count, axis) => (sorted.includes(axis) ? (keep ? [1] : []) : [count]));
  const out = backend.output(shape, dtype);
  const apart = sorted.some((axis, k) => k > 0 && axis !== sorted[k - 1]! + 1);
  const rest = x.shape.map((_, axis) => axis).filter((axis) => !sorted.includes(axis));
  const from = apart ? transpose(backend, x, [...rest, ...sorted]) : x;
  const first = apart ? rest.length : (sorted[0] ?? 0);
  const [outer, axis, inner] = [
    from.shape.slice(0, first),
    from.shape.slice(first, first + sorted.length),
    from.shape.slice(first + sorted.length),
  ].map((part) => BigInt(sizeOf(part)));
  const type = typeOf(x.dtype);
  check(native().rs_tensor_fold(op, type, backend.pointer(out), backend.pointer(from), outer!, axis!, inner!));
  if (apart) backend.disposeData(from.dataId);
  return out;
}

export { TensorFold, TensorJoin, TensorMap };
