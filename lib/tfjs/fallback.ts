import type { KernelConfig, KernelFunc, TensorInfo } from "@tensorflow/tfjs-core";
import { RaysumError } from "../errors.ts";
import type { RaysumBackend } from "./backend.ts";
import type { TensorFlow } from "./tensorflow.ts";

/** What this module needs of the stock CPU backend, which the user's TensorFlow.js brings along. */
interface StockBackend {
  write(values: unknown, shape: number[], dtype: string): object;
  readSync(dataId: object): never;
  disposeData(dataId: object, force: boolean): boolean;
  readonly data: { get(dataId: object): { complexTensorInfos?: { real: TensorInfo; imag: TensorInfo } } };
}

/** How often a kernel ran on the stock CPU backend, by name. */
const counts = new Map<string, number>();

/** Kernels that have left the device since the start, with how often, the most frequent first. */
export function fallbacks(): ReadonlyMap<string, number> {
  return new Map([...counts].sort(([, a], [, b]) => b - a));
}

let stock: StockBackend | undefined;

/** A stock CPU backend of our own: the user's is left alone. */
function stockBackend(tf: TensorFlow): StockBackend {
  stock ??= tf.findBackendFactory("cpu")() as unknown as StockBackend;
  return stock;
}

/** Copies a tensor to the stock backend. Kernels there may also look at the rank. */
function toStock(from: RaysumBackend, to: StockBackend, tensor: TensorInfo): TensorInfo {
  const { shape, dtype } = tensor;
  const info = (dataId: object) => ({ dataId, shape, dtype, rank: shape.length });
  if (dtype !== "complex64") return info(to.write(from.readSync(tensor.dataId), shape, dtype));
  const { real, imag } = from.parts(tensor);
  const dataId = to.write(null, shape, dtype);
  to.data.get(dataId).complexTensorInfos = { real: toStock(from, to, real), imag: toStock(from, to, imag) };
  return info(dataId);
}

function fromStock(from: StockBackend, to: RaysumBackend, tensor: TensorInfo): TensorInfo {
  const { shape, dtype } = tensor;
  if (dtype !== "complex64") return { dataId: to.write(from.readSync(tensor.dataId), shape, dtype), shape, dtype };
  const { real, imag } = from.data.get(tensor.dataId).complexTensorInfos!;
  const halves = [real, imag].map((half) => fromStock(from, to, half));
  const out = to.complex(halves[0]!, halves[1]!);
  for (const half of halves) to.disposeData(half.dataId);
  return out;
}

/**
 * Runs a kernel on the stock CPU backend: the tensors go through the host, there and back.
 *
 * @throws RaysumError "device" in strict mode.
 */
export function stockKernel(tf: TensorFlow, config: KernelConfig, strict: boolean): KernelFunc {
  const name = config.kernelName;
  return ({ inputs, attrs, backend }) => {
    const own = backend as RaysumBackend;
    const tensors = Object.entries(inputs as Record<string, TensorInfo | TensorInfo[] | undefined>);
    if (strict) {
      const list = tensors
        .flatMap(([, tensor]) => tensor ?? [])
        .map(({ shape, dtype }) => `${dtype} [${shape.join(", ")}]`);
      throw new RaysumError(
        "device",
        `the kernel ${name} does not run on ${own.device.name} for ${list.join(", ") || "these attributes"}, and strict mode lets none leave the device`,
      );
    }
    counts.set(name, (counts.get(name) ?? 0) + 1);
    const host = stockBackend(tf);
    const copies: TensorInfo[] = [];
    const copied = (tensor: TensorInfo): TensorInfo => {
      const copy = toStock(own, host, tensor);
      copies.push(copy);
      return copy;
    };
    try {
      const given = tensors.map(([key, tensor]) => [
        key,
        Array.isArray(tensor) ? tensor.map(copied) : tensor && copied(tensor),
      ]);
      const arguments_ = Array.isArray(inputs) ? given.map(([, tensor]) => tensor) : Object.fromEntries(given);
      const result = config.kernelFunc({ inputs: arguments_ as never, attrs: attrs as never, backend: host });
      const outputs = [result].flat();
      const own_ = outputs.map((output) => fromStock(host, own, output));
      for (const dataId of new Set(outputs.map((output) => output.dataId))) host.disposeData(dataId, true);
      return Array.isArray(result) ? own_ : own_[0]!;
    } finally {
      for (const { dataId } of copies) host.disposeData(dataId, true);
    }
  };
}
