import { check, native } from "../../native/library.ts";
import { sizeOf } from "../../shape.ts";
import { isFloat } from "../calls.ts";
import { type Inputs, type Kernel, kernel } from "../kernel.ts";

export const normalizeKernels: readonly Kernel[] = [
  kernel<Inputs<"x" | "mean" | "variance"> & Partial<Inputs<"scale" | "offset">>, { varianceEpsilon?: number }>(
    "FusedBatchNorm",
    ({ x, mean, variance, scale, offset }, { varianceEpsilon = 0.001 }, backend) => {
      const channels = sizeOf(mean.shape);
      const alike = [variance, scale, offset].every((tensor) => !tensor || sizeOf(tensor.shape) === channels);
      if (!isFloat(x, mean, variance, scale, offset) || !alike) return undefined;
      const out = backend.output(x.shape, "float32");
      const size = sizeOf(x.shape);
      if (size === 0) return out;
      const [to, from, m, v, o, s] = [out, x, mean, variance, offset, scale].map((t) => (t ? backend.pointer(t) : 0n));
      check(native().rs_tensor_normalize(to!, from!, m!, v!, o!, s!, BigInt(size), BigInt(channels), varianceEpsilon));
      return out;
    },
  ),
  kernel<Inputs<"logits">, { dim: number }>("Softmax", ({ logits }, { dim }, backend) => {
    const last = logits.shape.length - 1;
    if (logits.dtype !== "float32" || (dim !== -1 && dim !== last) || sizeOf(logits.shape) === 0) return undefined;
    const out = backend.output(logits.shape, "float32");
    const columns = logits.shape[last]!;
    const rows = sizeOf(logits.shape) / columns;
    check(native().rs_tensor_softmax(backend.pointer(out), backend.pointer(logits), BigInt(rows), BigInt(columns)));
    return out;
  }),
];
