import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { prefetch } from "../lib/tfjs/index.ts";
import { raysumError } from "./support/errors.ts";
import { on, tf } from "./support/tensorflow.ts";

/** Tensors 0, 1 ... with a note of what was made. */
async function* batches(count: number, made: number[] = []): AsyncGenerator<tf.Tensor> {
  for (let k = 0; k < count; k++) {
    made.push(k);
    yield tf.scalar(k);
  }
}

async function values(source: AsyncIterable<tf.Tensor>): Promise<number[]> {
  const found: number[] = [];
  for await (const tensor of source) {
    found.push((await tensor.data())[0]!);
    tensor.dispose();
  }
  return found;
}

describe("prefetch", () => {
  it("yields what the source yields, in order, from iterables and datasets", async () => {
    await tf.setBackend(on);
    const { numTensors } = tf.memory();
    assert.deepEqual(await values(prefetch(batches(5))), [0, 1, 2, 3, 4]);
    assert.deepEqual(await values(prefetch(batches(2), { ahead: 9 })), [0, 1]);
    assert.deepEqual(await values(prefetch([tf.scalar(7), tf.scalar(8)])), [7, 8]);
    const dataset = { iterator: async () => batches(3) };
    assert.deepEqual(await values(prefetch(dataset)), [0, 1, 2]);
    assert.equal(tf.memory().numTensors, numTensors);
  });

  it("loads ahead, and no further", async () => {
    const made: number[] = [];
    const source = prefetch(batches(10, made), { ahead: 3 });
    const first = await source.next();
    await sleep(1);
    assert.deepEqual(made, [0, 1, 2, 3]);
    tf.dispose(first.value as tf.Tensor);
    await source.return();
  });

  it("disposes what it has loaded in vain, and closes the source", async () => {
    const { numTensors } = tf.memory();
    let closed = false;
    async function* file() {
      try {
        yield* batches(10);
      } finally {
        closed = true;
      }
    }
    for await (const tensor of prefetch(file())) {
      tensor.dispose();
      break;
    }
    assert.ok(closed);
    assert.equal(tf.memory().numTensors, numTensors);
  });

  it("hands on what the source throws, after what came before", async () => {
    const { numTensors } = tf.memory();
    async function* failing() {
      yield* batches(2);
      throw new Error("the disk is gone");
    }
    const found: number[] = [];
    await assert.rejects(async () => {
      for await (const tensor of prefetch(failing(), { ahead: 4 })) {
        found.push(tensor.dataSync()[0]!);
        tensor.dispose();
      }
    }, /the disk is gone/);
    assert.deepEqual(found, [0, 1]);
    assert.equal(tf.memory().numTensors, numTensors);
    await assert.rejects(prefetch(batches(1), { ahead: 0 }).next(), raysumError("argument", /ahead 0: expected/));
  });
});
