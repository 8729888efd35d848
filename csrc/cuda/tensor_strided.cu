// tensor_strided.cu: the CUDA kernels over tensor_strided.h. Where an element lies is worked out in 32 bits, without divisions, and in 64 bits
// only for operands that reach that far. Operands without gaps are read and written four elements at a time.
#include "../tensor_strided.h"
#include "threads.h"

namespace {

#define ELEMENTS 4 // of a thread

// What becomes of an element of every input.
template <int OP> struct join_floats {
  using in = float;
  using out = float;
  static constexpr int INPUTS = 2;
  __device__ float operator()(const float *v) const { return rs_join_float(OP, v[0], v[1]); }
};
struct join_floats_of {
  using in = float;
  using out = float;
  static constexpr int INPUTS = 2;
  int32_t op;
  __device__ float operator()(const float *v) const { return rs_join_float(op, v[0], v[1]); }
};
struct compare_floats {
  using in = float;
  using out = int32_t;
  static constexpr int INPUTS = 2;
  int32_t op;
  __device__ int32_t operator()(const float *v) const { return rs_compare_float(op, v[0], v[1]); }
};
struct join_ints {
  using in = int32_t;
  using out = int32_t;
  static constexpr int INPUTS = 2;
  int32_t op;
  __device__ int32_t operator()(const int32_t *v) const { return rs_join_int(op, v[0], v[1]); }
};
struct choose {
  using in = int32_t;
  using out = int32_t;
  static constexpr int INPUTS = 3;
  __device__ int32_t operator()(const int32_t *v) const { return v[0] ? v[1] : v[2]; }
};
struct move {
  using in = int32_t;
  using out = int32_t;
  static constexpr int INPUTS = 1;
  __device__ int32_t operator()(const int32_t *v) const { return v[0]; }
};

// A table whose numbers of elements and offsets are below 2^31. Division by an extent is a product: n / extent is
// (n * reciprocal / 2^32 + n) / 2^shift for all n below 2^31 (T. Granlund and P. L. Montgomery, PLDI 1994).
struct near_operands {
  int64_t count;
  int32_t rank, extent[RS_TENSOR_RANK], stride[RS_OPERANDS][RS_TENSOR_RANK];
  uint32_t reciprocal[RS_TENSOR_RANK], shift[RS_TENSOR_RANK];
  void *operand[RS_OPERANDS];
};

// Where element `at` lies in every operand. The loops are unrolled, so that nothing is looked up by a number that is not known.
template <int OPERANDS> __device__ inline void places_of(const near_operands &s, int64_t at, int32_t *place) {
  uint32_t rest = (uint32_t)at;
#pragma unroll
  for (int k = 0; k < OPERANDS; k++) place[k] = 0;
#pragma unroll
  for (int axis = RS_TENSOR_RANK - 1; axis > 0; axis--) {
    if (axis >= s.rank) continue;
    const uint32_t whole = (__umulhi(rest, s.reciprocal[axis]) + rest) >> s.shift[axis];
    const int32_t index = (int32_t)(rest - whole * (uint32_t)s.extent[axis]);
#pragma unroll
    for (int k = 0; k < OPERANDS; k++) place[k] += index * s.stride[k][axis];
    rest = whole;
  }
#pragma unroll
  for (int k = 0; k < OPERANDS; k++) place[k] += (int32_t)rest * s.stride[k][0];
}

template <int OPERANDS> __device__ inline void places_of(const rs_tensor_strided &s, int64_t at, int64_t *place) {
  for (int k = 0; k < OPERANDS; k++) place[k] = rs_strided_offset(&s, k, at);
}

// A thread's elements lie a block apart. All are read before one is written, so that the reads are under way together.
template <typename F, typename S, typename I> __global__ void strided(S s, F f) {
  using in = typename F::in;
  const int64_t step = (int64_t)gridDim.x * blockDim.x * ELEMENTS;
  for (int64_t first = (int64_t)blockIdx.x * blockDim.x * ELEMENTS + threadIdx.x; first < s.count; first += step) {
    I place[ELEMENTS][1 + F::INPUTS];
    in value[ELEMENTS][F::INPUTS];
#pragma unroll
    for (int e = 0; e < ELEMENTS; e++) {
      const int64_t at = first + e * (int64_t)blockDim.x;
      if (at >= s.count) break;
      places_of<1 + F::INPUTS>(s, at, place[e]);
#pragma unroll
      for (int k = 0; k < F::INPUTS; k++) value[e][k] = ((const in *)s.operand[1 + k])[place[e][1 + k]];
    }
#pragma unroll
    for (int e = 0; e < ELEMENTS; e++) {
      if (first + e * (int64_t)blockDim.x >= s.count) break;
      ((typename F::out *)s.operand[0])[place[e][0]] = f(value[e]);
    }
  }
}

template <typename T> struct alignas(16) quad { T at[ELEMENTS]; };

// Operands without gaps.
struct dense_operands {
  int64_t count;
  int32_t repeats[RS_OPERANDS]; // whether an input is one element
  void *operand[RS_OPERANDS];
};

template <typename F> __global__ void dense(dense_operands s, F f) {
  using in = typename F::in;
  using out = typename F::out;
  in value[ELEMENTS][F::INPUTS];
#pragma unroll 1
  RS_OVER(i, s.count / ELEMENTS) {
#pragma unroll
    for (int k = 0; k < F::INPUTS; k++) {
      quad<in> read;
      if (s.repeats[1 + k]) {
        const in one = *(const in *)s.operand[1 + k];
#pragma unroll
        for (int e = 0; e < ELEMENTS; e++) read.at[e] = one;
      } else {
        read = ((const quad<in> *)s.operand[1 + k])[i];
      }
#pragma unroll
      for (int e = 0; e < ELEMENTS; e++) value[e][k] = read.at[e];
    }
    quad<out> written;
#pragma unroll
    for (int e = 0; e < ELEMENTS; e++) written.at[e] = f(value[e]);
    ((quad<out> *)s.operand[0])[i] = written;
  }
  const int64_t last = s.count / ELEMENTS * ELEMENTS + threadIdx.x;
  if (blockIdx.x || last >= s.count) return;
#pragma unroll
  for (int k = 0; k < F::INPUTS; k++) value[0][k] = ((const in *)s.operand[1 + k])[s.repeats[1 + k] ? 0 : last];
  ((out *)s.operand[0])[last] = f(value[0]);
}

// Whether operands have no gaps, and begin where four elements can be read at once.
bool is_dense(const rs_tensor_strided &s, dense_operands &d) {
  if (s.rank != 1) return false;
  d = {};
  d.count = s.count;
  for (int k = 0; k < s.operands; k++) {
    d.operand[k] = s.operand[k];
    d.repeats[k] = k > 0 && s.stride[k][0] == 0;
    if (!d.repeats[k] && (s.stride[k][0] != 1 || (uintptr_t)s.operand[k] % 16)) return false;
  }
  return true;
}

bool is_near(const rs_tensor_strided &s, near_operands &n) {
  if (s.count >> 31) return false;
  n = {};
  n.count = s.count;
  n.rank = s.rank;
  for (int axis = 0; axis < s.rank; axis++) {
    const uint64_t extent = (uint64_t)s.extent[axis];
    n.extent[axis] = (int32_t)extent;
    while (UINT64_C(1) << n.shift[axis] < extent) n.shift[axis]++;
    n.reciprocal[axis] = (uint32_t)(((UINT64_C(1) << n.shift[axis]) - extent) * (UINT64_C(1) << 32) / extent + 1);
  }
  for (int k = 0; k < s.operands; k++) {
    int64_t reach = 0; // of all axes in one direction, which is more than any place
    for (int axis = 0; axis < s.rank; axis++) {
      const int64_t stride = s.extent[axis] > 1 ? s.stride[k][axis] : 0;
      reach += (s.extent[axis] - 1) * (stride < 0 ? -stride : stride);
      if (reach >> 31) return false;
      n.stride[k][axis] = (int32_t)stride;
    }
    n.operand[k] = s.operand[k];
  }
  return true;
}

template <typename F> int32_t launch(rs_operation *o, const rs_tensor_strided &s, F f) {
  const cudaStream_t stream = rs_cuda_stream(o);
  const dim3 grid = rs_blocks_of((s.count + ELEMENTS - 1) / ELEMENTS);
  dense_operands d;
  if (is_dense(s, d)) return RS_LAUNCH((dense<F>), grid, RS_THREADS, 0, stream, d, f);
  near_operands n;
  if (is_near(s, n)) return RS_LAUNCH((strided<F, near_operands, int32_t>), grid, RS_THREADS, 0, stream, n, f);
  return RS_LAUNCH((strided<F, rs_tensor_strided, int64_t>), grid, RS_THREADS, 0, stream, s, f);
}

} // namespace

extern "C" {

int32_t rs_cuda_tensor_join(rs_operation *o, void *arguments) {
  const rs_tensor_strided &s = *(const rs_tensor_strided *)arguments;
  if (s.type == RS_INT32) return launch(o, s, join_ints{s.op});
  if (rs_join_is_comparison(s.op)) return launch(o, s, compare_floats{s.op});
  switch (s.op) { // what networks do most often
  case RS_JOIN_ADD: return launch(o, s, join_floats<RS_JOIN_ADD>{});
  case RS_JOIN_SUBTRACT: return launch(o, s, join_floats<RS_JOIN_SUBTRACT>{});
  case RS_JOIN_MULTIPLY: return launch(o, s, join_floats<RS_JOIN_MULTIPLY>{});
  default: return launch(o, s, join_floats_of{s.op});
  }
}
int32_t rs_cuda_tensor_select(rs_operation *o, void *s) { return launch(o, *(const rs_tensor_strided *)s, choose{}); }
int32_t rs_cuda_tensor_copy(rs_operation *o, void *s) { return launch(o, *(const rs_tensor_strided *)s, move{}); }

} // extern "C"
