import type { GradConfig, NamedAttrMap, Tensor } from "@tensorflow/tfjs-core";
import { DeviceArray } from "../array.ts";
import { RaysumError } from "../errors.ts";
import type { LinearMap, Operator } from "../operator.ts";
import { formatShape, type Shape, sameShape } from "../shape.ts";
import { RaysumBackend } from "./backend.ts";
import { type Inputs, type Kernel, kernel } from "./kernel.ts";
import { backendName } from "./names.ts";
import { tensorflow } from "./tensorflow.ts";

export interface LayerOptions {
  /** Images and sinograms as convolutions have them: `[batch, y, x, 1]` and `[batch, angle, column, 1]`. For one slice. */
  readonly slice?: boolean;
}

/** A linear map between tensors, with gradients of any order. */
export interface Layer {
  (x: Tensor): Tensor;
  /** The transpose; its own transpose is this map. */
  readonly T: Layer;
}

interface Attributes {
  readonly map: LinearMap;
  /** Shapes of one argument and one result, as tensors have them. */
  readonly from: Shape;
  readonly to: Shape;
}

const NAME = "RaysumMap";

/** A or A.T on tensors. What leads the shape of one argument is a batch. */
export const mapKernel: Kernel = kernel<Inputs<"x">, Attributes>(NAME, ({ x }, { map, from, to }, backend) => {
  const batch = x.shape.slice(0, x.shape.length - from.length);
  const out = backend.output([...batch, ...to], "float32");
  const array = (tensor: typeof x, shape: Shape) =>
    DeviceArray.over(backend.device, backend.pointer(tensor), [...batch, ...shape], { disposed: false });
  map(array(x, map.domainShape), { out: array(out, map.rangeShape) });
  return out;
});

function run(x: Tensor, attributes: Attributes): Tensor {
  return tensorflow()
    .engine()
    .runKernel(NAME, { x }, attributes as unknown as NamedAttrMap) as Tensor;
}

/** The map is linear, so the gradient is its transpose, of which the same holds. In ASTRA's laws A.T is what ASTRA projects back. */
export const mapGradient: GradConfig = {
  kernelName: NAME,
  gradFunc: (dy, _, attributes) => {
    const { map, from, to } = attributes as unknown as Attributes;
    return { x: () => run(dy as Tensor, { map: map.T, from: to, to: from }) };
  },
};

function checkTensor(x: Tensor, { device }: Operator, from: Shape, slice: boolean): void {
  const tf = tensorflow();
  if (!(x instanceof tf.Tensor)) throw new RaysumError("argument", `${String(x)}: a layer maps tensors`);
  const own = backendName(device);
  const holder = tf.engine().state.tensorInfo.get(x.dataId)?.backend;
  const place = holder instanceof RaysumBackend ? backendName(holder.device) : "another backend";
  if (place !== own) throw new RaysumError("device", `the tensor is on ${place}, the operator is on ${own}`);
  if (tf.getBackend() !== own)
    throw new RaysumError("device", `the active backend is ${tf.getBackend()}, the operator is on ${own}`);
  if (x.dtype !== "float32") throw new RaysumError("argument", `the tensor has the type ${x.dtype}: expected float32`);
  const lead = x.shape.length - from.length;
  if (lead < 0 || (slice && lead !== 1) || !sameShape(x.shape.slice(lead), from) || x.shape.includes(0)) {
    const expected = slice ? `[batch, ${from.join(", ")}]` : `${formatShape(from)}, with any leading batch dimensions`;
    throw new RaysumError("shape", `the tensor has the shape ${formatShape(x.shape)}: expected ${expected}`);
  }
}

/**
 * An operator as a layer of a network: `P(t)` projects tensors and `P.T(t)` projects back, on the operator's device, with gradients
 * of any order and without a copy to the host. Volumes are `[...batch, z, y, x]` and projections `[...batch, row, angle, column]`;
 * with `slice`, for one slice and one detector row, `[batch, y, x, 1]` and `[batch, angle, column, 1]`. The operator stays the
 * caller's, who disposes it when no tensor needs a gradient of it any more.
 *
 * @throws RaysumError "shape" when a layer with `slice` has more than one slice, and, from the layer, "device" for a tensor of another
 * device or backend, "shape" for another shape or rank, "argument" for another type, "disposed" after the operator was disposed.
 */
export function layer(A: Operator, { slice = false }: LayerOptions = {}): Layer {
  tensorflow();
  const shapes = [A.domainShape, A.rangeShape] as const;
  if (slice && shapes.some(([first]) => first !== 1))
    throw new RaysumError(
      "shape",
      `slice: a volume ${formatShape(A.domainShape)} and projections ${formatShape(A.rangeShape)}: expected one slice and one row`,
    );
  const [domain, range] = shapes.map((shape) => (slice ? [...shape.slice(1), 1] : shape)) as [Shape, Shape];
  const over = (map: LinearMap, from: Shape, to: Shape) => (x: Tensor) => {
    checkTensor(x, A, from, slice);
    return run(x, { map, from, to });
  };
  const P = over(A, domain, range) as Layer;
  const T = over(A.T, range, domain) as Layer;
  Object.defineProperty(P, "T", { value: T });
  Object.defineProperty(T, "T", { value: P });
  return P;
}

/** The device memory of a float32 tensor as an array, for reconstruction on it. The tensor owns it, and tensors never change. */
export function arrayOf(tensor: Tensor): DeviceArray {
  const backend = tensorflow().engine().state.tensorInfo.get(tensor.dataId)?.backend;
  if (!(backend instanceof RaysumBackend) || tensor.dtype !== "float32")
    throw new RaysumError(
      "device",
      `a tensor of ${tensor.dtype} on another backend: expected float32 on a device of raysum`,
    );
  const owner = {
    get disposed() {
      return tensor.isDisposed;
    },
  };
  return DeviceArray.over(backend.device, backend.pointer(tensor), tensor.shape, owner);
}

/** A new tensor with a copy of an array, made on its device, whose backend must be the active one. */
export function tensorOf(array: DeviceArray): Tensor {
  const tf = tensorflow();
  const backend = tf.backend();
  if (!(backend instanceof RaysumBackend) || backend.device !== array.device)
    throw new RaysumError("device", `the active backend is ${tf.getBackend()}, the array is on ${array.device.name}`);
  const info = backend.output(array.shape, "float32");
  DeviceArray.over(backend.device, backend.pointer(info), array.shape, { disposed: false }).assign(array);
  return tf.engine().makeTensorFromTensorInfo(info, backend);
}
