// stack_tables.h: what the `rs_stack` family knows about a geometry before any data is seen.
#pragma once
#include "simd.h"
#include "stack_lines.h"
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
  if (!rs_stack_along_slices(geometry)) return 0;
  for (int32_t i = 0; i < geometry->views; i++) {
    double pitch = fabs(rs_stack_line(geometry, i).column) * geometry->supersampling;
    if (!(pitch >= STACK_FINEST && pitch <= STACK_COARSEST)) return 0;
  }
  // Offsets inside a run are int32_t.
  int64_t most = INT32_MAX / STACK_BLOCK / (4 * STACK_RUN) - 2 * STACK_TAPS;
  return geometry->shape[RS_X] <= most && geometry->columns <= most;
}

// ---- groups of views

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
  rs_stack_lines(geometry, line);
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
