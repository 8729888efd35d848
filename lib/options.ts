import { RaysumError } from "./errors.ts";

/** A value as an error sentence names it: `"3"`, `3n`, `a Float64Array`. */
export function describe(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "function") return "a function";
  if (typeof value !== "object" || value === null) return String(value);
  const tag = Object.prototype.toString.call(value).slice(8, -1);
  const kind = tag === "Object" ? (value.constructor?.name ?? tag) : tag;
  return /^[AEIOU]/.test(kind) ? `an ${kind}` : `a ${kind}`;
}

/** Throws RaysumError "argument" unless `value` is a number; NaN and infinities are numbers. */
export function checkNumber(what: string, value: unknown): void {
  if (typeof value !== "number") throw new RaysumError("argument", `${what} ${describe(value)}: expected a number`);
}

/**
 * Throws RaysumError "argument" unless `options` is an object whose keys are all `known`: a misspelled option would be left out
 * without a word. `what` names the function.
 */
export function checkOptions(what: string, options: unknown, known: readonly string[]): void {
  if (typeof options !== "object" || options === null || Array.isArray(options))
    throw new RaysumError("argument", `${what}: the options are ${describe(options)}: expected an object`);
  for (const key of Object.keys(options))
    if (!known.includes(key))
      throw new RaysumError("argument", `${what}: there is no option "${key}": expected ${known.join(", ")}`);
}
