// stack_plan.h: what the kernels of the `rs_stack_cuda` family know about a geometry, and how lanes lie in memory.
//
// A lane is one detector row (forward) or one slice (back) of one batch item, the latter fastest. All lanes share their weights. Packed
// arrays hold the lanes in chunks of `width` neighbours, which a warp reads together: [chunk][place][lane of the chunk], where a place is
// a voxel (y, x) or a column of a view.
#pragma once
#include "../stack_lines.h"
#include "launch.h"

#include <math.h>

// How law astra aims at voxels: pixel (0, 0) and one column along and across the main axis, from an astra_frame; and where it finds
// them again: column32 of an astra_view, and the volume's middle along y and x.
struct stack_aim {
  float first[2], u[2], slope, count[2], column32[4], middle[2];
};

// A view as the kernels see it. Views are sorted by main axis, then slope.
struct stack_view {
  double start, column, plane;     // the plane s of the main axis is crossed at start + column i + plane s by fine column i
  double origin, along_y, along_x; // voxel (y, x) lies at fine column origin + along_y y + along_x x
  float length, pitch;             // of ray between two planes, divided by the supersampling; voxels between fine columns
  float weight;                    // of back projection: the length
  int32_t view, main;              // its place in the public stack
  int32_t forward_kind, back_kind; // of quads, see stack_quad.h
  int32_t turn;                    // back: how quads lie: 2 along x, not y; 1 from high to low
  stack_aim aim;
};

// The plane of a slice or a row that all kernels of a plan work on.
struct stack_plane {
  const stack_view *view;
  int32_t views, columns, supersampling, ny, nx;
  double slack = 1e-6; // by how much rounding, or the law, may move positions
};

// Where lanes lie in a public array.
struct stack_lanes {
  int64_t first, count; // of this launch, counted over the batch
  int32_t units;        // rows or slices of an item
  int64_t item_size, unit_step;
};

// Positions beyond any volume and any detector: what is farther off is held there.
constexpr double STACK_FAR = 1e8;

struct stack_place {
  int64_t item, unit;
};

__device__ static inline stack_place stack_place_of(const stack_lanes &lanes, int64_t lane) {
  lane += lanes.first;
  if (lane < INT32_MAX) return {(int32_t)lane / lanes.units, (int32_t)lane % lanes.units};
  return {lane / lanes.units, lane % lanes.units};
}

// VEC neighbouring lanes: what a thread works on.
template <int VEC> struct stack_vector { float lane[VEC]; };
template <int VEC> __device__ static inline stack_vector<VEC> stack_load(const float *from) {
  stack_vector<VEC> v;
  if constexpr (VEC == 4) {
    float4 f = *reinterpret_cast<const float4 *>(from);
    v.lane[0] = f.x, v.lane[1] = f.y, v.lane[2] = f.z, v.lane[3] = f.w;
  } else if constexpr (VEC == 2) {
    float2 f = *reinterpret_cast<const float2 *>(from);
    v.lane[0] = f.x, v.lane[1] = f.y;
  } else {
    v.lane[0] = *from;
  }
  return v;
}
template <int VEC> __device__ static inline void stack_store(float *to, const stack_vector<VEC> &v) {
  if constexpr (VEC == 4)
    *reinterpret_cast<float4 *>(to) = make_float4(v.lane[0], v.lane[1], v.lane[2], v.lane[3]);
  else if constexpr (VEC == 2)
    *reinterpret_cast<float2 *>(to) = make_float2(v.lane[0], v.lane[1]);
  else
    *to = v.lane[0];
}
template <int VEC> __device__ static inline void stack_add(stack_vector<VEC> &sum, float weight, const stack_vector<VEC> &v) {
#pragma unroll
  for (int k = 0; k < VEC; k++) sum.lane[k] = fmaf(weight, v.lane[k], sum.lane[k]);
}
