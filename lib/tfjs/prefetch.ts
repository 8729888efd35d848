import type { TensorContainer } from "@tensorflow/tfjs-core";
import { RaysumError } from "../errors.ts";
import { tensorflow } from "./tensorflow.ts";

/** A `tf.data.Dataset`, as far as it is needed here. */
interface Dataset<T> {
  iterator(): Promise<{ next(): Promise<IteratorResult<T>> }>;
}

export interface PrefetchOptions {
  /** How many are loaded before they are asked for. 2 by default. */
  readonly ahead?: number;
}

interface Source<T> {
  next(): Promise<IteratorResult<T>> | IteratorResult<T>;
  return?(): unknown;
}

async function open<T>(source: AsyncIterable<T> | Iterable<T> | Dataset<T>): Promise<Source<T>> {
  if ("iterator" in source) return await source.iterator();
  return Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
}

/**
 * What a source yields, loaded ahead: while a step works on one batch the next ones are read, and uploaded where the source makes
 * tensors. The source is a `tf.data.Dataset` or anything that `for await` takes. Each tensor belongs to whoever gets it; those that
 * were loaded in vain when the loop ends early are disposed.
 *
 * @throws RaysumError "argument" for `ahead` below 1; what the source throws arrives in its place.
 */
export async function* prefetch<T extends TensorContainer>(
  source: AsyncIterable<T> | Iterable<T> | Dataset<T>,
  { ahead = 2 }: PrefetchOptions = {},
): AsyncGenerator<T, void> {
  if (!Number.isSafeInteger(ahead) || ahead < 1)
    throw new RaysumError("argument", `ahead ${ahead}: expected a positive whole number`);
  const opened = await open(source);
  const loading: Promise<IteratorResult<T>>[] = [];
  const load = () => {
    const one = (async () => opened.next())();
    one.catch(() => {}); // told when its turn comes
    loading.push(one);
  };
  try {
    for (let k = 0; k < ahead; k++) load();
    for (;;) {
      const { value, done } = await loading.shift()!;
      if (done) return;
      load();
      yield value;
    }
  } finally {
    for (const one of await Promise.allSettled(loading))
      if (one.status === "fulfilled" && !one.value.done) tensorflow().dispose(one.value.value);
    await opened.return?.();
  }
}
