// What stands behind the options of a command line.

/** A number that fits, or an error that names the option. */
export function number(name: string, text: string, fits: (value: number) => boolean, expected: string): number {
  const value = Number(text);
  if (text.trim() === "" || !fits(value)) throw new Error(`--${name} ${text}: expected ${expected}`);
  return value;
}

export function whole(name: string, text: string, least: number): number {
  return number(
    name,
    text,
    (value) => Number.isInteger(value) && value >= least,
    `a whole number of at least ${least}`,
  );
}

export function choice<T extends string>(name: string, text: string, choices: readonly T[]): T {
  const found = choices.find((one) => one === text);
  if (found === undefined) throw new Error(`--${name} ${text}: expected ${choices.join(" or ")}`);
  return found;
}
