// vectors.h: CUDA's qualifiers and vector types for the emulation.
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __managed__
#define __grid_constant__
#define __shared__ static // one block runs at a time
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

#define RS_VECTORS(type, name, pair_alignment, quad_alignment)                       \
  struct name##1 {                                                                   \
    type x;                                                                          \
  };                                                                                 \
  struct __align__(pair_alignment) name##2 {                                         \
    type x, y;                                                                       \
  };                                                                                 \
  struct name##3 {                                                                   \
    type x, y, z;                                                                    \
  };                                                                                 \
  struct __align__(quad_alignment) name##4 {                                         \
    type x, y, z, w;                                                                 \
  };                                                                                 \
  static inline name##1 make_##name##1(type x) { return {x}; }                       \
  static inline name##2 make_##name##2(type x, type y) { return {x, y}; }            \
  static inline name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; } \
  static inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
RS_VECTORS(signed char, char, 2, 4)
RS_VECTORS(unsigned char, uchar, 2, 4)
RS_VECTORS(short, short, 4, 8)
RS_VECTORS(unsigned short, ushort, 4, 8)
RS_VECTORS(int, int, 8, 16)
RS_VECTORS(unsigned, uint, 8, 16)
RS_VECTORS(long long, longlong, 16, 16)
RS_VECTORS(unsigned long long, ulonglong, 16, 16)
RS_VECTORS(float, float, 8, 16)
RS_VECTORS(double, double, 16, 16)
#undef RS_VECTORS

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
  constexpr operator uint3() const { return {x, y, z}; }
};
