// matrix_ring.h: how rows come to shared memory while the warps of a block of the `rs_matrix_cuda` family add.
//
// Rows come in loads, each to a slot of a ring. A slot has two arrivals: `full` turns over when its rows have come, `empty` when all warps
// are done with them. So a warp waits for rows, never for the slowest of its block, and copies are under way all the time. The warp that is
// done with load n and whose turn it is sends load n + ahead: the slot was released `slots - ahead` loads ago by the warp itself, and most
// likely by all others.
#pragma once
#include "matrix_unit.h"
#include "stack_quad.h"

constexpr int MATRIX_SLOTS = 12; // at most

// How far ahead of its own work a warp sends.
__host__ __device__ static inline constexpr int matrix_ahead(int slots) { return slots - (slots + 2) / 3; }

struct matrix_ring {
  stack_arrival full[MATRIX_SLOTS], empty[MATRIX_SLOTS];
};

// Where copies are bulk copies, only the lanes that have some send them; else all lanes of the warp do.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
constexpr bool MATRIX_BULK = true;
#else
constexpr bool MATRIX_BULK = false;
#endif

// Arrivals where warps wait for them and arrive at them.
__device__ static inline matrix_address matrix_full(matrix_address ring, int slot) { return ring + (int)sizeof(stack_arrival) * slot; }
__device__ static inline matrix_address matrix_empty(matrix_address ring, int slot) { return matrix_full(ring, MATRIX_SLOTS + slot); }

#ifdef RS_EMULATION
static inline rs_arrival *matrix_state(matrix_address arrival) { return (rs_arrival *)arrival; }
static inline void matrix_expect(stack_arrival *arrival, int count) { *(rs_arrival *)arrival = {0, (uint32_t)count, (uint32_t)count}; }
static inline void matrix_arrive(matrix_address arrival) { rs_arrive(matrix_state(arrival)); }
static inline void matrix_wait(matrix_address arrival, int phase, const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
  rs_meet_arrival(matrix_state(arrival), (uint32_t)phase, file, line);
}
#else
__device__ static inline void matrix_expect(stack_arrival *arrival, int count) { stack_expect_lanes(arrival, count); }
#if __CUDA_ARCH__ >= 800 // rs_cuda_families leaves this family out before
__device__ static inline void matrix_arrive(matrix_address arrival) {
  asm volatile("{\n"
               ".reg .b64 state;\n"
               "mbarrier.arrive.shared::cta.b64 state, [%0];\n"
               "}" ::"r"(arrival)
               : "memory");
}
__device__ static inline void matrix_wait(matrix_address arrival, int phase) { stack_wait_at(arrival, phase); }
#else
__device__ static inline void matrix_arrive(matrix_address) {}
__device__ static inline void matrix_wait(matrix_address, int) {}
#endif
#endif

// One thread prepares a ring, before a barrier of the block: lanes that send a load, warps that are done with it.
__device__ static inline void matrix_prepare(matrix_ring &ring, int slots, int senders, int warps) {
  for (int k = 0; k < slots; k++) matrix_expect(&ring.full[k], MATRIX_BULK ? senders : 32), matrix_expect(&ring.empty[k], warps);
}

// The lanes that are `sender` send their bytes to a slot. All lanes of a warp call it, once a load.
__device__ static inline void matrix_send(matrix_ring &ring, int slot, bool sender, void *shared, const void *from, unsigned bytes) {
  if (MATRIX_BULK && !sender) return;
  stack_send(&ring.full[slot], static_cast<float *>(shared), static_cast<const float *>(from), sender ? bytes : 0);
#ifdef RS_EMULATION
  matrix_arrive((matrix_address)&ring.full[slot]);
#endif
}

// Where a warp stands: a load, its slot, and the phase of the slot's arrivals before they turn over.
struct matrix_place {
  int load = 0, slot = 0, phase = 0;
};

__device__ static inline void matrix_step(matrix_place &at, int slots) {
  at.load++;
  if (++at.slot == slots) at.slot = 0, at.phase ^= 1;
}

// A warp is done with a load, and goes on to the next; send(n, slot) sends load n. All lanes call it.
template <typename Send>
__device__ static inline void matrix_release(matrix_address ring, matrix_place &at, int loads, int slots, Send send) {
  __syncwarp();
  if (threadIdx.x % 32 == 0) matrix_arrive(matrix_empty(ring, at.slot));
  if (((at.load ^ threadIdx.x / 32) & (MATRIX_WARPS - 1)) == 0) {
    const int ahead = matrix_ahead(slots), next = at.load + ahead;
    if (next < loads) {
      const int back = at.slot - (slots - ahead), slot = back < 0 ? back + slots : back;
      matrix_wait(matrix_empty(ring, slot), back < 0 ? at.phase ^ 1 : at.phase);
      send(next, slot);
    }
  }
  matrix_step(at, slots);
}
