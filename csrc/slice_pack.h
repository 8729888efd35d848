// slice_pack.h: images and sinograms turned over and given borders of zeros, for the `rs_slice` family.
#pragma once
#include "slice_tables.h"

static inline rs_vf slice_reverse(rs_vf v) {
  rs_vi lane;
  for (int k = 0; k < RS_LANES; k++) lane[k] = RS_LANES - 1 - k;
  return rs_pick(v, v, lane);
}

// RS_LANES values from `first` on of a line of `count`, the other way when reversed; zeros beside it.
static inline rs_vf slice_read(const float *line, int64_t first, int64_t count, int reversed) {
  if (reversed) first = count - RS_LANES - first;
  rs_vf v;
  if (first >= 0 && first + RS_LANES <= count)
    v = rs_load(line + first);
  else {
    float some[RS_LANES] = {0};
    for (int k = 0; k < RS_LANES; k++)
      if (first + k >= 0 && first + k < count) some[k] = line[first + k];
    v = rs_load(some);
  }
  return reversed ? slice_reverse(v) : v;
}

typedef struct {
  const float *data;
  int64_t stride, rows, columns;
  int transposed, flip_rows, flip_columns; // the source's rows and columns
} slice_image;

// The square with its first corner at (row, column) of an image that may be turned over. Zeros beside it.
static inline void slice_square(const slice_image *image, int64_t row, int64_t column, rs_vf *square) {
  int64_t line = image->transposed ? column : row, first = image->transposed ? row : column;
  for (int k = 0; k < RS_LANES; k++) {
    int64_t from = image->flip_rows ? image->rows - 1 - (line + k) : line + k;
    int inside = from >= 0 && from < image->rows;
    square[k] = inside ? slice_read(image->data + from * image->stride, first, image->columns, image->flip_columns) : (rs_vf){0};
  }
  if (image->transposed) rs_transpose(square);
}
