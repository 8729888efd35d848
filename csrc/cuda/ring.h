// ring.h: how rows of device memory come to shared memory while the warps of a block work on those that are there.
//
// Rows come in loads, each to a slot of a ring. A slot has two arrivals: `full` turns over when its rows have come, `empty` when all warps
// are done with them. So a warp waits for rows, never for the slowest of its block, and copies are under way all the time. What a warp
// wrote before it sent a load, all know that waited for this load.
#pragma once
#include "shared_address.h"
#include "stack_quad.h"

constexpr int RING_SLOTS = 12; // at most

struct ring_arrivals {
  stack_arrival full[RING_SLOTS], empty[RING_SLOTS];
};

// How far ahead of its own work a warp sends, where warps take turns: the slot was released `slots - ahead` loads ago by the warp itself,
// and most likely by all others.
__host__ __device__ static inline constexpr int ring_ahead(int slots) { return slots - (slots + 2) / 3; }

// Where copies are bulk copies, only the lanes that have some send them; else all lanes of the warp do.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
constexpr bool RING_BULK = true;
#else
constexpr bool RING_BULK = false;
#endif

// The arrivals of a slot; `ring` is where a ring_arrivals lies.
__device__ static inline shared_address ring_full(shared_address ring, int slot) { return ring + (int)sizeof(stack_arrival) * slot; }
__device__ static inline shared_address ring_empty(shared_address ring, int slot) { return ring_full(ring, RING_SLOTS + slot); }

#ifdef RS_EMULATION
static inline void ring_expect(stack_arrival *arrival, int count) { *(rs_arrival *)arrival = {0, (uint32_t)count, (uint32_t)count}; }
static inline void ring_arrive(shared_address arrival) { rs_arrive((rs_arrival *)arrival); }
static inline void ring_wait(shared_address arrival, int phase, const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
  rs_meet_arrival((rs_arrival *)arrival, (uint32_t)phase, file, line);
}
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
// Without mbarriers: the low half counts who is still to come, the high half is count and phase.
__device__ static inline volatile unsigned *ring_state(shared_address arrival) {
  return static_cast<volatile unsigned *>(__cvta_shared_to_generic(arrival));
}
__device__ static inline void ring_expect(stack_arrival *arrival, int count) { arrival->state = (uint64_t)count << 33 | (uint64_t)count; }
__device__ static inline void ring_arrive(shared_address arrival) {
  volatile unsigned *state = ring_state(arrival);
  __threadfence_block();
  if (atomicSub(const_cast<unsigned *>(state), 1) != 1) return;
  state[0] = state[1] / 2;
  __threadfence_block();
  state[1] = state[1] ^ 1;
}
__device__ static inline void ring_wait(shared_address arrival, int phase) {
  while ((int)(ring_state(arrival)[1] & 1) == phase) {}
  __threadfence_block();
}
#else
__device__ static inline void ring_expect(stack_arrival *arrival, int count) { stack_expect_lanes(arrival, count); }
__device__ static inline void ring_arrive(shared_address arrival) {
  asm volatile("{\n"
               ".reg .b64 state;\n"
               "mbarrier.arrive.shared::cta.b64 state, [%0];\n"
               "}" ::"r"(arrival)
               : "memory");
}
__device__ static inline void ring_wait(shared_address arrival, int phase) { stack_wait_at(arrival, phase); }
#endif

// One thread prepares a ring, before a barrier of the block: warps that send a load, lanes of each that do; warps that are done with it.
__device__ static inline void ring_prepare(ring_arrivals &ring, int slots, int senders, int lanes, int warps) {
  for (int k = 0; k < slots; k++) ring_expect(&ring.full[k], senders * (RING_BULK ? lanes : 32)), ring_expect(&ring.empty[k], warps);
}

// The lanes that are `sender` send their bytes to a slot. All lanes of a warp call it, once a load.
__device__ static inline void ring_send(ring_arrivals &ring, int slot, bool sender, void *shared, const void *from, unsigned bytes) {
  if (RING_BULK && !sender) return;
  stack_send(&ring.full[slot], static_cast<float *>(shared), static_cast<const float *>(from), sender ? bytes : 0);
#if defined(RS_EMULATION) || (defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800)
  ring_arrive(shared_hold(&ring.full[slot]));
#endif
}

// A warp is done with what lies in a slot. (compute-sanitizer's racecheck does not see that lane 0 arrives for all of its warp.)
__device__ static inline void ring_release(shared_address ring, int slot) {
  __syncwarp();
  if (threadIdx.x % 32 == 0) ring_arrive(ring_empty(ring, slot));
}

// Where a warp stands: the load that it works off, its slot, and the phase of the slot's arrivals before they turn over.
struct ring_place {
  int load = 0, slot = 0, phase = 0;
};

// A warp is done with a load, and goes on to the next one; the warp whose turn it is calls send(n, slot) for the one that is `ring_ahead`.
// All lanes call it.
template <int WARPS, typename Send>
__device__ static inline void ring_go_on(shared_address ring, ring_place &at, int loads, int slots, Send send) {
  ring_release(ring, at.slot);
  const int ahead = ring_ahead(slots), next = at.load + ahead;
  if (at.load % WARPS == (int)threadIdx.x / 32 && next < loads) {
    const int back = at.slot - (slots - ahead), slot = back < 0 ? back + slots : back;
    ring_wait(ring_empty(ring, slot), back < 0 ? at.phase ^ 1 : at.phase);
    send(next, slot);
  }
  at.load++;
  if (++at.slot == slots) at.slot = 0, at.phase ^= 1;
}
