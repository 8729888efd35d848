import type { TensorInfo } from "@tensorflow/tfjs-core";
import { check, native } from "../../native/library.ts";
import { sizeOf } from "../../shape.ts";
import type { RaysumBackend } from "../backend.ts";
import { isFloat } from "../calls.ts";
import { type Inputs, type Kernel, kernel } from "../kernel.ts";
import { type Finish, finish } from "./finish.ts";

interface Transposes {
  readonly transposeA: boolean;
  readonly transposeB: boolean;
}

function product(
  backend: RaysumBackend,
  a: TensorInfo,
  b: TensorInfo,
  { transposeA, transposeB }: Transposes,
): TensorInfo {
  const { util, broadcast_util } = backend.tf;
  const [leadA, leadB] = [a.shape.slice(0, -2), b.shape.slice(0, -2)];
  const [rowsA, columnsA] = a.shape.slice(-2) as [number, number];
  const [rowsB, columnsB] = b.shape.slice(-2) as [number, number];
  const [m, inner] = transposeA ? [columnsA, rowsA] : [rowsA, columnsA];
  const [innerB, n] = transposeB ? [columnsB, rowsB] : [rowsB, columnsB];
  util.assert(
    inner === innerB,
    () =>
      `Error in matMul: inner shapes (${inner}) and (${innerB}) of Tensors with shapes ${a.shape} and ${b.shape} and transposeA=${transposeA} and transposeB=${transposeB} must match.`,
  );
  const lead = broadcast_util.assertAndGetBroadcastShape(leadA, leadB);
  const out = backend.output([...lead, m, n], "float32");
  if (sizeOf(out.shape) === 0) return out;
  const [batchA, batchB] = [sizeOf(leadA), sizeOf(leadB)];
  const shape = BigInt64Array.from([Math.max(batchA, batchB), m, n, inner, batchA, batchB].map(BigInt));
  const [to, left, right] = [out, a, b].map((tensor) => backend.pointer(tensor));
  check(native().rs_tensor_product(to!, left!, right!, shape, transposeA ? 1 : 0, transposeB ? 1 : 0));
  return out;
}

/** Batches either repeat as a whole or are equal: anything else is left to the stock kernel. */
function covers(a: TensorInfo, b: TensorInfo): boolean {
  const [batchA, batchB] = [sizeOf(a.shape.slice(0, -2)), sizeOf(b.shape.slice(0, -2))];
  const equal = a.shape.slice(0, -2).join() === b.shape.slice(0, -2).join();
  return isFloat(a, b) && (equal || batchA === 1 || batchB === 1) && sizeOf(a.shape) > 0 && sizeOf(b.shape) > 0;
}

export const productKernels: readonly Kernel[] = [
  kernel<Inputs<"a" | "b">, Transposes>("BatchMatMul", ({ a, b }, transposes, backend) =>
    covers(a, b) ? product(backend, a, b, transposes) : undefined,
  ),
  kernel<Inputs<"a" | "b"> & Finish["inputs"], Transposes & Finish["attributes"]>(
    "_FusedMatMul",
    (inputs, attributes, backend) => {
      const { a, b, bias, preluActivationWeights } = inputs;
      if (!covers(a, b) || !isFloat(bias, preluActivationWeights)) return undefined;
      return finish(backend, product(backend, a, b, attributes), inputs, attributes);
    },
  ),
];
