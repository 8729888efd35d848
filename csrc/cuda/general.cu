// general.cu: any geometry in law exact: the `rs_general` family on a GPU.
#include "general_back.h"
#include "general_forward.h"

#include <stdlib.h>

namespace {

constexpr int64_t PACKED = 1 << 26; // floats of projections that are packed at once, or one view

struct general_tables {
  ray_view *view; // on the device
  int64_t pointer;
  bool curved; // some detector is
  int copies;  // some view reads the copy of the volume
  bool thin;   // one slice, in which all rays run across it
  int columns; // of the detector, in a block of forward, whose other threads are rows
  int64_t column_tiles, row_tiles, blocks;
  general_layout layouts[3];
  int64_t volume_floats;
  int32_t chunk; // views whose projections are packed at once
};

int accepts(const rs_geometry *) { return 1; }

// Of the packed projections of one view.
int64_t view_floats(const rs_geometry *geometry) {
  return (geometry->fine_rows + 2 * MARGIN) * (int64_t)(geometry->fine_columns + 2 * MARGIN);
}

void release(rs_plan *plan) {
  general_tables *tables = (general_tables *)plan->tables;
  rs_cuda_table_free(tables->pointer);
  free(tables);
}

int32_t prepare(rs_plan *plan) {
  const rs_geometry *geometry = &plan->geometry;
  general_tables *tables = (general_tables *)calloc(1, sizeof *tables);
  ray_view *views = (ray_view *)malloc((size_t)geometry->views * sizeof *views);
  int32_t status = tables && views ? RS_OK : rs_fail(RS_EMEMORY, "no host memory for the tables of %d views", geometry->views);
  for (int32_t i = 0; !status && i < geometry->views; i++) {
    views[i] = rays_of(geometry, &geometry->view[i]);
    if (views[i].main == RS_X) tables->copies = 1;
    if (views[i].turn != 0) tables->curved = true;
    tables->thin = (i == 0 || tables->thin) && geometry->shape[RS_Z] == 1 && views[i].main != RS_Z;
  }
  if (!status)
    status = rs_cuda_table(plan->device, views, geometry->views * (int64_t)sizeof *views, (void **)&tables->view, &tables->pointer);
  free(views);
  if (status) {
    free(tables);
    return status;
  }
  const int32_t *n = geometry->shape;
  const int64_t x = n[RS_X], y = n[RS_Y];
  tables->layouts[RS_Z] = {0, {n[RS_Z], n[RS_X], n[RS_Y]}, x * y, x};
  tables->layouts[RS_Y] = {0, {n[RS_Y], n[RS_X], n[RS_Z]}, x, x * y};
  tables->layouts[RS_X] = {1, {n[RS_X], n[RS_Y], n[RS_Z]}, y, x * y};
  int rows = 1;
  while (rows < THREADS / 32 && rows < geometry->rows) rows *= 2;
  tables->columns = THREADS / rows;
  tables->column_tiles = parts(geometry->columns, tables->columns);
  tables->row_tiles = parts(geometry->rows, rows);
  tables->blocks = parts(geometry->views, GROUP) * GROUP * tables->column_tiles * tables->row_tiles;
  plan->tables = tables;
  // Forward: the copy of the volume, then a float64 for every block. Back: the packed projections of a chunk of views.
  tables->volume_floats = tables->copies ? parts(x * y * n[RS_Z], 2) * 2 : 0;
  const int64_t most = PACKED / view_floats(geometry);
  tables->chunk = (int32_t)(most < 1 ? 1 : most < geometry->views ? most : geometry->views);
  const int64_t forward = tables->volume_floats + 2 * tables->blocks, back = tables->chunk * view_floats(geometry);
  plan->workspace_floats = forward > back ? forward : back;
  return RS_OK;
}

general_problem problem_of(const rs_plan *plan) {
  const general_tables *tables = (const general_tables *)plan->tables;
  const rs_geometry *g = &plan->geometry;
  return {tables->view,
          g->views,
          g->rows,
          g->columns,
          g->supersampling,
          g->sub_rows,
          {g->shape[0], g->shape[1], g->shape[2]},
          tables->columns,
          tables->column_tiles,
          tables->row_tiles,
          {tables->layouts[0], tables->layouts[1], tables->layouts[2]}};
}

int32_t project_forward(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *volume, int64_t batch,
                        double *norm) {
  const general_tables *tables = (const general_tables *)plan->tables;
  const int32_t *n = plan->geometry.shape;
  const int64_t voxels = (int64_t)n[0] * n[1] * n[2];
  const int64_t pixels = (int64_t)plan->geometry.rows * plan->geometry.views * plan->geometry.columns;
  const cudaStream_t stream = rs_cuda_stream(operation);
  const general_problem p = problem_of(plan);
  const dim3 grid((unsigned)tables->blocks), turns((unsigned)(n[RS_Z] * parts(n[RS_Y], 32) * parts(n[RS_X], 32)));
  double *squares = norm ? (double *)(plan->workspace + tables->volume_floats) : nullptr;
  rs_output target = *output;
  int32_t status = RS_OK;
  for (int64_t item = 0; item < batch && !status; item++, volume += voxels, advance(&target, pixels)) {
    const float *copy = plan->workspace;
    if (tables->copies) status = RS_LAUNCH(turn, turns, THREADS, 0, stream, volume, plan->workspace, n[RS_Y], n[RS_X]);
    if (status) break;
    const auto launch = [&](auto *kernel) { return RS_LAUNCH(kernel, grid, THREADS, 0, stream, p, target, volume, copy, squares); };
    status = tables->thin                             ? launch(forward<true, int32_t>)
             : (int64_t)n[RS_X] * n[RS_Y] < INT32_MAX ? launch(forward<false, int32_t>)
                                                      : launch(forward<false, int64_t>);
    if (!status && norm) status = rs_sum_blocks(operation, squares, tables->blocks, 1, norm + item);
  }
  return status;
}

template <bool CONE, bool CURVED, int DEPTH>
int32_t launch_back(cudaStream_t stream, const general_problem &p, const rs_output &output, int32_t first, int32_t count,
                    const float *packed) {
  const dim3 grid((unsigned)(parts(p.shape[RS_X], WIDTH) * parts(p.shape[RS_Y], HEIGHT) * parts(p.shape[RS_Z], DEPTH)));
  return RS_LAUNCH((back<CONE, CURVED, DEPTH>), grid, THREADS, 0, stream, p, output, first, count, packed);
}

int32_t project_back(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *projections, int64_t batch) {
  const rs_geometry *geometry = &plan->geometry;
  const int32_t *n = geometry->shape, chunk = ((const general_tables *)plan->tables)->chunk;
  const bool curved = ((const general_tables *)plan->tables)->curved, cone = geometry->beam == RS_CONE, thin = n[RS_Z] < 4;
  const int64_t pixels = (int64_t)geometry->rows * geometry->views * geometry->columns;
  const cudaStream_t stream = rs_cuda_stream(operation);
  const general_problem p = problem_of(plan);
  const float *packed = plan->workspace;
  rs_output item = *output;
  int32_t status = RS_OK;
  for (int64_t i = 0; i < batch && !status; i++, projections += pixels, advance(&item, (int64_t)n[0] * n[1] * n[2]))
    for (int32_t first = 0, count; first < geometry->views && !status; first += count) {
      count = geometry->views - first < chunk ? geometry->views - first : chunk;
      // The chunks add to each other in the target; an update is clamped once all are in.
      rs_output target = item;
      if (first > 0 && target.mode == RS_STORE) target.mode = RS_ADD;
      if (first + count < geometry->views) target.minimum = -INFINITY, target.maximum = INFINITY;
      const dim3 packs((unsigned)parts(count * view_floats(geometry), THREADS));
      status = RS_LAUNCH(pack, packs, THREADS, 0, stream, p, first, count, projections, plan->workspace);
      auto *launch = curved ? thin ? launch_back<true, true, 1> : launch_back<true, true, 4>
                     : cone ? thin ? launch_back<true, false, 1> : launch_back<true, false, 4>
                     : thin ? launch_back<false, false, 1>
                            : launch_back<false, false, 4>;
      if (!status) status = launch(stream, p, target, first, count, packed);
    }
  return status;
}

} // namespace

extern "C" const rs_family rs_general_cuda = {"general", accepts, prepare, release, project_forward, project_back};
