// upright.cu: detector columns along z, in law exact, so that all rows of a column share their path in the plane: the `rs_upright` family
// on a GPU.
#include "upright_forward.h"
#include "upright_reach.h"

#include <stdlib.h>

namespace {

constexpr int64_t PACKED = 1 << 26; // floats of projections that are copied at once, or one view

struct upright_tables {
  ray_view *view; // on the device, those of main axis y before those of x
  int64_t pointer;
  int32_t *order; // their numbers, on the device
  int64_t order_pointer;
  int32_t along_y;     // views of main axis y
  bool curved;         // some detector is
  int32_t slots;       // rays that a row of cells may see, and one
  int32_t guard, line; // back: zeros before and behind a column, floats of a column
  int64_t line_z;      // forward: floats of a column of voxels
  int64_t volume_floats;
  int32_t chunk;  // views whose projections are copied at once
  int32_t layers; // forward: rows of a lane
  int64_t column_tiles, row_tiles, blocks;
};

void lay_out(const rs_geometry *geometry, const reach &r, upright_tables *tables) {
  tables->slots = r.slots;
  tables->guard = 2 * ((int32_t)ceil(16 * MOST_LAYERS / r.least) + 4);
  tables->line = geometry->rows + 2 * tables->guard;
  tables->line_z = parts(geometry->shape[RS_Z] + 2 * BORDER, 32) * 32;
}

int64_t volume_floats(const rs_geometry *geometry, const upright_tables *tables) {
  return (geometry->shape[RS_Y] + 2 * BORDER) * (geometry->shape[RS_X] + 2 * BORDER) * tables->line_z;
}

int accepts(const rs_geometry *geometry) {
  reach r;
  // Lanes are rows and slices: with few of them most would idle.
  if (geometry->supersampling > 1 || geometry->rows < 16 || geometry->shape[RS_Z] < 16 || !reach_of_all(geometry, r)) return 0;
  upright_tables tables;
  lay_out(geometry, r, &tables);
  return (int64_t)geometry->columns * tables.line < INT32_MAX && volume_floats(geometry, &tables) < UINT32_MAX;
}

void release(rs_plan *plan) {
  upright_tables *tables = (upright_tables *)plan->tables;
  rs_cuda_table_free(tables->pointer);
  rs_cuda_table_free(tables->order_pointer);
  free(tables);
}

int32_t prepare(rs_plan *plan) {
  const rs_geometry *geometry = &plan->geometry;
  const int64_t views = geometry->views;
  upright_tables *tables = (upright_tables *)calloc(1, sizeof *tables);
  ray_view *rays = (ray_view *)malloc((size_t)views * sizeof *rays);
  int32_t *order = (int32_t *)malloc((size_t)views * sizeof *order), count = 0;
  int32_t status = tables && rays && order ? RS_OK : rs_fail(RS_EMEMORY, "no host memory for the tables of %d views", geometry->views);
  for (int main = RS_Y; !status && main <= RS_X; main++)
    for (int32_t i = 0; i < views; i++) {
      if (geometry->view[i].main != main) continue;
      order[count] = i;
      rays[count] = rays_of(geometry, &geometry->view[i]);
      rays[count].v[0] = rays[count].v[1] = 0; // nearly so before: lanes must agree on the way in the plane
      tables->curved = tables->curved || rays[count].turn != 0;
      count++;
      if (main == RS_Y) tables->along_y = count;
    }
  if (!status) status = rs_cuda_table(plan->device, rays, views * (int64_t)sizeof *rays, (void **)&tables->view, &tables->pointer);
  if (!status) status = rs_cuda_table(plan->device, order, views * (int64_t)sizeof *order, (void **)&tables->order, &tables->order_pointer);
  free(rays);
  free(order);
  if (status) {
    if (tables) rs_cuda_table_free(tables->pointer);
    free(tables);
    return status;
  }
  reach r;
  reach_of_all(geometry, r);
  lay_out(geometry, r, tables);
  const int32_t rows = geometry->rows;
  tables->layers = rows > 64 ? 4 : rows > 32 ? 2 : 1;
  tables->column_tiles = parts(geometry->columns, WARPS);
  tables->row_tiles = parts(rows, 32 * tables->layers);
  tables->blocks = parts(views, GROUP) * GROUP * tables->column_tiles * tables->row_tiles;
  tables->volume_floats = volume_floats(geometry, tables);
  const int64_t view_floats = (int64_t)geometry->columns * tables->line, most = PACKED / view_floats;
  tables->chunk = (int32_t)(most < 1 ? 1 : most < views ? most : views);
  const int64_t forward = tables->volume_floats + 2 * tables->blocks, back = tables->chunk * view_floats;
  plan->workspace_floats = forward > back ? forward : back;
  plan->tables = tables;
  return RS_OK;
}

upright_problem problem_of(const rs_plan *plan) {
  const upright_tables *tables = (const upright_tables *)plan->tables;
  const rs_geometry *g = &plan->geometry;
  return {tables->view,  tables->order, g->views,      g->rows,        g->columns,           {g->shape[0], g->shape[1], g->shape[2]},
          tables->guard, tables->line,  tables->slots, tables->line_z, tables->column_tiles, tables->row_tiles};
}

int32_t project_forward(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *volume, int64_t batch,
                        double *norm) {
  const upright_tables *tables = (const upright_tables *)plan->tables;
  const int32_t *n = plan->geometry.shape;
  const int64_t pixels = (int64_t)plan->geometry.rows * plan->geometry.views * plan->geometry.columns;
  const cudaStream_t stream = rs_cuda_stream(operation);
  const upright_problem p = problem_of(plan);
  const dim3 grid((unsigned)tables->blocks);
  const dim3 packs((unsigned)((n[RS_Y] + 2 * BORDER) * parts(n[RS_X] + 2 * BORDER, 32) * (tables->line_z / 32)));
  const float *packed = plan->workspace;
  double *squares = norm ? (double *)(plan->workspace + tables->volume_floats) : nullptr;
  rs_output target = *output;
  int32_t status = RS_OK;
  for (int64_t item = 0; item < batch && !status; item++, volume += (int64_t)n[0] * n[1] * n[2], advance(&target, pixels)) {
    status = RS_LAUNCH(pack_volume, packs, THREADS, 0, stream, p, volume, plan->workspace);
    if (status) break;
    switch (tables->layers) {
    case 1: status = RS_LAUNCH(forward<1>, grid, THREADS, 0, stream, p, target, packed, squares); break;
    case 2: status = RS_LAUNCH(forward<2>, grid, THREADS, 0, stream, p, target, packed, squares); break;
    default: status = RS_LAUNCH(forward<4>, grid, THREADS, 0, stream, p, target, packed, squares);
    }
    if (!status && norm) status = rs_sum_blocks(operation, squares, tables->blocks, 1, norm + item);
  }
  return status;
}

int32_t launch_back(const rs_plan *plan, cudaStream_t stream, const rs_output &output, int32_t first, int32_t count) {
  const upright_tables *tables = (const upright_tables *)plan->tables;
  const int32_t *n = plan->geometry.shape;
  const bool along_y = first < tables->along_y;
  const int layers = n[RS_Z] > 64 ? MOST_LAYERS : 2;
  const upright_problem p = problem_of(plan);
  const float *packed = plan->workspace;
  const dim3 grid(
      (unsigned)(parts(n[along_y ? RS_X : RS_Y], CELLS) * parts(n[along_y ? RS_Y : RS_X], WARPS) * parts(n[RS_Z], 32 * layers)));
  auto *kernel = tables->curved ? layers == 2 ? back<2, true> : back<MOST_LAYERS, true>
                 : layers == 2 ? back<2, false>
                                : back<MOST_LAYERS, false>;
  return RS_LAUNCH(kernel, grid, THREADS, 0, stream, p, output, first, count, packed);
}

int32_t project_back(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *projections, int64_t batch) {
  const upright_tables *tables = (const upright_tables *)plan->tables;
  const rs_geometry *geometry = &plan->geometry;
  const int32_t *n = geometry->shape;
  const int64_t pixels = (int64_t)geometry->rows * geometry->views * geometry->columns;
  const int64_t tiles = parts(geometry->columns, 32) * parts(tables->line, 32);
  const cudaStream_t stream = rs_cuda_stream(operation);
  const upright_problem p = problem_of(plan);
  rs_output item = *output;
  int32_t status = RS_OK;
  for (int64_t i = 0; i < batch && !status; i++, projections += pixels, advance(&item, (int64_t)n[0] * n[1] * n[2]))
    for (int32_t first = 0, end; first < geometry->views && !status; first = end) {
      end = first < tables->along_y ? tables->along_y : geometry->views;
      if (end - first > tables->chunk) end = first + tables->chunk;
      // The chunks add to each other in the target; an update is clamped once all are in.
      rs_output target = item;
      if (first > 0 && target.mode == RS_STORE) target.mode = RS_ADD;
      if (end < geometry->views) target.minimum = -INFINITY, target.maximum = INFINITY;
      const dim3 packs((unsigned)((end - first) * tiles));
      status = RS_LAUNCH(pack_projections, packs, THREADS, 0, stream, p, first, projections, plan->workspace);
      if (!status) status = launch_back(plan, stream, target, first, end - first);
    }
  return status;
}

} // namespace

extern "C" const rs_family rs_upright_cuda = {"upright", accepts, prepare, release, project_forward, project_back};
