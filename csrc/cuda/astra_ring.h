// astra_ring.h: how windows come to shared memory while the warps of a block of astra_fours_back.h and astra_fours_beams.h add: as in
// matrix_ring.h, for warps that send in turn or together, and for every compute capability.
//
// A slot has two arrivals: `full` turns over when its window has come, `empty` when all warps are done with it. So a warp waits for
// windows, never for the slowest of its block. What a warp wrote before it sent a window, all know that waited for this window.
#pragma once
#include "stack_quad.h"

constexpr int ASTRA_SLOTS = 6; // at most

// How far ahead of its own work a warp sends, where they take turns.
__host__ __device__ static inline constexpr int astra_ahead(int slots) { return slots - (slots + 2) / 3; }

struct astra_ring {
  stack_arrival full[ASTRA_SLOTS], empty[ASTRA_SLOTS];
};

// Where copies are bulk copies, only the lanes that have some send them; else all lanes of the warp do.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
constexpr bool ASTRA_BULK = true;
#else
constexpr bool ASTRA_BULK = false;
#endif

#ifdef RS_EMULATION
static inline rs_arrival *astra_state(stack_arrival *arrival) { return (rs_arrival *)&arrival->state; }
static inline void astra_expect(stack_arrival *arrival, int count) { *astra_state(arrival) = {0, (uint32_t)count, (uint32_t)count}; }
static inline void astra_arrive(stack_arrival *arrival) { rs_arrive(astra_state(arrival)); }
static inline void astra_wait(stack_arrival *arrival, int phase, const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
  rs_meet_arrival(astra_state(arrival), (uint32_t)phase, file, line);
}
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
// Without mbarriers: the low half counts who is still to come, the high half is count and phase.
__device__ static inline volatile unsigned *astra_state(stack_arrival *arrival) { return reinterpret_cast<volatile unsigned *>(arrival); }
__device__ static inline void astra_expect(stack_arrival *arrival, int count) {
  astra_state(arrival)[0] = count, astra_state(arrival)[1] = count * 2;
}
__device__ static inline void astra_arrive(stack_arrival *arrival) {
  volatile unsigned *state = astra_state(arrival);
  __threadfence_block();
  if (atomicSub(const_cast<unsigned *>(state), 1) != 1) return;
  state[0] = state[1] / 2;
  __threadfence_block();
  state[1] = state[1] ^ 1;
}
__device__ static inline void astra_wait(stack_arrival *arrival, int phase) {
  while ((int)(astra_state(arrival)[1] & 1) == phase) {}
  __threadfence_block();
}
#else
__device__ static inline void astra_expect(stack_arrival *arrival, int count) { stack_expect_lanes(arrival, count); }
__device__ static inline void astra_arrive(stack_arrival *arrival) {
  asm volatile("{\n"
               ".reg .b64 state;\n"
               "mbarrier.arrive.shared::cta.b64 state, [%0];\n"
               "}" ::"r"(stack_address(arrival))
               : "memory");
}
__device__ static inline void astra_wait(stack_arrival *arrival, int phase) { stack_wait(arrival, phase); }
#endif

// One thread prepares a ring, before a barrier of the block: warps that send a window, lanes of each that do; warps that are done with it.
__device__ static inline void astra_prepare(astra_ring &ring, int slots, int senders, int lanes, int warps) {
  for (int k = 0; k < slots; k++) astra_expect(&ring.full[k], senders * (ASTRA_BULK ? lanes : 32)), astra_expect(&ring.empty[k], warps);
}

// The lanes that are `sender` send their bytes to a slot. All lanes of a warp call it, once a window.
__device__ static inline void astra_send(astra_ring &ring, int slot, bool sender, void *shared, const void *from, unsigned bytes) {
  if (ASTRA_BULK && !sender) return;
  stack_send(&ring.full[slot], static_cast<float *>(shared), static_cast<const float *>(from), sender ? bytes : 0);
#if defined(RS_EMULATION) || (defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800)
  astra_arrive(&ring.full[slot]);
#endif
}

// A warp is done with a window.
__device__ static inline void astra_release(astra_ring &ring, int slot) {
  __syncwarp();
  if (threadIdx.x % 32 == 0) astra_arrive(&ring.empty[slot]);
}

// Where a warp stands: the window that it works off, its slot, and the phase of the slot's arrivals before they turn over.
struct astra_turn {
  int load = 0, slot = 0, phase = 0;
};

// A warp is done with a window, and goes on to the next one; the warp whose turn it is calls send(n, slot) for one that is `astra_ahead`.
// All lanes call it.
template <int WARPS, typename Send>
__device__ static inline void astra_go_on(astra_ring &ring, astra_turn &at, int loads, int slots, Send send) {
  astra_release(ring, at.slot);
  const int ahead = astra_ahead(slots), next = at.load + ahead;
  if (at.load % WARPS == (int)threadIdx.x / 32 && next < loads) {
    const int back = at.slot - (slots - ahead), slot = back < 0 ? back + slots : back;
    astra_wait(&ring.empty[slot], back < 0 ? at.phase ^ 1 : at.phase);
    send(next, slot);
  }
  at.load++;
  if (++at.slot == slots) at.slot = 0, at.phase ^= 1;
}
