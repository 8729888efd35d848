// split.h: sums that several blocks share, where one alone would take too long. Each block writes its part of the sum to device memory;
// the one that comes last adds all parts up, always in the same order, so that results are the same in every run.
#pragma once
#include <cuda_runtime.h>

// Is this block the last of `blocks` that come to this counter? Then it may read, through __ldcg, what the others wrote before they
// came. All threads of a block call it. The counter is 0 before the first and after the last.
__device__ static inline bool rs_last_block(unsigned *counter, unsigned blocks) {
  __shared__ unsigned before;
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    before = atomicInc(counter, blocks - 1);
    __threadfence();
  }
  __syncthreads();
  return before == blocks - 1;
}
