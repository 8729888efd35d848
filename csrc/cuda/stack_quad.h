// stack_quad.h: the inner loop of the fast `rs_stack_cuda` kernels: four neighbouring sums that share the rows they read.
//
// A row is one place of a chunk of lanes in shared memory, and reading rows is what limits these kernels (128 bytes a clock and
// multiprocessor). Neighbouring sums lie `s` rows apart, so sum k starts floor(k s) or floor(k s) + 1 rows behind the first: it reads the
// three rows from floor(k s) on with weights of which one is zero. Which rows that are is known from s alone, so a quad of sums has code
// without branches that reads every row once; there is one for each of the eight ways in which floor(s), floor(2 s) and floor(3 s) go
// together for s up to 2.
#pragma once
#include "stack_laws.h"
#include "stack_pack.h"

constexpr int STACK_WARPS = 16;     // that add, with four quads each; one more brings them rows
constexpr int STACK_ENTRY = 4 * 12; // floats of a warp's table: for each quad 2 + 3 + 3 + 3 weights and the place of its first row

__host__ __device__ static inline constexpr int stack_step(int kind, int k) {
  constexpr int STEPS[8][4] = {{0, 0, 0, 0}, {0, 0, 0, 1}, {0, 0, 1, 1}, {0, 0, 1, 2},
                               {0, 1, 2, 3}, {0, 1, 2, 4}, {0, 1, 3, 4}, {0, 1, 3, 5}};
  return STEPS[kind][k];
}

// Which of the eight for this distance of sums.
static inline int32_t stack_kind(double s) {
  return s < 1. / 3 ? 0 : s < .5 ? 1 : s < 2. / 3 ? 2 : s < 1 ? 3 : s < 4. / 3 ? 4 : s < 1.5 ? 5 : s < 5. / 3 ? 6 : 7;
}

static inline stack_view stack_view_of(const rs_geometry *geometry, const stack_line &line) {
  stack_view view = {};
  view.start = line.start, view.column = line.column, view.plane = line.plane;
  view.view = line.view, view.main = line.main;
  view.length = (float)(rs_ray_length(geometry, &geometry->view[line.view], 0, 0) / geometry->supersampling);
  view.weight = view.length;
  view.pitch = (float)fabs(line.column);
  const double across = 1 / line.column, along = -line.plane * across;
  view.origin = -line.start * across;
  view.along_y = line.main == RS_Y ? along : across;
  view.along_x = line.main == RS_Y ? across : along;
  view.forward_kind = stack_kind(fabs(line.column));
  view.back_kind = stack_kind(fmin(fabs(along), 0.999)); // at most 1, and rounding
  view.turn = (line.main == RS_Y ? 0 : 2) + (along < 0);
  if (geometry->law == RS_ASTRA) stack_set_astra(geometry, &view);
  return view;
}

// Writes a part of a table: 16 neighbouring lanes of a warp are the sums of its quads in order. `position` is this lane's, in rows, and
// rises with k, the place of the sum in its quad; `row` gives the bytes from the rows of the stage to one of them. Where all four sums of
// a quad lie outside low <= row < high, its weights are zero; where that holds for all four quads, the place is -1. All 32 lanes call.
template <typename Position, typename Row>
__device__ static inline void stack_make_quads(float *table, Position position, int kind, int32_t low, int32_t high, float pitch, Row row) {
  const int lane = threadIdx.x % 32, k = lane % 4;
  const int step1 = kind >= 4,
            step2 = kind >= 6   ? 3
                    : kind >= 4 ? 2
                                : kind >= 2,
            step3 = kind < 4 ? kind - (kind >= 2) : kind - 1 - (kind >= 6);
  const int32_t cell = (int32_t)floor(position), first = __shfl_sync(0xffffffffu, cell, lane & ~3);
  const int step = k == 0 ? 0 : k == 1 ? step1 : k == 2 ? step2 : step3;
  const bool behind = k && cell - first > step; // held to one of the two, in case that rounding moved a position across a row
  const float part = (float)(position - (first + step + behind));
  const bool seen = first + step3 + 2 >= low && first < high;
  const unsigned group = __ballot_sync(0xffffffffu, seen) >> (lane & 16) & 0xffffu;
  const float near = seen ? fmaxf(0, 1 - pitch * part) : 0, far = seen ? fmaxf(0, 1 - pitch * (1 - part)) : 0;
  float *quad = table + lane % 16 / 4 * 12;
  if (k == 0) {
    quad[0] = near;
    quad[1] = far;
    quad[11] = __int_as_float(!group ? -1 : row(seen ? first : INT32_MIN));
  } else {
    quad[3 * k - 1] = behind ? 0 : near;
    quad[3 * k] = behind ? near : far;
    quad[3 * k + 1] = behind ? far : 0;
  }
}

// Adds four quads. `rows` are those of the stage, at this thread's lanes.
template <int VEC, int KIND>
__device__ static inline void stack_add_quads(stack_vector<VEC> (&sum)[4][4], const float *table, const char *rows) {
  constexpr int SECOND = stack_step(KIND, 1), THIRD = stack_step(KIND, 2), FOURTH = stack_step(KIND, 3);
#pragma unroll
  for (int q = 0; q < 4; q++) {
    const float4 a = reinterpret_cast<const float4 *>(table)[3 * q], b = reinterpret_cast<const float4 *>(table)[3 * q + 1],
                 c = reinterpret_cast<const float4 *>(table)[3 * q + 2];
    const char *from = rows + __float_as_int(c.w);
    stack_vector<VEC> row[FOURTH + 3];
#pragma unroll
    for (int k = 0; k < FOURTH + 3; k++) row[k] = stack_load<VEC>(reinterpret_cast<const float *>(from + k * 128 * VEC));
    stack_add(sum[q][0], a.x, row[0]);
    stack_add(sum[q][1], a.z, row[SECOND]);
    stack_add(sum[q][2], b.y, row[THIRD]);
    stack_add(sum[q][3], c.x, row[FOURTH]);
    stack_add(sum[q][0], a.y, row[1]);
    stack_add(sum[q][1], a.w, row[SECOND + 1]);
    stack_add(sum[q][2], b.z, row[THIRD + 1]);
    stack_add(sum[q][3], c.y, row[FOURTH + 1]);
    stack_add(sum[q][1], b.x, row[SECOND + 2]);
    stack_add(sum[q][2], b.w, row[THIRD + 2]);
    stack_add(sum[q][3], c.z, row[FOURTH + 2]);
  }
}

// ---- rows on their way to shared memory

// Tells when the copies of a stage have arrived: a warp sends them, each lane its own (or so many times its own), and every thread waits,
// then meets the others at a barrier. From compute capability 9.0 on a lane's rows are one bulk copy; before, all lanes of the warp copy
// them together, behind the back of the threads from 8.0 on.
struct stack_arrival {
  uint64_t state;
};

#ifndef RS_EMULATION
__device__ static inline unsigned stack_address(const void *shared) { return (unsigned)__cvta_generic_to_shared(shared); }
#endif

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
__device__ static inline void stack_expect_lanes(stack_arrival *arrival, int count = 32) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(stack_address(arrival)), "r"(count) : "memory");
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}
__device__ static inline void stack_wait_at(unsigned arrival, int phase) {
#if __CUDA_ARCH__ >= 900
#define RS_ARRIVED "mbarrier.try_wait.parity.shared::cta.b64"
#else
#define RS_ARRIVED "mbarrier.test_wait.parity.shared::cta.b64"
#endif
  asm volatile("{\n"
               ".reg .pred arrived;\n"
               "again:\n" RS_ARRIVED " arrived, [%0], %1;\n"
               "@arrived bra done;\n"
               "bra again;\n"
               "done:\n"
               "}" ::"r"(arrival),
               "r"(phase)
               : "memory");
}
__device__ static inline void stack_wait(stack_arrival *arrival, int phase) { stack_wait_at(stack_address(arrival), phase); }
#else
__device__ static inline void stack_expect_lanes(stack_arrival *, int = 32) {}
__device__ static inline void stack_wait_at(unsigned, int) {} // the barrier will do
__device__ static inline void stack_wait(stack_arrival *, int) {}
#endif

// Sends this lane's rows, a multiple of 16 bytes. All lanes of a warp call it.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
__device__ static inline void stack_send(stack_arrival *arrival, float *shared, const float *from, unsigned bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(stack_address(arrival)), "r"(bytes) : "memory");
  if (bytes)
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(stack_address(shared)),
                 "l"(from), "r"(bytes), "r"(stack_address(arrival))
                 : "memory");
}
#else
__device__ static inline void stack_send(stack_arrival *arrival, float *shared, const float *from, unsigned bytes) {
  (void)arrival;
  for (unsigned senders = __ballot_sync(0xffffffffu, bytes > 0); senders; senders &= senders - 1) {
    const int k = __ffs((int)senders) - 1;
    char *to = (char *)__shfl_sync(0xffffffffu, (unsigned long long)shared, k);
    const char *source = (const char *)__shfl_sync(0xffffffffu, (unsigned long long)from, k);
    const unsigned end = __shfl_sync(0xffffffffu, bytes, k);
    for (unsigned at = threadIdx.x % 32 * 16; at < end; at += 512)
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(stack_address(to + at)), "l"(source + at) : "memory");
#else
      *(uint4 *)(to + at) = *(const uint4 *)(source + at);
#endif
  }
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(stack_address(arrival)) : "memory");
#endif
}
#endif
