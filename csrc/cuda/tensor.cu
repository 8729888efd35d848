// tensor.cu: the CUDA kernels over tensor_elementwise.h, tensor_gather.h and tensor_optimizer.h.
#include "../tensor_elementwise.h"
#include "../tensor_gather.h"
#include "../tensor_optimizer.h"
#include "threads.h"

namespace {

__global__ void fill(rs_tensor_elements e) {
  if (e.type == RS_FLOAT32)
    RS_OVER(i, e.count)((float *)e.out)[i] = (float)e.p;
  else
    RS_OVER(i, e.count)((int32_t *)e.out)[i] = rs_int_of(e.p);
}

__global__ void cast(rs_tensor_elements e) {
  const float *from_float = (const float *)e.a;
  const int32_t *from_int = (const int32_t *)e.a;
  RS_OVER(i, e.count) {
    switch (e.op) {
    case RS_CAST_FLOAT_TO_INT: ((int32_t *)e.out)[i] = rs_int_of(from_float[i]); break;
    case RS_CAST_INT_TO_FLOAT: ((float *)e.out)[i] = (float)from_int[i]; break;
    case RS_CAST_FLOAT_TO_TRUTH: ((int32_t *)e.out)[i] = from_float[i] != 0; break;
    default: ((int32_t *)e.out)[i] = from_int[i] != 0; // RS_CAST_INT_TO_TRUTH
    }
  }
}

__global__ void map_float(rs_tensor_elements e) {
  const float p = (float)e.p, q = (float)e.q;
  RS_OVER(i, e.count)((float *)e.out)[i] = rs_map_float(e.op, ((const float *)e.a)[i], p, q);
}

__global__ void map_int(rs_tensor_elements e) {
  const int32_t p = rs_int_of(e.p), q = rs_int_of(e.q);
  RS_OVER(i, e.count)((int32_t *)e.out)[i] = rs_map_int(e.op, ((const int32_t *)e.a)[i], p, q);
}

__global__ void gather(rs_tensor_gathering g) {
  RS_OVER(i, g.batch * g.outer * g.picks * g.inner) {
    const int64_t inner = i % g.inner, pick = i / g.inner % g.picks, outer = i / g.inner / g.picks;
    const int64_t place = g.index[outer / g.outer * g.picks + pick];
    g.out[i] = place < 0 || place >= g.axis ? 0 : g.a[(outer * g.axis + place) * g.inner + inner];
  }
}

// Every element of the result looks through all rows, in their order: no two threads write to the same place.
__global__ void segment_sum(rs_tensor_segments s) {
  RS_OVER(i, s.segments * s.inner) {
    const int64_t segment = i / s.inner, inner = i % s.inner;
    float sum = 0;
    uint32_t integer = 0;
    for (int64_t row = 0; row < s.rows; row++) {
      if (s.index[row] != segment) continue;
      if (s.type == RS_FLOAT32)
        sum += ((const float *)s.a)[row * s.inner + inner];
      else
        integer += ((const uint32_t *)s.a)[row * s.inner + inner];
    }
    if (s.type == RS_FLOAT32)
      ((float *)s.out)[i] = sum;
    else
      ((uint32_t *)s.out)[i] = integer;
  }
}

__global__ void advance(double *state, double beta1, double beta2) {
  state[1] *= beta1;
  state[2] *= beta2;
}

// Which blocks work on which tensor: those of tensor k begin at block first[k].
struct optimizer_blocks {
  int64_t first[RS_OPTIMIZED_TENSORS + 1];
};

template <int OP> __global__ void optimize(rs_optimizer_step o, optimizer_blocks blocks) {
  int k = 0; // the last tensor that begins at this block or before
  for (int step = RS_OPTIMIZED_TENSORS / 2; step > 0; step /= 2)
    if (k + step < o.tensors && blocks.first[k + step] <= blockIdx.x) k += step;
  const rs_optimizer_factors factors = rs_optimizer_factors_of(&o);
  const int64_t i = ((int64_t)blockIdx.x - blocks.first[k]) * blockDim.x + threadIdx.x;
  if (i < o.tensor[k].count) rs_optimize(OP, &factors, &o.tensor[k], i);
}

const rs_tensor_elements &elements(const void *arguments) { return *(const rs_tensor_elements *)arguments; }

} // namespace

extern "C" {

int32_t rs_cuda_tensor_fill(rs_operation *o, void *e) { return RS_OVER_ELEMENTS(fill, o, elements(e).count, elements(e)); }
int32_t rs_cuda_tensor_cast(rs_operation *o, void *e) { return RS_OVER_ELEMENTS(cast, o, elements(e).count, elements(e)); }
int32_t rs_cuda_tensor_map(rs_operation *o, void *e) {
  if (elements(e).type == RS_FLOAT32) return RS_OVER_ELEMENTS(map_float, o, elements(e).count, elements(e));
  return RS_OVER_ELEMENTS(map_int, o, elements(e).count, elements(e));
}

int32_t rs_cuda_tensor_gather(rs_operation *o, void *arguments) {
  const rs_tensor_gathering &g = *(const rs_tensor_gathering *)arguments;
  return RS_OVER_ELEMENTS(gather, o, g.batch * g.outer * g.picks * g.inner, g);
}
int32_t rs_cuda_tensor_segment_sum(rs_operation *o, void *arguments) {
  const rs_tensor_segments &s = *(const rs_tensor_segments *)arguments;
  return RS_OVER_ELEMENTS(segment_sum, o, s.segments * s.inner, s);
}

int32_t rs_cuda_tensor_optimize(rs_operation *operation, void *arguments) {
  const rs_optimizer_step &o = *(const rs_optimizer_step *)arguments;
  static void (*const kernels[])(rs_optimizer_step, optimizer_blocks) = {optimize<RS_OPTIMIZE_DESCENT>, optimize<RS_OPTIMIZE_MOMENTUM>,
                                                                         optimize<RS_OPTIMIZE_NESTEROV>, optimize<RS_OPTIMIZE_ADAM>};
  const cudaStream_t stream = rs_cuda_stream(operation);
  const auto optimize_tensors = kernels[o.op];
  optimizer_blocks blocks = {};
  for (int k = 0; k < o.tensors; k++) blocks.first[k + 1] = blocks.first[k] + (o.tensor[k].count + RS_THREADS - 1) / RS_THREADS;
  int32_t status = o.advance ? RS_LAUNCH(advance, 1, 1, 0, stream, o.state, o.beta1, o.beta2) : RS_OK;
  return status ? status : RS_LAUNCH(optimize_tensors, dim3((unsigned)blocks.first[o.tensors]), RS_THREADS, 0, stream, o, blocks);
}

} // extern "C"
