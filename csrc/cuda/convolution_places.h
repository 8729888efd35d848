// convolution_places.h: which pixels meet in a convolution.
#pragma once
#include "../convolution.h"
#include "threads.h"

struct place {
  int64_t item, at[3], channel;
};

__device__ static inline place place_of(int64_t i, const int64_t extent[3], int64_t channels) {
  place p;
  p.channel = i % channels;
  i /= channels;
  for (int axis = 2; axis >= 0; axis--) {
    p.at[axis] = i % extent[axis];
    i /= extent[axis];
  }
  p.item = i;
  return p;
}

// Element (d, h, w) of the input that meets tap (z, y, x) of the filter at an output; the first pixel of its row, or below 0 outside.
__device__ static inline int64_t row_of(const rs_convolution &c, int64_t item, const int64_t out[3], int64_t z, int64_t y) {
  const int64_t in_z = rs_convolution_at(&c, 0, out[0], z), in_y = rs_convolution_at(&c, 1, out[1], y);
  if (in_z < 0 || in_z >= c.in[0] || in_y < 0 || in_y >= c.in[1]) return -1;
  return ((item * c.in[0] + in_z) * c.in[1] + in_y) * c.in[2];
}

// The output that an input pixel has a part in through a tap, along one axis; below 0 where there is none.
__device__ static inline int64_t output_of(const rs_convolution &c, int axis, int64_t in, int64_t tap) {
  const int64_t at = in + c.before[axis] - tap * c.dilation[axis];
  return at >= 0 && at % c.stride[axis] == 0 && at / c.stride[axis] < c.out[axis] ? at / c.stride[axis] : -1;
}
