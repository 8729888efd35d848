// The walk back through what was computed, freeing gradients and activations as soon as nothing needs them any more. The stock one
// keeps them all until its end, and whole tensors where a gradient needs their shape.
import type { NamedTensorMap, Scalar, Tensor, Variable } from "@tensorflow/tfjs-core";
import { RaysumError } from "../errors.ts";
import { tensorflow } from "./tensorflow.ts";

/** How a gradient function gives the gradient of one input. */
export interface Gradient {
  (): Tensor;
  /** Adds the gradient in place to a sum of others and returns true, or false where it cannot. */
  readonly addTo?: (sum: Tensor) => boolean;
}

/** What tfjs-core records of an operation while a gradient is asked for. */
interface TapeNode {
  readonly kernelName: string;
  readonly inputs: NamedTensorMap;
  readonly outputs: readonly Tensor[];
  readonly saved?: readonly Tensor[];
  readonly gradient?: (dys: readonly (Tensor | null)[]) => Record<string, Gradient>;
}

interface TapeState {
  activeTape: TapeNode[] | null;
  gradientDepth: number;
}

interface Walked<T> {
  readonly value: T;
  /** A gradient for each tensor asked for; undefined where the value does not depend on it. */
  readonly gradients: readonly (Tensor | undefined)[];
}

/** Kernels whose gradients look at the shapes of what is kept for them, which outlive its memory, and at nothing else. */
const SHAPES_ALONE: ReadonlySet<string> = new Set(
  "Add Concat ExpandDims Mean Pack PadV2 Reshape Slice Sub Sum".split(" "),
);

class Tape extends Array<TapeNode> {
  override push(node: TapeNode): number {
    if (SHAPES_ALONE.has(node.kernelName)) free([node]);
    return super.push(node);
  }
}

function record<T extends Tensor>(state: TapeState, f: () => T): { value: T; tape: readonly TapeNode[] } {
  const outer = state.activeTape;
  state.activeTape = new Tape();
  state.gradientDepth++;
  try {
    return { value: tensorflow().tidy(f), tape: state.activeTape };
  } catch (error) {
    free(state.activeTape);
    throw error;
  } finally {
    state.gradientDepth--;
    state.activeTape = outer;
  }
}

function free(tape: readonly TapeNode[]): void {
  for (const node of tape) for (const tensor of node.saved ?? []) tensor.dispose();
}

/** Which tensors depend on xs, and which nodes lie between them and y. */
function between(
  tape: readonly TapeNode[],
  xs: readonly Tensor[],
  y: Tensor,
): { fromX: Set<number>; path: Set<TapeNode> } {
  const fromX = new Set(xs.map(({ id }) => id));
  for (const { inputs, outputs } of tape)
    if (Object.values(inputs).some(({ id }) => fromX.has(id))) for (const { id } of outputs) fromX.add(id);
  const toY = new Set([y.id]);
  const path = new Set<TapeNode>();
  for (const node of [...tape].reverse()) {
    if (!node.outputs.some(({ id }) => toY.has(id) && fromX.has(id))) continue;
    path.add(node);
    for (const { id } of Object.values(node.inputs)) toY.add(id);
  }
  return { fromX, path };
}

/** Adds the gradients of a node's inputs that depend on xs to the sums, each of which is a tensor of its own. */
function addGradients(node: TapeNode, sums: Map<number, Tensor>, fromX: Set<number>): void {
  const tf = tensorflow();
  if (!node.gradient)
    throw new RaysumError("argument", `Cannot compute gradient: gradient function not found for ${node.kernelName}.`);
  const dys = node.outputs.map(({ id }) => sums.get(id) ?? null);
  const taken = new Set<Tensor>();
  tf.tidy(() => {
    const made = tf.engine().state.activeScope.track;
    const functions = node.gradient!(dys);
    for (const [name, { id, shape }] of Object.entries(node.inputs)) {
      if (!fromX.has(id)) continue;
      const sum = sums.get(id);
      if (sum && functions[name]?.addTo?.(sum)) continue;
      const given = functions[name]?.();
      if (given?.dtype !== "float32" || !tf.util.arraysEqual(given.shape, shape))
        throw new RaysumError(
          "argument",
          `the gradient of ${node.kernelName} by ${name} is ${given ? `${given.dtype} [${given.shape}]` : "missing"}: expected float32 [${shape}]`,
        );
      // What was there before, as dy, belongs to others.
      const gradient = taken.has(given) || !made.includes(given) ? tf.clone(given) : given;
      taken.add(gradient);
      sums.set(id, tf.keep(sum ? tf.add(sum, gradient) : gradient));
      sum?.dispose();
    }
  });
}

/** Gradients of y = f() by xs, from the gradient of y (ones by default), outside any other gradient. */
function walk<T extends Tensor>(f: () => T, xs: readonly Tensor[], dy?: Tensor): Walked<T> {
  const tf = tensorflow();
  const { value, tape } = record(tf.engine().state as unknown as TapeState, f);
  const { fromX, path } = between(tape, xs, value);
  free(tape.filter((node) => !path.has(node)));
  const sums = new Map<number, Tensor>([[value.id, tf.keep(dy ? tf.clone(dy) : tf.fill(value.shape, 1))]]);
  try {
    for (const node of [...tape].reverse()) {
      if (!path.has(node)) continue;
      addGradients(node, sums, fromX);
      for (const { id } of node.outputs) {
        sums.get(id)?.dispose();
        sums.delete(id);
      }
      free([node]);
    }
    // Clones, so that the caller's tidy frees them: the sums themselves were kept from any.
    return { value, gradients: xs.map(({ id }) => sums.get(id) && tf.clone(sums.get(id)!)) };
  } finally {
    free(tape);
    for (const rest of sums.values()) rest.dispose();
  }
}

/**
 * `tf.variableGrads` that frees as it goes: the value of a scalar function and its gradients by variables (all trainable ones by
 * default), by name. Value and gradients belong to the caller. Inside another gradient it is the stock one, which records itself.
 */
export function variableGradients(
  f: () => Scalar,
  variables?: readonly Variable[],
): { value: Scalar; grads: NamedTensorMap } {
  const tf = tensorflow();
  const { state, registeredVariables } = tf.engine();
  if (state.gradientDepth > 0) return tf.variableGrads(f, variables && [...variables]);
  const trained = (variables ?? Object.values(registeredVariables)).filter(({ trainable }) => trainable);
  if (trained.length === 0)
    throw new RaysumError("argument", "there is no trainable variable to compute a gradient by");
  const { value, gradients } = walk(f, trained);
  const grads: NamedTensorMap = {};
  for (const [k, gradient] of gradients.entries()) if (gradient) grads[trained[k]!.name] = gradient;
  if (Object.keys(grads).length === 0)
    throw new RaysumError(
      "argument",
      "the value depends on none of the variables: does f enclose all operations from them to it?",
    );
  if (value.rank !== 0) throw new RaysumError("shape", `the value has the shape [${value.shape}]: expected a scalar`);
  return { value, grads };
}

/**
 * A function that computes the same and forgets what happens inside: going back it is computed once more, so that of all activations
 * only its arguments are kept. `f` must use no variables but those that it is given as arguments, and compute the same every time.
 */
export function checkpoint<T extends Tensor>(f: (...arguments_: Tensor[]) => T): (...arguments_: Tensor[]) => T {
  const tf = tensorflow();
  return tf.customGrad((...given) => {
    const save = given.pop() as unknown as (tensors: Tensor[]) => void;
    const inputs = given as Tensor[];
    save(inputs);
    const gradFunc = (dy: Tensor, saved: Tensor[]): Tensor[] => {
      const again = saved.map((tensor) => tf.clone(tensor));
      const nested = tf.engine().state.gradientDepth > 0;
      const gradients = nested
        ? tf.engine().gradients(() => f(...again), again, dy, true).grads
        : walk(() => f(...again), again, dy).gradients;
      return gradients.map((gradient, k) => gradient ?? tf.zerosLike(again[k]!));
    };
    return { value: tf.tidy(() => f(...inputs)), gradFunc };
  }) as (...arguments_: Tensor[]) => T;
}
