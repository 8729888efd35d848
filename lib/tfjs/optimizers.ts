// Optimizers that update variables in place, one native call a variable, and walk back freeing as they go. They save and load what
// the stock ones do, and are the stock ones on other backends.
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
import { RaysumBackend } from "./backend.ts";
import { variableGradients } from "./backward.ts";
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

/** An optimizer's own variable for a variable, zeros at first. */
function slot(slots: Slot[], place: number, name: string, variable: Variable): Variable {
  const tf = tensorflow();
  slots[place] ??= { originalName: name, variable: tf.tidy(() => tf.variable(tf.zerosLike(variable), false)) };
  return slots[place].variable;
}

function checkRate(rate: number): void {
  if (!(Number.isFinite(rate) && rate > 0))
    throw new RaysumError("argument", `rate ${rate}: expected a positive number`);
}

/** target += factor * x, in place. */
function addScaled(target: bigint, factor: number, x: bigint, count: number): void {
  check(native().rs_combine(target, 1, target, factor, x, BigInt(count), BigInt(count)));
}

/** What tfjs-core keeps from those who do not extend an optimizer. */
interface Inside {
  learningRate: number;
  incrementIterations(): void;
}

/** Lets a stock optimizer update in place on our backends. */
function inPlace<T extends Optimizer>(
  optimizer: T,
  apply: (backend: RaysumBackend, gradients: Gradients, inside: Inside) => void,
): T {
  const inside = optimizer as unknown as Inside;
  const applyStock = optimizer.applyGradients.bind(optimizer);
  return Object.assign(optimizer, {
    computeGradients: (f: () => Scalar, variables?: Variable[]) =>
      ownBackend() ? variableGradients(f, variables) : tensorflow().variableGrads(f, variables),
    applyGradients: (gradients: Gradients) => {
      const backend = ownBackend();
      if (backend) {
        apply(backend, gradients, inside);
        inside.incrementIterations();
      } else applyStock(gradients as never);
    },
  });
}

/** Stochastic gradient descent: `tf.train.sgd`, in place. */
export function sgd(rate: number): SGDOptimizer {
  checkRate(rate);
  return inPlace(tensorflow().train.sgd(rate), (backend, gradients, { learningRate }) => {
    for (const { variable, gradient } of updates(gradients))
      addScaled(writable(backend, variable), -learningRate, backend.pointer(gradient), variable.size);
  });
}

/** Gradient descent with momentum, or Nesterov's: `tf.train.momentum`, in place. */
export function momentum(rate: number, share: number, nesterov = false): MomentumOptimizer {
  checkRate(rate);
  if (!(share >= 0 && share < 1)) throw new RaysumError("argument", `momentum ${share}: expected 0 to below 1`);
  const optimizer = tensorflow().train.momentum(rate, share, nesterov);
  const slots = optimizer as unknown as { accumulations: Slot[] };
  return inPlace(optimizer, (backend, gradients, { learningRate }) => {
    for (const { place, variable, gradient } of updates(gradients)) {
      const { size, name } = variable;
      const count = BigInt(size);
      const speed = writable(backend, slot(slots.accumulations, place, `${name}/momentum`, variable));
      const slope = backend.pointer(gradient);
      check(native().rs_combine(speed, share, speed, 1, slope, count, count));
      const target = writable(backend, variable);
      addScaled(target, -learningRate * (nesterov ? share : 1), speed, size);
      if (nesterov) addScaled(target, -learningRate, slope, size);
    }
  });
}

export interface AdamOptions {
  readonly beta1?: number;
  readonly beta2?: number;
  /** 1e-8 by default, as in PyTorch; `tf.train.adam` has 1e-7. */
  readonly epsilon?: number;
}

/** Rate and powers of the betas on the device, as float64, and what they were uploaded for. */
interface AdamState {
  readonly backend: RaysumBackend;
  readonly held: TensorInfo;
  rate: number;
  iterations: number;
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
  let state: AdamState | undefined;
  const free = (): void => {
    state?.backend.disposeData(state.held.dataId);
    state = undefined;
  };
  const upToDate = (backend: RaysumBackend, learningRate: number): bigint => {
    const { iterations } = optimizer;
    if (state?.backend !== backend) free();
    state ??= { backend, held: backend.output([6], "int32"), rate: Number.NaN, iterations };
    const pointer = backend.pointer(state.held);
    if (state.rate !== learningRate || state.iterations !== iterations) {
      const values = Float64Array.of(learningRate, beta1 ** iterations, beta2 ** iterations);
      backend.upload(pointer, new Int32Array(values.buffer));
    }
    Object.assign(state, { rate: learningRate, iterations: iterations + 1 });
    return pointer;
  };
  const dispose = optimizer.dispose.bind(optimizer);
  optimizer.dispose = () => {
    free();
    dispose();
  };
  return inPlace(optimizer, (backend, gradients, { learningRate }) => {
    const powers = upToDate(backend, learningRate);
    let advance = 1;
    for (const { place, variable, gradient } of updates(gradients)) {
      const { name, size } = variable;
      const first = writable(backend, slot(slots.accumulatedFirstMoment, place, `${name}/m`, variable));
      const second = writable(backend, slot(slots.accumulatedSecondMoment, place, `${name}/v`, variable));
      const [target, slope] = [writable(backend, variable), backend.pointer(gradient)];
      const count = BigInt(size);
      check(native().rs_tensor_adam(target, first, second, slope, count, powers, advance, beta1, beta2, epsilon));
      advance = 0;
    }
  });
}
