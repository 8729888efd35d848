// halves.h: two float16 numbers in 32 bits, and the power of two that brings data of any magnitude into their range.
#pragma once
#include <cuda_runtime.h>

#ifdef RS_EMULATION
#include <string.h>

static inline unsigned half_pair(float first, float second) {
  _Float16 pair[2] = {(_Float16)first, (_Float16)second};
  unsigned bits;
  memcpy(&bits, pair, sizeof bits);
  return bits;
}
static inline float2 half_floats(unsigned halves) {
  _Float16 pair[2];
  memcpy(pair, &halves, sizeof halves);
  return {(float)pair[0], (float)pair[1]};
}
static inline unsigned half_multiply(unsigned a, unsigned b) {
  const float2 x = half_floats(a), y = half_floats(b);
  return half_pair(x.x * y.x, x.y * y.y);
}
static inline unsigned half_multiply_add(unsigned a, unsigned b, unsigned c) {
  const float2 x = half_floats(a), y = half_floats(b), z = half_floats(c);
  return half_pair(fmaf(x.x, y.x, z.x), fmaf(x.y, y.y, z.y));
}
#else
#include <cuda_fp16.h>

__device__ static inline unsigned half_bits(__half2 pair) { return *reinterpret_cast<const unsigned *>(&pair); }
__device__ static inline __half2 half_of_bits(unsigned bits) { return *reinterpret_cast<const __half2 *>(&bits); }

__device__ static inline unsigned half_pair(float first, float second) { return half_bits(__floats2half2_rn(first, second)); }
__device__ static inline float2 half_floats(unsigned halves) { return __half22float2(half_of_bits(halves)); }
__device__ static inline unsigned half_multiply(unsigned a, unsigned b) { return half_bits(__hmul2(half_of_bits(a), half_of_bits(b))); }
__device__ static inline unsigned half_multiply_add(unsigned a, unsigned b, unsigned c) {
  return half_bits(__hfma2(half_of_bits(a), half_of_bits(b), half_of_bits(c)));
}
#endif

// The power of two that takes data whose largest finite absolute value has these bits to [2^14, 2^15), and its reciprocal: the range of
// float16 then reaches from 2^16 down to 2^-24.
__device__ static inline unsigned half_exponent(unsigned largest) {
  const unsigned exponent = 268 - (largest >> 23);
  return exponent > 253 ? 253 : exponent;
}
__device__ static inline float half_scale(unsigned largest) { return __uint_as_float(half_exponent(largest) << 23); }
__device__ static inline float half_unscale(unsigned largest) { return __uint_as_float((254 - half_exponent(largest)) << 23); }
