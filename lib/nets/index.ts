export { type LearnedPrimalDual, type LearnedPrimalDualOptions, learnedPrimalDual } from "./learned_primal_dual.ts";
