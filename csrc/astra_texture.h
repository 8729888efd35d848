// astra_texture.h: linear interpolation as NVIDIA's texture units do it, which ASTRA's CUDA projectors inherit. Scalar arithmetic that
// CPU loops (which compilers turn into vectors) and CUDA kernels share.
//
// Measured, bit by bit, on a Hopper GPU: a coordinate is rounded to 1/256 of a texel, halves up; the two fractions a and b are
// multiplied to weights that are whole 256ths again. What the weights of the four neighbours sum to is always one, so one rounded
// product settles them, except that a three-dimensional texture splits the weight between its layers first, and a half is then
// rounded up or down after the part that each axis plays.
#pragma once
#include "elementwise.h"

// Which axes the two coordinates are. The product a b / 256 is rounded for the neighbour that is further along both axes and those
// further along the second only ("far"), and for the two others ("near"): halves up, but down for far of y, z and near of x, z.
typedef enum { RS_TEXTURE_XY, RS_TEXTURE_XZ, RS_TEXTURE_YZ } rs_texture_roles;

// Textures have a border of zeros: one texel before the first and two behind the last along each axis.
#define RS_TEXTURE_BORDER 3

// A coordinate t that counts texels and is whole at their centres is kept as p = RS_TEXTURE_SCALE t + RS_TEXTURE_OFFSET. A place is p
// rounded down, and one in the border where p is outside or not a number.
#define RS_TEXTURE_SCALE 256.0
#define RS_TEXTURE_OFFSET 256.5

RS_INLINE int32_t rs_texture_place(double p, double last) {
  double above = p > 0 ? p : 0;
  return (int32_t)(above < last ? above : last);
}

// The same from 256 t in float32, with 256 halves before the first centre as t = 1/2 there: the half is added before the whole numbers,
// for which a float32 may have no room beside the last bits.
#define RS_TEXTURE_OFFSET32 128.0f
RS_INLINE int32_t rs_texture_place32(float p, float last) {
  float place = floorf(p + 0.5f) + RS_TEXTURE_OFFSET32, above = place > 0 ? place : 0;
  return (int32_t)(above < last ? above : last);
}

// The last place on an axis of `count` texels; exact in float32, too.
RS_INLINE double rs_texture_last(int32_t count) { return 256.0 * (count + 1); }

// 256 times the value at a place, in a texture (or a layer of it) with its border; steps in floats from texel to texel.
RS_INLINE float rs_texture_sample(const float *texels, int32_t first, int32_t second, int32_t first_step, int32_t second_step,
                                  rs_texture_roles roles) {
  const int32_t a = first & 255, b = second & 255, index = (first >> 8) * first_step + (second >> 8) * second_step;
  const int32_t far = (a * b + 128 - (roles == RS_TEXTURE_YZ)) >> 8, near = (a * b + 128 - (roles == RS_TEXTURE_XZ)) >> 8;
  const float low = (float)(256 - a - b + near) * texels[index] + (float)(a - near) * texels[index + first_step];
  return low + ((float)(b - far) * texels[index + second_step] + (float)far * texels[index + first_step + second_step]);
}
