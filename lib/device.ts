import { setTimeout as delay, setImmediate as immediate } from "node:timers/promises";
import { RaysumError } from "./errors.ts";
import { environment } from "./native/environment.ts";
import { check, native, readInteger, readText } from "./native/library.ts";
import { MemoryCounter, Status } from "./native/symbols.ts";
import { describe } from "./options.ts";

/** What a device's memory holds, in bytes, and how many things of ours live on it. */
export interface MemoryState {
  /** Allocated arrays and operators' workspaces. */
  readonly inUse: number;
  /** The most that `inUse` has been. */
  readonly peak: number;
  /** Freed by us and kept for the next allocation. */
  readonly cached: number;
  /** Free on the machine, without what is cached. */
  readonly free: number;
  readonly total: number;
  /** Live allocations: arrays, and one workspace for most operators. */
  readonly arrays: number;
  readonly operators: number;
}

/**
 * A device: an in-order queue of work with its own memory. Calls on arrays and operators of a device queue work and return;
 * reading waits. `devices()` lists them.
 *
 * A GPU whose work fails, by an illegal address for example, is lost to the process: every call on it throws RaysumError "device" with
 * the reason from then on, but for disposing.
 */
export class Device {
  /** Number of the device in the native library. */
  readonly id: number;
  /** "cpu", "cuda:0", ... */
  readonly name: string;

  /** Use `devices()` or `device(name)`. */
  constructor(id: number) {
    this.id = id;
    this.name = id === 0 ? "cpu" : `cuda:${id - 1}`;
  }

  /** For people, e.g. "CPU, 2 threads, avx512". */
  get description(): string {
    return readText((text, capacity, length) => native().rs_device_name(this.id, text, capacity, length));
  }

  /** Threads of a CPU device. Setting it waits until the device is idle. */
  get threads(): number {
    return this.#threads(0);
  }

  set threads(count: number) {
    if (!Number.isInteger(count) || count < 1 || count > 256)
      throw new RaysumError("argument", `threads ${describe(count)}: expected a whole number from 1 to 256`);
    this.#threads(count);
  }

  #threads(count: number): number {
    const threads = new Int32Array(new ArrayBuffer(4));
    check(native().rs_threads(this.id, count, threads));
    return threads[0]!;
  }

  /**
   * Makes a GPU work on a stream of the caller's (the address of a cudaStream_t of this GPU), in order with what it was given
   * before, so that calls of other libraries on that stream need no synchronization; 0n: on its own stream again. The stream must
   * outlive its use here.
   *
   * @throws RaysumError "argument" for the CPU, "device" for what is no stream of the GPU.
   */
  useStream(stream: bigint): void {
    check(native().rs_stream(this.id, stream));
  }

  memory(): MemoryState {
    const counters = new BigInt64Array(new ArrayBuffer(8 * Object.keys(MemoryCounter).length));
    check(native().rs_memory(this.id, counters));
    const counter = (name: keyof typeof MemoryCounter) => Number(counters[MemoryCounter[name]]);
    return {
      inUse: counter("BYTES_IN_USE"),
      peak: counter("BYTES_PEAK"),
      cached: counter("BYTES_CACHED"),
      free: counter("BYTES_FREE"),
      total: counter("BYTES_TOTAL"),
      arrays: counter("ARRAYS_ALIVE"),
      operators: counter("PLANS_ALIVE"),
    };
  }

  /** Gives cached memory back to the system, after the work that is queued. */
  trimMemory(): void {
    check(native().rs_memory_trim(this.id));
  }

  /** The number of the last call queued; pass it to `finished`. */
  record(): bigint {
    return readInteger((out) => native().rs_record(this.id, out));
  }

  /** Resolves when everything queued up to `event` (now, by default) is done; rejects with the error of queued work. */
  async finished(event: bigint = this.record()): Promise<void> {
    checkEvent(event);
    await poll(() => native().rs_query(this.id, event));
  }

  /** The same, blocking the thread. */
  finishedSync(event: bigint = this.record()): void {
    checkEvent(event);
    check(native().rs_wait(this.id, event));
  }

  /**
   * Marks this point of the queue, for `elapsed`. Nothing is to be freed: the device remembers its last 64 marks.
   *
   * @throws RaysumError "argument" while a capture records.
   */
  mark(): bigint {
    return readInteger((out) => native().rs_mark(this.id, out));
  }

  /**
   * Milliseconds between the moments at which the device got to two marks, the second behind all that is queued by default; resolves
   * when it is there, and rejects with the error of queued work. On a GPU these are CUDA events, as in torch.cuda.Event.elapsed_time.
   * Of a call to an idle device, what the host does before the device begins is part of it:
   *
   *     await device.finished();
   *     const start = device.mark();
   *     A(x, { out: y });
   *     console.log(await device.elapsed(start));
   *
   * @throws RaysumError "argument" for a mark that is not one of the device's last 64, or comes behind the second one.
   */
  async elapsed(first: bigint, last: bigint = this.mark()): Promise<number> {
    for (const mark of [first, last]) checkEvent(mark, "mark");
    const milliseconds = new Float64Array(new ArrayBuffer(8));
    await poll(() => native().rs_elapsed(this.id, first, last, milliseconds));
    return milliseconds[0]!;
  }

  /**
   * Drops the queued work `first` ... `last` (see `record`); what it would have written is then unspecified. `leaveWhole` lets a
   * running call that changes its output in place finish.
   */
  cancel(first: bigint, last: bigint, { leaveWhole = false }: { leaveWhole?: boolean } = {}): void {
    for (const event of [first, last]) checkEvent(event);
    check(native().rs_cancel(this.id, first, last, leaveWhole ? 1 : 0));
  }
}

/**
 * Asks until the answer is not BUSY, leaving the event loop free between two questions: a few times at once, for work that takes
 * microseconds, then less and less often.
 */
export async function poll(ask: () => number): Promise<void> {
  for (let wait = 0; check(ask()) === Status.BUSY; wait = Math.min(wait + 1, 40)) {
    if (wait < 20) await immediate();
    else await delay(wait < 30 ? 1 : (wait - 20) / 2);
  }
}

function checkEvent(event: bigint, method: "record" | "mark" = "record"): void {
  if (typeof event !== "bigint")
    throw new RaysumError("argument", `event ${describe(event)}: expected what ${method}() gave, a bigint`);
}

/** The device that was given, or `device()`; throws RaysumError "argument" for anything else, such as a name. */
export function chosenDevice(given: Device | undefined): Device {
  if (given === undefined) return device();
  if (given instanceof Device) return given;
  throw new RaysumError("argument", `device ${describe(given)}: expected a Device, such as device("cpu")`);
}

let all: readonly Device[] | undefined;

/** Every device of the native library: the CPU first, then CUDA devices. */
export function devices(): readonly Device[] {
  if (!all) {
    const count = new Int32Array(new ArrayBuffer(4));
    check(native().rs_device_count(count));
    all = Object.freeze(Array.from({ length: count[0]! }, (_, id) => new Device(id)));
  }
  return all;
}

/**
 * The device of a name ("cpu", "cuda:0"). Without a name: the one that RAYSUM_DEVICE names, else the first CUDA device, else the
 * CPU.
 *
 * @throws RaysumError "device" when there is none of that name.
 */
export function device(name?: string): Device {
  const wanted = name ?? environment("RAYSUM_DEVICE");
  const found = wanted === undefined ? (devices()[1] ?? devices()[0]) : devices().find((one) => one.name === wanted);
  if (found) return found;
  const names = devices().map((one) => one.name);
  const why = readText((text, capacity, length) => native().rs_device_missing(text, capacity, length));
  throw new RaysumError(
    "device",
    `there is no device "${wanted}": this library has ${names.join(", ")}${why && ` (no CUDA device: ${why})`}`,
  );
}
