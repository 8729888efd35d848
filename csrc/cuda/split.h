// split.h: sums that several blocks share, where one alone would take too long. Each block writes its part of the sum to device memory;
// the one that comes last adds all parts up, always in the same order, so that results are the same in every run.
#pragma once
#include <cuda_runtime.h>

// Counts up to `last`, then from 0 again; returns the number before. What the block wrote before its last barrier comes before that, what
// it reads behind its next barrier comes after: one fence instead of the two, and stricter ones, of __threadfence().
__device__ static inline unsigned rs_arrive(unsigned *counter, unsigned last) {
#ifdef __CUDA_ARCH__
  unsigned before;
  asm volatile("atom.acq_rel.gpu.inc.u32 %0, [%1], %2;" : "=r"(before) : "l"(counter), "r"(last) : "memory");
  return before;
#else
  return atomicInc(counter, last);
#endif
}

// Is this block the last of `blocks` that come to this counter? Then it may read, through __ldcg, what the others wrote before they
// came. All threads of a block call it. The counter is 0 before the first and after the last.
__device__ static inline bool rs_last_block(unsigned *counter, unsigned blocks) {
  __shared__ unsigned before;
  __syncthreads();
  if (threadIdx.x == 0) before = rs_arrive(counter, blocks - 1);
  __syncthreads();
  return before == blocks - 1;
}
