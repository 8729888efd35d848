// stack_passes.h: the host's side of families whose lanes share their weights: tables of rows and slices, and the passes of a call.
#pragma once
#include "stack_quad.h"

#include <algorithm>
#include <functional>
#include <stdlib.h>

constexpr int STACK_FEW = 16;                   // rows below which law astra has better kernels
constexpr int64_t STACK_PASS_BYTES = 512 << 20; // of packed data that a pass should not exceed, where it has a choice

static inline int64_t stack_smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t stack_parts(int64_t count, int64_t size) { return (count + size - 1) / size; }

// Room for that many lanes: chunks have 32, 64 or 128.
static inline int64_t stack_padded(int64_t lanes) {
  const int64_t rest = lanes % 128;
  return lanes - rest + (rest > 64 ? 128 : rest > 32 ? 64 : rest ? 32 : 0);
}

// How many chunks of a width a pass with so many lanes begins with: what is left takes narrower ones.
static inline int64_t stack_chunks(int64_t lanes, int64_t width) {
  return width == 32 || lanes % width > width / 2 ? stack_parts(lanes, width) : lanes / width;
}

// When the last of `count` blocks ends, in the unit of time_of(block), if each begins, in their order, on the first multiprocessor that is
// free, and a multiprocessor has one at a time. Where there are more than STACK_MANY for each, how the last ones end matters little.
constexpr int64_t STACK_MANY = 10;
template <typename Time> double stack_end_of(int64_t count, int32_t multiprocessors, Time time_of) {
  constexpr int32_t MOST = 256;
  double busy[MOST] = {}, end = 0; // a heap, the least in front
  const int32_t some = multiprocessors < MOST ? multiprocessors : MOST;
  if (count > STACK_MANY * some) {
    for (int64_t k = 0; k < count; k++) end += time_of(k) / some;
    return end;
  }
  for (int64_t k = 0; k < count; k++) {
    std::pop_heap(busy, busy + some, std::greater<double>());
    busy[some - 1] += time_of(k);
    end = fmax(end, busy[some - 1]);
    std::push_heap(busy, busy + some, std::greater<double>());
  }
  return end;
}

// Law astra: where rows lie on slices, textures interpolate along the columns alone.
static inline int stack_accepts_astra(const rs_geometry *geometry) {
  const rs_view *view = &geometry->view[0];
  const double z = view->corner[RS_Z];
  return geometry->law == RS_ASTRA && rs_stack_along_slices(geometry) && geometry->supersampling == 1 &&
         geometry->voxel_supersampling == 1 && geometry->rows >= STACK_FEW && fabs(view->v[RS_Z] - 1) < 1e-9 / geometry->rows &&
         fabs(z - round(z)) < 5e-10;
}

// ASTRA has its own rule for what main axis a view at 45 degrees has. RS_OK, or an error where the law does not cover the geometry.
static inline int32_t stack_aim_astra(rs_plan *plan) {
  const rs_geometry *geometry = &plan->geometry;
  if (astra_check(geometry)) return RS_EARGUMENT;
  for (int32_t i = 0; i < geometry->views; i++) {
    rs_view *view = &geometry->view[i];
    view->main = astra_main_axis(geometry, view);
    view->cross = view->main == RS_X ? RS_Y : RS_X;
  }
  return RS_OK;
}

// A stack_matrix on the device.
struct stack_rows {
  int64_t *begin;
  int32_t *index;
  float *weight;
};

static inline int32_t stack_put_matrix(const rs_plan *plan, const stack_matrix &matrix, int64_t rows, stack_rows *device,
                                       int64_t *pointers) {
  int64_t terms = matrix.begin[rows], some = terms ? terms : 1;
  int32_t status = rs_cuda_table(plan->device, matrix.begin, (rows + 1) * (int64_t)sizeof(int64_t), (void **)&device->begin, pointers);
  if (!status) status = rs_cuda_table(plan->device, matrix.index, some * (int64_t)sizeof(int32_t), (void **)&device->index, pointers + 1);
  if (!status) status = rs_cuda_table(plan->device, matrix.weight, some * (int64_t)sizeof(float), (void **)&device->weight, pointers + 2);
  return status;
}

// Six pointers.
static inline int32_t stack_put_rows(rs_plan *plan, stack_rows *slices_of_row, stack_rows *rows_of_slice, int64_t *pointers) {
  stack_matrix rows = {}, slices = {};
  int32_t status = rs_stack_matrices(&plan->geometry, &rows, &slices);
  if (!status) {
    plan->rows_alike = rs_stack_alike(&rows, plan->geometry.rows);
    plan->slices_alike = rs_stack_alike(&slices, plan->geometry.shape[RS_Z]);
  }
  if (!status) status = stack_put_matrix(plan, rows, plan->geometry.rows, slices_of_row, pointers);
  if (!status) status = stack_put_matrix(plan, slices, plan->geometry.shape[RS_Z], rows_of_slice, pointers + 3);
  rs_stack_free_matrix(&rows);
  rs_stack_free_matrix(&slices);
  return status;
}

// Lets `use` make tables from the views, then puts these into device memory, too.
template <typename Use> int32_t stack_put_views(const rs_plan *plan, const stack_view **device, int64_t *pointer, Use use) {
  const rs_geometry *geometry = &plan->geometry;
  stack_line *line = (stack_line *)malloc((size_t)geometry->views * sizeof *line);
  stack_view *view = (stack_view *)malloc((size_t)geometry->views * sizeof *view);
  int32_t status = RS_OK;
  if (line && view) {
    rs_stack_lines(geometry, line);
    for (int32_t i = 0; i < geometry->views; i++) view[i] = stack_view_of(geometry, line[i]);
    status = use(view);
    if (!status) status = rs_cuda_table(plan->device, view, geometry->views * (int64_t)sizeof *view, (void **)device, pointer);
  } else {
    status = rs_fail(RS_EMEMORY, "no host memory for the tables of %d views", geometry->views);
  }
  free(line);
  free(view);
  return status;
}

// What the lanes of a call read and write: from slices to rows, or back.
static inline stack_source stack_source_of(const rs_geometry *geometry, const stack_plane &plane, const stack_rows &terms,
                                           const float *input, bool back) {
  const int64_t voxels = (int64_t)plane.ny * plane.nx, pixels = (int64_t)plane.views * plane.columns;
  const int32_t rows = geometry->rows, slices = geometry->shape[RS_Z];
  return {input,
          {0, 0, back ? slices : rows, back ? rows * pixels : slices * voxels, back ? pixels : voxels},
          terms.begin,
          terms.index,
          terms.weight,
          back ? plane.views : plane.ny,
          back ? plane.columns : plane.nx,
          back ? plane.view : nullptr};
}
static inline stack_target stack_target_of(const rs_geometry *geometry, const stack_plane &plane, const rs_output &output, bool back) {
  const int64_t voxels = (int64_t)plane.ny * plane.nx, pixels = (int64_t)plane.views * plane.columns;
  const int32_t rows = geometry->rows, slices = geometry->shape[RS_Z];
  return {output, {0, 0, back ? slices : rows, back ? slices * voxels : rows * pixels, back ? voxels : pixels}, nullptr, 0, nullptr,
          nullptr};
}

// A call has: operation; pass, the most lanes of a pass; blocks, of a chunk; source and target, whose lanes are set here; width_of(count),
// the lanes of a chunk that do best for so many lanes of a pass: 128, 64 or 32; and work_off(width, chunks), for the next lanes of a pass.

// A pass: whole chunks of one width, then narrower ones for what is left.
template <typename Call> int32_t stack_work_off_pass(Call c, int64_t first, int64_t count) {
  for (int64_t width = c.width_of(count); count > 0 && width >= 32; width /= 2) {
    const int64_t chunks = stack_chunks(count, width);
    if (!chunks) continue;
    c.source.lanes.first = c.target.lanes.first = first;
    c.source.lanes.count = c.target.lanes.count = stack_smaller(chunks * width, count);
    const int32_t status = c.work_off(width, (unsigned)chunks);
    if (status) return status;
    first += c.source.lanes.count;
    count -= c.source.lanes.count;
  }
  return RS_OK;
}

// As many whole items a pass as fit, or several passes an item.
template <typename Call> int32_t stack_work_off_batch(Call c, int64_t batch, double *norm) {
  const int64_t units = c.target.lanes.units, most = units <= c.pass ? c.pass / units : 1;
  int64_t items;
  for (int64_t item = 0; item < batch; item += items) {
    items = stack_smaller(most, batch - item);
    c.target.sums_first = item * units;
    int32_t status = RS_OK;
    for (int64_t lane = 0; lane < items * units && !status; lane += c.pass)
      status = stack_work_off_pass(c, item * units + lane, stack_smaller(c.pass, items * units - lane));
    if (!status && norm) status = rs_sum_blocks(c.operation, c.target.sums, c.blocks * units, items, norm + item);
    if (status) return status;
  }
  return RS_OK;
}
