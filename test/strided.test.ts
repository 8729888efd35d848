import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { DeviceArray, device } from "../lib/index.ts";
import { native } from "../lib/native/library.ts";
import { Status, TensorJoin, Type } from "../lib/native/symbols.ts";
import { seededRandom } from "./support/random.ts";

const here = device();
const calls = native();

/** An array of whole numbers, and an operand in it: where each element lies. */
interface Operand {
  readonly array: DeviceArray;
  readonly values: Float32Array;
  readonly start: number;
  readonly strides: readonly number[];
}

type Random = ReturnType<typeof seededRandom>;

/** Axes in any order and direction, some with gaps; of an input also repeated ones. */
function operand(random: Random, extents: readonly number[], isInput: boolean): Operand {
  const strides = extents.map(() => 0);
  const plain = random.integer(0, 2) === 0;
  let [size, start] = [1, plain ? 0 : random.integer(0, 5)];
  const order = extents.map((_, axis) => axis).reverse();
  if (!plain) order.sort(() => random.uniform(-1, 1));
  for (const axis of order) {
    if (isInput && random.integer(0, 4) === 0) continue;
    const stride = size * (plain ? 1 : random.integer(1, 2));
    const turned = !plain && random.integer(0, 3) === 0;
    strides[axis] = turned ? -stride : stride;
    if (turned) start += stride * (extents[axis]! - 1);
    size = stride * extents[axis]!;
  }
  const whole = size + start + 7;
  const values = Float32Array.from({ length: whole }, () => random.integer(-4, 4));
  const array = DeviceArray.from(values, [whole], { device: here });
  return { array, values, start, strides };
}

const pointerOf = ({ array, start }: Operand) => array.pointer + BigInt(4 * start);

/** Element number `at` of an operand. */
function placeOf({ start, strides }: Operand, extents: readonly number[], at: number): number {
  let place = start;
  for (let axis = extents.length - 1, rest = at; axis >= 0; axis--) {
    place += (rest % extents[axis]!) * strides[axis]!;
    rest = Math.floor(rest / extents[axis]!);
  }
  return place;
}

const tableOf = (extents: readonly number[], operands: readonly Operand[]) =>
  BigInt64Array.from([...extents, ...operands.flatMap(({ strides }) => strides)].map(BigInt));

/** Extents of up to six axes and up to some thousands of elements. */
function extentsOf(random: Random): number[] {
  const rank = random.integer(1, 6);
  return Array.from({ length: rank }, () => random.integer(1, [3000, 60, 14, 8, 5, 4][rank - 1]!));
}

describe("calls on operands with strides", () => {
  const joins: Record<string, readonly [number, (a: number, b: number) => number]> = {
    add: [TensorJoin.JOIN_ADD, (a, b) => a + b],
    subtract: [TensorJoin.JOIN_SUBTRACT, (a, b) => a - b],
    multiply: [TensorJoin.JOIN_MULTIPLY, (a, b) => a * b],
    maximum: [TensorJoin.JOIN_MAXIMUM, Math.max],
  };
  for (const [name, [op, of]] of Object.entries(joins))
    it(`${name}: writes every element of out and nothing else`, () => {
      const random = seededRandom(op + 1);
      for (let trial = 0; trial < 40; trial++) {
        const extents = extentsOf(random);
        const [out, a, b] = [false, true, true].map((isInput) => operand(random, extents, isInput)) as Operand[];
        const inPlace = trial % 3 === 0; // a is out itself
        const inputs = [inPlace ? out! : a!, b!];
        const expected = out!.values.slice();
        for (let at = 0; at < extents.reduce((x, y) => x * y); at++) {
          const [x, y] = inputs.map((one) => one.values[placeOf(one, extents, at)]!);
          expected[placeOf(out!, extents, at)] = of(x!, y!);
        }
        const [to, left, right] = [out!, ...inputs].map(pointerOf);
        const table = tableOf(extents, [out!, ...inputs]);
        const status = calls.rs_tensor_join(op, Type.FLOAT32, to!, left!, right!, extents.length, table);
        assert.equal(status, Status.OK);
        assert.deepEqual(out!.array.readSync(), expected, `extents ${extents}, table ${table}`);
        for (const { array } of [out!, a!, b!]) array.dispose();
      }
    });

  it("copies and chooses the bits of elements", () => {
    const random = seededRandom(99);
    for (let trial = 0; trial < 40; trial++) {
      const extents = extentsOf(random);
      const [to, condition, a, b] = [0, 1, 1, 1].map((isInput) => operand(random, extents, isInput > 0)) as Operand[];
      const chosen = DeviceArray.empty(extents, { device: here });
      const count = chosen.size;
      const [copied, choice] = [to!.values.slice(), new Float32Array(count)];
      for (let at = 0; at < count; at++) {
        const [c, x, y] = [condition!, a!, b!].map((one) => one.values[placeOf(one, extents, at)]!);
        copied[placeOf(to!, extents, at)] = x!;
        choice[at] = c !== 0 ? x! : y!;
      }
      const pointers = [condition!, a!, b!].map(pointerOf) as [bigint, bigint, bigint];
      const table = tableOf(extents, [condition!, a!, b!]);
      assert.equal(calls.rs_tensor_select(chosen.pointer, ...pointers, extents.length, table), Status.OK);
      assert.equal(
        calls.rs_tensor_copy(pointerOf(to!), pointers[1], extents.length, tableOf(extents, [to!, a!])),
        Status.OK,
      );
      assert.deepEqual(chosen.readSync(), choice, `extents ${extents}, table ${table}`);
      assert.deepEqual(to!.array.readSync(), copied);
      for (const array of [chosen, ...[to!, condition!, a!, b!].map((one) => one.array)]) array.dispose();
    }
  });
});
