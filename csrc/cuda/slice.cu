// slice.cu: the `rs_slice_cuda` family: parallel beams through one slice, or a few, with a detector row on each.
//
// The same rays and weights as in stack.cu (P. M. Joseph, IEEE Transactions on Medical Imaging 1, 1982), for problems that have too few
// slices to fill a warp with them. Such problems are small: an operator is one launch that reads and writes the public layouts.
#include "../memory.h"
#include "slice_back.h"
#include "slice_blocks.h"
#include "stack_passes.h"

extern "C" const rs_family rs_stack_cuda;

namespace {

constexpr int64_t SLICE_MOST = 24;        // slices of all batch items together; with more of them `rs_stack_cuda` is faster
constexpr double SLICE_FINEST = 1 - 1e-7; // voxels between columns: below 1 a voxel sees more than two
constexpr double SLICE_COARSEST = 1.99;
constexpr double SLICE_TURNED = 1e-8; // voxels that the position of a ray and of its counterpart may differ by

constexpr int64_t PASS_BYTES = 256 << 20; // of shares of sums that a pass should not exceed
constexpr int HEIGHTS = 5, TALLEST = 64;

struct slice_tables {
  rs_plan stack; // the same geometry for `rs_stack_cuda`, which takes large batches
  slice_plane plane;
  slice_work work;
  int64_t block_count;
  int64_t sums_floats;
  int64_t pass;              // most slices that forward projection works off at a time
  int64_t room, room_floats; // workspace, see make_room
  int32_t columns[HEIGHTS];  // of a view that a tile of back projection sees, with TALLEST >> k rows
  int64_t pointers[6];
};

int accepts(const rs_geometry *geometry) {
  if (!rs_stack_along_slices(geometry) || geometry->supersampling != 1) return 0;
  if (geometry->shape[RS_Z] > SLICE_MOST || geometry->rows != geometry->shape[RS_Z]) return 0;
  // Row r lies on slice r.
  const rs_view *view = &geometry->view[0];
  if (fabs(view->corner[RS_Z]) > 1e-9 || (geometry->rows > 1 && fabs(view->v[RS_Z] - 1) > 1e-9)) return 0;
  for (int32_t i = 0; i < geometry->views; i++) {
    double pitch = fabs(rs_stack_line(geometry, i).column);
    if (!(pitch >= SLICE_FINEST && pitch <= SLICE_COARSEST)) return 0;
  }
  return 1;
}

void release(rs_plan *plan) {
  slice_tables *tables = (slice_tables *)plan->tables;
  if (tables->stack.tables) rs_stack_cuda.release(&tables->stack);
  for (int64_t pointer : tables->pointers) rs_cuda_table_free(pointer);
  if (tables->room) rs_free(tables->room);
  free(tables);
  plan->tables = nullptr;
}

// Workspace for a call: as much as the largest so far has needed, since one for the largest batch would be 24 times what one slice takes.
// Whatever a captured call was given stays its own: rs_resolve notes it.
int32_t make_room(const rs_plan *plan, int64_t floats, float **workspace) {
  slice_tables *tables = (slice_tables *)plan->tables;
  if (floats > tables->room_floats) {
    if (tables->room) rs_free(tables->room);
    tables->room = tables->room_floats = 0;
    int32_t status = rs_pool_allocate(plan->device, floats * (int64_t)sizeof(float), &tables->room);
    if (status) return status;
    tables->room_floats = floats;
  }
  int32_t device = plan->device;
  void *address = nullptr;
  int32_t status = rs_resolve(tables->room, floats * (int64_t)sizeof(float), "workspace", &device, &address);
  *workspace = (float *)address;
  return status;
}

// Blocks of forward projection, and what back projection sees.
int32_t share_out(const rs_plan *plan, slice_tables *tables, const stack_view *view) {
  const rs_geometry *geometry = &plan->geometry;
  const stack_plane plane = {view, geometry->views, geometry->columns, 1, geometry->shape[RS_Y], geometry->shape[RS_X]};
  slice_block_list list = {};
  list.channels = tables->plane.turned ? 2 : 1;
  int32_t status = slice_make_blocks(plane, view, plan->device, &list);
  if (!status)
    status = rs_cuda_table(plan->device, list.blocks.at, list.blocks.count * (int64_t)sizeof(slice_block), (void **)&tables->work.blocks,
                           &tables->pointers[0]);
  if (!status && list.strips.count)
    status = rs_cuda_table(plan->device, list.strips.at, list.strips.count * (int64_t)sizeof(slice_strip), (void **)&tables->work.strips,
                           &tables->pointers[4]);
  if (!status && list.windows.count)
    status = rs_cuda_table(plan->device, list.windows.at, list.windows.count * (int64_t)sizeof(stack_window),
                           (void **)&tables->work.windows, &tables->pointers[1]);
  if (!status)
    status = rs_cuda_table(plan->device, list.heads, list.groups * (int64_t)sizeof(slice_block), (void **)&tables->work.heads,
                           &tables->pointers[5]);
  if (!status) {
    const int64_t count = SLICE_MOST * list.groups;
    unsigned *zeros = (unsigned *)calloc((size_t)count, sizeof *zeros);
    status = zeros
                 ? rs_cuda_table(plan->device, zeros, count * (int64_t)sizeof *zeros, (void **)&tables->work.arrived, &tables->pointers[2])
                 : rs_fail(RS_EMEMORY, "no host memory for the tables of %d views", geometry->views);
    free(zeros);
  }
  tables->block_count = list.blocks.count;
  tables->work.share_floats = list.share_floats;
  tables->work.groups = list.groups;
  while (1 << tables->work.slot_bits < list.slots) tables->work.slot_bits++;
  const int32_t columns = slice_turn(SLICE_THREADS, tables->work.slot_bits), few = slice_turn(SLICE_SUM_THREADS, tables->work.slot_bits);
  tables->work.turns = geometry->columns <= columns ? 1 : (geometry->columns + few - 1) / few;
  tables->work.voxels = (list.voxels + SLICE_NEXT - 1) / SLICE_NEXT * SLICE_NEXT;
  tables->work.rays = slice_padded(list.rays);
  slice_free_blocks(&list);
  return status;
}

// Does half a turn take the rays of every view to rays of it?
bool is_turned(const slice_plane &plane, const stack_view *view) {
  for (int32_t v = 0; v < plane.views; v++) {
    const bool upright = view[v].main == RS_Y;
    const int32_t cross = upright ? plane.nx : plane.ny, planes = upright ? plane.ny : plane.nx;
    const double middle = view[v].start + view[v].column * 0.5 * (plane.columns - 1) + view[v].plane * 0.5 * (planes - 1);
    if (!(fabs(2 * middle - (cross - 1)) <= SLICE_TURNED)) return false;
  }
  return true;
}

// How wide a window of columns voxels see, and what blocks do.
int32_t make_work(const rs_plan *plan, slice_tables *tables, const stack_view *view) {
  tables->plane.turned = is_turned(tables->plane, view);
  for (int32_t v = 0; v < tables->plane.views; v++)
    for (int k = 0; k < HEIGHTS; k++) {
      const int32_t columns = (int32_t)floor(fabs(view[v].along_y) * (TALLEST >> k) + fabs(view[v].along_x) * SLICE_WIDTH) + SLICE_BESIDE;
      tables->columns[k] = columns > tables->columns[k] ? columns : tables->columns[k];
    }
  return share_out(plan, tables, view);
}

int32_t prepare(rs_plan *plan) {
  const rs_geometry *geometry = &plan->geometry;
  slice_tables *tables = (slice_tables *)calloc(1, sizeof *tables);
  if (!tables) return rs_fail(RS_EMEMORY, "no host memory for the tables of a plan");
  plan->tables = tables;
  tables->plane = {nullptr, geometry->views, geometry->columns, geometry->shape[RS_Y], geometry->shape[RS_X], false, SLICE_PART};
  tables->stack.device = plan->device;
  tables->stack.geometry = *geometry;
  int32_t status = stack_put_views(plan, &tables->plane.view, &tables->pointers[3],
                                   [&](const stack_view *view) { return make_work(plan, tables, view); });
  if (!status) status = rs_stack_cuda.prepare(&tables->stack);
  if (status) {
    release(plan);
    return status;
  }
  const int64_t most = PASS_BYTES / (int64_t)sizeof(float) / (tables->work.share_floats + 1);
  tables->pass = most < 1 ? 1 : most > SLICE_MOST ? SLICE_MOST : most;
  tables->sums_floats = SLICE_MOST * tables->work.groups * tables->work.turns * (int64_t)(sizeof(double) / sizeof(float));
  return RS_OK;
}

// Is this batch one for `rs_stack_cuda`?
bool is_large(const rs_plan *plan, int64_t batch) { return batch * plan->geometry.rows > SLICE_MOST; }

// The plan for it.
int32_t stack_of(const rs_plan *plan, rs_plan *stack) {
  *stack = ((const slice_tables *)plan->tables)->stack;
  return make_room(plan, stack->workspace_floats, &stack->workspace);
}

template <int CHANNELS>
int32_t project(const rs_operation *operation, const slice_tables *tables, const slice_work &work, const float *volume,
                const slice_lanes &lanes, const rs_output &output) {
  const dim3 grid((unsigned)tables->block_count, (unsigned)lanes.count);
  int32_t status = RS_LAUNCH((slice_forward<CHANNELS>), grid, SLICE_THREADS, slice_forward_bytes<CHANNELS>(work), rs_cuda_stream(operation),
                             tables->plane, work, volume, lanes, output);
  if (status || work.turns == 1) return status;
  const dim3 sums((unsigned)(work.groups * work.turns), (unsigned)lanes.count);
  return RS_LAUNCH((slice_add<CHANNELS>), sums, SLICE_SUM_THREADS, 0, rs_cuda_stream(operation), tables->plane, work, lanes, output);
}

int32_t forward(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *volume, int64_t batch, double *norm) {
  if (is_large(plan, batch)) {
    rs_plan stack;
    int32_t status = stack_of(plan, &stack);
    return status ? status : rs_stack_cuda.forward(operation, &stack, output, volume, batch, norm);
  }
  const slice_tables *tables = (const slice_tables *)plan->tables;
  const int32_t units = plan->geometry.rows;
  const int64_t most = batch * units < tables->pass ? batch * units : tables->pass;
  float *workspace;
  int32_t status = make_room(plan, tables->sums_floats + most * tables->work.share_floats, &workspace);
  if (status) return status;
  slice_work work = tables->work;
  work.sums = norm ? (double *)workspace : nullptr;
  work.shares = workspace + tables->sums_floats;
  for (slice_lanes lanes = {0, 0, units}; lanes.first < batch * units; lanes.first += lanes.count) {
    const int64_t left = batch * units - lanes.first;
    lanes.count = left < tables->pass ? left : tables->pass;
    status = tables->plane.turned ? project<2>(operation, tables, work, volume, lanes, *output)
                                  : project<1>(operation, tables, work, volume, lanes, *output);
    if (status) return status;
  }
  return norm ? rs_sum_blocks(operation, work.sums, (int64_t)work.groups * work.turns * units, batch, norm) : RS_OK;
}

// So many rows, or their counterparts, are all.
template <int CHANNELS> int64_t rows_of(const slice_plane &plane) { return stack_parts(plane.ny, CHANNELS); }

template <int CHANNELS, int ROWS, int WARPS>
int32_t back_project(const rs_operation *operation, const slice_tables *tables, const float *projections, const slice_lanes &lanes,
                     const rs_output &output) {
  constexpr int HEIGHT = ROWS * WARPS;
  const slice_plane &plane = tables->plane;
  int height = 0; // in the list
  while (TALLEST >> height > HEIGHT) height++;
  const dim3 grid((unsigned)(stack_parts(rows_of<CHANNELS>(plane), HEIGHT) * stack_parts(plane.nx, SLICE_WIDTH)), (unsigned)lanes.count);
  // Several blocks with half of the groups each fill a multiprocessor as well, and wait for fewer threads.
  const bool many = grid.x * (int64_t)grid.y * 2 >= rs_cuda_multiprocessors(tables->stack.device) * 3;
  const int64_t room = rs_cuda_shared(tables->stack.device) - STACK_STATIC;
  const int32_t columns = tables->columns[height];
  int groups = 32 / WARPS / (many ? 2 : 1);
  while ((int64_t)slice_back_bytes<CHANNELS, ROWS, WARPS>(groups, columns) > room) groups /= 2;
  return RS_LAUNCH((slice_back<CHANNELS, ROWS, WARPS>), grid, groups * 32 * WARPS,
                   (slice_back_bytes<CHANNELS, ROWS, WARPS>(groups, columns)), rs_cuda_stream(operation), plane, projections, lanes, output,
                   columns);
}

// Small problems get small tiles, so that every multiprocessor has one.
template <int CHANNELS>
int32_t back_project(const rs_operation *operation, const slice_tables *tables, const float *projections, const slice_lanes &lanes,
                     const rs_output &output) {
  const slice_plane &plane = tables->plane;
  const int64_t enough = rs_cuda_multiprocessors(tables->stack.device) * 3 / 4;
  const int64_t strips = stack_parts(plane.nx, SLICE_WIDTH) * lanes.count, rows = rows_of<CHANNELS>(plane);
  if (strips * stack_parts(rows, 64) >= enough) return back_project<CHANNELS, 8, 8>(operation, tables, projections, lanes, output);
  if (strips * stack_parts(rows, 32) >= enough) return back_project<CHANNELS, 8, 4>(operation, tables, projections, lanes, output);
  if (strips * stack_parts(rows, 16) >= enough) return back_project<CHANNELS, 4, 4>(operation, tables, projections, lanes, output);
  if (strips * stack_parts(rows, 8) >= enough) return back_project<CHANNELS, 2, 4>(operation, tables, projections, lanes, output);
  if constexpr (CHANNELS == 2)
    if (strips * stack_parts(rows, 4) < enough) return back_project<1>(operation, tables, projections, lanes, output);
  return back_project<CHANNELS, 1, 4>(operation, tables, projections, lanes, output);
}

int32_t back(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *projections, int64_t batch) {
  if (is_large(plan, batch)) {
    rs_plan stack;
    int32_t status = stack_of(plan, &stack);
    return status ? status : rs_stack_cuda.back(operation, &stack, output, projections, batch);
  }
  const slice_tables *tables = (const slice_tables *)plan->tables;
  const slice_lanes lanes = {0, batch * plan->geometry.rows, plan->geometry.rows};
  return tables->plane.turned ? back_project<2>(operation, tables, projections, lanes, *output)
                              : back_project<1>(operation, tables, projections, lanes, *output);
}

} // namespace

extern "C" const rs_family rs_slice_cuda;
const rs_family rs_slice_cuda = {"slice", accepts, prepare, release, forward, back};
