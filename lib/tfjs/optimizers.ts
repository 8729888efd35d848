// Optimizers that update variables in place and walk back freeing as they go. They save and load what the stock ones do, and are the
// stock ones on other backends.
import type {
  AdamOptimizer,
  MomentumOptimizer,
  NamedTensorMap,
  Optimizer,
  Scalar,
  SGDOptimizer,
  Tensor,
  TensorInfo,
  Variable,
} from "@tensorflow/tfjs-core";
import { RaysumError } from "../errors.ts";
import { check, native } from "../native/library.ts";
import { RS_OPTIMIZED_TENSORS, TensorOptimization } from "../native/symbols.ts";
import { RaysumBackend } from "./backend.ts";
import { variableGradients } from "./backward.ts";
import { fill } from "./calls.ts";
import { tensorflow } from "./tensorflow.ts";

/** The optimizers' own variables, which tfjs-core does not declare for those who extend it. */
interface Slot {
  readonly originalName: string;
  readonly variable: Variable;
}

type Gradients = NamedTensorMap | readonly { readonly name: string; readonly tensor: Tensor }[];

/** The active backend, where it is one of ours. */
function ownBackend(): RaysumBackend | undefined {
  const backend = tensorflow().backend();
  return backend instanceof RaysumBackend ? backend : undefined;
}

/** Every variable that has a gradient, with its place in the list: optimizers find their own variables by that. */
function* updates(gradients: Gradients): Generator<{ place: number; variable: Variable; gradient: Tensor }> {
  const { registeredVariables } = tensorflow().engine();
  const list = Array.isArray(gradients)
    ? (gradients as readonly { readonly name: string; readonly tensor: Tensor }[])
    : Object.entries(gradients as NamedTensorMap).map(([name, tensor]) => ({ name, tensor }));
  for (const [place, { name, tensor }] of list.entries())
    if (tensor) yield { place, variable: registeredVariables[name]!, gradient: tensor };
}

/** The memory of a variable, made its own where a clone shares it, to be overwritten. */
function writable(backend: RaysumBackend, variable: Variable): bigint {
  if (!backend.isSole(variable)) {
    const tf = tensorflow();
    const copy = backend.output(variable.shape, variable.dtype);
    check(native().rs_copy(backend.pointer(copy), backend.pointer(variable), BigInt(variable.size * 4)));
    const tensor = tf.engine().makeTensorFromTensorInfo(copy, backend);
    variable.assign(tensor);
    tensor.dispose();
  }
  const pointer = backend.pointer(variable);
  backend.overwritten(variable);
  return pointer;
}

/** An optimizer's own variable for a variable, zeros at first. Made without a kernel, as only the first step makes it. */
function slot(backend: RaysumBackend, slots: Slot[], place: number, name: string, { shape }: Variable): Variable {
  const tf = tensorflow();
  const zeros = () => tf.engine().makeTensorFromTensorInfo(fill(backend, shape, "float32", 0), backend);
  slots[place] ??= { originalName: name, variable: tf.tidy(() => tf.variable(zeros(), false)) };
  return slots[place].variable;
}

function checkRate(rate: number): void {
  if (!(Number.isFinite(rate) && rate > 0))
    throw new RaysumError("argument", `rate ${rate}: expected a positive number`);
}

/** The three float64 in device memory that rs_tensor_optimize reads: they stay alive where a step is captured. */
class Held {
  #backend: RaysumBackend | undefined;
  #held: TensorInfo | undefined;
  #holds = "";

  /** Uploads `numbers` unless the device has `what` already; after the step it will have `next`. */
  set(backend: RaysumBackend, numbers: Float64Array, what: string, next: string): void {
    if (this.#backend !== backend) this.free();
    this.#backend = backend;
    this.#held ??= backend.output([6], "int32");
    if (this.#holds !== what)
      backend.upload(backend.pointer(this.#held), new Int32Array(numbers.buffer as ArrayBuffer));
    this.#holds = next;
  }

  get info(): TensorInfo {
    return this.#held!;
  }

  free(): void {
    if (this.#held) this.#backend!.disposeData(this.#held.dataId);
    this.#held = undefined;
    this.#holds = "";
  }
}

/** A step of an optimizer on its variables: as few calls, and on a GPU as few kernels, as there can be. */
function step(
  backend: RaysumBackend,
  op: number,
  held: Held,
  gradients: Gradients,
  moments: Readonly<Record<string, Slot[]>>,
  { beta1 = 0, beta2 = 0, epsilon = 0 } = {},
): void {
  const state = backend.pointer(held.info);
  const rows = [...updates(gradients)].map(({ place, variable, gradient }) => {
    const [first = 0n, second = 0n] = Object.entries(moments).map(([name, slots]) =>
      writable(backend, slot(backend, slots, place, `${variable.name}/${name}`, variable)),
    );
    return [writable(backend, variable), first, second, backend.pointer(gradient), BigInt(variable.size)];
  });
  for (let k = 0; k < rows.length; k += RS_OPTIMIZED_TENSORS) {
    const some = rows.slice(k, k + RS_OPTIMIZED_TENSORS);
    const table = BigInt64Array.from(some.flat());
    const advance = op === TensorOptimization.OPTIMIZE_ADAM && k === 0 ? 1 : 0;
    check(native().rs_tensor_optimize(op, some.length, table, state, advance, beta1, beta2, epsilon));
  }
}

/** What tfjs-core keeps from those who do not extend an optimizer. */
interface Inside {
  learningRate: number;
  incrementIterations(): void;
}

/** How an optimizer steps on our backends. */
interface InPlace {
  readonly held: Held;
  /** Before each step: what the host decides goes to the device. */
  readonly prepare: (backend: RaysumBackend, learningRate: number) => void;
  readonly apply: (backend: RaysumBackend, gradients: Gradients) => void;
}

/** Lets a stock optimizer update in place on our backends. */
function inPlace<T extends Optimizer>(optimizer: T, { held, prepare, apply }: InPlace): T {
  const inside = optimizer as unknown as Inside;
  const applyStock = optimizer.applyGradients.bind(optimizer);
  const disposeStock = optimizer.dispose.bind(optimizer);
  return Object.assign(optimizer, {
    computeGradients: (f: () => Scalar, variables?: Variable[]) =>
      ownBackend() ? variableGradients(f, variables) : tensorflow().variableGrads(f, variables),
    applyGradients: (gradients: Gradients) => {
      const backend = ownBackend();
      if (!backend) return applyStock(gradients as never);
      const begin = () => {
        prepare(backend, inside.learningRate);
        inside.incrementIterations();
      };
      if (backend.recorder?.recording) backend.recorder.before.push(begin);
      else begin();
      apply(backend, gradients);
    },
    dispose: () => {
      held.free();
      disposeStock();
    },
  });
}

const setRate = (held: Held) => (backend: RaysumBackend, rate: number) =>
  held.set(backend, Float64Array.of(rate, 0, 0), `${rate}`, `${rate}`);

/** Stochastic gradient descent: `tf.train.sgd`, in place. */
export function sgd(rate: number): SGDOptimizer {
  checkRate(rate);
  const held = new Held();
  return inPlace(tensorflow().train.sgd(rate), {
    held,
    prepare: setRate(held),
    apply: (backend, gradients) => {
      step(backend, TensorOptimization.OPTIMIZE_DESCENT, held, gradients, {});
    },
  });
}

/** Gradient descent with momentum, or Nesterov's: `tf.train.momentum`, in place. */
export function momentum(rate: number, share: number, nesterov = false): MomentumOptimizer {
  checkRate(rate);
  if (!(share >= 0 && share < 1)) throw new RaysumError("argument", `momentum ${share}: expected 0 to below 1`);
  const optimizer = tensorflow().train.momentum(rate, share, nesterov);
  const slots = optimizer as unknown as { accumulations: Slot[] };
  const held = new Held();
  return inPlace(optimizer, {
    held,
    prepare: setRate(held),
    apply: (backend, gradients) => {
      const { OPTIMIZE_MOMENTUM, OPTIMIZE_NESTEROV } = TensorOptimization;
      const op = nesterov ? OPTIMIZE_NESTEROV : OPTIMIZE_MOMENTUM;
      step(backend, op, held, gradients, { momentum: slots.accumulations }, { beta1: share });
    },
  });
}

export interface AdamOptions {
  readonly beta1?: number;
  readonly beta2?: number;
  /** 1e-8 by default, as in PyTorch; `tf.train.adam` has 1e-7. */
  readonly epsilon?: number;
}

/** A power as the device comes to it, one product a step: so that a run which goes on from a file is the same to the last bit. */
function power(base: number, exponent: number): number {
  let product = 1;
  for (let k = 0; k < exponent && product > 0; k++) product *= base;
  return product;
}

/**
 * Adam (D. P. Kingma and J. Ba, ICLR 2015): `tf.train.adam`, in place. Learning rate and step count live on the device; a change of
 * `learningRate` or of the iterations is uploaded with the next step.
 */
export function adam(rate: number, { beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8 }: AdamOptions = {}): AdamOptimizer {
  checkRate(rate);
  for (const beta of [beta1, beta2])
    if (!(beta >= 0 && beta < 1))
      throw new RaysumError("argument", `betas ${beta1} and ${beta2}: expected 0 to below 1`);
  const optimizer = tensorflow().train.adam(rate, beta1, beta2, epsilon);
  const slots = optimizer as unknown as { accumulatedFirstMoment: Slot[]; accumulatedSecondMoment: Slot[] };
  const held = new Held();
  return inPlace(optimizer, {
    held,
    prepare: (backend, learningRate) => {
      const { iterations } = optimizer; // of the steps done; the device counts this one itself
      const numbers = Float64Array.of(learningRate, power(beta1, iterations), power(beta2, iterations));
      held.set(backend, numbers, `${learningRate} ${iterations}`, `${learningRate} ${iterations + 1}`);
    },
    apply: (backend, gradients) => {
      const moments = { m: slots.accumulatedFirstMoment, v: slots.accumulatedSecondMoment };
      step(backend, TensorOptimization.OPTIMIZE_ADAM, held, gradients, moments, { beta1, beta2, epsilon });
    },
  });
}
