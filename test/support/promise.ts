/** What the docstring of `Precision` promises, as errors and as the gap between A and A.T. */
export const promise = { high: 1e-5, half: 5e-4, halfConeForward: 1e-3 } as const;
