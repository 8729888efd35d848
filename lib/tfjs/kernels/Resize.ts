import type { TensorInfo } from "@tensorflow/tfjs-core";
import { check, native } from "../../native/library.ts";
import { TensorResize } from "../../native/symbols.ts";
import { sizeOf } from "../../shape.ts";
import { cast } from "../calls.ts";
import { type Inputs, type Kernel, kernel } from "../kernel.ts";

interface Places {
  readonly alignCorners: boolean;
  readonly halfPixelCenters?: boolean;
}

const kinds: Readonly<Record<string, number>> = {
  ResizeBilinear: TensorResize.RESIZE_LINEAR,
  ResizeNearestNeighbor: TensorResize.RESIZE_NEAREST,
};

/** The shape table of rs_tensor_resize for images [batch, rows, columns, channels]. */
function table(images: TensorInfo, [rows, columns]: readonly number[]): BigInt64Array {
  const [batch, inRows, inColumns, channels] = images.shape;
  return BigInt64Array.from([batch!, inRows!, inColumns!, rows!, columns!, channels!].map(BigInt));
}

export const resizeKernels: readonly Kernel[] = Object.entries(kinds).flatMap(([name, op]) => [
  kernel<Inputs<"images">, Places & { size: [number, number] }>(name, ({ images }, attributes, backend) => {
    const { size, alignCorners, halfPixelCenters } = attributes;
    const [batch, , , channels] = images.shape as [number, number, number, number];
    const shape = [batch, ...size, channels];
    // The stock kernels give float32 for linear, and the type of the images for the nearest.
    if (images.dtype !== "float32" && (images.dtype !== "int32" || op === TensorResize.RESIZE_NEAREST))
      return undefined;
    if (sizeOf(shape) === 0 || sizeOf(images.shape) === 0) return undefined;
    const floats = cast(backend, images, "float32");
    const out = backend.output(shape, "float32");
    const [to, from] = [backend.pointer(out), backend.pointer(floats)];
    const half = halfPixelCenters ? 1 : 0;
    check(native().rs_tensor_resize(op, to, from, table(images, size), alignCorners ? 1 : 0, half));
    backend.disposeData(floats.dataId);
    return out;
  }),
  kernel<Inputs<"images" | "dy">, Places>(`${name}Grad`, ({ images, dy }, attributes, backend) => {
    const { alignCorners, halfPixelCenters } = attributes;
    if (dy.dtype !== "float32" || sizeOf(images.shape) === 0 || sizeOf(dy.shape) === 0) return undefined;
    const out = backend.output(images.shape, "float32");
    const [to, from] = [backend.pointer(out), backend.pointer(dy)];
    const shape = table(images, dy.shape.slice(1, 3));
    check(native().rs_tensor_resize_gradient(op, to, from, shape, alignCorners ? 1 : 0, halfPixelCenters ? 1 : 0));
    return out;
  }),
]);
