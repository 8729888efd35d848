import { check, native } from "../../native/library.ts";
import { Type } from "../../native/symbols.ts";
import { sizeOf } from "../../shape.ts";
import { isHeld } from "../calls.ts";
import { type Inputs, type Kernel, kernel } from "../kernel.ts";

export const gatherKernels: readonly Kernel[] = [
  /** Numbers outside the axis throw where the host knows them, and pick zeros where only the device does. */
  kernel<Inputs<"x" | "indices">, { axis: number; batchDims?: number }>(
    "GatherV2",
    ({ x, indices }, attributes, backend) => {
      if (!isHeld(x) || indices.dtype !== "int32") return undefined;
      const { util, backend_util } = backend.tf;
      const axis = util.parseAxisParam(attributes.axis, x.shape)[0]!;
      const last = x.shape[axis]! - 1;
      for (const index of backend.known(indices) ?? [])
        util.assert(index >= 0 && index <= last, () => `GatherV2: the index value ${index} is not in [0, ${last}]`);
      const collect = backend_util.segment_util.collectGatherOpShapeInfo;
      const info = collect(x as never, indices as never, axis, attributes.batchDims ?? 0);
      const out = backend.output(info.outputShape, x.dtype);
      if (sizeOf(info.outputShape) === 0) return out;
      const { batchSize, outerSize, dimSize, sliceSize } = info;
      const picks = sizeOf(indices.shape) / batchSize;
      const [batch, outer, extent, inner, count] = [batchSize, outerSize, dimSize, sliceSize, picks].map(BigInt);
      const [to, from, index] = [out, x, indices].map((tensor) => backend.pointer(tensor));
      check(native().rs_tensor_gather(to!, from!, index!, batch!, outer!, extent!, inner!, count!));
      return out;
    },
  ),
  kernel<Inputs<"x" | "segmentIds">, { numSegments: number }>(
    "UnsortedSegmentSum",
    ({ x, segmentIds }, { numSegments }, backend) => {
      if ((x.dtype !== "float32" && x.dtype !== "int32") || segmentIds.dtype !== "int32") return undefined;
      if (segmentIds.shape.length !== 1 || sizeOf(x.shape) === 0 || numSegments === 0) return undefined;
      const out = backend.output([numSegments, ...x.shape.slice(1)], x.dtype);
      const type = x.dtype === "float32" ? Type.FLOAT32 : Type.INT32;
      const [rows, inner] = [x.shape[0]!, sizeOf(x.shape.slice(1))].map(BigInt);
      const [to, from, index] = [out, x, segmentIds].map((tensor) => backend.pointer(tensor));
      check(native().rs_tensor_segment_sum(type, to!, from!, index!, rows!, inner!, BigInt(numSegments)));
      return out;
    },
  ),
];
