// upright_problem.h: what the kernels of the `rs_upright` family know.
#pragma once
#include "rays.h"

namespace {

constexpr int THREADS = 256, WARPS = THREADS / 32;
constexpr int BORDER = 2; // voxels of zeros around the copy of the volume

// What the kernels know.
struct upright_problem {
  const ray_view *view;
  const int32_t *order;
  int32_t views, rows, columns;
  int32_t shape[3];
  int32_t guard, line, slots;
  int64_t line_z, column_tiles, row_tiles;
};

} // namespace
