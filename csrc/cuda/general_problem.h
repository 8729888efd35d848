// general_problem.h: what the kernels of the `rs_general` family know.
#pragma once
#include "rays.h"

namespace {

constexpr int THREADS = 256;

// How a view's planes lie in memory; neighbours along the cross axis are next to each other.
struct general_layout {
  int copied; // in the copy with y innermost
  int count[3];
  int64_t plane, third;
};

struct general_problem {
  const ray_view *view;
  int32_t views, rows, columns, supersampling, sub_rows;
  int32_t shape[3];
  int32_t tile_columns; // forward: columns of a block, whose other threads are rows
  int64_t column_tiles, row_tiles;
  general_layout layouts[3];
};

} // namespace
