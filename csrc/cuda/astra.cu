// astra.cu: the CUDA family of the laws of ASTRA: what csrc/astra.c computes, on a GPU.
//
// The workspace holds one batch item's volume or projections with a border of zeros, laid out for the kernels that read them. Where
// detector columns stand along z, those of astra_upright.h and astra_columns.h, else those of astra_forward.h and astra_back.h.
#include "astra_back.h"
#include "astra_columns.h"
#include "astra_forward.h"
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
  int32_t per_lane;      // rows of a lane in upright forward
  int32_t per_pass;      // views that back_columns packs at a time
  int64_t packed_floats; // of the workspace; then the sums of squares of forward's blocks
  int64_t blocks;        // of forward
};

int64_t parts(int64_t count, int64_t size) { return (count + size - 1) / size; }
int64_t round_up(int64_t count, int64_t size) { return parts(count, size) * size; }
int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

int64_t voxel_count(const rs_geometry *g) { return (int64_t)g->shape[0] * g->shape[1] * g->shape[2]; }
int64_t pixel_count(const rs_geometry *g) { return (int64_t)g->rows * g->views * g->columns; }

int accepts(const rs_geometry *) { return 1; }

void release(rs_plan *plan) {
  astra_tables *tables = (astra_tables *)plan->tables;
  rs_cuda_table_free(tables->aimed_pointer);
  rs_cuda_table_free(tables->view_pointer);
  free(tables);
  plan->tables = nullptr;
}

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
  bool flat = geometry->voxel_supersampling == 1;
  for (int32_t i = 0; i < geometry->views; i++) flat = flat && view[i].turn == 0;
  if (!tables->upright || !flat || geometry->shape[RS_Z] < ASTRA_FEW ||
      !astra_plan_columns(geometry, view, rs_cuda_multiprocessors(plan->device), &tables->columns))
    tables->columns.chunk = 0;
  int32_t status =
      rs_cuda_table(plan->device, aimed, geometry->views * (int64_t)sizeof *aimed, (void **)&tables->aimed, &tables->aimed_pointer);
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
  if (tables->columns.chunk) {
    const int64_t image = 2 * (int64_t)tables->columns.lines * tables->columns.length, most = larger(1, PASS_FLOATS / image),
                  passes = parts(geometry->views, most);
    tables->per_pass = (int32_t)parts(geometry->views, passes);
    floats = tables->per_pass * image;
  }
  tables->packed_floats = larger(tables->packed_floats, floats);
}

int32_t prepare(rs_plan *plan) {
  const rs_geometry *geometry = &plan->geometry;
  if (astra_check(geometry)) return RS_EARGUMENT;
  astra_tables *tables = (astra_tables *)calloc(1, sizeof *tables);
  astra_aimed *aimed = (astra_aimed *)calloc((size_t)geometry->views, sizeof *aimed);
  astra_view *view = (astra_view *)malloc((size_t)geometry->views * sizeof *view);
  plan->tables = tables;
  int32_t status = tables && aimed && view ? fill_tables(plan, tables, aimed, view)
                                           : rs_fail(RS_EMEMORY, "no host memory for the tables of %d views", geometry->views);
  free(aimed);
  free(view);
  if (status) {
    if (tables) release(plan);
    return status;
  }
  size_forward(geometry, tables);
  size_back(geometry, tables);
  tables->packed_floats = round_up(tables->packed_floats, 16);
  plan->workspace_floats = tables->packed_floats + 2 * tables->blocks;
  return RS_OK;
}

// ---- packing

dim3 pack_grid(int64_t rows, int64_t depth) { return dim3((unsigned)rows, (unsigned)(depth < ASTRA_GRID ? depth : ASTRA_GRID)); }

int32_t clear(const rs_operation *operation, float *to, int64_t slice, int32_t depth) {
  return RS_LAUNCH(astra_clear, dim3((unsigned)parts(slice, 256)), dim3(256), 0, rs_cuda_stream(operation), to, slice, depth);
}

// Packs `depth` slices of height x width, these steps in floats apart, turned: rows of `pitch` floats hold a column of the slice.
int32_t pack_turned(const rs_operation *operation, float *to, const float *from, int32_t depth, int32_t height, int32_t width,
                    int64_t z_step, int64_t y_step, int64_t pitch) {
  const int64_t rows = width + RS_TEXTURE_BORDER, slice = rows * pitch;
  int32_t status = clear(operation, to, slice, depth);
  return status ? status
                : RS_LAUNCH(astra_pack_turned, pack_grid(parts(rows, 32) * parts(pitch, 32), depth), dim3(32, 8), 0,
                            rs_cuda_stream(operation), to + slice, from, depth, height, width, z_step, y_step, pitch);
}

int32_t pack_straight(const rs_operation *operation, const rs_geometry *geometry, const float *volume, float *to) {
  const int32_t depth = geometry->shape[RS_Z], height = geometry->shape[RS_Y], width = geometry->shape[RS_X];
  const int64_t rows = height + RS_TEXTURE_BORDER, slice = rows * (width + RS_TEXTURE_BORDER);
  int32_t status = clear(operation, to, slice, depth);
  return status ? status
                : RS_LAUNCH(astra_pack, pack_grid(parts(rows, 8), depth), dim3(32, 8), 0, rs_cuda_stream(operation), to + slice, volume,
                            depth, height, width, (int64_t)height * width, (int64_t)width);
}

// ---- forward

int32_t forward_upright(const rs_operation *operation, const rs_plan *plan, const rs_output &output, size_t item, const float *volume,
                        double *squares) {
  const astra_tables *tables = (const astra_tables *)plan->tables;
  const rs_geometry *geometry = &plan->geometry;
  const int32_t *shape = geometry->shape;
  const int64_t pitch = line_floats(geometry);
  int32_t status = pack_turned(operation, plan->workspace, volume, shape[RS_Y], shape[RS_Z], shape[RS_X], shape[RS_X],
                               (int64_t)shape[RS_Y] * shape[RS_X], pitch);
  if (status) return status;
  astra_upright_work work = {};
  work.output = output;
  work.item = item;
  work.views = tables->aimed;
  work.squares = squares;
  work.packed = plan->workspace;
  work.step[RS_Z] = 1;
  work.step[RS_Y] = pitch * (shape[RS_X] + RS_TEXTURE_BORDER);
  work.step[RS_X] = pitch;
  for (int k = 0; k < 3; k++) work.count[k] = (float)shape[k];
  work.view_count = geometry->views;
  work.rows = geometry->rows;
  work.columns = geometry->columns;
  work.supersampling = geometry->supersampling;
  work.cone = geometry->beam == RS_CONE;
  auto *kernel = tables->per_lane == 8   ? astra_upright_forward<8>
                 : tables->per_lane == 4 ? astra_upright_forward<4>
                 : tables->per_lane == 2 ? astra_upright_forward<2>
                                         : astra_upright_forward<1>;
  return RS_LAUNCH(kernel, dim3((unsigned)tables->blocks), dim3(ASTRA_UPRIGHT_THREADS), 0, rs_cuda_stream(operation), work);
}

astra_line_work line_work(const rs_plan *plan, const rs_output &output, size_t item, double *squares) {
  const astra_tables *tables = (const astra_tables *)plan->tables;
  const rs_geometry *geometry = &plan->geometry;
  astra_line_work work = {};
  work.output = output;
  work.item = item;
  work.aimed = tables->aimed;
  work.views = tables->view;
  work.squares = squares;
  work.rows = (float2 *)plan->workspace;
  work.view_count = geometry->views;
  work.detectors = geometry->columns;
  work.height = geometry->shape[RS_Y];
  work.width = geometry->shape[RS_X];
  work.columns = work.rows + (int64_t)work.height * (work.width + 2);
  work.cone = geometry->beam == RS_CONE;
  work.fan = is_fan(geometry);
  return work;
}

int32_t forward_line(const rs_operation *operation, const rs_plan *plan, const rs_output &output, size_t item, const float *volume,
                     double *squares) {
  const astra_tables *tables = (const astra_tables *)plan->tables;
  astra_line_work work = line_work(plan, output, item, squares);
  work.supersampling = plan->geometry.supersampling;
  cudaStream_t stream = rs_cuda_stream(operation);
  const int64_t pairs = larger((int64_t)work.height * (work.width + 2), (int64_t)work.width * (work.height + 2));
  int32_t status = RS_LAUNCH(astra_pack_lines, dim3((unsigned)parts(pairs, 256), 2), dim3(256), 0, stream, (float2 *)work.rows,
                             (float2 *)work.columns, volume, work.height, work.width);
  return status ? status : RS_LAUNCH(astra_line_forward, dim3((unsigned)tables->blocks), dim3(256), 0, stream, work);
}

// How the copy of the volume is laid out that views of this main axis read.
void set_layout(const rs_geometry *geometry, int main, float *packed, astra_layout *layout) {
  const astra_axes axes = astra_axes_of(geometry, &geometry->view[0], main);
  const int32_t pitch = geometry->shape[main == RS_X ? RS_Y : RS_X] + RS_TEXTURE_BORDER,
                slice = pitch * (geometry->shape[main == RS_X ? RS_X : RS_Y] + RS_TEXTURE_BORDER);
  layout->packed = packed;
  for (int n = 0; n < 3; n++) {
    const int axis = axes.axis[n];
    layout->step[n] = axis == RS_Z ? slice : (axis == RS_X) == (main == RS_X) ? pitch : 1;
    layout->count[n] = axes.count[n];
  }
}

int32_t forward_general(const rs_operation *operation, const rs_plan *plan, const rs_output &output, size_t item, const float *volume,
                        double *squares) {
  const astra_tables *tables = (const astra_tables *)plan->tables;
  const rs_geometry *geometry = &plan->geometry;
  const int32_t *shape = geometry->shape;
  const bool straight = tables->used[RS_Y] || tables->used[RS_Z];
  float *turned = plan->workspace + (straight ? astra_volume_floats(geometry) : 0);
  int32_t status = straight ? pack_straight(operation, geometry, volume, plan->workspace) : RS_OK;
  if (!status && tables->used[RS_X])
    status = pack_turned(operation, turned, volume, shape[RS_Z], shape[RS_Y], shape[RS_X], (int64_t)shape[RS_Y] * shape[RS_X], shape[RS_X],
                         shape[RS_Y] + RS_TEXTURE_BORDER);
  if (status) return status;
  astra_forward_work work = {};
  work.output = output;
  work.item = item;
  work.views = tables->aimed;
  work.squares = squares;
  work.view_count = geometry->views;
  work.rows = geometry->rows;
  work.columns = geometry->columns;
  work.supersampling = geometry->supersampling;
  work.sub_rows = geometry->law == RS_ASTRA_2D ? 1 : geometry->supersampling;
  work.cone = geometry->beam == RS_CONE;
  work.fan = is_fan(geometry);
  for (int main = 0; main < 3; main++) set_layout(geometry, main, main == RS_X ? turned : plan->workspace, &work.layout[main]);
  return RS_LAUNCH(astra_forward, dim3((unsigned)tables->blocks), dim3(ASTRA_THREADS), 0, rs_cuda_stream(operation), work);
}

int32_t forward(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *volume, int64_t batch, double *norm) {
  const astra_tables *tables = (const astra_tables *)plan->tables;
  const int64_t voxels = voxel_count(&plan->geometry), pixels = pixel_count(&plan->geometry);
  double *squares = norm ? (double *)(plan->workspace + tables->packed_floats) : nullptr;
  auto *run = tables->line ? forward_line : tables->upright ? forward_upright : forward_general;
  for (int64_t item = 0; item < batch; item++) {
    int32_t status = run(operation, plan, *output, (size_t)(item * pixels), volume + item * voxels, squares);
    if (!status && norm) status = rs_sum_blocks(operation, squares, tables->blocks, 1, norm + item);
    if (status) return status;
  }
  return RS_OK;
}

// ---- back

// Pass by pass, which add to each other in the target; an update is clamped once all are in.
int32_t back_columns(const rs_operation *operation, const rs_plan *plan, const rs_output &output, size_t item, const float *projections) {
  const astra_tables *tables = (const astra_tables *)plan->tables;
  const rs_geometry *geometry = &plan->geometry;
  const int32_t *shape = geometry->shape;
  const astra_columns &columns = tables->columns;
  cudaStream_t stream = rs_cuda_stream(operation);
  float2 *packed = (float2 *)plan->workspace;
  const dim3 grid((unsigned)(parts(shape[RS_X], STACK_SIDE) * parts(shape[RS_Y], STACK_SIDE)), (unsigned)parts(shape[RS_Z], columns.chunk));
  astra_columns_work work = {};
  work.packed = packed;
  work.height = shape[RS_Y];
  work.width = shape[RS_X];
  work.columns = columns;
  work.target.lanes = {0, shape[RS_Z], shape[RS_Z], 0, (int64_t)shape[RS_Y] * shape[RS_X]};
  const bool cone = geometry->beam == RS_CONE;
  auto *kernel = columns.chunk == 128  ? (cone ? astra_columns_back<4, 2> : astra_columns_back<4, 0>)
                 : columns.chunk == 64 ? (cone ? astra_columns_back<2, 2> : astra_columns_back<2, 0>)
                                       : (cone ? astra_columns_back<1, 2> : astra_columns_back<1, 0>);
  for (int32_t first = 0; first < geometry->views; first += tables->per_pass) {
    const bool last = geometry->views - first <= tables->per_pass;
    work.view_count = last ? geometry->views - first : tables->per_pass;
    work.views = tables->view + first;
    work.target.output = output;
    work.target.output.target = output.target + item;
    if (first && output.mode == RS_STORE) work.target.output.mode = RS_ADD;
    if (!last) work.target.output.minimum = -INFINITY, work.target.output.maximum = INFINITY;
    int32_t status = RS_LAUNCH(astra_pack_columns, pack_grid(parts(columns.lines, 32) * parts(columns.length, 32), work.view_count),
                               dim3(32, 8), 0, stream, packed, projections + (int64_t)first * geometry->columns, work.view_count,
                               geometry->rows, geometry->columns, (int64_t)geometry->views, columns);
    if (!status) status = RS_LAUNCH(kernel, grid, dim3(STACK_THREADS), astra_columns_bytes(columns), stream, work);
    if (status) return status;
  }
  return RS_OK;
}

int32_t back_line(const rs_operation *operation, const rs_plan *plan, const rs_output &output, size_t item, const float *projections) {
  astra_line_work work = line_work(plan, output, item, nullptr);
  work.supersampling = plan->geometry.voxel_supersampling;
  cudaStream_t stream = rs_cuda_stream(operation);
  int32_t status = RS_LAUNCH(astra_pack_lines, dim3((unsigned)parts((int64_t)work.view_count * (work.detectors + 2), 256)), dim3(256), 0,
                             stream, (float2 *)work.rows, (float2 *)nullptr, projections, work.view_count, work.detectors);
  if (status) return status;
  const dim3 grid((unsigned)(parts(work.width, 32) * parts(work.height, 8 * ASTRA_LINE_VOXELS)));
  auto *kernel = !work.cone ? astra_line_back<0> : plan->geometry.law == RS_ASTRA_2D ? astra_line_back<1> : astra_line_back<2>;
  return RS_LAUNCH(kernel, grid, dim3(256), 0, stream, work);
}

int32_t back_general(const rs_operation *operation, const rs_plan *plan, const rs_output &output, size_t item, const float *projections) {
  const astra_tables *tables = (const astra_tables *)plan->tables;
  const rs_geometry *geometry = &plan->geometry;
  const int32_t *shape = geometry->shape;
  cudaStream_t stream = rs_cuda_stream(operation);
  int32_t status = RS_LAUNCH(astra_pack, pack_grid(parts(geometry->rows + RS_TEXTURE_BORDER, 8), geometry->views), dim3(32, 8), 0, stream,
                             plan->workspace, projections, geometry->views, geometry->rows, geometry->columns, (int64_t)geometry->columns,
                             (int64_t)geometry->views * geometry->columns);
  if (status) return status;
  astra_back_work work = {};
  work.output = output;
  work.item = item;
  work.views = tables->view;
  work.packed = plan->workspace;
  work.view_count = geometry->views;
  work.rows = geometry->rows;
  work.columns = geometry->columns;
  work.depth = shape[RS_Z];
  work.height = shape[RS_Y];
  work.width = shape[RS_X];
  work.sub_rows = geometry->voxel_supersampling;
  work.sub_slices = geometry->law == RS_ASTRA_2D ? 1 : geometry->voxel_supersampling;
  const dim3 grid((unsigned)(parts(shape[RS_X], 32) * parts(shape[RS_Y], 8) * parts(shape[RS_Z], ASTRA_SLICES)));
  auto *kernel = geometry->beam == RS_PARALLEL ? astra_back<0> : geometry->law == RS_ASTRA_2D ? astra_back<1> : astra_back<2>;
  return RS_LAUNCH(kernel, grid, dim3(32, 8), 0, stream, work);
}

int32_t back(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *projections, int64_t batch) {
  const astra_tables *tables = (const astra_tables *)plan->tables;
  const int64_t voxels = voxel_count(&plan->geometry), pixels = pixel_count(&plan->geometry);
  auto *run = tables->line_back ? back_line : tables->columns.chunk ? back_columns : back_general;
  for (int64_t item = 0; item < batch; item++) {
    int32_t status = run(operation, plan, *output, (size_t)(item * voxels), projections + item * pixels);
    if (status) return status;
  }
  return RS_OK;
}

} // namespace

extern "C" const rs_family rs_astra_cuda = {"astra", accepts, prepare, release, forward, back};
