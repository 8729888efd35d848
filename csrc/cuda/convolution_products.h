// convolution_products.h: tensor cores as kernels here use them: products of 16 rows, 8 columns and 8 words of depth. A word is one tf32 number, or
// two bf16 numbers that follow one another in depth (the lower half first): with both the same lanes hold the same words. Of the
// lanes of a warp, g = lane / 4 and t = lane % 4:
//   left    word k of row r:    lane 4 (r % 8) + k % 4, left[r / 8 + 2 (k / 4)]
//   right   word k of column n: lane 4 n + k % 4, right[k / 4]
//   sums    row r, column n:    lane 4 (r % 8) + n / 2, sums[2 (r / 8) + n % 2]
// mma.sync has these types from compute capability 8.0 on. Older devices and the emulation compute the same from the same words.
#pragma once
#include "launch.h"

// Numbers of a word, and the rounding of a word's worth of numbers: to nearest; ties away from zero for tf32, to even for bf16.
template <int PRECISION> constexpr int rs_per_word = PRECISION == RS_CONVOLVE_BF16 ? 2 : 1;

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define RS_PRODUCTS 1
#else
#define RS_PRODUCTS 0
#endif

#if !RS_PRODUCTS
__device__ static inline uint32_t rs_tf32(float x) {
  uint32_t bits = __float_as_uint(x);
  return x - x == 0 ? (bits + 0x1000) & 0xffffe000 : bits; // neither infinite nor NaN
}
__device__ static inline uint32_t rs_bf16_bits(float x) {
  uint32_t bits = __float_as_uint(x);
  return x == x ? (bits + 0x7fff + (bits >> 16 & 1)) >> 16 : 0x7fff;
}
__device__ static inline uint32_t rs_bf16(float low, float high) { return rs_bf16_bits(low) | rs_bf16_bits(high) << 16; }
#else
__device__ static inline uint32_t rs_tf32(float x) {
  uint32_t word;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(word) : "f"(x));
  return word;
}
__device__ static inline uint32_t rs_bf16(float low, float high) {
  uint32_t word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}
#endif

// sum += the product of two words.
template <int PRECISION> __device__ static inline void rs_multiply_words(float &sum, uint32_t a, uint32_t b) {
  if (PRECISION == RS_CONVOLVE_TF32)
    sum += __uint_as_float(a) * __uint_as_float(b);
  else
    sum += __uint_as_float(a << 16) * __uint_as_float(b << 16) + __uint_as_float(a & 0xffff0000) * __uint_as_float(b & 0xffff0000);
}

// sums += left right, by all lanes of a warp, whose words go from lane to lane.
template <int PRECISION>
__device__ static inline void rs_multiply_by_lanes(float (&sums)[4], const uint32_t (&left)[4], const uint32_t (&right)[2]) {
  const int lane = threadIdx.x % 32;
#pragma unroll 1 // kernels have hundreds of these products
  for (int k = 0; k < 4; k++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      uint32_t rows[2], columns[2];
#pragma unroll
      for (int n = 0; n < 2; n++) {
        rows[n] = __shfl_sync(0xffffffffu, left[n + 2 * half], lane / 4 * 4 + k);
        columns[n] = __shfl_sync(0xffffffffu, right[half], (lane % 4 * 2 + n) * 4 + k);
      }
#pragma unroll
      for (int at = 0; at < 4; at++) rs_multiply_words<PRECISION>(sums[at], rows[at / 2], columns[at % 2]);
    }
}

// sums += left right, by all lanes of a warp.
template <int PRECISION>
__device__ static inline void rs_multiply(float (&sums)[4], const uint32_t (&left)[4], const uint32_t (&right)[2]) {
#ifdef RS_EMULATION // as rs_multiply_by_lanes, with fewer turns from one thread to the next
  struct words {
    uint32_t left[4], right[2];
  };
  static words all[32][32];
  words *warp = all[(threadIdx.x + blockDim.x * threadIdx.y) / 32];
  const int lane = rs_lane();
  for (int k = 0; k < 4; k++) warp[lane].left[k] = left[k];
  for (int k = 0; k < 2; k++) warp[lane].right[k] = right[k];
  __syncwarp();
  for (int k = 0; k < 8; k++)
    for (int at = 0; at < 4; at++)
      rs_multiply_words<PRECISION>(sums[at], warp[lane / 4 * 4 + k % 4].left[at / 2 + k / 4 * 2],
                                   warp[(lane % 4 * 2 + at % 2) * 4 + k % 4].right[k / 4]);
  __syncwarp();
#elif !RS_PRODUCTS
  rs_multiply_by_lanes<PRECISION>(sums, left, right);
#else
  if (PRECISION == RS_CONVOLVE_TF32)
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right[0]), "r"(right[1]));
  else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right[0]), "r"(right[1]));
#endif
}

// Words of `left` from shared memory, where word k of row r is at[r * stride + k]. A stride of 4 more than a multiple of 8 words meets no
// bank twice.
__device__ static inline void rs_left(uint32_t (&words)[4], const uint32_t *at, int stride) {
  const int lane = threadIdx.x % 32;
#ifdef RS_EMULATION
  for (int k = 0; k < 4; k++) words[k] = at[(lane / 4 + k % 2 * 8) * stride + lane % 4 + k / 2 * 4];
#else
  const uint32_t from = (uint32_t)__cvta_generic_to_shared(at + lane % 16 * stride + lane / 16 * 4);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(from)
               : "memory");
#endif
}

// Words of `left`, whose rows are 16 channels and whose depth are pixels, from shared memory that has them the other way round: pixel
// p's channels from at[p * stride] on, 8 pixels in tf32 and 16 in bf16. A stride of 8 or 24 (tf32), 4 or 12 or 20 (bf16) more than a
// multiple of 32 words meets no bank twice. Of `right`, for two groups of 8 columns, they are words 0 and 2, and 1 and 3 (bf16).
// In tf32 `at` is even, and rows r and r + 8 are the neighbours in memory 2 r and 2 r + 1, which a lane has in one load.
template <int PRECISION> __device__ static inline void rs_turned(uint32_t (&words)[4], const uint32_t *at, int stride) {
  const int lane = threadIdx.x % 32;
  if (PRECISION == RS_CONVOLVE_TF32) {
#pragma unroll
    for (int k = 0; k < 4; k += 2) {
      const uint2 pair = *(const uint2 *)(at + (lane % 4 + k * 2) * stride + lane / 4 * 2);
      words[k] = pair.x, words[k + 1] = pair.y;
    }
    return;
  }
#ifdef RS_EMULATION
  for (int k = 0; k < 4; k++) {
    const uint16_t *half = (const uint16_t *)(at + (lane % 4 * 2 + k / 2 * 8) * stride) + k % 2 * 8 + lane / 4;
    words[k] = half[0] | (uint32_t)half[2 * stride] << 16;
  }
#else
  const uint32_t from = (uint32_t)__cvta_generic_to_shared(at + (lane % 8 + lane / 16 * 8) * stride + lane / 8 % 2 * 4);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(from)
               : "memory");
#endif
}

// Words of `left` from shared memory, 16 bytes a row and half: lane n has the address of row n % 16, of words 0 to 3 (n < 16) or 4 to 7.
__device__ static inline void rs_rows(uint32_t (&words)[4], const uint32_t *at) {
#ifdef RS_EMULATION
  static const uint32_t *all[32][32];
  const uint32_t **warp = all[(threadIdx.x + blockDim.x * threadIdx.y) / 32];
  const int lane = rs_lane();
  warp[lane] = at;
  __syncwarp();
  for (int k = 0; k < 4; k++) words[k] = warp[k * 8 + lane / 4][lane % 4];
  __syncwarp();
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"((uint32_t)__cvta_generic_to_shared(at))
               : "memory");
#endif
}
