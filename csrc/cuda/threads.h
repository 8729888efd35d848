// threads.h: kernels that give every element a thread.
#pragma once
#include "launch.h"

#define RS_THREADS 256

// for (i of 0 ... count - 1), spread over the grid.
#define RS_OVER(i, count) \
  for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, rs_step = (int64_t)gridDim.x * blockDim.x; i < (count); i += rs_step)

static inline dim3 rs_blocks_of(int64_t count, int64_t most = 1 << 16) {
  int64_t blocks = (count + RS_THREADS - 1) / RS_THREADS;
  return dim3((unsigned)(blocks < most ? blocks : most));
}

// Launches a kernel of one struct over `count` elements.
#define RS_OVER_ELEMENTS(kernel, operation, count, arguments) \
  RS_LAUNCH(kernel, rs_blocks_of(count), RS_THREADS, 0, rs_cuda_stream(operation), arguments)
