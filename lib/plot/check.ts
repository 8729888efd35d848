import { RaysumError } from "../errors.ts";

/** `argument` error with the words `what: expected`. */
export function refuse(what: string, expected: string): never {
  throw new RaysumError("argument", `${what}: ${expected}`);
}

export function checkText(name: string, value: unknown): void {
  if (typeof value !== "string") refuse(`${name} ${String(value)}`, "it must be a string");
}

export function checkChoice(name: string, value: string, choices: readonly string[]): void {
  if (!choices.includes(value)) refuse(`${name} "${value}"`, `it must be one of ${choices.join(", ")}`);
}
