import { RaysumError } from "./errors.ts";
import { describe } from "./options.ts";

interface Disposable {
  dispose(): void;
}

/** The scopes that are open, innermost last, with the arrays made in each. */
const open: Set<Disposable>[] = [];

/** Called by every array that owns its memory. */
export function remember(made: Disposable): void {
  open.at(-1)?.add(made);
}

/** Takes what `value` is or holds out of `made`. `seen`: lists and objects that may hold each other. */
function keep(value: unknown, made: Set<Disposable>, seen: Set<object>): void {
  if (typeof value !== "object" || value === null || seen.has(value)) return;
  if (made.delete(value as Disposable)) {
    remember(value as Disposable);
    return;
  }
  if (!Array.isArray(value) && Object.getPrototypeOf(value) !== Object.prototype) return;
  seen.add(value);
  for (const part of Object.values(value)) keep(part, made, seen);
}

/**
 * Runs `body` and frees every array that was made inside and is not returned, alone or in (nested) lists and plain objects. What is
 * returned belongs to the enclosing scope, or to the caller. Arrays made before are left alone. TensorFlow.js calls this `tidy`.
 *
 * @throws RaysumError "argument" when `body` returns a promise: arrays made after its first await would escape.
 */
export function scope<T>(body: () => T): T {
  if (typeof body !== "function") throw new RaysumError("argument", `scope: ${describe(body)}: expected a function`);
  const made = new Set<Disposable>();
  open.push(made);
  let result: T | undefined;
  try {
    result = body();
    if (result instanceof Promise)
      throw new RaysumError("argument", "scope: the function returned a promise; expected a synchronous function");
  } finally {
    open.pop();
    keep(result, made, new Set());
    for (const array of made) array.dispose();
  }
  return result;
}
