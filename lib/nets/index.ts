export { type LearnedPrimalDualOptions, learnedPrimalDual } from "./learned_primal_dual.ts";
export type { Network } from "./network.ts";
