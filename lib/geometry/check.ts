import { RaysumError } from "../errors.ts";
import { describe } from "../options.ts";
import type { ZYX } from "./vector.ts";

/** Exactly one of the properties of `T`. */
export type OneOf<T> = {
  [K in keyof T]: { readonly [P in K]: T[P] } & { readonly [P in Exclude<keyof T, K>]?: never };
}[keyof T];

/** One of the properties of `T`, or none. */
export type AtMostOneOf<T> = OneOf<T> | { readonly [K in keyof T]?: never };

/** One [z, y, x], a list of n of them, or a Float64Array with the 3 or 3 n numbers. */
export type Vectors = ZYX | readonly ZYX[] | Float64Array;

/** The indexes from `start` (default 0) up to, but not including, `stop` (default: the count). */
export type IndexRange = { readonly start?: number; readonly stop?: number };

type Axes = readonly string[];
type PerAxis<A extends Axes> = { readonly [K in keyof A]: number };

export const zyxAxes: readonly ["z", "y", "x"] = ["z", "y", "x"];
export const yxAxes: readonly ["y", "x"] = ["y", "x"];
export const vuAxes: readonly ["v", "u"] = ["v", "u"];

/** The most voxels, pixels or views along an axis. The native library has the same limit. */
const MOST = 2 ** 20;

function show(value: unknown): string {
  if (isList(value)) return `[${Array.from(value.slice(0, 6), show).join(", ")}${value.length > 6 ? ", ..." : ""}]`;
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return describe(value);
  return `{ ${Object.entries(value)
    .map(([key, entry]) => `${key}: ${show(entry)}`)
    .join(", ")} }`;
}

function isList(value: unknown): value is unknown[] | Float64Array {
  return Array.isArray(value) || value instanceof Float64Array;
}

export function fail(sentence: string): never {
  throw new RaysumError("argument", sentence);
}

export function refuse(name: string, value: unknown, expected: string): never {
  fail(`${name} ${show(value)}: ${expected}`);
}

/** A positive length or factor. */
export function positive(name: string, value: unknown): number {
  if (!(Number.isFinite(value) && (value as number) > 0)) refuse(name, value, "expected one positive number");
  return value as number;
}

/** A positive integer. */
export function count(name: string, value: unknown): number {
  if (!(Number.isSafeInteger(value) && (value as number) > 0)) refuse(name, value, "expected one positive integer");
  if ((value as number) > MOST) refuse(name, value, `expected at most ${MOST}`);
  return value as number;
}

/** A list of angles in radians. A bare number is refused: it could be an angle or a count. */
export function angleList(name: string, value: unknown): number[] {
  const angles: unknown[] = isList(value) ? Array.from(value) : [];
  if (angles.length === 0 || !angles.every(Number.isFinite))
    refuse(name, value, "expected a list of one or more finite angles in radians");
  return angles as number[];
}

/** A frozen copy of one finite number for each of the axes. */
export function numbers<const A extends Axes>(name: string, value: unknown, axes: A): PerAxis<A> {
  const list: unknown[] = isList(value) ? Array.from(value) : [];
  if (list.length !== axes.length || !list.every(Number.isFinite))
    refuse(name, value, `expected [${axes.join(", ")}], ${axes.length} finite numbers`);
  return Object.freeze(list) as unknown as PerAxis<A>;
}

/** One positive integer for each of the axes. */
export function counts<const A extends Axes>(name: string, value: unknown, axes: A): PerAxis<A> {
  const list = numbers(name, value, axes);
  if (!list.every((entry) => Number.isSafeInteger(entry) && entry > 0))
    refuse(name, value, "every count must be positive and an integer");
  if (list.some((entry) => entry > MOST)) refuse(name, value, `every count must be at most ${MOST}`);
  return list;
}

/** One positive number for each of the axes; a single number is repeated. */
export function positives<const A extends Axes>(name: string, value: unknown, axes: A): PerAxis<A> {
  const list: unknown[] = isList(value) ? Array.from(value) : axes.map(() => value);
  if (list.length !== axes.length || !list.every((entry) => Number.isFinite(entry) && (entry as number) > 0))
    refuse(name, value, `expected a positive number, or [${axes.join(", ")}] with one for each`);
  return Object.freeze(list) as unknown as PerAxis<A>;
}

/** The spacing of `shape` entries, from their total extent or from the spacing itself; 1 if neither is given. */
export function spacing<const A extends Axes>(
  shape: PerAxis<A>,
  [sizeName, size]: readonly [string, unknown],
  [stepName, step]: readonly [string, unknown],
  axes: A,
): PerAxis<A> {
  if (size === undefined) return positives(stepName, step === undefined ? 1 : step, axes);
  if (step !== undefined)
    fail(
      `${sizeName} ${show(size)} is the total extent and ${stepName} ${show(step)} the spacing: give one of the two`,
    );
  const extents = positives(sizeName, size, axes);
  return Object.freeze(shape.map((n, axis) => extents[axis]! / n)) as unknown as PerAxis<A>;
}

/** The vectors of any of the forms of `Vectors`, as a list of frozen copies. */
export function vectors(name: string, value: unknown): ZYX[] {
  if (!isList(value) || value.length === 0) refuse(name, value, "expected one [z, y, x] or a list of them");
  if (Array.isArray(value) && typeof value[0] === "number") return [numbers(name, value, zyxAxes)];
  if (Array.isArray(value)) return Array.from(value, (entry, i) => numbers(`${name}[${i}]`, entry, zyxAxes));
  if (value.length % 3 !== 0) fail(`${name} has ${value.length} numbers: expected three (z, y, x) for each vector`);
  return Array.from({ length: value.length / 3 }, (_, i) =>
    numbers(`${name}[${i}]`, value.subarray(3 * i, 3 * i + 3), zyxAxes),
  );
}

/** A record that has all of these fields, and no other: an unknown one could mean something that would get lost. */
export function record<const K extends Axes>(name: string, value: unknown, fields: K): Record<K[number], unknown> {
  if (typeof value !== "object" || value === null || isList(value))
    refuse(name, value, `expected an object with ${fields.join(", ")}`);
  const found = Object.keys(value);
  const missing = fields.filter((field) => !found.includes(field));
  if (missing.length > 0) fail(`${name} has no ${missing.join(", ")}: expected ${fields.join(", ")}`);
  for (const [field, entry] of Object.entries(value))
    if (!fields.includes(field)) refuse(`${name}.${field}`, entry, `unknown, expected only ${fields.join(", ")}`);
  return value as Record<K[number], unknown>;
}

/** A list that is not empty, each entry read by `read`, which is given its name too. */
export function listOf<T>(name: string, value: unknown, read: (name: string, entry: unknown) => T): T[] {
  if (!Array.isArray(value) || value.length === 0) refuse(name, value, "expected a list of one or more");
  return Array.from(value, (entry, i) => read(`${name}[${i}]`, entry));
}

/** Lists of one and of n entries, as n records with one entry of each; a single entry is repeated. */
export function broadcast<L extends Record<string, readonly unknown[]>>(lists: L): { [K in keyof L]: L[K][number] }[] {
  const found = Object.entries(lists).map(([name, list]) => `${list.length} ${name}`);
  const length = Math.max(...Object.values(lists).map((list) => list.length));
  if (Object.values(lists).some((list) => list.length !== 1 && list.length !== length))
    fail(`${found.join(", ")}: the counts must be equal, or 1`);
  return Array.from({ length }, (_, i) => {
    const entries = Object.entries(lists).map(([name, list]) => [name, list[list.length === 1 ? 0 : i]]);
    return Object.fromEntries(entries) as { [K in keyof L]: L[K][number] };
  });
}

/** The bounds of a range inside [0, length); the whole of it if there is no range. Empty and outside ones are refused. */
export function bounds(
  name: string,
  range: IndexRange | undefined,
  length: number,
  keys: Axes = ["start", "stop"],
): [start: number, stop: number] {
  const { start = 0, stop = length } = range ?? {};
  const isRange =
    range === undefined ||
    (typeof range === "object" &&
      range !== null &&
      !isList(range) &&
      Object.keys(range).every((key) => keys.includes(key)));
  if (!isRange || !Number.isInteger(start) || !Number.isInteger(stop) || start < 0 || stop <= start || stop > length)
    refuse(name, range, `expected { ${keys.join(", ")} } in whole numbers with 0 <= start < stop <= ${length}`);
  return [start, stop];
}
