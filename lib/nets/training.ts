import type { Optimizer } from "@tensorflow/tfjs-core";
import { RaysumError } from "../errors.ts";
import type { HostArray } from "../io/host_array.ts";
import { readSafetensors, readSafetensorsMetadata, writeSafetensors } from "../io/safetensors.ts";
import { tensorflow } from "../tfjs/tensorflow.ts";
import type { Network } from "./network.ts";

/** What a training run is made of. */
export interface Training {
  readonly network: Pick<Network, "save" | "load">;
  /** Of raysum/tfjs or `tf.train`. */
  readonly optimizer: Optimizer;
}

const STATE = "raysum.training";
const NETWORK = "network.";
const OPTIMIZER = "optimizer.";

interface State {
  readonly iterations: number;
  readonly learningRate: number;
  readonly position: unknown;
}

/**
 * Writes what a training run needs to go on as if it had not stopped: the network's weights, the optimizer's state with its learning
 * rate, and where the run was (`position`, anything that JSON can hold), as one safetensors file. The file takes its name when it is
 * whole: a run that breaks off leaves the last one. No step may be queued before this has resolved.
 *
 * @throws RaysumError `file` when the file cannot be written
 */
export async function saveTraining(path: string, { network, optimizer }: Training, position: unknown): Promise<void> {
  const tensors = new Map<string, HostArray>();
  for (const [name, array] of await network.save()) tensors.set(NETWORK + name, array);
  const [, ...slots] = await optimizer.getWeights(); // the first is the count of steps
  for (const [k, { tensor }] of slots.entries())
    tensors.set(OPTIMIZER + k, { shape: tensor.shape, data: (await tensor.data()) as Float32Array });
  const { iterations } = optimizer;
  const { learningRate } = optimizer as unknown as { readonly learningRate: number };
  const state: State = { iterations, learningRate, position };
  await writeSafetensors(path, tensors, new Map([[STATE, JSON.stringify(state)]]));
}

/**
 * Brings a network and a new optimizer to where `saveTraining` left theirs, and returns the position. The steps that follow are those
 * of the run that was saved, to the last bit.
 *
 * @throws RaysumError `file` when the file is missing, damaged or none of `saveTraining`, `argument` or `shape` for another network
 */
export async function resumeTraining(path: string, { network, optimizer }: Training): Promise<unknown> {
  const text = (await readSafetensorsMetadata(path)).get(STATE);
  if (text === undefined)
    throw new RaysumError("file", `${path} holds no training run: it was not written by saveTraining`);
  const { iterations, learningRate, position }: State = JSON.parse(text);
  const tensors = [...(await readSafetensors(path))];
  const within = (prefix: string) =>
    tensors.flatMap(([name, array]) => (name.startsWith(prefix) ? [[name.slice(prefix.length), array] as const] : []));
  network.load(new Map(within(NETWORK)));
  const tf = tensorflow();
  const weights: Parameters<Optimizer["setWeights"]>[0] = [
    { name: "iter", tensor: tf.scalar(iterations, "int32") },
    ...within(OPTIMIZER).map(([name, { data, shape }]) => ({ name, tensor: tf.tensor(data, [...shape]) })),
  ];
  await optimizer.setWeights(weights);
  for (const { tensor } of weights) tensor.dispose();
  Object.assign(optimizer, { learningRate });
  return position;
}
