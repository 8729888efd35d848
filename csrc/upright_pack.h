// upright_pack.h: between the public layouts and the packed columns of the `rs_upright` family.
#pragma once
#include "upright_kernel.h"

#define UPRIGHT_STRETCH 64 // detector columns that are packed together: enough of a public row to be read at full speed

// One row of voxels along x: target[x column_floats + z], with zeros behind z.
static void upright_pack_row(const float *source, int64_t slice_floats, int32_t slices, int32_t columns, float *target,
                             int64_t column_floats) {
  for (int32_t z = 0; z < column_floats; z += RS_LANES)
    for (int32_t x = 0; x < columns; x += RS_LANES) {
      rs_vf row[RS_LANES];
      for (int k = 0; k < RS_LANES; k++)
        row[k] = z + k < slices ? rs_load_some(source + (z + k) * slice_floats + x, columns - x) : (rs_vf){0};
      rs_transpose(row);
      for (int k = 0; k < RS_LANES; k++)
        if (x + k < columns) rs_store(target + (x + k) * column_floats + z, row[k]);
    }
}

// One virtual view: target[column pixel_floats + row], with zeros behind the rows, every value times the length of its ray.
static void upright_pack_view(const rs_geometry *geometry, const upright_tables *tables, const upright_name *name, const float *source,
                              float *target) {
  upright_detector detector = upright_detector_of(geometry, tables, name);
  const float scale = 1.0f / (float)tables->parts;
  for (int32_t from = 0; from < geometry->columns; from += UPRIGHT_STRETCH) {
    int32_t columns = (int32_t)upright_smaller(UPRIGHT_STRETCH, geometry->columns - from);
    upright_line line[UPRIGHT_STRETCH];
    for (int32_t i = 0; i < columns; i++) line[i] = upright_line_of(geometry, &detector, from + i);
    for (int32_t j = 0; j < tables->pixel_floats; j += RS_LANES) {
      const float *row_of[RS_LANES]; // in the public stack
      for (int k = 0; k < RS_LANES; k++) {
        int64_t row = upright_row(geometry, tables, name, j + k);
        row_of[k] = row < 0 ? NULL : source + (row * geometry->views + name->view) * geometry->columns + from;
      }
      for (int32_t i = 0; i < columns; i += RS_LANES) {
        rs_vf row[RS_LANES];
        for (int k = 0; k < RS_LANES; k++) row[k] = row_of[k] ? rs_load_some(row_of[k] + i, columns - i) : (rs_vf){0};
        rs_transpose(row);
        for (int k = 0; k < RS_LANES && i + k < columns; k++)
          rs_store(target + (from + i + k) * tables->pixel_floats + j,
                   upright_lengths(geometry, detector.view, &line[i + k], j, scale) * row[k]);
      }
    }
  }
}

// lines[k][i] = vector k of packed column i, of which neighbours lie `stride` floats apart; for up to UPRIGHT_SIDE columns.
#define UPRIGHT_SIDE 16
UPRIGHT_INLINE void upright_unpack(const float *columns, int64_t stride, float (*lines)[UPRIGHT_SIDE]) {
  for (int i = 0; i < UPRIGHT_SIDE; i += RS_LANES) {
    rs_vf row[RS_LANES];
    for (int k = 0; k < RS_LANES; k++) row[k] = rs_load(columns + (i + k) * stride);
    rs_transpose(row);
    for (int k = 0; k < RS_LANES; k++) rs_store(lines[k] + i, row[k]);
  }
}
