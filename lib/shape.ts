import { RaysumError } from "./errors.ts";
import { describe } from "./options.ts";

export type Shape = readonly number[];

/** Number of elements. */
export function sizeOf(shape: Shape): number {
  let product = 1;
  for (let axis = 0; axis < shape.length; axis++) product *= shape[axis]!;
  return product;
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && endsWith(a, b);
}

/** Whether the last dimensions of `shape` are those of `end`. */
export function endsWith(shape: Shape, end: Shape): boolean {
  const lead = shape.length - end.length;
  for (let axis = 0; axis < end.length; axis++) if (shape[lead + axis] !== end[axis]) return false;
  return lead >= 0;
}

export function formatShape(shape: Shape): string {
  return `[${Array.from(shape, (count: unknown) => (typeof count === "number" ? count : describe(count))).join(", ")}]`;
}

/** A frozen copy; throws RaysumError "shape" unless every count is a positive whole number. */
export function checkShape(shape: Shape, what: string): Shape {
  if (!Array.isArray(shape)) throw new RaysumError("shape", `${what} ${describe(shape)}: expected a list of counts`);
  // Array.from shows the holes of a list, which its own methods leave out.
  if (!Array.from(shape).every((count) => Number.isSafeInteger(count) && count > 0))
    throw new RaysumError("shape", `${what} ${formatShape(shape)}: every count must be a positive whole number`);
  if (!Number.isSafeInteger(sizeOf(shape)))
    throw new RaysumError("shape", `${what} ${formatShape(shape)}: more than 2^53 elements`);
  return Object.freeze([...shape]);
}
