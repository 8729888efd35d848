// What the CUDA emulation must do. Ends at the first thing that is wrong and says where.
#include "../../csrc/cuda/convolution_products.h"

#include <cuda_runtime.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#define EXPECT(what) \
  if (!(what)) fprintf(stderr, "%s:%d: expected %s\n", __FILE__, __LINE__, #what), exit(1)
#define DONE(call) EXPECT((call) == cudaSuccess)

template <class... Parameters, class... Arguments>
static cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                          Arguments... arguments) {
  return rs_emulate(grid, block, shared, stream, [=] { kernel(arguments...); });
}

template <class T> static T *device_array(size_t count) {
  T *array;
  DONE(cudaMalloc(&array, count * sizeof(T)));
  return array;
}

template <class T> static std::vector<T> fetch(const T *array, size_t count) {
  std::vector<T> values(count);
  DONE(cudaMemcpy(values.data(), array, count * sizeof(T), cudaMemcpyDeviceToHost));
  return values;
}

// Barriers

__global__ void reverse(int *out) {
  int *row = (int *)rs_emulated_shared(), i = (int)threadIdx.x, n = (int)blockDim.x;
  row[i] = (int)blockIdx.x * n + i;
  __syncthreads();
  out[(int)blockIdx.x * n + i] = row[n - 1 - i];
}

__global__ void reverse_without_barrier(int *out) {
  int *row = (int *)rs_emulated_shared(), i = (int)threadIdx.x, n = (int)blockDim.x;
  row[i] = i;
  out[(int)blockIdx.x * n + i] = row[n - 1 - i];
}

// A value per warp by shuffles, then a sum over the block through a static array: 1 + 2 + ... + threads.
__global__ void sum_block(int *out) {
  __shared__ int sums[32];
  int linear = (int)(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)), sum = linear + 1;
  int count = (int)(blockDim.x * blockDim.y * blockDim.z);
  for (int step = 16; step > 0; step /= 2) sum += __shfl_down_sync(~0u, sum, (unsigned)step);
  if (linear % 32 == 0) sums[linear / 32] = sum;
  __syncthreads();
  if (linear < 32) {
    sum = linear < count / 32 ? sums[linear] : 0;
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
    if (linear == 0) out[blockIdx.x] = sum;
  }
}

__global__ void count_odd(int *out) {
  int odd = threadIdx.x % 2;
  int count = __syncthreads_count(odd), any = __syncthreads_or(odd), all = __syncthreads_and(odd);
  out[threadIdx.x] = count * 100 + any * 10 + all;
}

static void barriers() {
  const int blocks = 3, threads = 200;
  int *out = device_array<int>(blocks * threads);
  DONE(launch(reverse, blocks, threads, threads * sizeof(int), nullptr, out));
  std::vector<int> values = fetch(out, blocks * threads);
  for (int b = 0; b < blocks; b++)
    for (int i = 0; i < threads; i++) EXPECT(values[b * threads + i] == b * threads + threads - 1 - i);

  // Both orders of the threads are seen, so both halves of each row show that nobody waited.
  DONE(launch(reverse_without_barrier, 2, threads, threads * sizeof(int), nullptr, out));
  values = fetch(out, 2 * threads);
  EXPECT(values[0] == -1 && values[threads - 1] == 0 && values[threads] == threads - 1 && values[2 * threads - 1] == -1);

  DONE(launch(sum_block, 2, dim3(8, 8, 16), 0, nullptr, out));
  values = fetch(out, 2);
  EXPECT(values[0] == 1024 * 1025 / 2 && values[1] == values[0]);

  DONE(launch(count_odd, 1, 33, 0, nullptr, out));
  values = fetch(out, 33);
  for (int value : values) EXPECT(value == 1610);
}

// Warps

__global__ void shuffle(int *out) {
  int lane = (int)threadIdx.x, *row = out + 8 * lane;
  row[0] = __shfl_sync(~0u, lane, 5);
  row[1] = __shfl_sync(~0u, lane, 5, 8);
  row[2] = __shfl_up_sync(~0u, lane, 3);
  row[3] = __shfl_down_sync(~0u, lane, 3, 16);
  row[4] = __shfl_xor_sync(~0u, lane, 9);
  row[5] = (int)__ballot_sync(~0u, lane % 3 == 0);
  row[6] = __any_sync(~0u, lane == 7) * 10 + __all_sync(~0u, lane == 7);
  // Two halves that go separate ways
  if (lane < 16)
    row[7] = (int)(__shfl_xor_sync(0x0000ffffu, 1.5 * lane, 1) * 2);
  else
    row[7] = (int)__ballot_sync(0xffff0000u, lane % 2);
}

// Lanes that have returned are not waited for, and have nothing to tell.
__global__ void leave_early(unsigned *out) {
  if (threadIdx.x % 2) return;
  out[threadIdx.x] = __ballot_sync(~0u, 1);
  out[threadIdx.x + 1] = (unsigned)__shfl_down_sync(~0u, 1, 1);
}

static void warps() {
  int *out = device_array<int>(32 * 8);
  DONE(launch(shuffle, 1, 32, 0, nullptr, out));
  std::vector<int> values = fetch(out, 32 * 8);
  for (int lane = 0; lane < 32; lane++) {
    const int *row = &values[8 * lane];
    EXPECT(row[0] == 5 && row[1] == lane / 8 * 8 + 5);
    EXPECT(row[2] == (lane < 3 ? lane : lane - 3));
    EXPECT(row[3] == (lane % 16 + 3 > 15 ? lane : lane + 3));
    EXPECT(row[4] == (lane ^ 9));
    EXPECT((unsigned)row[5] == 0x49249249u && row[6] == 10);
    EXPECT((unsigned)row[7] == (lane < 16 ? 3u * (lane ^ 1) : 0xaaaa0000u));
  }
  unsigned *bits = device_array<unsigned>(32);
  DONE(launch(leave_early, 1, 32, 0, nullptr, bits));
  for (int lane = 0; lane < 32; lane += 2) EXPECT(fetch(bits, 32)[lane] == 0x55555555u && fetch(bits, 32)[lane + 1] == ~0u);
}

// Mistakes: each fails the launch with a sentence, and the device until it is reset.

__global__ void two_barriers(int odd) {
  if (threadIdx.x % 2 == (unsigned)odd)
    __syncthreads();
  else
    __syncthreads();
}
__global__ void return_before_barrier() {
  if (threadIdx.x == 40) return;
  __syncthreads();
}
__global__ void mixed_barriers() {
  if (threadIdx.x < 32)
    __syncwarp();
  else if (threadIdx.x == 32)
    __syncwarp();
  __syncthreads();
}
__global__ void two_shuffles(int *out) {
  if (threadIdx.x < 16)
    out[0] = __shfl_sync(~0u, 1, 0);
  else
    out[1] = __shfl_sync(~0u, 2, 0);
}
__global__ void await_in_some(unsigned threads) { // as rs_launch runs a kernel that is launched early
  rs_awaits(false);
  if (threadIdx.x < threads) rs_await();
  rs_must_have_awaited();
}

template <class... Parameters, class... Arguments>
static void expect_failure(const char *words, const char *more, void (*kernel)(Parameters...), Arguments... arguments) {
  DONE(launch(kernel, 2, 64, 0, nullptr, arguments...));
  EXPECT(cudaDeviceSynchronize() == cudaErrorLaunchFailure);
  EXPECT(cudaGetLastError() == cudaErrorLaunchFailure);
  const char *sentence = cudaGetErrorString(cudaErrorLaunchFailure);
  if (!strstr(sentence, words) || !strstr(sentence, more)) fprintf(stderr, "%s: not in \"%s\"\n", words, sentence), exit(1);
  EXPECT(launch(kernel, 1, 1, 0, nullptr, arguments...) == cudaErrorLaunchFailure);
  DONE(cudaDeviceReset());
  DONE(cudaDeviceSynchronize());
}

static void divergence() {
  int *out = device_array<int>(2);
  expect_failure("thread (0, 0, 0) waits at __syncthreads in", "thread (1, 0, 0) waits at __syncthreads in", two_barriers, 0);
  expect_failure("thread (0, 0, 0) waits at __syncthreads in", "thread (40, 0, 0) has returned", return_before_barrier);
  expect_failure("thread (32, 0, 0) waits at __syncwarp of lanes 0xffffffff", "thread (33, 0, 0) waits at __syncthreads in",
                 mixed_barriers);
  expect_failure("thread (0, 0, 0) waits at a shuffle", "thread (16, 0, 0) waits at a shuffle", two_shuffles, out);
  expect_failure("thread (40, 0, 0) of block (0, 0, 0) has returned", "never called rs_await", await_in_some, 40u);
  DONE(launch(await_in_some, 2, 64, 0, nullptr, 64u));
  int *sums = device_array<int>(1); // the stacks that were left behind are good again
  DONE(launch(sum_block, 1, 1024, 0, nullptr, sums));
  EXPECT(fetch(sums, 1)[0] == 1024 * 1025 / 2);
}

// Launches

__global__ void store(float *out, float value) { out[blockIdx.x * blockDim.x + threadIdx.x] = value; }
__global__ void store_shared(float *out) { out[threadIdx.x] = ((float *)rs_emulated_shared())[threadIdx.x]; }

static void launches() {
  float *out = device_array<float>(1024);
  for (float value : fetch(out, 1024)) EXPECT(value != value);
  const dim3 wrong[][2] = {{1, 1025}, {1, dim3(32, 33)},   {1, dim3(1, 1, 65)},    {1, 0},
                           {0, 1},    {dim3(1, 65536), 1}, {dim3(1, 1, 65536), 1}, {0x80000000u, 1}};
  for (const auto &[grid, block] : wrong) {
    EXPECT(launch(store, grid, block, 0, nullptr, out, 1.0f) == cudaErrorInvalidConfiguration);
    EXPECT(cudaGetLastError() == cudaErrorInvalidConfiguration && cudaGetLastError() == cudaSuccess);
  }
  EXPECT(launch(store, 1, 1, (227 << 10) + 1, nullptr, out, 1.0f) == cudaErrorInvalidConfiguration);
  DONE(cudaDeviceSynchronize());
  EXPECT(cudaGetLastError() == cudaErrorInvalidConfiguration);
  DONE(launch(store, 4, 256, 0, nullptr, out, 2.5f));
  for (float value : fetch(out, 1024)) EXPECT(value == 2.5f);
  DONE(launch(store_shared, 1, 1024, 227 << 10, nullptr, out));
  for (float value : fetch(out, 1024)) EXPECT(value != value);
  EXPECT(__float2int_rd(-1.5f) == -2 && __float2int_rn(2.5f) == 2 && __float2int_rz(-1.5f) == -1);
  EXPECT(__float2int_rd(1e20f) == INT_MAX && __float2int_rd(NAN) == 0 && __float2uint_rn(-3.0f) == 0);
  EXPECT(__brev(1u) == 1u << 31 && __clz(0) == 32 && __ffs(0) == 0 && __ffs(8) == 4);
}

// Memory

static void memory() {
  size_t free_bytes, total, left;
  DONE(cudaMemGetInfo(&free_bytes, &total));
  char *big, *small = nullptr;
  EXPECT(cudaMalloc(&big, free_bytes + 1) == cudaErrorMemoryAllocation && cudaGetLastError() == cudaErrorMemoryAllocation);
  DONE(cudaMalloc(&small, 1000));
  DONE(cudaMemGetInfo(&left, &total));
  EXPECT(left == free_bytes - 1000 && (uintptr_t)small % 256 == 0);
  cudaPointerAttributes attributes;
  DONE(cudaPointerGetAttributes(&attributes, small + 999));
  EXPECT(attributes.type == cudaMemoryTypeDevice && attributes.device == 0);
  char host[64] = "abcdefgh", back[64] = "";
  DONE(cudaPointerGetAttributes(&attributes, host));
  EXPECT(attributes.type == cudaMemoryTypeUnregistered);
  EXPECT(cudaMemcpy(small + 990, host, 11, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  EXPECT(cudaMemcpy(host, back, 8, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  EXPECT(cudaMemset(host, 0, 8) == cudaErrorInvalidValue);
  // Two rows of three bytes, four apart here and eight apart there
  DONE(cudaMemcpy2D(small, 8, host, 4, 3, 2, cudaMemcpyHostToDevice));
  DONE(cudaMemcpy2D(back, 3, small, 8, 3, 2, cudaMemcpyDeviceToHost));
  EXPECT(!memcmp(back, "abcefg", 6));
  EXPECT(cudaFree(host) == cudaErrorInvalidValue && cudaFree(small + 1) == cudaErrorInvalidValue);
  DONE(cudaFree(small));
  DONE(cudaMemGetInfo(&left, &total));
  EXPECT(left == free_bytes);
}

// Streams: the host runs ahead of the device, which keeps the order.

static void sleep_some(void *milliseconds) { std::this_thread::sleep_for(std::chrono::milliseconds((intptr_t)milliseconds)); }

static void streams() {
  cudaStream_t first, second;
  cudaEvent_t start, end;
  DONE(cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking));
  DONE(cudaStreamCreateWithPriority(&second, cudaStreamNonBlocking, -1));
  DONE(cudaEventCreate(&start));
  DONE(cudaEventCreate(&end));
  DONE(cudaEventQuery(end));
  float *out = device_array<float>(4), *pinned, elapsed;
  DONE(cudaMallocHost(&pinned, 4 * sizeof(float)));
  DONE(cudaEventRecord(start, first));
  DONE(cudaLaunchHostFunc(first, sleep_some, (void *)30));
  DONE(launch(store, 1, 4, 0, first, out, 7.0f));
  DONE(cudaEventRecord(end, first));
  DONE(cudaStreamWaitEvent(second, end));
  DONE(cudaMemcpyAsync(pinned, out, 4 * sizeof(float), cudaMemcpyDeviceToHost, second));
#if !defined(__SANITIZE_ADDRESS__) // which has every call wait
  EXPECT(cudaEventQuery(end) == cudaErrorNotReady && cudaStreamQuery(second) == cudaErrorNotReady);
  EXPECT(cudaGetLastError() == cudaErrorNotReady && pinned[0] != 7);
#endif
  DONE(cudaStreamSynchronize(second));
  EXPECT(pinned[0] == 7 && pinned[3] == 7);
  DONE(cudaEventElapsedTime(&elapsed, start, end));
  EXPECT(elapsed >= 29);
  DONE(cudaStreamDestroy(first));
  DONE(cudaStreamDestroy(second));
  EXPECT(cudaStreamQuery(first) == cudaErrorInvalidResourceHandle && cudaGetLastError() == cudaErrorInvalidResourceHandle);
}

// Graphs

__global__ void add_one(int *out) { out[threadIdx.x] += 1; }

static void graphs() {
  cudaStream_t stream, other;
  cudaEvent_t event;
  cudaGraph_t graph;
  cudaGraphExec_t program;
  cudaStreamCaptureStatus status;
  DONE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  DONE(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
  DONE(cudaEventCreate(&event));
  int *out = device_array<int>(64), *more = device_array<int>(64);
  DONE(cudaMemset(out, 0, 64 * sizeof(int)));
  DONE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  DONE(launch(add_one, 1, 64, 0, stream, out));
  DONE(cudaEventRecord(event, stream));
  DONE(cudaStreamWaitEvent(other, event));
  DONE(launch(add_one, 1, 64, 0, other, out));
  DONE(cudaMemcpyAsync(more, out, 64 * sizeof(int), cudaMemcpyDeviceToDevice, other));
  DONE(cudaEventRecord(event, other));
  DONE(cudaStreamWaitEvent(stream, event));
  DONE(cudaMemsetAsync(out, 0, sizeof(int), stream));
  DONE(cudaStreamIsCapturing(stream, &status));
  EXPECT(status == cudaStreamCaptureStatusActive);
  DONE(cudaStreamEndCapture(stream, &graph));
  EXPECT(fetch(out, 64)[63] == 0); // recorded, not carried out
  DONE(cudaGraphInstantiate(&program, graph));
  DONE(cudaGraphDestroy(graph));
  for (int i = 0; i < 3; i++) DONE(cudaGraphLaunch(program, stream));
  DONE(cudaGraphExecDestroy(program));
  DONE(cudaStreamSynchronize(stream));
  EXPECT(fetch(out, 64)[63] == 6 && fetch(out, 64)[0] == 0 && fetch(more, 64)[63] == 6 && fetch(more, 64)[0] == 2);

  void *none;
  for (int i = 0; i < 6; i++) { // what a capture forbids breaks it
    DONE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    if (i == 0) EXPECT(cudaMalloc(&none, 4) == cudaErrorStreamCaptureUnsupported);
    if (i == 1) EXPECT(cudaStreamSynchronize(stream) == cudaErrorStreamCaptureUnsupported);
    if (i == 2) EXPECT(cudaDeviceSynchronize() == cudaErrorStreamCaptureUnsupported);
    if (i == 3) EXPECT(cudaFree(more) == cudaErrorStreamCaptureUnsupported);
    if (i == 4) EXPECT(cudaMemset(out, 0, 4) == cudaErrorStreamCaptureUnsupported);
    if (i == 5) EXPECT(cudaStreamQuery(stream) == cudaErrorStreamCaptureUnsupported);
    EXPECT(launch(add_one, 1, 64, 0, stream, out) == cudaErrorStreamCaptureInvalidated);
    EXPECT(cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureInvalidated && !graph);
  }
  EXPECT(cudaStreamEndCapture(stream, &graph) == cudaErrorIllegalState);
  DONE(launch(add_one, 1, 64, 0, stream, out));
  DONE(cudaStreamSynchronize(stream));
}

// Products of tensor cores, which old devices compute from lane to lane.

template <int PRECISION> __global__ void multiply(const uint32_t *words, float *out) {
  const int lane = (int)threadIdx.x;
  uint32_t left[4], right[2];
  for (int k = 0; k < 4; k++) left[k] = words[lane * 6 + k];
  for (int k = 0; k < 2; k++) right[k] = words[lane * 6 + 4 + k];
  float sums[2][4] = {{1, 2, 3, 4}, {1, 2, 3, 4}};
  rs_multiply<PRECISION>(sums[0], left, right);
  rs_multiply_by_lanes<PRECISION>(sums[1], left, right);
  for (int k = 0; k < 8; k++) out[lane * 8 + k] = sums[k / 4][k % 4];
}

template <int PRECISION> static void check_products(uint32_t mask) {
  std::vector<uint32_t> words(32 * 6);
  for (size_t k = 0; k < words.size(); k++) {
    const float value = (float)(k * 7919 % 1013) / 256 - 2;
    memcpy(&words[k], &value, 4);
    words[k] = (words[k] & 0xffff0000) | (words[k] >> 16 & mask);
  }
  uint32_t *from = device_array<uint32_t>(words.size());
  float *to = device_array<float>(32 * 8);
  DONE(cudaMemcpy(from, words.data(), words.size() * 4, cudaMemcpyHostToDevice));
  DONE(launch(multiply<PRECISION>, 1, 32, 0, nullptr, (const uint32_t *)from, to));
  const std::vector<float> sums = fetch(to, 32 * 8);
  for (size_t k = 0; k < sums.size(); k++) EXPECT(sums[k] == sums[k / 8 * 8 + k % 4] && sums[k] == sums[k]);
  EXPECT(sums[0] != 1 && sums[0] != sums[8]);
  DONE(cudaFree(from));
  DONE(cudaFree(to));
}

int main() {
  barriers();
  warps();
  check_products<RS_CONVOLVE_TF32>(0);
  check_products<RS_CONVOLVE_BF16>(0xffff);
  divergence();
  launches();
  memory();
  streams();
  graphs();
  puts("the emulation keeps CUDA's rules: barriers, warps, products, divergence, launches, memory, streams, graphs");
}
