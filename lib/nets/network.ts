import type { Rank, Tensor, Tensor4D, Variable } from "@tensorflow/tfjs-core";
import { RaysumError } from "../errors.ts";
import type { HostArray } from "../io/host_array.ts";
import { formatShape, sameShape } from "../shape.ts";
import { tensorflow } from "../tfjs/tensorflow.ts";

/** A network between tensors, with its weights. */
export interface Network {
  /** Sinograms `[batch, angle, column, 1]` to images `[batch, y, x, 1]`. */
  (sinograms: Tensor): Tensor4D;
  /** The weights, to be trained, by PyTorch's names. */
  readonly variables: ReadonlyMap<string, Variable>;
  /** The weights in PyTorch's layout (filters are output, input, row, column), to be written with `writeSafetensors`. */
  save(): Promise<Map<string, HostArray>>;
  /** Takes the weights of `save`, or of a network that PyTorch has trained. */
  load(weights: ReadonlyMap<string, HostArray>): void;
  dispose(): void;
}

export type Filter = Variable<Rank.R4>;
export type Numbers = Variable<Rank.R1>;

export function checkCount(name: string, value: number): void {
  if (!Number.isSafeInteger(value) || value < 1)
    throw new RaysumError("argument", `${name} ${value}: expected a positive whole number`);
}

/** Filters are HWIO here and OIHW in PyTorch. */
const toPyTorch = [3, 2, 0, 1];
const fromPyTorch = [2, 3, 1, 0];

/** The weights of a network, each drawn as PyTorch draws it: uniform within 1 / sqrt(inputs of an output). */
export class Weights {
  readonly variables: Map<string, Variable> = new Map();
  #seed: number;

  constructor(seed: number) {
    this.#seed = seed;
  }

  /** Further weights with a first value. */
  variable(name: string, value: () => Tensor): Variable {
    const made = tensorflow().tidy(() => tensorflow().variable(value()));
    this.variables.set(name, made);
    return made;
  }

  #uniform(name: string, shape: number[], inputs: number): Variable {
    const bound = 1 / Math.sqrt(inputs);
    return this.variable(name, () => tensorflow().randomUniform(shape, -bound, bound, "float32", this.#seed++));
  }

  /** A square filter. */
  filter(name: string, size: number, inputs: number, outputs: number): Filter {
    return this.#uniform(name, [size, size, inputs, outputs], size * size * inputs) as Filter;
  }

  /** The bias that goes with a square filter. */
  bias(name: string, size: number, inputs: number, outputs: number): Numbers {
    return this.#uniform(name, [outputs], size * size * inputs) as Numbers;
  }

  async save(): Promise<Map<string, HostArray>> {
    const tf = tensorflow();
    const saved = new Map<string, HostArray>();
    for (const [name, value] of this.variables) {
      const turned = value.shape.length === 4 ? tf.transpose(value, toPyTorch) : tf.clone(value);
      saved.set(name, { shape: turned.shape, data: (await turned.data()) as Float32Array });
      turned.dispose();
    }
    return saved;
  }

  load(weights: ReadonlyMap<string, HostArray>): void {
    const tf = tensorflow();
    const shapes = [...this.variables].map(([name, { shape }]) => {
      const expected = shape.length === 4 ? toPyTorch.map((axis) => shape[axis]!) : shape;
      const given = weights.get(name);
      if (!given) throw new RaysumError("argument", `the weights lack ${name}`);
      if (!sameShape(given.shape, expected))
        throw new RaysumError(
          "shape",
          `${name} has the shape ${formatShape(given.shape)}: expected ${formatShape(expected)}`,
        );
      return [name, expected, given.data] as const;
    });
    const unknown = [...weights.keys()].find((name) => !this.variables.has(name));
    if (unknown !== undefined) throw new RaysumError("argument", `the network has no weights ${unknown}`);
    tf.tidy(() => {
      for (const [name, shape, data] of shapes) {
        const tensor = tf.tensor(data, shape);
        this.variables.get(name)!.assign(shape.length === 4 ? tf.transpose(tensor, fromPyTorch) : tf.clone(tensor));
      }
    });
  }

  dispose(): void {
    for (const value of this.variables.values()) value.dispose();
    this.variables.clear();
  }

  /** The network that computes `run` with these weights; what else it holds is disposed with it. */
  network(run: (sinograms: Tensor) => Tensor4D, ...held: readonly { dispose(): void }[]): Network {
    return Object.assign(run, {
      variables: this.variables,
      save: () => this.save(),
      load: (weights: ReadonlyMap<string, HostArray>) => this.load(weights),
      dispose: () => {
        this.dispose();
        for (const one of held) one.dispose();
      },
    });
  }
}
