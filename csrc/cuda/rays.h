// rays.h: the rays of a view and the way along them, for the CUDA families whose kernels follow single rays.
//
// A position is whole cells and a float32 offset that is set anew, from float64, every RAY_RUN planes, so that weights are accurate to
// some 1e-7 whatever the size of the volume.
#pragma once
#include "launch.h"

#define RAY_RUN 16           // planes from one float64 position to the next
#define RAY_ROOM 12582912.0f // 1.5 * 2^23: float32 has no room for fractions next to it, so adding it rounds
#define RAY_ROOM_BITS 0x4B400000

// The rays of a view, axes in the order main, cross, third: rays run along `way` through `point`, and rows and columns move the point
// (parallel) or the direction (cone).
struct ray_view {
  double point[3], way[3], v[3], u[3];
  double turn, axis[3], middle; // of a curved detector, see rs_view; the middle column
  double voxel[3];              // sizes
  int main, cone;
};

struct ray {
  double point[3], way[3];
};

__host__ __device__ static inline ray aim(const ray_view &view, double row, double column) {
  ray out;
  double along = column, rise = 0; // as in rs_bend
  if (view.turn != 0) {
    const double half = sin(0.5 * view.turn * (column - view.middle));
    along = view.middle + sin(view.turn * (column - view.middle)) / view.turn;
    rise = 2 * half * half;
  }
  for (int k = 0; k < 3; k++) {
    double shift = row * view.v[k] + along * view.u[k] + rise * view.axis[k];
    out.point[k] = view.point[k] + (view.cone ? 0 : shift);
    out.way[k] = view.way[k] + (view.cone ? shift : 0);
  }
  return out;
}

// Narrows [first, last], planes from 0, to where low <= position + slope s <= high.
__device__ static inline void clip(double position, double slope, double low, double high, double &first, double &last) {
  if (slope == 0 || low > high) {
    if (position < low || position > high) last = -1;
    return;
  }
  double inverse = 1 / slope, enter = (low - position) * inverse, leave = (high - position) * inverse;
  first = fmax(first, fmin(enter, leave));
  last = fmin(last, fmax(enter, leave));
}

// The way along an axis, counted from a cell on a middle plane.
struct track {
  int cell;
  float offset, slope;
};

__device__ static inline track follow(double position, double slope) {
  const double whole = floor(position);
  return {(int)whole, (float)(position - whole), (float)slope};
}

// The cell at `at` and the weight of its further voxel.
__device__ static inline int find(float at, float &far) {
  const float room = __fadd_rd(at, RAY_ROOM); // rounds down
  far = at - (room - RAY_ROOM);
  return __float_as_int(room) - RAY_ROOM_BITS;
}

// The same on the plane `way` from the middle plane; the cell is counted from the middle's.
__device__ static inline int find(const track &t, float way, float &far) { return find(fmaf(way, t.slope, t.offset), far); }

// 1 / x to its last bit or the one before, for x far from the ends of float32.
__device__ static inline float reciprocal(float x) {
#ifdef __CUDA_ARCH__
  float out;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
  return out;
#else
  return 1 / x;
#endif
}

// base + index in one instruction, where the compiler would take three to share sums among several.
__device__ static inline const float *place(const float *base, int32_t index) {
#ifdef __CUDA_ARCH__
  const float *out;
  asm("mad.wide.s32 %0, %1, 4, %2;" : "=l"(out) : "r"(index), "l"(base));
  __builtin_assume(__isGlobal(out));
  return out;
#else
  return base + index;
#endif
}

static inline ray_view rays_of(const rs_geometry *geometry, const rs_view *view) {
  const int axes[3] = {view->main, view->cross, RS_Z + RS_Y + RS_X - view->main - view->cross};
  ray_view out;
  out.main = view->main;
  out.cone = geometry->beam == RS_CONE;
  for (int k = 0; k < 3; k++) {
    const int axis = axes[k];
    out.point[k] = out.cone ? view->origin[axis] : view->corner[axis];
    out.way[k] = out.cone ? view->corner[axis] - view->origin[axis] : view->origin[axis];
    out.v[k] = view->v[axis];
    out.u[k] = view->u[axis];
    out.axis[k] = view->axis[axis];
    out.voxel[k] = geometry->voxel[axis];
  }
  out.turn = view->turn;
  out.middle = 0.5 * (geometry->fine_columns - 1);
  return out;
}

// The output of the next batch item.
static inline void advance(rs_output *output, int64_t size) {
  output->target += size;
  if (output->measured) output->measured += size;
}

static inline int64_t parts(int64_t count, int64_t size) { return (count + size - 1) / size; }
