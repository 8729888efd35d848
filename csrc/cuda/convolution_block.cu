// convolution_block.cu: a residual block of convolutions as one kernel, where shared memory holds what it needs.
#include "convolution_block.h"

namespace {

template <int PRECISION> __global__ void __launch_bounds__(BLOCK_THREADS, 1) residual_block(residual p) {
  RS_SHARED(uint32_t, words);
  const residual_memory<PRECISION> m(words);
  switch (threadIdx.x / BLOCK_ROLE) {
  case 0: return go_down<middle_layer<PRECISION>>(p, m);
  case 1: return go_down<first_layer<PRECISION>>(p, m);
  default: return go_down<last_layer<PRECISION>>(p, m);
  }
}

// A block of threads for every multiprocessor, and segments so long that none has more turns than it must.
residual problem_of(const rs_tensor_residual &b) {
  residual p = {};
  p.b = b;
  p.height = (int)b.height, p.width = (int)b.width;
  for (int k = 0; k < 3; k++)
    for (int channel = 0; channel < b.x.channels[k]; channel++, p.channels++)
      p.x[p.channels] = b.x.at[k] + channel, p.steps[p.channels] = (unsigned)b.x.channels[k];
  for (int channel = p.channels; channel < BLOCK_NARROW; channel++) p.x[channel] = b.x.at[0]; // nothing is read
  const int64_t blocks = rs_cuda_multiprocessors(b.device), strips = (b.width + BLOCK_STRIP - 1) / BLOCK_STRIP;
  p.strips = (int)strips;
  int64_t least = INT64_MAX;
  for (int64_t pieces = 1; pieces <= (b.height + BLOCK_DOWN - 1) / BLOCK_DOWN && pieces <= 2 * blocks; pieces++) {
    const int64_t turns = (b.height + pieces * BLOCK_DOWN - 1) / (pieces * BLOCK_DOWN), rows = turns * BLOCK_DOWN;
    const int64_t segments = (b.height + rows - 1) / rows, jobs = b.batch * strips * segments;
    const int64_t cost = (jobs + blocks - 1) / blocks * (turns + 2); // of which some are not whole
    if (cost >= least) continue;
    least = cost, p.rows = (int)rows, p.segments = (int)segments, p.jobs = (int)jobs;
  }
  return p;
}

template <int PRECISION> int32_t run(rs_operation *o, const rs_tensor_residual &b) {
  const residual p = problem_of(b);
  const int64_t blocks = rs_cuda_multiprocessors(b.device);
  return RS_LAUNCH(residual_block<PRECISION>, dim3((unsigned)(p.jobs < blocks ? p.jobs : blocks)), BLOCK_THREADS,
                   (size_t)residual_memory<PRECISION>::BYTES, rs_cuda_stream(o), p);
}

} // namespace

extern "C" int32_t rs_cuda_tensor_residual_fits(int32_t device, int64_t precision) {
  const int bytes = precision == RS_CONVOLVE_TF32 ? residual_memory<RS_CONVOLVE_TF32>::BYTES : residual_memory<RS_CONVOLVE_BF16>::BYTES;
  return bytes <= rs_cuda_shared(device);
}

extern "C" int32_t rs_cuda_tensor_residual(rs_operation *o, void *arguments) {
  const rs_tensor_residual &b = *(const rs_tensor_residual *)arguments;
  return b.precision == RS_CONVOLVE_TF32 ? run<RS_CONVOLVE_TF32>(o, b) : run<RS_CONVOLVE_BF16>(o, b);
}
