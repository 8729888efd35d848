// launch.h: what every CUDA source of this library starts from: the stream of an operation, checked launches, tables of a plan, and
// what becomes of a projected value.
//
// The same sources are compiled by a C++ compiler against emulation/cuda_runtime.h (RS_EMULATION), which runs kernels on the CPU for
// tests on machines without a GPU. That is why kernels are launched and name their shared memory through this header.
#pragma once
#include "../cuda_calls.h"
#include "../output.h"
#include "../plan.h"
#include "../status.h"

#include <cuda_runtime.h>

// RS_OK, or an error that names `what`. Marks the device lost where the error will not go away.
int32_t rs_cuda_status(cudaError_t error, const char *what);

// The stream and the multiprocessors of the device an operation runs on.
cudaStream_t rs_cuda_stream(const rs_operation *operation);
int rs_cuda_multiprocessors(int32_t device);
int rs_cuda_capability(int32_t device); // 80 for compute capability 8.0

// The number of a call in hand; whether its stream has nothing to do that came after the call of that number.
int64_t rs_cuda_number(const rs_operation *operation);
bool rs_cuda_idle_since(const rs_operation *operation, int64_t number);

// Bytes of shared memory that a block may have: 227 KiB (compute capability 9.0, 10.x), 163 (8.0), 99 (8.6, 8.9, 12.x) or 64 (7.5).
int64_t rs_cuda_shared(int32_t device);

// Device memory for what one call hands from kernel to kernel; the next call may overwrite it.
#define RS_SCRATCH_BYTES (16 << 20)
void *rs_cuda_scratch(const rs_operation *operation);

// Puts a table of a plan, built on the host, into device memory that later calls on the device may read. RS_OK, or an error after
// which nothing is held. rs_cuda_table_free takes null, too.
int32_t rs_cuda_table(int32_t device, const void *host, int64_t bytes, void **table, int64_t *pointer);
void rs_cuda_table_free(int64_t pointer);

// Launches a kernel: RS_LAUNCH(kernel, grid, block, shared bytes, stream, arguments...) is RS_OK or the error. A template instance
// stands in parentheses: RS_LAUNCH((kernel<4>), ...). A kernel's dynamic shared memory is RS_SHARED(type, name).
#define RS_LAUNCH(kernel, ...) rs_launch(#kernel, false, kernel, __VA_ARGS__)

// The same for a kernel whose threads all call rs_await before they touch what other kernels write or read: its blocks may begin while the
// last ones of the kernel before it are at work. (Programmatic dependent launch; devices before compute capability 9.0 launch it as any
// other.)
#define RS_LAUNCH_EARLY(kernel, ...) rs_launch(#kernel, true, kernel, __VA_ARGS__)
__device__ static inline void rs_await() {
#ifdef RS_EMULATION
  rs_awaits(true);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

#ifdef RS_EMULATION
#define RS_SHARED(type, name) type *name = (type *)rs_emulated_shared()
template <typename... P, typename... A>
int32_t rs_launch(const char *name, bool early, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                  A... arguments) {
  auto thread = [=] {
    rs_awaits(!early);
    kernel(arguments...);
    rs_must_have_awaited();
  };
  return rs_cuda_status(rs_emulate(grid, block, shared, stream, thread), name);
}
#else
#define RS_SHARED(type, name)                              \
  extern __shared__ __align__(128) unsigned char rs_raw[]; \
  type *name = reinterpret_cast<type *>(rs_raw)
// Lets a kernel have more than 48 KiB of shared memory, static and dynamic, on the device of the operation in hand.
cudaError_t rs_cuda_allow_shared(const void *kernel, size_t shared);
bool rs_cuda_starts_early(); // does that device launch kernels early?
template <typename... P, typename... A>
int32_t rs_launch(const char *name, bool early, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                  A... arguments) {
  cudaError_t error = cudaSuccess;
  if (shared > 24 * 1024) error = rs_cuda_allow_shared((const void *)kernel, shared);
  if (!error) {
    cudaLaunchAttribute serial = {};
    serial.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    serial.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {grid, block, shared, stream, &serial, early && rs_cuda_starts_early() ? 1u : 0u};
    error = cudaLaunchKernelEx(&config, kernel, static_cast<P>(arguments)...);
  }
  return error ? rs_cuda_status(error, name) : RS_OK;
}
#endif

// What a value meets at target[item + index]: `item` is where a batch item starts in target and measured, `index` counts inside it, as
// weights do, but where they are shared: then they lie `skip` before.
struct rs_met {
  float other, weight; // what is measured or was there before
};
__device__ static inline rs_met rs_meet(const rs_output &output, size_t item, size_t index, size_t skip = 0) {
  switch (output.mode) {
  case RS_STORE: return {0, 0};
  case RS_ADD: return {output.target[item + index], 0};
  case RS_RESIDUAL: return {output.measured[item + index], output.weights[index - skip]};
  default: return {output.target[item + index], output.weights[index - skip]};
  }
}

// What is written where a value meets this. `square` becomes (measured - value)^2 where weights > 0 in mode RS_RESIDUAL and 0 otherwise.
__device__ static inline float rs_finished(const rs_output &output, float value, const rs_met &met, float &square) {
  square = 0;
  switch (output.mode) {
  case RS_STORE: return value;
  case RS_ADD: return met.other + value;
  case RS_RESIDUAL: {
    const float difference = met.other - value;
    square = met.weight > 0 ? difference * difference : 0;
    return met.weight * difference;
  }
  default: {
    float next = met.other + output.relaxation * met.weight * value;
    next = next < output.minimum ? output.minimum : next;
    return next > output.maximum ? output.maximum : next;
  }
  }
}

// Finishes a value that meets this. Returns the square.
__device__ static inline float rs_finish(const rs_output &output, size_t item, size_t index, float value, const rs_met &met) {
  float square;
  output.target[item + index] = rs_finished(output, value, met, square);
  return square;
}
__device__ static inline float rs_finish(const rs_output &output, size_t item, size_t index, float value) {
  return rs_finish(output, item, index, value, rs_meet(output, item, index));
}

// Finishes those values 0 ... COUNT - 1 that are there, each at index(k). All is read before the first is written: a thread that reads
// behind its own writes waits for memory every time.
template <int COUNT, typename There, typename Index, typename Value>
__device__ static inline double rs_finish_all(const rs_output &output, size_t item, There there, Index index, Value value) {
  rs_met met[COUNT] = {};
  size_t at[COUNT] = {};
  float values[COUNT] = {};
#pragma unroll
  for (int k = 0; k < COUNT; k++)
    if (there(k)) at[k] = index(k), values[k] = value(k), met[k] = rs_meet(output, item, at[k]);
  double squares = 0;
#pragma unroll
  for (int k = 0; k < COUNT; k++)
    if (there(k)) squares += rs_finish(output, item, at[k], values[k], met[k]);
  return squares;
}

// The same for rows 0 ... COUNT - 1 of four neighbours each, from index(k) on, of which the first count(k) are there: value(k, j). Where
// `fours`, target + item, measured + item, weights and weights - skip lie at multiples of 16 bytes.
template <int COUNT, typename Count, typename Index, typename Value>
__device__ static inline double rs_finish_fours(const rs_output &output, size_t item, size_t skip, bool fours, Count count, Index index,
                                                Value value) {
  rs_met met[COUNT][4] = {};
  size_t at[COUNT] = {};
  float values[COUNT][4] = {};
  auto whole = [&](int k) { return fours && count(k) >= 4 && at[k] % 4 == 0; };
#pragma unroll
  for (int k = 0; k < COUNT; k++) {
    if (count(k) <= 0) continue;
    at[k] = index(k);
#pragma unroll
    for (int j = 0; j < 4; j++) values[k][j] = value(k, j);
    if (output.mode == RS_STORE) continue;
    if (whole(k)) {
      const float *from = (output.mode == RS_RESIDUAL ? output.measured : output.target) + item + at[k];
      const float4 other = *reinterpret_cast<const float4 *>(from);
      met[k][0].other = other.x, met[k][1].other = other.y, met[k][2].other = other.z, met[k][3].other = other.w;
      if (output.mode == RS_ADD) continue;
      const float4 weight = *reinterpret_cast<const float4 *>(output.weights + (at[k] - skip));
      met[k][0].weight = weight.x, met[k][1].weight = weight.y, met[k][2].weight = weight.z, met[k][3].weight = weight.w;
    } else {
#pragma unroll
      for (int j = 0; j < 4; j++)
        if (j < count(k)) met[k][j] = rs_meet(output, item, at[k] + j, skip);
    }
  }
  double squares = 0;
#pragma unroll
  for (int k = 0; k < COUNT; k++) {
    if (count(k) <= 0) continue;
    float square[4], *target = output.target + item + at[k];
#pragma unroll
    for (int j = 0; j < 4; j++) values[k][j] = rs_finished(output, values[k][j], met[k][j], square[j]);
    if (whole(k)) *reinterpret_cast<float4 *>(target) = make_float4(values[k][0], values[k][1], values[k][2], values[k][3]);
#pragma unroll
    for (int j = 0; j < 4; j++) {
      if (j >= count(k)) continue;
      squares += square[j];
      if (!whole(k)) target[j] = values[k][j];
    }
  }
  return squares;
}

// Norms are summed in a fixed order, so that they are the same in every run: a kernel that calls rs_finish writes one float64 a block,
// sums[item * blocks + block], and rs_sum_blocks adds them up: norm[item] = the sum over its blocks.
int32_t rs_sum_blocks(const rs_operation *operation, const double *sums, int64_t blocks, int64_t items, double *norm);

// The sum of all threads of a one-dimensional block, for thread 0. All of them must call it.
__device__ static inline double rs_block_sum(double value) {
  __shared__ double values[32];
  for (int half = 16; half > 0; half /= 2) value += __shfl_down_sync(0xffffffffu, value, half);
  __syncthreads(); // the last sum was read
  if (threadIdx.x % 32 == 0) values[threadIdx.x / 32] = value;
  __syncthreads();
  value = 0;
  if (threadIdx.x == 0)
    for (unsigned i = 0; i < (blockDim.x + 31) / 32; i++) value += values[i];
  return value;
}
