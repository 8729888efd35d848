// stack_lines.c: the lines of stack_lines.h from a geometry.
#include "stack_lines.h"

#include "status.h"

#include <math.h>
#include <stdlib.h>

stack_line rs_stack_line(const rs_geometry *geometry, int32_t view) {
  const rs_view *v = &geometry->view[view];
  double slope = v->origin[v->cross] / v->origin[v->main];
  return (stack_line){.view = view,
                      .main = v->main,
                      .start = v->corner[v->cross] - v->corner[v->main] * slope,
                      .column = v->u[v->cross] - v->u[v->main] * slope,
                      .plane = slope};
}

static int compare(const void *a, const void *b) {
  const stack_line *p = a, *q = b;
  if (p->main != q->main) return p->main - q->main;
  if (p->plane != q->plane) return p->plane < q->plane ? -1 : 1;
  return p->view < q->view ? -1 : 1;
}

void rs_stack_lines(const rs_geometry *geometry, stack_line *line) {
  for (int32_t i = 0; i < geometry->views; i++) line[i] = rs_stack_line(geometry, i);
  qsort(line, (size_t)geometry->views, sizeof *line, compare);
}

int rs_stack_along_slices(const rs_geometry *geometry) {
  if (geometry->beam != RS_PARALLEL) return 0;
  const rs_view *first = &geometry->view[0];
  for (int32_t i = 0; i < geometry->views; i++) {
    const rs_view *v = &geometry->view[i];
    if (v->main == RS_Z) return 0;
    if (fabs(v->origin[RS_Z]) > 1e-12 * fabs(v->origin[v->main])) return 0;
    if (fabs(v->u[RS_Z]) > 1e-12 * hypot(v->u[RS_Y], v->u[RS_X])) return 0;
    if (hypot(v->v[RS_Y], v->v[RS_X]) > 1e-12 * fabs(v->v[RS_Z])) return 0;
    if (fabs(v->corner[RS_Z] - first->corner[RS_Z]) > 1e-9) return 0;
    if (fabs(v->v[RS_Z] - first->v[RS_Z]) * geometry->fine_rows > 1e-9) return 0;
  }
  return 1;
}

void rs_stack_free_matrix(stack_matrix *matrix) {
  free(matrix->begin);
  free(matrix->index);
  free(matrix->weight);
}

int rs_stack_alike(const stack_matrix *matrix, int32_t rows) {
  float first = 0;
  for (int32_t r = 0; r < rows; r++) {
    float sum = 0;
    for (int64_t e = matrix->begin[r]; e < matrix->begin[r + 1]; e++) sum += matrix->weight[e];
    if (r == 0) first = sum;
    if (sum != first) return 0;
  }
  return 1;
}

static int32_t allocate(stack_matrix *matrix, int64_t rows, int64_t terms) {
  matrix->begin = calloc((size_t)rows + 2, sizeof *matrix->begin);
  matrix->index = malloc((size_t)terms * sizeof *matrix->index);
  matrix->weight = malloc((size_t)terms * sizeof *matrix->weight);
  if (matrix->begin && matrix->index && matrix->weight) return RS_OK;
  return rs_fail(RS_EMEMORY, "no host memory for %lld row weights", (long long)terms);
}

int32_t rs_stack_matrices(const rs_geometry *geometry, stack_matrix *slices_of_row, stack_matrix *rows_of_slice) {
  const rs_view *view = &geometry->view[0];
  stack_matrix *rows = slices_of_row, *slices = rows_of_slice;
  int32_t sub_rows = geometry->sub_rows, slice_count = geometry->shape[RS_Z];
  int64_t most = 2 * (int64_t)geometry->fine_rows, terms = 0;
  if (allocate(rows, geometry->rows, most) || allocate(slices, slice_count, most)) return RS_EMEMORY;
  for (int32_t r = 0; r < geometry->rows; r++) {
    int64_t begin = rows->begin[r] = terms;
    for (int32_t q = 0; q < sub_rows; q++) {
      double z = view->corner[RS_Z] + view->v[RS_Z] * ((double)r * sub_rows + q);
      if (fabs(z - round(z)) < 1e-9) z = round(z); // rounding must not turn one slice into two
      if (!(z > -1 && z < slice_count)) continue;
      for (int32_t k = (int32_t)floor(z); k <= (int32_t)floor(z) + 1; k++) {
        float weight = (float)((1 - fabs(z - k)) / sub_rows);
        if (k < 0 || k >= slice_count || weight == 0) continue;
        int64_t e = begin;
        while (e < terms && rows->index[e] != k) e++;
        if (e == terms) rows->index[e] = k, rows->weight[e] = 0, terms++;
        rows->weight[e] += weight;
      }
    }
  }
  rows->begin[geometry->rows] = terms;
  // The transpose: count, add up, fill. begin is one place ahead while filling.
  for (int64_t e = 0; e < terms; e++) slices->begin[rows->index[e] + 2]++;
  for (int32_t k = 2; k <= slice_count; k++) slices->begin[k] += slices->begin[k - 1];
  for (int32_t r = 0; r < geometry->rows; r++)
    for (int64_t e = rows->begin[r]; e < rows->begin[r + 1]; e++) {
      int64_t place = slices->begin[rows->index[e] + 1]++;
      slices->index[place] = r;
      slices->weight[place] = rows->weight[e];
    }
  return RS_OK;
}
