// stack_lines.h: parallel beams along the slices of a volume as lines in a plane, shared by every slice. For the CPU and the GPU.
#pragma once
#include "plan.h"

#ifdef __cplusplus
extern "C" {
#endif

// The plane s of the main axis is crossed at start + column i + plane s, in voxels of the cross axis, by fine column i.
typedef struct {
  int32_t view, main;
  double start, column, plane;
} stack_line;

// A sparse matrix by rows: row r has the terms begin[r] ... begin[r + 1] - 1.
typedef struct {
  int64_t *begin;
  int32_t *index;
  float *weight;
} stack_matrix;

// Does no ray leave its slice, and do all views have the same rows? Then all slices have the same weights.
int rs_stack_along_slices(const rs_geometry *geometry);

stack_line rs_stack_line(const rs_geometry *geometry, int32_t view);
void rs_stack_lines(const rs_geometry *geometry, stack_line *line); // all views, by main axis, then slope

// Detector rows as weighted sums of slices, and the transpose. RS_OK, or RS_EMEMORY: free both then, too.
int32_t rs_stack_matrices(const rs_geometry *geometry, stack_matrix *slices_of_row, stack_matrix *rows_of_slice);
void rs_stack_free_matrix(stack_matrix *matrix);
int rs_stack_alike(const stack_matrix *matrix, int32_t rows); // do all rows have the same sum?

#ifdef __cplusplus
}
#endif
