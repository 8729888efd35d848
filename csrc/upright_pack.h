// upright_pack.h: between the public layouts and the packed columns of the `rs_upright` family.
#pragma once
#include "upright_kernel.h"

// RS_LANES x RS_LANES, in log2(RS_LANES) rounds that swap the off-diagonal squares of side d.
UPRIGHT_INLINE void upright_transpose(rs_vf *row) {
  rs_vi lane;
  for (int k = 0; k < RS_LANES; k++) lane[k] = k;
#pragma GCC unroll 4
  for (int d = 1; d < RS_LANES; d *= 2) {
    rs_vi low = lane + (((lane & d) != 0) & (RS_LANES - d)), high = low + d;
#pragma GCC unroll 16
    for (int i = 0; i < RS_LANES; i++)
      if (!(i & d)) {
        rs_vf a = row[i], b = row[i + d];
        row[i] = rs_pick(a, b, low);
        row[i + d] = rs_pick(a, b, high);
      }
  }
}

UPRIGHT_INLINE rs_vf upright_load_some(const float *from, int64_t count) {
  if (count >= RS_LANES) return rs_load(from);
  float full[RS_LANES] = {0};
  memcpy(full, from, (size_t)count * sizeof *full);
  return rs_load(full);
}

// One row of voxels along x: target[x column_floats + z], with zeros behind z.
static void upright_pack_row(const float *source, int64_t slice_floats, int32_t slices, int32_t columns, float *target, int64_t column_floats) {
  for (int32_t z = 0; z < column_floats; z += RS_LANES)
    for (int32_t x = 0; x < columns; x += RS_LANES) {
      rs_vf row[RS_LANES];
      for (int k = 0; k < RS_LANES; k++)
        row[k] = z + k < slices ? upright_load_some(source + (z + k) * slice_floats + x, columns - x) : (rs_vf){0};
      upright_transpose(row);
      for (int k = 0; k < RS_LANES; k++)
        if (x + k < columns) rs_store(target + (x + k) * column_floats + z, row[k]);
    }
}
