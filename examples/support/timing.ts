// Time on a device, as PyTorch users take it with torch.cuda.Event.
import type { Device } from "raysum";

/**
 * Milliseconds of one call on an idle device, from a mark in its queue before the call to one behind it (on a GPU CUDA events): what
 * the host does inside the call before the device has work counts, waiting for the result afterwards does not.
 */
export async function timeCall(on: Device, call: () => unknown): Promise<number> {
  on.finishedSync();
  const start = on.mark();
  call();
  const end = on.mark();
  on.finishedSync();
  return on.elapsed(start, end);
}

/** The median of calls that go on until `seconds` have passed, one at least: short ones are then those of compiled JavaScript. */
export async function medianTime(on: Device, call: () => unknown, seconds: number): Promise<number> {
  const times: number[] = [];
  const end = performance.now() + seconds * 1000;
  do times.push(await timeCall(on, call));
  while (performance.now() < end);
  return median(times);
}

export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}
