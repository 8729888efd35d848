// convolution_block.cu: a residual block of convolutions as one kernel, where shared memory holds what it needs.
#include "convolution_block.h"

namespace {

template <int PRECISION> __global__ void __launch_bounds__(BLOCK_THREADS, 1) residual_block(residual p) {
  using memory = residual_memory<PRECISION>;
  RS_SHARED(uint32_t, words);
  const memory m(words);
  const int channels = (int)p.b.channels[0], more = (int)p.b.channels[1], columns = (int)p.b.x.channels[0];
  // The filters that go on into registers come by way of the rings.
  bring_filter<PRECISION, 1, 4>(m.rings[0], p.b.filters[0], p.channels, channels);
  bring_filter<PRECISION, memory::STEPS, 1>(m.rings[1], p.b.filters[2], more, columns);
  bring_filter<PRECISION, memory::STEPS, 4>(m.filter, p.b.filters[1], channels, more);
  for (int i = threadIdx.x; i < 3 * BLOCK_WIDE; i += BLOCK_THREADS) {
    const int layer = i / BLOCK_WIDE, column = i % BLOCK_WIDE;
    const bool there = p.b.biases[layer] && column < (layer == 0 ? channels : layer == 1 ? more : columns);
    m.biases[i] = there ? __ldg(p.b.biases[layer] + column) : 0;
  }
  for (int i = threadIdx.x; i < memory::X; i += BLOCK_THREADS) m.x[i] = 0; // channels that are not there stay so
  residual_barrier();
  // Both halves meet at the same barriers: one before the first turn of a segment, and one after every turn.
  if (threadIdx.x < BLOCK_HALF) {
    const outer_layers<PRECISION> layers(m.rings[0], m.rings[1]);
    for (int job = blockIdx.x; job < p.jobs; job += gridDim.x) {
      const residual_segment s = segment_at(p, job);
      send_x<PRECISION>(p, m, s, 0);
      send_x<PRECISION>(p, m, s, 1);
      residual_arrived();
      residual_barrier();
      for (int turn = 0; turn < s.groups + 2; turn++) {
        if (turn + 2 <= s.groups) send_x<PRECISION>(p, m, s, turn + 2);
        if (turn > 2 && p.b.out) layers.put_result(p, m, s, turn - 2);
        if (turn < s.groups) layers.put_first(p, m, s, turn);
        residual_arrived();
        residual_barrier();
      }
    }
  } else {
    for (int job = blockIdx.x; job < p.jobs; job += gridDim.x) {
      const residual_segment s = segment_at(p, job);
      residual_barrier();
      for (int turn = 0; turn < s.groups + 2; turn++) {
        if (turn > 0 && turn <= s.groups) put_second<PRECISION>(p, m, s, turn - 1);
        residual_barrier();
      }
    }
  }
}

// A block of threads for every multiprocessor, and segments so long that none has more turns than it must.
residual problem_of(const rs_tensor_residual &b) {
  residual p = {};
  p.b = b;
  p.height = (int)b.height, p.width = (int)b.width;
  for (int k = 0; k < 3; k++) p.channels += (int)b.x.channels[k];
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
