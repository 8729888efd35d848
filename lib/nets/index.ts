export { type FbpUnetOptions, fbpUnet } from "./fbp_unet.ts";
export { type FilteredBackProjection, filteredBackProjection } from "./filtered_back_projection.ts";
export { type LearnedGradientDescentOptions, learnedGradientDescent } from "./learned_gradient_descent.ts";
export { type LearnedPrimalDualOptions, learnedPrimalDual } from "./learned_primal_dual.ts";
export type { Network } from "./network.ts";
export { resumeTraining, saveTraining, type Training } from "./training.ts";
