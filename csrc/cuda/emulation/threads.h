// threads.h: what a thread of an emulated kernel knows and shares: indices, barriers, warp operations; and the launch itself.
#pragma once
#include "runtime.h"
#include "vectors.h"

#include <functional>

// Of the thread that runs. Kernels read them; block.cc writes them whenever it goes on with another thread.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

void *rs_emulated_shared(); // the block's dynamic shared memory

enum rs_meeting {
  RS_SYNCTHREADS,
  RS_SYNCTHREADS_COUNT,
  RS_SYNCTHREADS_AND,
  RS_SYNCTHREADS_OR,
  RS_SYNCWARP,
  RS_SHUFFLE,
  RS_BALLOT,
  RS_ARRIVAL
};
// Waits for all threads of the block at the same place; returns how many came with a value other than 0.
int rs_meet_block(rs_meeting kind, int value, const char *file, int line);
// Waits for the lanes of `mask` at the same place; returns the value of lane `source`, or for RS_BALLOT the lanes whose value is not 0.
uint64_t rs_meet_warp(rs_meeting kind, unsigned mask, uint64_t value, int source, const char *file, int line);
int rs_lane();

// An mbarrier: when `left` of `count` threads have arrived, its phase turns over and counting begins anew.
struct rs_arrival {
  uint32_t phase : 1, count : 15, left : 16;
};
static inline void rs_arrive(rs_arrival *arrival) {
  if (--arrival->left == 0) arrival->left = arrival->count, arrival->phase ^= 1;
}
// Waits until the phase is another one.
void rs_meet_arrival(const rs_arrival *arrival, uint32_t phase, const char *file, int line);

#define RS_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE() // of the caller: the place of a barrier
static inline void __syncthreads(RS_HERE) { rs_meet_block(RS_SYNCTHREADS, 0, file, line); }
static inline int __syncthreads_count(int value, RS_HERE) { return rs_meet_block(RS_SYNCTHREADS_COUNT, value, file, line); }
static inline int __syncthreads_or(int value, RS_HERE) { return rs_meet_block(RS_SYNCTHREADS_OR, value, file, line) > 0; }
static inline int __syncthreads_and(int value, RS_HERE) { return rs_meet_block(RS_SYNCTHREADS_AND, !value, file, line) == 0; }
static inline void __syncwarp(unsigned mask = ~0u, RS_HERE) { rs_meet_warp(RS_SYNCWARP, mask, 0, 0, file, line); }
static inline unsigned __ballot_sync(unsigned mask, int value, RS_HERE) {
  return (unsigned)rs_meet_warp(RS_BALLOT, mask, value != 0, 0, file, line);
}
static inline int __any_sync(unsigned mask, int value, RS_HERE) { return rs_meet_warp(RS_BALLOT, mask, value != 0, 0, file, line) != 0; }
static inline int __all_sync(unsigned mask, int value, RS_HERE) { return rs_meet_warp(RS_BALLOT, mask, value == 0, 0, file, line) == 0; }
static inline unsigned __activemask() { return 1u << rs_lane(); } // no two lanes run at once

template <class T> static inline T rs_shuffle(unsigned mask, T value, int source, const char *file, int line) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof value);
  bits = rs_meet_warp(RS_SHUFFLE, mask, bits, source, file, line);
  memcpy(&value, &bits, sizeof value);
  return value;
}
template <class T> static inline T __shfl_sync(unsigned mask, T value, int source, int width = warpSize, RS_HERE) {
  int first = rs_lane() & ~(width - 1);
  return rs_shuffle(mask, value, first + (source & (width - 1)), file, line);
}
template <class T> static inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize, RS_HERE) {
  int lane = rs_lane(), first = lane & ~(width - 1), source = lane - (int)delta;
  return rs_shuffle(mask, value, source < first ? lane : source, file, line);
}
template <class T> static inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize, RS_HERE) {
  int lane = rs_lane(), last = lane | (width - 1), source = lane + (int)delta;
  return rs_shuffle(mask, value, source > last ? lane : source, file, line);
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = warpSize, RS_HERE) {
  int lane = rs_lane(), last = lane | (width - 1), source = lane ^ bits;
  return rs_shuffle(mask, value, source > last ? lane : source, file, line);
}
#undef RS_HERE

// A thread notes whether it waited for the kernels before. Where it had to and has not, the grid fails.
void rs_awaits(bool so);
void rs_must_have_awaited();

// Runs a block after the other on the calling thread. Returns an empty string, or what went wrong.
const char *rs_run_grid(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &thread);

// kernel<<<grid, block, shared_bytes, stream>>>(...): checks the shape, then queues the launch or records it in a capture. `thread` is
// called once a thread and holds the arguments by value. Sets the last error, and returns it.
cudaError_t rs_emulate(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream, std::function<void()> thread);
