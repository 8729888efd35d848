// astra_plan.h: what the CUDA family of ASTRA's laws works out when a plan is made: which kernels, their tables, and room for them.
#pragma once
#include "astra_back.h"
#include "astra_beams.h"
#include "astra_columns.h"
#include "astra_forward.h"
#include "astra_fours_back.h"
#include "astra_fours_beams.h"
#include "astra_line.h"
#include "astra_pack.h"
#include "astra_upright.h"

#include <cstdlib>

namespace {

constexpr int64_t PASS_FLOATS = INT64_C(1) << 27; // that back_columns packs at a time, roughly: 512 MiB

constexpr int32_t ASTRA_FEW = 8; // slices below which lanes are not slices

struct astra_tables {
  astra_aimed *aimed;
  astra_view *view;
  int64_t aimed_pointer, view_pointer;
  bool used[3]; // main axes
  bool upright, line, line_back;
  astra_columns columns; // chunk 0: not this way
  astra_beams beams;     // likewise
  astra_beam *beam;
  int64_t beam_count, beam_pointer;
  fours_columns fours; // slots 0: not this way
  fours_image *image;
  int64_t image_pointer;
  int32_t image_count;
  astra_beams pair_beams; // chunk 0: not this way; its blocks are `beam`
  fours_pair_of_views *pair;
  int64_t pair_pointer;
  int32_t per_lane;      // rows of a lane in upright forward
  int32_t per_pass;      // views, or images, that are packed for back projection at a time
  int64_t packed_floats; // of the workspace; then the sums of squares of forward's blocks, and a largest value
  int64_t blocks;        // of forward
};

int64_t parts(int64_t count, int64_t size) { return (count + size - 1) / size; }
int64_t round_up(int64_t count, int64_t size) { return parts(count, size) * size; }
int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

int64_t voxel_count(const rs_geometry *g) { return (int64_t)g->shape[0] * g->shape[1] * g->shape[2]; }
int64_t pixel_count(const rs_geometry *g) { return (int64_t)g->rows * g->views * g->columns; }

bool is_fan(const rs_geometry *geometry) { return geometry->law == RS_ASTRA_2D && geometry->beam == RS_CONE; }

bool is_upright(const rs_geometry *geometry, const astra_aimed *aimed) {
  bool upright = geometry->law == RS_ASTRA && geometry->rows < ASTRA_MOST && geometry->columns < ASTRA_MOST;
  for (int k = 0; k < 3; k++) upright = upright && geometry->shape[k] < ASTRA_MOST;
  for (int32_t i = 0; i < geometry->views; i++)
    upright = upright && geometry->view[i].v[RS_Y] == 0 && geometry->view[i].v[RS_X] == 0 && aimed[i].main != RS_Z;
  return upright;
}

// Is there one slice that no ray leaves?
bool is_line(const rs_geometry *geometry) {
  bool line = geometry->shape[RS_Z] == 1 && geometry->rows == 1 && geometry->shape[RS_Y] < ASTRA_MOST && geometry->shape[RS_X] < ASTRA_MOST;
  if (!line || geometry->law == RS_ASTRA_2D) return line;
  for (int32_t i = 0; i < geometry->views; i++) {
    const rs_view *view = &geometry->view[i];
    line = line && view->corner[RS_Z] == 0 && view->u[RS_Z] == 0 && view->origin[RS_Z] == 0 && view->v[RS_Y] == 0 && view->v[RS_X] == 0 &&
           view->turn == 0;
  }
  return line && geometry->supersampling == 1 && geometry->voxel_supersampling == 1;
}

// The blocks of forward_beams, or of forward_fours.
int32_t make_beams(const rs_plan *plan, astra_tables *tables, const rs_geometry *geometry, const astra_aimed *aimed, int32_t side,
                   astra_beams *beams) {
  const int64_t most = geometry->views * parts(geometry->columns, beams->pieces * side);
  astra_beam *list = (astra_beam *)malloc((size_t)most * sizeof *list);
  if (!list) return rs_fail(RS_EMEMORY, "no host memory for the tables of %d views", geometry->views);
  tables->beam_count = astra_measure_beams(geometry, aimed, beams->chunk, beams->views, beams, list, side);
  int32_t status =
      rs_cuda_table(plan->device, list, tables->beam_count * (int64_t)sizeof *list, (void **)&tables->beam, &tables->beam_pointer);
  free(list);
  return status;
}

// What forward_fours takes, where that is a way. `opposite` is used up.
int32_t make_pairs(const rs_plan *plan, astra_tables *tables, const astra_aimed *aimed, int32_t *opposite) {
  const rs_geometry *geometry = &plan->geometry;
  fours_pair_of_views *pairs = (fours_pair_of_views *)malloc((size_t)geometry->views * sizeof *pairs);
  astra_aimed *firsts = (astra_aimed *)malloc((size_t)geometry->views * sizeof *firsts);
  int32_t status = pairs && firsts ? RS_OK : rs_fail(RS_EMEMORY, "no host memory for the tables of %d views", geometry->views);
  if (!status) {
    rs_geometry lower = *geometry;
    lower.rows = (geometry->rows + 1) / 2;
    lower.views = fours_make_pairs(geometry, aimed, opposite, pairs);
    for (int32_t n = 0; n < lower.views; n++) firsts[n] = aimed[pairs[n].view];
    if (lower.views && fours_plan_beams(&lower, firsts, plan->device, &tables->pair_beams)) {
      status = make_beams(plan, tables, &lower, firsts, FOURS_PLACES, &tables->pair_beams);
      if (!status)
        status = rs_cuda_table(plan->device, pairs, lower.views * (int64_t)sizeof *pairs, (void **)&tables->pair, &tables->pair_pointer);
    }
  }
  free(pairs);
  free(firsts);
  return status;
}

// What back projection of cones takes, and in precision `half` forward projection, where they have a way.
int32_t make_fours(const rs_plan *plan, astra_tables *tables, const astra_aimed *aimed, const astra_view *view, bool half) {
  const rs_geometry *geometry = &plan->geometry;
  fours_image *images = (fours_image *)malloc((size_t)geometry->views * sizeof *images);
  int32_t *opposite = (int32_t *)calloc(2 * (size_t)geometry->views, sizeof *opposite), *opposed = opposite + geometry->views;
  int32_t status = images && opposite ? RS_OK : rs_fail(RS_EMEMORY, "no host memory for the tables of %d views", geometry->views);
  if (!status && fours_are_mirrored(geometry, view)) {
    int exponent;
    if (half) fours_pair(geometry, view, opposite, opposed);
    tables->image_count = fours_make_images(geometry, view, half ? opposite : nullptr, opposed, images, &exponent);
    if (geometry->voxel_supersampling == 1 && geometry->shape[RS_Z] >= ASTRA_FEW &&
        fours_plan_columns(geometry, images, tables->image_count, exponent, half, plan->device, &tables->fours))
      status = rs_cuda_table(plan->device, images, tables->image_count * (int64_t)sizeof *images, (void **)&tables->image,
                             &tables->image_pointer);
    if (!status && half && geometry->supersampling == 1 && geometry->rows >= ASTRA_FEW) status = make_pairs(plan, tables, aimed, opposite);
  }
  free(images);
  free(opposite);
  return status;
}

// Is the source so far from every voxel that float32 can follow how places change from one to the next?
bool keeps_away(const rs_geometry *geometry, const astra_view *view) {
  bool away = true;
  for (int32_t i = 0; i < geometry->views && geometry->beam == RS_CONE; i++)
    for (int corner = 0; corner < 4; corner++) {
      const double *depth = view[i].depth, y = corner & 1 ? geometry->shape[RS_Y] : -1, x = corner & 2 ? geometry->shape[RS_X] : -1;
      away = away && depth[1] * y + depth[2] * x + depth[3] > 32 * fmax(fabs(depth[1]), fabs(depth[2]));
    }
  return away;
}

int32_t fill_tables(rs_plan *plan, astra_tables *tables, astra_aimed *aimed, astra_view *view) {
  const rs_geometry *geometry = &plan->geometry;
  for (int32_t i = 0; i < geometry->views; i++) {
    const rs_view *from = &geometry->view[i];
    astra_aimed &to = aimed[i];
    to.main = is_fan(geometry) ? RS_Y : astra_main_axis(geometry, from);
    to.fan = astra_fan_of(geometry, from);
    const int mains[2] = {to.main, RS_X}; // the second one in fans alone
    for (int k = 0; k <= is_fan(geometry); k++) {
      const astra_axes axes = astra_axes_of(geometry, from, mains[k]);
      to.frame[k] = astra_frame_of(geometry, from, &axes);
      tables->used[mains[k]] = true;
    }
    astra_make_view(geometry, from, &view[i]);
  }
  tables->line = is_line(geometry);
  tables->line_back = tables->line && keeps_away(geometry, view);
  tables->upright = is_upright(geometry, aimed);
  bool flat = tables->upright;
  for (int32_t i = 0; i < geometry->views; i++) flat = flat && view[i].turn == 0;
  if (!flat || geometry->voxel_supersampling > 1 || geometry->shape[RS_Z] < ASTRA_FEW ||
      !astra_plan_columns(geometry, view, plan->device, &tables->columns))
    tables->columns.chunk = 0;
  const bool half = flat && geometry->beam == RS_CONE && geometry->precision == RS_PRECISION_HALF;
  int32_t status = flat && geometry->beam == RS_CONE ? make_fours(plan, tables, aimed, view, half) : RS_OK;
  if (!flat || tables->pair_beams.chunk || geometry->supersampling > 1 || geometry->rows < ASTRA_FEW ||
      !astra_plan_beams(geometry, aimed, plan->device, &tables->beams))
    tables->beams.chunk = 0;
  if (!status && tables->beams.chunk) status = make_beams(plan, tables, geometry, aimed, STACK_SIDE, &tables->beams);
  if (status) return status;
  status = rs_cuda_table(plan->device, aimed, geometry->views * (int64_t)sizeof *aimed, (void **)&tables->aimed, &tables->aimed_pointer);
  return status ? status
                : rs_cuda_table(plan->device, view, geometry->views * (int64_t)sizeof *view, (void **)&tables->view, &tables->view_pointer);
}

// One slice by rows and by columns, as astra_line.h packs it.
int64_t line_pairs(const rs_geometry *geometry) {
  const int64_t height = geometry->shape[RS_Y], width = geometry->shape[RS_X];
  return height * (width + 2) + width * (height + 2);
}

// The volume as upright kernels read it: (y, x, z), lines along z on 128 bytes.
int64_t line_floats(const rs_geometry *geometry) { return round_up(geometry->shape[RS_Z] + RS_TEXTURE_BORDER, 32); }

// What forward needs of the workspace.
void size_forward(const rs_geometry *geometry, astra_tables *tables) {
  const int32_t *shape = geometry->shape;
  if (tables->line) {
    tables->packed_floats = 2 * line_pairs(geometry);
    tables->blocks = parts(parts(geometry->columns, 32) * geometry->views, 8);
    return;
  }
  if (tables->pair_beams.chunk) {
    const astra_beams &beams = tables->pair_beams;
    tables->packed_floats = 2 * (shape[RS_Y] + RS_TEXTURE_BORDER) * (shape[RS_X] + RS_TEXTURE_BORDER) * (int64_t)beams.length;
    tables->blocks = tables->beam_count * parts((geometry->rows + 1) / 2, beams.chunk);
    return;
  }
  if (tables->beams.chunk) {
    tables->packed_floats = (shape[RS_Y] + RS_TEXTURE_BORDER) * (shape[RS_X] + RS_TEXTURE_BORDER) * (int64_t)tables->beams.length;
    tables->blocks = tables->beam_count * geometry->rows;
    return;
  }
  if (tables->upright) {
    tables->per_lane = geometry->rows > 128 ? 8 : geometry->rows > 64 ? 4 : geometry->rows > 32 ? 2 : 1;
    tables->packed_floats = (shape[RS_Y] + RS_TEXTURE_BORDER) * (shape[RS_X] + RS_TEXTURE_BORDER) * line_floats(geometry);
    tables->blocks = parts(geometry->views, ASTRA_UPRIGHT_VIEWS) * parts(geometry->columns, ASTRA_UPRIGHT_COLUMNS) *
                     parts(geometry->rows, 32 * tables->per_lane);
  } else {
    tables->packed_floats = astra_volume_floats(geometry) * (tables->used[RS_X] + (tables->used[RS_Y] || tables->used[RS_Z]));
    tables->blocks =
        parts(round_up(geometry->rows, astra_high(geometry->rows)) * parts(geometry->columns, 32) * geometry->views, ASTRA_THREADS / 32);
  }
}

// What back needs of it.
void size_back(const rs_geometry *geometry, astra_tables *tables) {
  int64_t floats = astra_image_floats(geometry) * geometry->views;
  if (tables->line_back) {
    floats = 2 * (int64_t)geometry->views * (geometry->columns + 2);
    tables->packed_floats = larger(tables->packed_floats, floats);
    return;
  }
  const bool fours = tables->fours.slots > 0;
  if (fours || tables->columns.chunk) {
    const astra_columns &columns = fours ? tables->fours.columns : tables->columns;
    const int32_t views = fours ? tables->image_count : geometry->views;
    const int64_t image = 2 * (int64_t)columns.lines * columns.length, most = larger(1, PASS_FLOATS / image), passes = parts(views, most);
    tables->per_pass = (int32_t)parts(views, passes);
    floats = tables->per_pass * image;
  }
  tables->packed_floats = larger(tables->packed_floats, floats);
}

} // namespace
