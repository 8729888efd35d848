// tensor_fold.cu: the CUDA kernels over tensor_fold.h. How an axis is cut depends on the shape alone: the same result in every run.
#include "../tensor_fold.h"
#include "threads.h"

namespace {

#define PARTIALS 8192 // partial sums of all columns together

__device__ inline double element(const rs_tensor_folding &f, int64_t i) {
  return f.type == RS_FLOAT32 ? (double)((const float *)f.a)[i] : (double)((const int32_t *)f.a)[i];
}

__device__ inline void store(const rs_tensor_folding &f, int64_t column, double value) {
  if (f.op == RS_FOLD_MEAN) value /= (double)f.axis;
  if (f.type == RS_FLOAT32)
    ((float *)f.out)[column] = (float)value;
  else
    ((int32_t *)f.out)[column] = rs_int_of(value);
}

// A thread takes every `segments`-th element of its column; neighbouring threads read neighbouring elements. With one segment the
// value is the result.
__global__ void fold(rs_tensor_folding f, int64_t segments, double *partials) {
  const int64_t columns = f.outer * f.inner;
  RS_OVER(i, columns * segments) {
    const int64_t column = f.inner == 1 ? i / segments : i % columns, segment = f.inner == 1 ? i % segments : i / columns;
    const int64_t at = column / f.inner * f.axis * f.inner + column % f.inner;
    double value = rs_fold_start(f.op);
    for (int64_t k = segment; k < f.axis; k += segments) value = rs_fold_join(f.op, value, element(f, at + k * f.inner));
    if (segments == 1)
      store(f, column, value);
    else
      partials[column * segments + segment] = value;
  }
}

// A block a column.
__global__ void finish(rs_tensor_folding f, int64_t segments, const double *partials) {
  __shared__ double values[RS_THREADS];
  double value = rs_fold_start(f.op);
  for (int64_t k = threadIdx.x; k < segments; k += RS_THREADS) value = rs_fold_join(f.op, value, partials[blockIdx.x * segments + k]);
  values[threadIdx.x] = value;
  for (int half = RS_THREADS / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) values[threadIdx.x] = rs_fold_join(f.op, values[threadIdx.x], values[threadIdx.x + half]);
  }
  if (threadIdx.x == 0) store(f, blockIdx.x, values[0]);
}

__global__ void place(rs_tensor_folding f) {
  RS_OVER(column, f.outer * f.inner) {
    const int64_t at = column / f.inner * f.axis * f.inner + column % f.inner;
    double best = element(f, at);
    int64_t found = 0;
    for (int64_t k = 1; k < f.axis; k++) {
      const double value = element(f, at + k * f.inner);
      if (f.op == RS_FOLD_PLACE_OF_LARGEST ? value > best : value < best) {
        best = value;
        found = k;
      }
    }
    ((int32_t *)f.out)[column] = (int32_t)found;
  }
}

__global__ void softmax(rs_tensor_rows r) {
  RS_OVER(row, r.rows) {
    float *out = r.out + row * r.columns;
    const float *a = r.a + row * r.columns;
    float largest = a[0];
    double sum = 0;
    for (int64_t i = 1; i < r.columns; i++) largest = a[i] > largest ? a[i] : largest;
    for (int64_t i = 0; i < r.columns; i++) sum += out[i] = expf(a[i] - largest);
    for (int64_t i = 0; i < r.columns; i++) out[i] = (float)(out[i] / sum);
  }
}

} // namespace

extern "C" {

int32_t rs_cuda_tensor_fold(rs_operation *o, void *arguments) {
  const rs_tensor_folding &f = *(const rs_tensor_folding *)arguments;
  const int64_t columns = f.outer * f.inner;
  if (f.op >= RS_FOLD_PLACE_OF_LARGEST) return RS_OVER_ELEMENTS(place, o, columns, f);
  int64_t segments = PARTIALS / columns, most = f.axis / 32;
  if (segments > most) segments = most;
  if (segments < 2) segments = 1;
  double *partials = (double *)rs_cuda_scratch(o);
  int32_t status = RS_LAUNCH(fold, rs_blocks_of(columns * segments), RS_THREADS, 0, rs_cuda_stream(o), f, segments, partials);
  if (status || segments == 1) return status;
  return RS_LAUNCH(finish, dim3((unsigned)columns), RS_THREADS, 0, rs_cuda_stream(o), f, segments, (const double *)partials);
}

int32_t rs_cuda_tensor_softmax(rs_operation *o, void *arguments) {
  const rs_tensor_rows &r = *(const rs_tensor_rows *)arguments;
  return RS_OVER_ELEMENTS(softmax, o, r.rows, r);
}

} // extern "C"
