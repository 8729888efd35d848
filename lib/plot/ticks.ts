export type Scale = "linear" | "log";

/** One axis: the values at its ends (left and right, or bottom and top) and how values go to pixels. */
export interface Axis {
  readonly domain: readonly [number, number];
  readonly scale: Scale;
  /** Lines across the plot area at the labelled ticks. */
  readonly grid?: boolean;
  /** Ticks at whole numbers only. */
  readonly whole?: boolean;
}

export interface Ticks {
  readonly values: readonly number[];
  /** One for each value. */
  readonly labels: readonly string[];
  /** Where short ticks without a label stand. */
  readonly minor: readonly number[];
}

/** About `count` ticks, none if it is 0: at multiples of 1, 2 or 5 times a power of ten, or at powers of ten. */
export function ticksOf({ domain, scale, whole = false }: Axis, count: number): Ticks {
  const [lo, hi] = [Math.min(...domain), Math.max(...domain)];
  if (count === 0) return { values: [], labels: [], minor: [] };
  if (scale === "log") return logTicks(lo, hi, count);
  const rough = (hi - lo) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(power * [1, 2, 5, 10].find((n) => n * power >= rough * 0.7)!, whole ? 1 : 0);
  const values = integers(lo / step, hi / step).map((n) => n * step);
  if (values.length < 2) return ticksOf({ domain, scale, whole }, 2 * count); // a scale is read off two ticks
  return { values, labels: labelsOf(values), minor: [] };
}

/** Every second, third ... power of ten has a label where there are more than `count`. */
function logTicks(lo: number, hi: number, count: number): Ticks {
  const exponents = integers(Math.log10(lo), Math.log10(hi));
  const stride = Math.ceil(exponents.length / count);
  const labelled = exponents.filter((exponent) => exponent % stride === 0);
  const between = [exponents[0]! - 1, ...exponents].flatMap((n) => [2, 3, 4, 5, 6, 7, 8, 9].map((m) => m * 10 ** n));
  const minor = stride > 1 ? exponents.map((n) => 10 ** n) : between.filter((value) => value >= lo && value <= hi);
  return { values: labelled.map((n) => 10 ** n), labels: labelled.map((n) => `10${superscript(n)}`), minor };
}

/** The whole numbers from lo to hi, also where these are whole but for rounding. */
function integers(lo: number, hi: number): number[] {
  const first = Math.ceil(lo - 1e-9);
  return Array.from({ length: Math.floor(hi + 1e-9) - first + 1 }, (_, i) => first + i);
}

function superscript(n: number): string {
  return String(n).replace(/./g, (digit) => (digit === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(digit)]!));
}

/**
 * Labels of equally spaced ticks: 0.25, 1500, or 5e−3 where that is shorter and the largest is below 0.01 or from 1e5
 * on; all labels of one axis have the same form and precision.
 */
function labelsOf(ticks: readonly number[]): string[] {
  const largest = exponentOf(Math.max(...ticks.map(Math.abs)));
  const last = lastDigit(ticks);
  const fixed = ticks.map((tick) => tick.toFixed(Math.min(Math.max(0, -last), 100)));
  const scientific = ticks.map((tick) =>
    tick === 0 ? "0" : `${(tick / 10 ** largest).toFixed(Math.max(0, largest - last))}e${largest}`,
  );
  const longest = (labels: string[]): number => Math.max(...labels.map((label) => label.length));
  const short = (largest < -2 || largest >= 5) && longest(scientific) <= longest(fixed);
  return (short ? scientific : fixed).map((label) => label.replaceAll("-", "−"));
}

/** The power of ten of the last digit that the ticks need; of 16 digits, as doubles have no more. */
function lastDigit(ticks: readonly number[]): number {
  const tolerance = Math.abs(ticks.length > 1 ? ticks[1]! - ticks[0]! : ticks[0]!) / 1000;
  const first = Math.max(...ticks.map(exponentOf));
  const differs = (tick: number, unit: number): boolean => Math.abs(tick - Math.round(tick / unit) * unit) > tolerance;
  let exponent = first;
  while (exponent > first - 15 && ticks.some((tick) => differs(tick, 10 ** exponent))) exponent -= 1;
  return exponent;
}

/** The power of ten of the first digit. */
function exponentOf(value: number): number {
  return value === 0 ? 0 : Math.floor(Math.log10(Math.abs(value)) + 1e-9);
}
