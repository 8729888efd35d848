// block.cc: runs the threads of a block as fibers and lets them meet at barriers.
//
// A thread runs until it returns or waits. One that returns leaves its stack to the next thread that has not begun, so that a kernel
// without barriers needs one stack and no switches. One that waits switches to the next thread itself: there is no fiber in between.
// Warp after warp: first everything that a warp can do, its warp operations too, then the next one; when no warp can go on, all
// threads must wait at the same block barrier.
#include "fibers.h"
#include "internal.h"
#include "threads.h"

#include <stdio.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes)
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes)
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace {
struct thread_state {
  uint3 index;
  rs_fiber *fiber; // nullptr: has not begun, or has returned
  // Where it waits
  rs_meeting kind;
  int line;
  const char *file;
  unsigned mask;
  int source;
  uint64_t value; // that it brings, then that it takes away
  const rs_arrival *arrival;
  bool awaits; // kernels before
};
struct warp_state {
  uint32_t all, alive;                                 // lanes: of the block, and without those that have returned
  uint32_t ready, warp_wait, block_wait, arrival_wait; // of those alive and not running
};

thread_state threads[RS_BLOCK_THREADS];
warp_state warps[RS_BLOCK_THREADS / 32];
int warp_count, warp_at, warps_seen;
thread_state *self;
rs_fiber *own_fiber; // of the thread that runs
rs_fiber fibers[RS_BLOCK_THREADS], *idle_fibers, *launcher;
int fiber_count;
bool falling; // the order of this stretch between two barriers
const std::function<void()> *kernel;
char failure[600];
alignas(1024) char shared_memory[RS_SHARED_BYTES];

const char *const MEETINGS[] = {"__syncthreads", "__syncthreads_count", "__syncthreads_and", "__syncthreads_or", "__syncwarp", "a shuffle",
                                "a vote",        "an arrival"};

bool same_place(const thread_state &a, const thread_state &b) {
  return a.kind == b.kind && a.line == b.line && a.mask == b.mask && (a.file == b.file || !strcmp(a.file, b.file));
}

int describe(char *text, size_t bytes, const thread_state &t) {
  const warp_state &w = warps[(&t - threads) / 32];
  int length = snprintf(text, bytes, "thread (%u, %u, %u) ", t.index.x, t.index.y, t.index.z);
  if (!(w.alive >> (&t - threads) % 32 & 1)) return length + snprintf(text + length, bytes - (size_t)length, "has returned");
  length += snprintf(text + length, bytes - (size_t)length, "waits at %s", MEETINGS[t.kind]);
  if (t.kind >= RS_SYNCWARP && t.kind < RS_ARRIVAL) length += snprintf(text + length, bytes - (size_t)length, " of lanes 0x%x", t.mask);
  return length + snprintf(text + length, bytes - (size_t)length, " in %s:%d", t.file, t.line);
}

void fail(const thread_state &a, const thread_state &b) {
  int length = snprintf(failure, sizeof failure, "divergent barrier in block (%u, %u, %u): ", blockIdx.x, blockIdx.y, blockIdx.z);
  length += describe(failure + length, 250, a);
  length += snprintf(failure + length, 20, ", ");
  describe(failure + length, 250, b);
}

// Lets every group of lanes go on whose lanes are all there. Lanes that have returned are not waited for.
bool release_lanes(warp_state &w, thread_state *lanes) {
  bool released = false;
  for (uint32_t left = w.warp_wait; left;) {
    int lane = __builtin_ctz(left);
    uint32_t group = lanes[lane].mask & w.alive;
    left &= ~(group | 1u << lane);
    if (!(group >> lane & 1) || group & ~w.warp_wait) continue;
    uint32_t votes = 0;
    uint64_t values[32];
    bool agree = true;
    for (uint32_t rest = group; rest; rest &= rest - 1) {
      int i = __builtin_ctz(rest);
      agree = agree && same_place(lanes[lane], lanes[i]);
      values[i] = lanes[i].value;
      votes |= (uint32_t)(values[i] != 0) << i;
    }
    if (!agree) continue;
    for (uint32_t rest = group; rest; rest &= rest - 1) {
      thread_state &t = lanes[__builtin_ctz(rest)];
      t.value = t.kind == RS_BALLOT ? votes : t.source >= 0 && t.source < 32 && group >> t.source & 1 ? values[t.source] : ~UINT64_C(0);
    }
    w.warp_wait &= ~group;
    w.ready |= group;
    released = true;
  }
  return released;
}

// Lets the lanes go on whose arrivals are complete.
bool release_arrivals() {
  bool released = false;
  for (int i = 0; i < warp_count; i++)
    for (uint32_t rest = warps[i].arrival_wait; rest; rest &= rest - 1) {
      const int lane = __builtin_ctz(rest);
      const thread_state &t = threads[32 * i + lane];
      if (t.arrival->phase == (uint32_t)t.value) continue;
      warps[i].arrival_wait &= ~(1u << lane);
      warps[i].ready |= 1u << lane;
      released = true;
    }
  return released;
}

// Nobody can go on: either all have returned, or all wait at one barrier, or the kernel is wrong.
bool release_block() {
  if (release_arrivals()) return true;
  const thread_state *waiting = nullptr, *other = nullptr;
  uint64_t count = 0;
  for (int i = 0; i < warp_count; i++) {
    for (uint32_t rest = warps[i].warp_wait | warps[i].block_wait | warps[i].arrival_wait; rest; rest &= rest - 1) {
      const thread_state &t = threads[32 * i + __builtin_ctz(rest)];
      if (!waiting || (t.kind >= RS_SYNCWARP && waiting->kind < RS_SYNCWARP)) waiting = &t;
      count += t.value != 0;
    }
  }
  if (!waiting) return false;
  bool warp_operation = waiting->kind >= RS_SYNCWARP;
  int first = warp_operation ? (int)(waiting - threads) / 32 : 0, last = warp_operation ? first : warp_count - 1;
  for (int i = first; i <= last && !other; i++) {
    for (uint32_t rest = warps[i].all & waiting->mask; rest && !other; rest &= rest - 1) {
      const thread_state &t = threads[32 * i + __builtin_ctz(rest)];
      bool alive = warps[i].alive >> __builtin_ctz(rest) & 1;
      if (warp_operation ? alive && !same_place(t, *waiting) : !alive || !same_place(t, *waiting)) other = &t;
    }
  }
  if (warp_operation || other) {
    fail(*waiting, other ? *other : *waiting);
    return false;
  }
  for (int i = 0; i < warp_count; i++) {
    for (int lane = 0; lane < 32; lane++) threads[32 * i + lane].value = count;
    warps[i].ready = warps[i].block_wait;
    warps[i].block_wait = 0;
  }
  falling = !falling;
  return true;
}

// The next thread to run, made current; nullptr when the block has ended or failed.
thread_state *next_thread() {
  for (;;) {
    warp_state &w = warps[warp_at];
    if (w.ready) {
      int lane = falling ? 31 - __builtin_clz(w.ready) : __builtin_ctz(w.ready);
      w.ready &= ~(1u << lane);
      self = &threads[32 * warp_at + lane];
      threadIdx = self->index;
      return self;
    }
    if (w.warp_wait && release_lanes(w, &threads[32 * warp_at])) continue;
    if (++warps_seen == warp_count) {
      if (!release_block()) return nullptr;
      warps_seen = 0;
    } else {
      warp_at += falling ? -1 : 1;
    }
    if (!warps_seen) warp_at = falling ? warp_count - 1 : 0;
  }
}

void run_threads() {
  for (;;) {
    (*kernel)();
    int number = (int)(self - threads);
    warps[number / 32].alive &= ~(1u << number % 32);
    self->fiber = nullptr;
    rs_fiber *mine = own_fiber;
    thread_state *next = next_thread();
    if (next && !next->fiber) continue;
    mine->next = idle_fibers;
    idle_fibers = mine;
    own_fiber = next ? next->fiber : nullptr;
    rs_fiber_switch(mine, next ? next->fiber : launcher);
  }
}

rs_fiber *take_fiber() {
  rs_fiber *fiber = idle_fibers;
  if (fiber) {
    idle_fibers = fiber->next;
  } else {
    fiber = &fibers[fiber_count];
    if (!rs_fiber_create(fiber, (unsigned)fiber_count)) abort();
    fiber_count++;
    rs_fiber_start(fiber, run_threads);
  }
  return own_fiber = fiber;
}

uint64_t meet(rs_meeting kind, unsigned mask, uint64_t value, int source, const char *file, int line) {
  thread_state *me = self;
  int number = (int)(me - threads);
  warp_state &w = warps[number / 32];
  me->fiber = own_fiber;
  me->kind = kind, me->mask = mask, me->value = value, me->source = source, me->file = file, me->line = line;
  (kind == RS_ARRIVAL ? w.arrival_wait : kind >= RS_SYNCWARP ? w.warp_wait : w.block_wait) |= 1u << number % 32;
  thread_state *next = next_thread();
  if (next != me) {
    if (next && next->fiber) own_fiber = next->fiber;
    rs_fiber_switch(me->fiber, !next ? launcher : next->fiber ? next->fiber : take_fiber());
  }
  return me->value;
}

void shape_block() {
  int count = (int)(blockDim.x * blockDim.y * blockDim.z), number = 0;
  warp_count = (count + 31) / 32;
  for (unsigned z = 0; z < blockDim.z; z++)
    for (unsigned y = 0; y < blockDim.y; y++)
      for (unsigned x = 0; x < blockDim.x; x++) threads[number++].index = {x, y, z};
  for (int i = 0; i < warp_count; i++) warps[i].all = count - 32 * i >= 32 ? ~0u : (1u << (count - 32 * i)) - 1;
}

void run_block(size_t shared_bytes) {
  memset(shared_memory, 0xff, shared_bytes);
  for (int i = 0; i < warp_count; i++) {
    warp_state &w = warps[i];
    w.alive = w.ready = w.all;
    w.warp_wait = w.block_wait = w.arrival_wait = 0;
  }
  falling = (blockIdx.x + blockIdx.y + blockIdx.z) % 2; // so that every stretch is seen in both orders
  warp_at = falling ? warp_count - 1 : 0;
  warps_seen = 0;
  next_thread();
  rs_fiber_switch(launcher, take_fiber());
}

// Threads that wait in vain are forgotten; their stacks start anew.
void abandon_block() {
  for (thread_state &t : threads) {
    if (!t.fiber) continue;
    rs_fiber_start(t.fiber, run_threads);
    t.fiber->next = idle_fibers;
    idle_fibers = t.fiber;
    t.fiber = nullptr;
  }
}
} // namespace

void *rs_emulated_shared() { return shared_memory; }
int rs_lane() { return (int)(self - threads) % 32; }
int rs_meet_block(rs_meeting kind, int value, const char *file, int line) { return (int)meet(kind, ~0u, value != 0, 0, file, line); }
uint64_t rs_meet_warp(rs_meeting kind, unsigned mask, uint64_t value, int source, const char *file, int line) {
  return meet(kind, mask, value, source, file, line);
}

void rs_meet_arrival(const rs_arrival *arrival, uint32_t phase, const char *file, int line) {
  if (arrival->phase != phase) return;
  self->arrival = arrival;
  meet(RS_ARRIVAL, 0, phase, 0, file, line);
}

void rs_awaits(bool so) { self->awaits = so; }
void rs_must_have_awaited() {
  if (self->awaits || failure[0]) return;
  int length = snprintf(failure, sizeof failure, "a kernel that is launched early: thread (%u, %u, %u) of block (%u, %u, %u) ", threadIdx.x,
                        threadIdx.y, threadIdx.z, blockIdx.x, blockIdx.y, blockIdx.z);
  snprintf(failure + length, sizeof failure - (size_t)length, "has returned and never called rs_await");
}

const char *rs_run_grid(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &thread) {
  rs_fiber here = {};
  launcher = &here;
  kernel = &thread;
  gridDim = grid;
  blockDim = block;
  failure[0] = 0;
  shape_block();
  ASAN_POISON_MEMORY_REGION(shared_memory, sizeof shared_memory);
  ASAN_UNPOISON_MEMORY_REGION(shared_memory, shared_bytes);
  for (unsigned z = 0; z < grid.z && !failure[0]; z++)
    for (unsigned y = 0; y < grid.y && !failure[0]; y++)
      for (unsigned x = 0; x < grid.x && !failure[0]; x++) {
        blockIdx = {x, y, z};
        run_block(shared_bytes);
      }
  if (failure[0]) abandon_block();
  return failure;
}
