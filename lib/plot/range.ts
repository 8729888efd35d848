import { refuse } from "./check.ts";

export function checkRange(name: string, range: readonly [number, number]): void {
  const [lo, hi] = range;
  if (range.length !== 2 || !Number.isFinite(lo) || !Number.isFinite(hi) || lo >= hi) {
    refuse(`${name} [${range.join(", ")}]`, "it must be two finite numbers, the smaller one first");
  }
}

/** Smallest and largest finite value among those that are kept; undefined when there is none. */
export function finiteExtent(
  values: ArrayLike<number>,
  keep: (value: number) => boolean = () => true,
): readonly [number, number] | undefined {
  let [lo, hi] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (!Number.isFinite(value) || !keep(value)) continue;
    if (value < lo) lo = value;
    if (value > hi) hi = value;
  }
  return lo <= hi ? [lo, hi] : undefined;
}

/** A range that is not empty: a single value gets room on both sides. */
export function widened([lo, hi]: readonly [number, number]): readonly [number, number] {
  if (lo < hi) return [lo, hi];
  const room = Math.abs(lo) / 2 || 0.5;
  return [lo - room, lo + room];
}
