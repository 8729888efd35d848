// astra_sample.h: the texture law of astra_texture.h on a GPU, whose conversions between integers and float32 are slow: numbers from 0
// to 255 become float32 by being put below the bits of 2^23.
#pragma once
#include "../astra_texture.h"

#include <cuda_runtime.h>

#define RS_MAGIC_BITS 0x4b000000u
#define RS_MAGIC 8388608.0f // 2^23

// 2^23 + byte `n` of an integer.
template <int n> __device__ inline float rs_magic_byte(uint32_t x) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(__byte_perm(x, RS_MAGIC_BITS, 0x7650 + n)); // byte n of x below three of 2^23
#else
  return __uint_as_float((x >> (8 * n) & 255) | RS_MAGIC_BITS);
#endif
}

// The place of a position in texels, halves at their centres, as rs_texture_place32, but not held inside.
__device__ inline int32_t rs_texture_place_of(float texel) {
  return __float2int_rd(fmaf(texel, (float)RS_TEXTURE_SCALE, 0.5f)) + (int32_t)RS_TEXTURE_OFFSET32;
}

// The four weights times 256 at fractions a and b: of the texel itself, the next one along the first axis, along the second, both.
struct rs_weights {
  float self, first, second, both;
};

template <rs_texture_roles roles> __device__ inline rs_weights rs_texture_weights(uint32_t first, uint32_t second) {
  const uint32_t product = (first & 255) * (second & 255);
  const float far = rs_magic_byte<1>(product + (roles == RS_TEXTURE_YZ ? 127 : 128)),
              near = rs_magic_byte<1>(product + (roles == RS_TEXTURE_XZ ? 127 : 128));
  const float b = rs_magic_byte<0>(second);
  rs_weights w;
  w.first = rs_magic_byte<0>(first) - near;
  w.second = b - far;
  w.both = far - RS_MAGIC;
  w.self = (RS_MAGIC + 256 - b) - w.first;
  return w;
}
