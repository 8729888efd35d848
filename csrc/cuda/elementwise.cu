// elementwise.cu: the CUDA kernels over elementwise.h and random.h.
#include "../elementwise.h"
#include "../random.h"
#include "launch.h"

namespace {

constexpr int THREADS = 256;
constexpr int PARTIALS = 1024; // blocks of a reduction: a fixed number, so that sums are the same on every GPU

dim3 blocks_of(int64_t count, int64_t most = 1 << 16) {
  int64_t blocks = (count + THREADS - 1) / THREADS;
  return dim3((unsigned)(blocks < most ? blocks : most));
}

// for (i of 0 ... count - 1), spread over the grid.
#define OVER(i, count) \
  for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, stride = (int64_t)gridDim.x * blockDim.x; i < (count); i += stride)

// b repeats; most calls have none of it, and a remainder of 64 bits is slow.
__device__ inline int64_t phase(const rs_elements &e, int64_t i) { return e.period == e.count ? i : i % e.period; }

__global__ void fill(rs_elements e) {
  const float value = (float)e.p;
  OVER(i, e.count) e.out[i] = value;
}

__global__ void unary(rs_elements e) { OVER(i, e.count) e.out[i] = rs_unary_value(e.op, e.a[i], e.p, e.q); }

__global__ void binary(rs_elements e) {
  OVER(i, e.count) {
    const float a = e.a[i], b = e.b[phase(e, i)];
    e.out[i] = e.op == RS_MULTIPLY ? a * b : e.op == RS_DIVIDE ? a / b : rs_binary_value(e.op, a, b);
  }
}

__global__ void combine(rs_elements e) {
  const float alpha = (float)e.p, beta = (float)e.q;
  OVER(i, e.count) e.out[i] = alpha * e.a[i] + beta * e.b[phase(e, i)];
}

__global__ void multiply_add(rs_elements e) {
  const float alpha = (float)e.p;
  OVER(i, e.count) e.out[i] += alpha * e.a[i] * e.b[phase(e, i)];
}

__global__ void randomize(rs_elements e) {
  OVER(block, (e.count + 3) / 4) {
    float four[4];
    rs_random_block(e.op, (uint64_t)block, e.seed, e.p, e.q, four);
    for (int k = 0; k < 4 && 4 * block + k < e.count; k++) e.out[4 * block + k] = four[k];
  }
}

__global__ void copy_strided(rs_strided s) {
  const int64_t inner = s.shape[3], middle = inner * s.shape[2], outer = middle * s.shape[1];
  OVER(i, outer * s.shape[0]) {
    const int64_t a = i / outer, b = i % outer / middle, c = i % middle / inner, d = i % inner;
    s.target[a * s.target_strides[0] + b * s.target_strides[1] + c * s.target_strides[2] + d * s.target_strides[3]] =
        s.source[a * s.source_strides[0] + b * s.source_strides[1] + c * s.source_strides[2] + d * s.source_strides[3]];
  }
}

// What a reduction starts from: joined to anything, it changes nothing.
__device__ inline double neutral(int32_t op) { return op == RS_SMALLEST ? INFINITY : op == RS_LARGEST ? -INFINITY : 0; }

// Joins the values of all threads of a block in a fixed order, for thread 0.
__device__ double join_block(int32_t op, double value) {
  __shared__ double values[THREADS];
  values[threadIdx.x] = value;
  for (int half = THREADS / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) values[threadIdx.x] = rs_reduction_join(op, values[threadIdx.x], values[threadIdx.x + half]);
  }
  __syncthreads();
  return values[0];
}

__global__ void reduce(rs_elements e, double *partials) {
  const float *b = e.b ? e.b : e.a;
  double value = neutral(e.op);
  OVER(i, e.count) value = rs_reduction_join(e.op, value, rs_reduction_term(e.op, e.a[i], b[i]));
  value = join_block(e.op, value);
  if (threadIdx.x == 0) partials[blockIdx.x] = value;
}

__global__ void join_partials(int32_t op, const double *partials, int32_t count, double *result) {
  double value = neutral(op);
  for (int i = threadIdx.x; i < count; i += THREADS) value = rs_reduction_join(op, value, partials[i]);
  value = join_block(op, value);
  if (threadIdx.x == 0) *result = value;
}

__global__ void reciprocal(rs_elements e, const double *largest) {
  double least = e.p;
  if (largest && e.q * *largest > least) least = e.q * *largest;
  OVER(i, e.count) e.out[i] = e.a[i] <= (float)least ? 0 : 1 / e.a[i]; // NaN stays NaN
}

__global__ void sum_blocks(const double *sums, int64_t blocks, double *norm) {
  double value = 0;
  for (int64_t i = threadIdx.x; i < blocks; i += THREADS) value += sums[blockIdx.x * blocks + i];
  value = join_block(RS_SUM, value);
  if (threadIdx.x == 0) norm[blockIdx.x] = value;
}

int32_t run_reduce(const rs_operation *o, const rs_elements &e, double *result) {
  double *partials = (double *)rs_cuda_scratch(o);
  dim3 grid = blocks_of(e.count, PARTIALS);
  int32_t status = RS_LAUNCH(reduce, grid, THREADS, 0, rs_cuda_stream(o), e, partials);
  return status ? status : RS_LAUNCH(join_partials, 1, THREADS, 0, rs_cuda_stream(o), e.op, partials, (int32_t)grid.x, result);
}

template <typename Kernel> int32_t over(const char *name, Kernel kernel, const rs_operation *o, const void *arguments, int64_t count) {
  return rs_launch(name, false, kernel, blocks_of(count), THREADS, 0, rs_cuda_stream(o), *(const rs_elements *)arguments);
}

int64_t count_of(const void *arguments) { return ((const rs_elements *)arguments)->count; }

} // namespace

int32_t rs_sum_blocks(const rs_operation *operation, const double *sums, int64_t blocks, int64_t items, double *norm) {
  return RS_LAUNCH(sum_blocks, dim3((unsigned)items), THREADS, 0, rs_cuda_stream(operation), sums, blocks, norm);
}

extern "C" {

int32_t rs_cuda_fill(rs_operation *o, void *e) { return over("fill", fill, o, e, count_of(e)); }
int32_t rs_cuda_unary(rs_operation *o, void *e) { return over("unary", unary, o, e, count_of(e)); }
int32_t rs_cuda_binary(rs_operation *o, void *e) { return over("binary", binary, o, e, count_of(e)); }
int32_t rs_cuda_combine(rs_operation *o, void *e) { return over("combine", combine, o, e, count_of(e)); }
int32_t rs_cuda_multiply_add(rs_operation *o, void *e) { return over("multiply_add", multiply_add, o, e, count_of(e)); }
int32_t rs_cuda_random(rs_operation *o, void *e) { return over("random", randomize, o, e, (count_of(e) + 3) / 4); }

int32_t rs_cuda_reduce(rs_operation *o, void *arguments) {
  const rs_elements *e = (const rs_elements *)arguments;
  return run_reduce(o, *e, e->result);
}

int32_t rs_cuda_reciprocal(rs_operation *o, void *arguments) {
  const rs_elements *e = (const rs_elements *)arguments;
  double *largest = nullptr;
  if (e->q > 0) {
    rs_elements all = *e;
    all.op = RS_LARGEST;
    all.b = nullptr;
    largest = (double *)rs_cuda_scratch(o) + PARTIALS;
    int32_t status = run_reduce(o, all, largest);
    if (status) return status;
  }
  return RS_LAUNCH(reciprocal, blocks_of(e->count), THREADS, 0, rs_cuda_stream(o), *e, (const double *)largest);
}

int32_t rs_cuda_copy_strided(rs_operation *o, void *arguments) {
  const rs_strided *s = (const rs_strided *)arguments;
  const int64_t count = s->shape[0] * s->shape[1] * s->shape[2] * s->shape[3];
  return RS_LAUNCH(copy_strided, blocks_of(count), THREADS, 0, rs_cuda_stream(o), *s);
}

} // extern "C"
