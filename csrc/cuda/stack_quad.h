// stack_quad.h: the inner loop of the fast `rs_stack_cuda` kernels: four neighbouring sums that read two rows each, most of them shared.
//
// A row is one place of a chunk of lanes in shared memory. Reading rows is what limits these kernels (128 bytes a clock and
// multiprocessor), so a row that several of the four see is read once. Which ones do is a pattern of three steps; it is the same for all
// lanes, hence for the warp, and every pattern has code of its own that keeps rows in registers.
#pragma once
#include "stack_pack.h"

constexpr int STACK_QUADS = STACK_THREADS / 32 * 4; // of a block: four a warp

// Quads come in a table in shared memory, one for each view or plane of a stage.
struct stack_quads {
  int32_t code[STACK_QUADS];                       // bytes from the rows of the stage to the first row, and flags in the low bits
  float near[STACK_QUADS][4], far[STACK_QUADS][4]; // weights of the two rows of each sum
};

// The second to fourth sum start 0 or 1 rows behind the one before them (bits 0 ... 2), or one more with STACK_WIDE.
enum { STACK_WIDE = 8, STACK_NOTHING = 16, STACK_DOWN = 32, STACK_FLAGS = 63 };

// Makes the entry of four sums at positions 0 ... 3 in rows, counted in the direction of `sign`, from `first` of the stage's rows on.
// weight(part, near, far) gives the weights of the rows before and behind a position. Steps are held to what a pattern allows, in case
// that rounding moved a position across a row.
template <typename Weight>
__device__ static inline void stack_make_quad(stack_quads *table, int quad, const double *position, int sign, bool wide, int row_bytes,
                                              int32_t first, int32_t low, int32_t high, Weight weight) {
  auto cell_of = [&](double p) { return sign < 0 ? -(int32_t)floor(p) - 1 : (int32_t)floor(p); };
  const int32_t start = cell_of(position[0]);
  int32_t cell = start, flags = (sign < 0 ? STACK_DOWN : 0) | (wide ? STACK_WIDE : 0);
#pragma unroll
  for (int k = 0; k < 4; k++) {
    if (k) {
      const int bit = cell_of(position[k]) - cell > wide;
      flags |= bit << (k - 1);
      cell += bit + wide;
    }
    weight((float)(sign * position[k] - cell), table->near[quad][k], table->far[quad][k]);
  }
  const int32_t one = sign * start, other = sign * (cell + 1);
  const bool nothing = (one < other ? other : one) < low || (one < other ? one : other) >= high;
  table->code[quad] = nothing ? STACK_NOTHING : ((one - first) * row_bytes) | flags;
}

template <int VEC, int A, int B, int C>
__device__ static inline void stack_add_rows(stack_vector<VEC> &sum0, stack_vector<VEC> &sum1, stack_vector<VEC> &sum2,
                                             stack_vector<VEC> &sum3, const char *rows, int stride, float4 near, float4 far) {
  constexpr int FIRST = A, SECOND = A + B, THIRD = A + B + C;
  stack_vector<VEC> row[THIRD + 2];
#pragma unroll
  for (int k = 0; k < THIRD + 2; k++) row[k] = stack_load<VEC>(reinterpret_cast<const float *>(rows + k * stride));
  stack_add(sum0, near.x, row[0]);
  stack_add(sum0, far.x, row[1]);
  stack_add(sum1, near.y, row[FIRST]);
  stack_add(sum1, far.y, row[FIRST + 1]);
  stack_add(sum2, near.z, row[SECOND]);
  stack_add(sum2, far.z, row[SECOND + 1]);
  stack_add(sum3, near.w, row[THIRD]);
  stack_add(sum3, far.w, row[THIRD + 1]);
}

// Adds a quad. `rows` are those of the stage, at this thread's lanes.
template <int VEC, bool WIDE>
__device__ static inline void stack_add_quad(stack_vector<VEC> &a, stack_vector<VEC> &b, stack_vector<VEC> &c, stack_vector<VEC> &d,
                                             int32_t code, const char *rows, float4 near, float4 far) {
  const int stride = code & STACK_DOWN ? -128 * VEC : 128 * VEC;
  rows += code & ~STACK_FLAGS;
  switch (code & (WIDE ? 31 : 23)) {
  case 0: stack_add_rows<VEC, 0, 0, 0>(a, b, c, d, rows, stride, near, far); break;
  case 1: stack_add_rows<VEC, 1, 0, 0>(a, b, c, d, rows, stride, near, far); break;
  case 2: stack_add_rows<VEC, 0, 1, 0>(a, b, c, d, rows, stride, near, far); break;
  case 3: stack_add_rows<VEC, 1, 1, 0>(a, b, c, d, rows, stride, near, far); break;
  case 4: stack_add_rows<VEC, 0, 0, 1>(a, b, c, d, rows, stride, near, far); break;
  case 5: stack_add_rows<VEC, 1, 0, 1>(a, b, c, d, rows, stride, near, far); break;
  case 6: stack_add_rows<VEC, 0, 1, 1>(a, b, c, d, rows, stride, near, far); break;
  case 7: stack_add_rows<VEC, 1, 1, 1>(a, b, c, d, rows, stride, near, far); break;
  default: break;
  }
  if constexpr (WIDE) {
    switch (code & 31) {
    case 8: stack_add_rows<VEC, 1, 1, 1>(a, b, c, d, rows, stride, near, far); break;
    case 9: stack_add_rows<VEC, 2, 1, 1>(a, b, c, d, rows, stride, near, far); break;
    case 10: stack_add_rows<VEC, 1, 2, 1>(a, b, c, d, rows, stride, near, far); break;
    case 11: stack_add_rows<VEC, 2, 2, 1>(a, b, c, d, rows, stride, near, far); break;
    case 12: stack_add_rows<VEC, 1, 1, 2>(a, b, c, d, rows, stride, near, far); break;
    case 13: stack_add_rows<VEC, 2, 1, 2>(a, b, c, d, rows, stride, near, far); break;
    case 14: stack_add_rows<VEC, 1, 2, 2>(a, b, c, d, rows, stride, near, far); break;
    case 15: stack_add_rows<VEC, 2, 2, 2>(a, b, c, d, rows, stride, near, far); break;
    default: break;
    }
  }
}

// Copies 16 bytes to shared memory, or writes zeros there, while the thread goes on; stack_arrived waits for all of a thread's copies.
__device__ static inline void stack_copy(float *shared, const float *from, bool inside) {
#ifdef __CUDA_ARCH__
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((unsigned)__cvta_generic_to_shared(shared)), "l"(from),
               "r"(inside ? 16 : 0)
               : "memory");
#else
  for (int k = 0; k < 4; k++) shared[k] = inside ? from[k] : 0;
#endif
}
__device__ static inline void stack_arrived() {
#ifdef __CUDA_ARCH__
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

// Copies the places low ... low + count - 1 of a line of `line` places, `step` floats apart, to rows in shared memory, by the whole block.
// Places off the line are zero.
template <int VEC>
__device__ static inline void stack_copy_rows(float *rows, const float *from, int64_t step, int32_t low, int32_t count, int32_t line) {
  constexpr int PIECES = 8 * VEC; // of a row
  const int piece = threadIdx.x % PIECES * 4;
  for (int32_t r = threadIdx.x / PIECES; r < count; r += STACK_THREADS / PIECES) {
    const int32_t place = low + r;
    const bool inside = place >= 0 && place < line;
    stack_copy(rows + r * 32 * VEC + piece, from + (inside ? place : 0) * step + piece, inside);
  }
}
