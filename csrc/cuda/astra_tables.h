// astra_tables.h: what a plan of the CUDA family of ASTRA's laws knows, and what its kernels are given.
#pragma once
#include "../astra_rays.h"
#include "../astra_views.h"
#include "astra_sample.h"
#include "launch.h"

#include <cfloat>

// One view, aimed along its main axis; a 2D fan, whose rays have their own, along y and x.
struct astra_aimed {
  astra_frame frame[2];
  astra_fan fan;
  int32_t main; // of frame[0]
};

// A copy of the volume with a border of zeros, for views along `main`: steps in floats from plane to plane and along the two axes
// across. Neighbouring rays should find neighbouring floats, so along x the second one is y.
struct astra_layout {
  float *packed;
  int32_t step[3];
  float count[3];
};

struct astra_forward_work {
  rs_output output;
  size_t item; // where the batch item starts in the output
  const astra_aimed *views;
  double *squares; // a block
  int32_t view_count, rows, columns, supersampling, sub_rows;
  int32_t cone, fan;
  astra_layout layout[3];
};

struct astra_back_work {
  rs_output output;
  size_t item;
  const astra_view *views;
  const float *packed; // (view, row, column) with a border of zeros
  int32_t view_count, rows, columns, depth, height, width, sub_slices, sub_rows;
};
