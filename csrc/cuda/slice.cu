// slice.cu: the `rs_slice_cuda` family: parallel beams through one slice, or a few, with a detector row on each.
//
// The same rays and weights as in stack.cu (P. M. Joseph, IEEE Transactions on Medical Imaging 1, 1982), for problems that have too few
// slices to fill a warp with them. Such problems are small: an operator is one launch that reads and writes the public layouts.
#include "slice_kernels.h"

extern "C" const rs_family rs_stack_cuda;

namespace {

constexpr int64_t SLICE_MOST = 24;        // slices of all batch items together; with more of them `rs_stack_cuda` is faster
constexpr int32_t SLICE_VOXELS = 176;     // of a plane that the rays of a block may see
constexpr double SLICE_FINEST = 1 - 1e-7; // voxels between columns: below 1 a voxel sees more than two
constexpr double SLICE_COARSEST = 1.99;

struct slice_tables {
  rs_plan stack; // the same geometry for `rs_stack_cuda`, which takes large batches
  slice_plane plane;
  stack_block *blocks;
  int64_t block_count;
  int32_t views, pieces; // of a block
  int32_t voxels;        // of a plane that a block sees, with the steps of a band
  double along;          // the most columns that a step along y and one along x are together
  int64_t pointers[2];
};

int64_t parts(int64_t count, int64_t size) { return (count + size - 1) / size; }

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
  free(tables);
  plan->tables = nullptr;
}

// Shares the rays out to blocks of one shape: as many views together as see few voxels.
int32_t share_out(const rs_plan *plan, slice_tables *tables, const stack_view *view) {
  const stack_plane plane = {view, plan->geometry.views, plan->geometry.columns, 1, plan->geometry.shape[RS_Y], plan->geometry.shape[RS_X]};
  int64_t columns = parts(plane.columns, STACK_SIDE * 2);
  stack_block *block = (stack_block *)malloc((size_t)((plane.views + 1) * columns) * sizeof *block);
  if (!block) return rs_fail(RS_EMEMORY, "no host memory for the tables of %d views", plane.views);
  double steepest = 0;
  for (int32_t v = 0; v < plane.views; v++) steepest = fmax(steepest, fabs(view[v].plane));
  for (tables->views = STACK_MOST_VIEWS; tables->views; tables->views /= 2) {
    tables->pieces = tables->views < STACK_MOST_VIEWS ? 4 : 2;
    tables->block_count = 0;
    int32_t most = 0;
    for (int32_t first = 0, count; first < plane.views; first += count) {
      for (count = 1; count < tables->views && first + count < plane.views && view[first + count].main == view[first].main;) count++;
      for (int32_t column = 0; column < plane.columns; column += tables->pieces * STACK_SIDE) {
        stack_block &next = block[tables->block_count++];
        next = {first, count, column, tables->pieces, 0, 0, 0, 0};
        const int32_t voxels = stack_measure(plane, view, &next);
        most = voxels > most ? voxels : most;
      }
    }
    // Rounding may move either end of a window by one.
    tables->voxels = (most + (int32_t)ceil(steepest * (SLICE_BAND - 1)) + 3) | 1;
    if (tables->voxels <= SLICE_VOXELS) break;
  }
  int32_t status =
      rs_cuda_table(plan->device, block, tables->block_count * (int64_t)sizeof *block, (void **)&tables->blocks, &tables->pointers[0]);
  free(block);
  return status;
}

int32_t make_views(const rs_plan *plan, slice_tables *tables) {
  const rs_geometry *geometry = &plan->geometry;
  stack_line *line = (stack_line *)malloc((size_t)geometry->views * sizeof *line);
  stack_view *view = (stack_view *)malloc((size_t)geometry->views * sizeof *view);
  int32_t status = RS_OK;
  if (line && view) {
    rs_stack_lines(geometry, line);
    for (int32_t i = 0; i < geometry->views; i++) {
      view[i] = stack_view_of(geometry, line[i]);
      tables->along = fmax(tables->along, fabs(view[i].along_y) + fabs(view[i].along_x));
    }
    status = share_out(plan, tables, view);
    if (!status)
      status =
          rs_cuda_table(plan->device, view, geometry->views * (int64_t)sizeof *view, (void **)&tables->plane.view, &tables->pointers[1]);
  } else {
    status = rs_fail(RS_EMEMORY, "no host memory for the tables of %d views", geometry->views);
  }
  free(line);
  free(view);
  return status;
}

int32_t prepare(rs_plan *plan) {
  const rs_geometry *geometry = &plan->geometry;
  slice_tables *tables = (slice_tables *)calloc(1, sizeof *tables);
  if (!tables) return rs_fail(RS_EMEMORY, "no host memory for the tables of a plan");
  plan->tables = tables;
  tables->plane = {nullptr, geometry->views, geometry->columns, geometry->shape[RS_Y], geometry->shape[RS_X]};
  tables->stack.device = plan->device;
  tables->stack.geometry = *geometry;
  int32_t status = make_views(plan, tables);
  if (!status) status = rs_stack_cuda.prepare(&tables->stack);
  if (status) {
    release(plan);
    return status;
  }
  plan->workspace_floats = SLICE_MOST * tables->block_count * (int64_t)(sizeof(double) / sizeof(float));
  if (plan->workspace_floats < tables->stack.workspace_floats) plan->workspace_floats = tables->stack.workspace_floats;
  return RS_OK;
}

// Is this batch one for `rs_stack_cuda`? Then *stack is its plan, with this plan's workspace.
bool hand_over(const rs_plan *plan, int64_t batch, rs_plan *stack) {
  if (batch * plan->geometry.rows <= SLICE_MOST) return false;
  *stack = ((const slice_tables *)plan->tables)->stack;
  stack->workspace = plan->workspace;
  return true;
}

// One call on its way.
struct call {
  const rs_operation *operation;
  const slice_tables *tables;
  const float *input;
  rs_output output;
  double *sums;
};

template <int CHANNELS> int32_t project(const call &c, const slice_lanes &lanes) {
  const slice_tables *tables = c.tables;
  dim3 grid((unsigned)tables->block_count, (unsigned)parts(lanes.count, CHANNELS));
  unsigned threads = (unsigned)(tables->views * tables->pieces * STACK_SIDE / 2);
  size_t shared = (size_t)SLICE_BAND * tables->voxels * sizeof(slice_pair<CHANNELS>);
  return RS_LAUNCH((slice_forward<CHANNELS>), grid, threads, shared, rs_cuda_stream(c.operation), tables->plane,
                   (const stack_block *)tables->blocks, c.input, lanes, c.output, c.sums, tables->views, tables->voxels);
}

template <int CHANNELS, int ROWS> int32_t back_project_rows(const call &c, const slice_lanes &lanes, int64_t tiles) {
  const slice_plane &plane = c.tables->plane;
  // Several blocks with two groups each fill a multiprocessor, as one does with four.
  const int most = slice_groups(CHANNELS, ROWS), groups = tiles >= rs_cuda_multiprocessors(c.tables->stack.device) * 3 / 2 ? 2 : most;
  const int32_t columns = (int32_t)floor(c.tables->along * (8 * ROWS > SLICE_WIDTH ? 8 * ROWS : SLICE_WIDTH)) + 4;
  dim3 grid((unsigned)(parts(plane.ny, 8 * ROWS) * parts(plane.nx, SLICE_WIDTH)), (unsigned)parts(lanes.count, CHANNELS));
  return RS_LAUNCH((slice_back<CHANNELS, ROWS>), grid, (unsigned)(groups * SLICE_GROUP), slice_back_bytes<CHANNELS>(groups, ROWS, columns),
                   rs_cuda_stream(c.operation), plane, c.input, lanes, c.output, columns);
}

// Small problems get small tiles, so that every multiprocessor has one.
template <int CHANNELS> int32_t back_project(const call &c, const slice_lanes &lanes) {
  const slice_plane &plane = c.tables->plane;
  const int64_t enough = rs_cuda_multiprocessors(c.tables->stack.device) * 3 / 4;
  const int64_t strips = parts(plane.nx, SLICE_WIDTH) * parts(lanes.count, CHANNELS);
  const int64_t large = strips * parts(plane.ny, 32), middle = strips * parts(plane.ny, 16);
  if (large >= enough) return back_project_rows<CHANNELS, 4>(c, lanes, large);
  if (middle >= enough) return back_project_rows<CHANNELS, 2>(c, lanes, middle);
  return back_project_rows<CHANNELS, 1>(c, lanes, strips * parts(plane.ny, 8));
}

// Four slices at a time, then what is left.
template <typename Four, typename Two, typename One> int32_t work_off(int64_t slices, int32_t units, Four four, Two two, One one) {
  int64_t whole = slices / 4 * 4, rest = slices - whole;
  if (rest == 3) whole = slices, rest = 0;
  int32_t status = whole ? four(slice_lanes{0, whole, units}) : RS_OK;
  if (status || !rest) return status;
  return rest == 2 ? two(slice_lanes{whole, rest, units}) : one(slice_lanes{whole, rest, units});
}

int32_t forward(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *volume, int64_t batch, double *norm) {
  rs_plan stack;
  if (hand_over(plan, batch, &stack)) return rs_stack_cuda.forward(operation, &stack, output, volume, batch, norm);
  const slice_tables *tables = (const slice_tables *)plan->tables;
  const int32_t units = plan->geometry.rows;
  const call c = {operation, tables, volume, *output, norm ? (double *)plan->workspace : nullptr};
  int32_t status = work_off(
      batch * units, units, [&](slice_lanes l) { return project<4>(c, l); }, [&](slice_lanes l) { return project<2>(c, l); },
      [&](slice_lanes l) { return project<1>(c, l); });
  return status || !norm ? status : rs_sum_blocks(operation, c.sums, tables->block_count * units, batch, norm);
}

int32_t back(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *projections, int64_t batch) {
  rs_plan stack;
  if (hand_over(plan, batch, &stack)) return rs_stack_cuda.back(operation, &stack, output, projections, batch);
  const int32_t units = plan->geometry.rows;
  const call c = {operation, (const slice_tables *)plan->tables, projections, *output, nullptr};
  return work_off(
      batch * units, units, [&](slice_lanes l) { return back_project<4>(c, l); }, [&](slice_lanes l) { return back_project<2>(c, l); },
      [&](slice_lanes l) { return back_project<1>(c, l); });
}

} // namespace

extern "C" const rs_family rs_slice_cuda;
const rs_family rs_slice_cuda = {"slice", accepts, prepare, release, forward, back};
