// stack_tables.h: what the `rs_stack` family knows about a geometry before any data is seen.
#pragma once
#include "plan.h"
#include "simd.h"
#include "status.h"

#include <math.h>
#include <stdlib.h>

// Samples that one call of the inner loop gathers: planes of the main axis (forward), views (back). Their offsets and weights are
// computed side by side in vectors, and float32 sums are no longer than this before they are added to the next ones.
#define STACK_RUN 16
#define STACK_PATCH 8                          // back: side of a square of voxels that is worked off at a time
#define STACK_VECTORS 4                        // most vectors of lanes in a block
#define STACK_BLOCK (STACK_VECTORS * RS_LANES) // most lanes in a block

// Positions inside a run or a patch are counted from a nearby voxel or column in units of 2^-24, which is as exact as a float32 weight.
// Limits on the distance of columns, in voxels across the main axis, keep them in an int32_t and bound the taps.
#define STACK_BITS 24
#define STACK_ONE ((double)(1 << STACK_BITS))
#define STACK_FINEST 0.125
#define STACK_COARSEST 8.0
#define STACK_TAPS 18
#define STACK_FAR 256 // what is farther off the volume or the detector is so with its whole run or patch

// Lengthens a row of voxels or columns to 4 mod 8 of them. The pieces of neighbouring rows that rays of any slope up to 1 need together
// then spread over a first-level cache whose ways are 4 KiB; at a multiple of 16 they would all compete for the same lines.
#define STACK_SPREAD(count) ((((count) + 3) & ~7) + 4)

// Up to STACK_RUN views with the same main axis and similar slopes, so that together they need few voxels around their rays.
typedef struct {
  int32_t views, main;
  int32_t forward_taps, back_taps; // voxels of a plane that a column sees; columns that see a voxel
  int32_t view[STACK_RUN];         // their places in the public stack
  float length[STACK_RUN];         // of ray between two planes, divided by the supersampling
  float pitch[STACK_RUN];          // voxels between fine columns
  // Forward: on plane s the S fine columns of column j lie at start + column j + plane s + pitch q on the cross axis.
  double start[STACK_RUN], column[STACK_RUN], plane[STACK_RUN];
  int32_t planes[STACK_RUN][STACK_RUN]; // [view][n]: plane n
  // Back: the first column that sees voxel (y, x) is floor(c), c = origin + along_y y + along_x x; its fine column q lies
  // pitch (q - S (c - floor(c))) + shift voxels away.
  double origin[STACK_RUN], along_y[STACK_RUN], along_x[STACK_RUN];
  float shift[STACK_RUN];
  int32_t steps_y[STACK_PATCH][STACK_RUN], steps_x[STACK_PATCH][STACK_RUN]; // [n][view]: along_y n and along_x n
} stack_group;

// A sparse matrix by rows: row r has the terms begin[r] ... begin[r + 1] - 1.
typedef struct {
  int64_t *begin;
  int32_t *index;
  float *weight;
} stack_matrix;

typedef struct {
  int64_t groups;
  stack_group *group;
  stack_matrix slices_of_row, rows_of_slice; // detector rows are weighted sums of slices, and the transpose
  int32_t block;                             // most lanes in a block of this plan
  int32_t tile_height;                       // of a back task, in voxels
  int32_t margin, padding;                   // zero voxels around the volume, zero columns beside the projections
  int64_t volume_row, view_row;              // voxels and columns with these, and a gap
  int64_t volume_floats, projection_floats;  // parts of the workspace, then the sums of squares
} stack_tables;

static inline int64_t stack_smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t stack_parts(int64_t count, int64_t size) { return (count + size - 1) / size; }

// ---- one view

// The plane through the voxels is crossed at start + column i + plane s by fine column i.
typedef struct {
  int32_t view, main;
  double start, column, plane;
} stack_line;

static stack_line stack_line_of(const rs_geometry *geometry, int32_t view) {
  const rs_view *v = &geometry->view[view];
  double slope = v->origin[v->cross] / v->origin[v->main];
  return (stack_line){.view = view,
                      .main = v->main,
                      .start = v->corner[v->cross] - v->corner[v->main] * slope,
                      .column = v->u[v->cross] - v->u[v->main] * slope,
                      .plane = slope};
}

// The most integers inside an open interval of this length; what lies within 1e-7 of its ends has no weight in float32.
static int32_t stack_most_inside(double length) { return (int32_t)ceil(length - 1e-7); }

static int32_t stack_forward_taps(const rs_geometry *geometry, const stack_line *line) {
  int32_t taps = stack_most_inside(fabs(line->column) * (geometry->supersampling - 1) + 2);
  return taps < 2 ? 2 : taps;
}
static int32_t stack_back_taps(const rs_geometry *geometry, const stack_line *line) {
  int32_t taps = stack_most_inside((2 / fabs(line->column) + geometry->supersampling - 1) / geometry->supersampling);
  return taps < 2 ? 2 : taps;
}

static int stack_accepts(const rs_geometry *geometry) {
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
    double pitch = fabs(stack_line_of(geometry, i).column) * geometry->supersampling;
    if (!(pitch >= STACK_FINEST && pitch <= STACK_COARSEST)) return 0;
  }
  // Offsets inside a run are int32_t.
  int64_t most = INT32_MAX / STACK_BLOCK / (4 * STACK_RUN) - 2 * STACK_TAPS;
  return geometry->shape[RS_X] <= most && geometry->columns <= most;
}

// ---- groups of views

static int stack_compare(const void *a, const void *b) {
  const stack_line *p = a, *q = b;
  if (p->main != q->main) return p->main - q->main;
  if (p->plane != q->plane) return p->plane < q->plane ? -1 : 1;
  return p->view < q->view ? -1 : 1;
}

static void stack_add_view(const rs_geometry *geometry, stack_group *group, const stack_line *line) {
  int32_t k = group->views++, supersampling = geometry->supersampling;
  group->main = line->main;
  group->view[k] = line->view;
  group->length[k] = (float)(rs_ray_length(geometry, &geometry->view[line->view], 0, 0) / supersampling);
  group->pitch[k] = (float)fabs(line->column);
  group->start[k] = line->start + fmin(0, line->column * (supersampling - 1));
  group->column[k] = line->column * supersampling;
  group->plane[k] = line->plane;
  double across = 1 / group->column[k], along = -line->plane * across;
  group->origin[k] = -line->start * across;
  group->along_y[k] = line->main == RS_Y ? along : across;
  group->along_x[k] = line->main == RS_Y ? across : along;
  for (int n = 0; n < STACK_RUN; n++) group->planes[k][n] = (int32_t)lrint(group->plane[k] * n * STACK_ONE);
  for (int n = 0; n < STACK_PATCH; n++) {
    group->steps_y[n][k] = (int32_t)lrint(group->along_y[k] * n * STACK_ONE);
    group->steps_x[n][k] = (int32_t)lrint(group->along_x[k] * n * STACK_ONE);
  }
  int32_t forward = stack_forward_taps(geometry, line), back = stack_back_taps(geometry, line);
  if (group->forward_taps < forward) group->forward_taps = forward;
  if (group->back_taps < back) group->back_taps = back;
}

// With two taps and S = 1, columns floor(c) and floor(c) + 1 are the neighbours of c. In general the first column is wanted whose last
// fine column is nearer than a voxel: floor of (c + 1 - 1 / pitch) / S with c in fine columns.
static void stack_shift_origins(const rs_geometry *geometry, stack_group *group, const stack_line *line) {
  if (group->back_taps == 2 && geometry->supersampling == 1) return;
  for (int32_t k = 0; k < group->views; k++) {
    double pitch = fabs(line[k].column);
    group->origin[k] += (1 - 1 / pitch) / geometry->supersampling;
    group->shift[k] = (float)(pitch - 1);
  }
}

static int32_t stack_make_groups(stack_tables *tables, const rs_geometry *geometry) {
  stack_line *line = malloc((size_t)geometry->views * sizeof *line);
  tables->group = calloc((size_t)geometry->views / STACK_RUN + 2, sizeof *tables->group); // two main axes, each may end in a partial group
  if (!line || !tables->group) {
    free(line);
    return rs_fail(RS_EMEMORY, "no host memory for the tables of %d views", geometry->views);
  }
  for (int32_t i = 0; i < geometry->views; i++) line[i] = stack_line_of(geometry, i);
  qsort(line, (size_t)geometry->views, sizeof *line, stack_compare);
  tables->groups = 0;
  stack_group *group = NULL;
  for (int32_t i = 0; i < geometry->views; i++) {
    if (!group || group->views == STACK_RUN || group->main != line[i].main) group = &tables->group[tables->groups++];
    stack_add_view(geometry, group, &line[i]);
  }
  const stack_line *first = line;
  for (int64_t g = 0; g < tables->groups; g++) {
    group = &tables->group[g];
    stack_shift_origins(geometry, group, first);
    first += group->views;
    if (tables->margin < group->forward_taps) tables->margin = group->forward_taps;
    if (tables->padding < group->back_taps) tables->padding = group->back_taps;
  }
  free(line);
  return RS_OK;
}

// ---- rows and slices

static void stack_free_matrix(stack_matrix *matrix) {
  free(matrix->begin);
  free(matrix->index);
  free(matrix->weight);
}

static int32_t stack_allocate_matrix(stack_matrix *matrix, int64_t rows, int64_t terms) {
  matrix->begin = calloc((size_t)rows + 2, sizeof *matrix->begin);
  matrix->index = malloc((size_t)terms * sizeof *matrix->index);
  matrix->weight = malloc((size_t)terms * sizeof *matrix->weight);
  if (matrix->begin && matrix->index && matrix->weight) return RS_OK;
  return rs_fail(RS_EMEMORY, "no host memory for %lld row weights", (long long)terms);
}

static int32_t stack_make_matrices(stack_tables *tables, const rs_geometry *geometry) {
  const rs_view *view = &geometry->view[0];
  stack_matrix *rows = &tables->slices_of_row, *slices = &tables->rows_of_slice;
  int32_t supersampling = geometry->supersampling, slice_count = geometry->shape[RS_Z];
  int64_t most = 2 * (int64_t)geometry->fine_rows, terms = 0;
  if (stack_allocate_matrix(rows, geometry->rows, most) || stack_allocate_matrix(slices, slice_count, most)) return RS_EMEMORY;
  for (int32_t r = 0; r < geometry->rows; r++) {
    int64_t begin = rows->begin[r] = terms;
    for (int32_t q = 0; q < supersampling; q++) {
      double z = view->corner[RS_Z] + view->v[RS_Z] * ((double)r * supersampling + q);
      if (fabs(z - round(z)) < 1e-9) z = round(z); // rounding must not turn one slice into two
      if (!(z > -1 && z < slice_count)) continue;
      for (int32_t k = (int32_t)floor(z); k <= (int32_t)floor(z) + 1; k++) {
        float weight = (float)((1 - fabs(z - k)) / supersampling);
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
