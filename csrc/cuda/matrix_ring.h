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

// How far ahead of its own work a warp sends. No more than the loads whose windows are found at a time: so that it knows what the warp that
// found them wrote.
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

#ifdef RS_EMULATION
static inline rs_arrival *matrix_state(stack_arrival *arrival) { return (rs_arrival *)&arrival->state; }
static inline void matrix_expect(stack_arrival *arrival, int count) { *matrix_state(arrival) = {0, (uint32_t)count, (uint32_t)count}; }
static inline void matrix_arrive(stack_arrival *arrival) { rs_arrive(matrix_state(arrival)); }
static inline void matrix_wait(stack_arrival *arrival, int phase, const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
  rs_meet_arrival(matrix_state(arrival), (uint32_t)phase, file, line);
}
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
// Without mbarriers: the low half counts who is still to come, the high half is count and phase.
__device__ static inline volatile unsigned *matrix_state(stack_arrival *arrival) { return reinterpret_cast<volatile unsigned *>(arrival); }
__device__ static inline void matrix_expect(stack_arrival *arrival, int count) {
  matrix_state(arrival)[0] = count, matrix_state(arrival)[1] = count * 2;
}
__device__ static inline void matrix_arrive(stack_arrival *arrival) {
  volatile unsigned *state = matrix_state(arrival);
  __threadfence_block();
  if (atomicSub(const_cast<unsigned *>(state), 1) != 1) return;
  state[0] = state[1] / 2;
  __threadfence_block();
  state[1] = state[1] ^ 1;
}
__device__ static inline void matrix_wait(stack_arrival *arrival, int phase) {
  while ((int)(matrix_state(arrival)[1] & 1) == phase) {}
  __threadfence_block();
}
#else
__device__ static inline void matrix_expect(stack_arrival *arrival, int count) { stack_expect_lanes(arrival, count); }
__device__ static inline void matrix_arrive(stack_arrival *arrival) {
  asm volatile("{\n"
               ".reg .b64 state;\n"
               "mbarrier.arrive.shared::cta.b64 state, [%0];\n"
               "}" ::"r"(stack_address(arrival))
               : "memory");
}
__device__ static inline void matrix_wait(stack_arrival *arrival, int phase) { stack_wait(arrival, phase); }
#endif

// One thread prepares a ring, before a barrier of the block: lanes that send a load, warps that are done with it.
__device__ static inline void matrix_prepare(matrix_ring &ring, int slots, int senders, int warps) {
  for (int k = 0; k < slots; k++) matrix_expect(&ring.full[k], MATRIX_BULK ? senders : 32), matrix_expect(&ring.empty[k], warps);
}

// The lanes that are `sender` send their bytes to a slot. All lanes of a warp call it, once a load.
__device__ static inline void matrix_send(matrix_ring &ring, int slot, bool sender, void *shared, const void *from, unsigned bytes) {
  if (MATRIX_BULK && !sender) return;
  stack_send(&ring.full[slot], static_cast<float *>(shared), static_cast<const float *>(from), sender ? bytes : 0);
#if defined(RS_EMULATION) || (defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800)
  matrix_arrive(&ring.full[slot]);
#endif
}

// Where a warp stands: the load that it works off, its slot, the phase of the slot's arrivals before they turn over, and whose turn it is.
struct matrix_place {
  int load = 0, slot = 0, phase = 0, turn = 0;
};

// A warp is done with a load, and goes on to the next. find(n): finds the windows of the loads n ... n + found - 1, `found` a power of two;
// send(n, slot): sends load n. All lanes call it.
template <typename Find, typename Send>
__device__ static inline void matrix_release(matrix_ring &ring, matrix_place &at, int loads, int slots, int warps, int found, Find find,
                                             Send send) {
  __syncwarp();
  if (threadIdx.x % 32 == 0) matrix_arrive(&ring.empty[at.slot]);
  if (at.turn == (int)threadIdx.x / 32) {
    const int ahead = matrix_ahead(slots), next = at.load + ahead;
    if (next < loads) {
      const int back = at.slot - (slots - ahead), slot = back < 0 ? back + slots : back;
      matrix_wait(&ring.empty[slot], back < 0 ? at.phase ^ 1 : at.phase);
      if ((next & (found - 1)) == 0) find(next + found);
      send(next, slot);
    }
  }
  at.load++;
  if (++at.turn == warps) at.turn = 0;
  if (++at.slot == slots) at.slot = 0, at.phase ^= 1;
}
