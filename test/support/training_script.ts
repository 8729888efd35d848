// Trains a small learned primal-dual network on the CPU and prints its losses and the weights' bits as one line of JSON.
import { createHash } from "node:crypto";
import { device } from "../../lib/index.ts";
import { learnedPrimalDual } from "../../lib/nets/index.ts";
import { adam, backendName } from "../../lib/tfjs/index.ts";
import { sliceOperator } from "./operators.ts";
import { random, tf } from "./tensorflow.ts";

const cpu = device("cpu");
await tf.setBackend(backendName(cpu));
const N = 24;
using A = sliceOperator(N, { device: cpu });
const network = learnedPrimalDual(A, { iterations: 2, hidden: 16 });
const [data, target] = [random([2, ...A.rangeShape.slice(1), 1], 1, 0, 1), random([2, N, N, 1], 2, 0, 0.3)];
const optimizer = adam(1e-3);
const loss = () => tf.mean(tf.squaredDifference(network(data), target)) as tf.Scalar;
const losses = Array.from({ length: 3 }, () => optimizer.minimize(loss, true)!.dataSync()[0]!);
const hash = createHash("sha256");
for (const variable of network.variables.values()) hash.update(variable.dataSync() as Float32Array);
console.log(JSON.stringify({ threads: cpu.threads, losses, weights: hash.digest("hex") }));
