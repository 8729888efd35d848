// slice_kernels.h: what the kernels of the `rs_slice_cuda` family share. Threads are rays or voxels; one launch is a whole operator.
//
// Two CHANNELS share the weights that a thread finds: the slice, and the slice turned by half a turn. Positions are fixed-point numbers
// with 23 bits behind the point, all that the mantissa of a float32 in [1, 2) holds: such a number, 1 + the part of a position behind its
// cell, is made by one logical operation. Shared memory, which gives 128 bytes a clock and multiprocessor, limits forward projection: 8
// bytes a slice for every sample. Back projection takes 6 for every update, and as much time for its instructions.
#pragma once
#include "split.h"
#include "stack_blocks.h"

constexpr int SLICE_BITS = 23;
constexpr int32_t SLICE_PART = (1 << SLICE_BITS) - 1;
constexpr int SLICE_FINE_BITS = 40; // of the int64_t positions at which rays enter a band of planes

// Half a turn about the middle of the slice takes the rays of a view to those of the same view in reverse, wherever the middle of the
// detector sees the middle of the slice. So plane s and column i of the slice have their counterparts in plane -1 - s, counted from the
// end, and column -1 - i; voxels and pixels next to them in its memory come in reverse.
struct slice_plane {
  const stack_view *view;
  int32_t views, columns, ny, nx;
  bool turned;       // are there such counterparts?
  int32_t part_bits; // SLICE_PART, not as a constant: an instruction has room for one, and slice_part needs two
};

// Slices of all items of a batch, `count` of them from `first` on.
struct slice_lanes {
  int64_t first, count;
  int32_t units; // slices of an item
};

// What two neighbouring samples of all channels become: one load for a position.
template <int CHANNELS> struct slice_pair { float near[CHANNELS], far[CHANNELS]; };
template <int CHANNELS> __device__ static inline void slice_put(float *shared, int32_t place, const slice_pair<CHANNELS> &pair) {
  if constexpr (CHANNELS == 1)
    reinterpret_cast<float2 *>(shared)[place] = make_float2(pair.near[0], pair.far[0]);
  else
    reinterpret_cast<float4 *>(shared)[place] = make_float4(pair.near[0], pair.near[1], pair.far[0], pair.far[1]);
}
template <int CHANNELS> __device__ static inline slice_pair<CHANNELS> slice_get(const float *shared, int32_t place) {
  slice_pair<CHANNELS> pair;
  if constexpr (CHANNELS == 1) {
    const float2 v = reinterpret_cast<const float2 *>(shared)[place];
    pair.near[0] = v.x, pair.far[0] = v.y;
  } else {
    const float4 v = reinterpret_cast<const float4 *>(shared)[place];
    pair.near[0] = v.x, pair.near[1] = v.y, pair.far[0] = v.z, pair.far[1] = v.w;
  }
  return pair;
}

// 1 + the part of a position behind its cell
__device__ static inline float slice_part(int32_t position, int32_t part_bits) {
  return __int_as_float((position & part_bits) | 0x3f800000);
}
