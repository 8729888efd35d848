import type { Kernel } from "../kernel.ts";
import { arrangeKernels } from "./Arrange.ts";
import { basicKernels } from "./Basic.ts";
import { binaryKernels } from "./Binary.ts";
import { blockKernels } from "./Block.ts";
import { convolutionKernels } from "./Convolution.ts";
import { foldKernels } from "./Fold.ts";
import { gatherKernels } from "./Gather.ts";
import { normalizeKernels } from "./Normalize.ts";
import { poolKernels } from "./Pool.ts";
import { productKernels } from "./Product.ts";
import { resizeKernels } from "./Resize.ts";
import { unaryKernels } from "./Unary.ts";

/** Every kernel that runs on the device. */
export const kernels: readonly Kernel[] = [
  ...basicKernels,
  ...unaryKernels,
  ...binaryKernels,
  ...foldKernels,
  ...arrangeKernels,
  ...gatherKernels,
  ...productKernels,
  ...normalizeKernels,
  ...resizeKernels,
  ...poolKernels,
  ...convolutionKernels,
  ...blockKernels,
];
