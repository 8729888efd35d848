// stack.cu: the `rs_stack_cuda` family: parallel beams along the slices of a volume, the default of tomography.
//
// The operators of ../stack.c: rays are sampled where they cross the planes of the main axis, with linear interpolation in between
// (P. M. Joseph, IEEE Transactions on Medical Imaging 1, 1982); the transpose has the same weights. All slices share them, so lanes lie
// innermost (stack_plan.h) and a weight is found once for all lanes of a block.
//
// Lanes are worked off in passes of whole chunks. The workspace holds one pass of the packed volume (forward) or the packed projections
// (back), and the sums of squares of every block.
#include "stack_back.h"
#include "stack_blocks.h"
#include "stack_plain.h"

namespace {

constexpr int STACK_FEW = 16;              // rows below which law astra has better kernels
constexpr int64_t STACK_MOST_SPLITS = 16;  // blocks that have a share of a sum
constexpr int64_t STACK_MOST_TILES = 1024; // whose sums are shared
constexpr int64_t PASS_BYTES = 512 << 20;  // of packed data that a pass should not exceed, where it has a choice

// How lanes are worked off: chunks of one width, and blocks that do a part of a sum each.
struct stack_shares {
  int64_t lanes, width, splits;
  int64_t floats; // of the workspace for parts of sums
};

struct stack_tables {
  stack_plane plane; // with pointers to the device
  stack_room room;
  struct {
    int64_t *begin;
    int32_t *index;
    float *weight;
  } slices_of_row, rows_of_slice;
  stack_block *blocks;       // of forward projection, or null: the plain kernel
  int32_t columns;           // of a view that a block of back projection sees, or 0: the plain kernel
  int32_t upright, sideways; // does forward projection need the volume with rows along x, along y?
  size_t shared[3];          // bytes that forward projection needs with vectors of 1, 2 and 4 lanes
  unsigned *arrived;
  int64_t pointers[9];
  int64_t pass; // most lanes of a pass: whole chunks
  int64_t forward_blocks, back_blocks;
  stack_shares whole[2];                             // for one item forward and back
  int64_t packed_floats, sums_floats, shares_floats; // of the workspace
};

int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t parts(int64_t count, int64_t size) { return (count + size - 1) / size; }

// Room for that many lanes: chunks have 32, 64 or 128.
int64_t padded(int64_t lanes) {
  const int64_t rest = lanes % 128;
  return lanes - rest + (rest > 64 ? 128 : rest > 32 ? 64 : rest ? 32 : 0);
}

int accepts(const rs_geometry *geometry) { return rs_stack_along_slices(geometry); }

// Law astra: where rows lie on slices, textures interpolate along the columns alone.
int accepts_astra(const rs_geometry *geometry) {
  const rs_view *view = &geometry->view[0];
  const double z = view->corner[RS_Z];
  return geometry->law == RS_ASTRA && rs_stack_along_slices(geometry) && geometry->supersampling == 1 &&
         geometry->voxel_supersampling == 1 && geometry->rows >= STACK_FEW && fabs(view->v[RS_Z] - 1) < 1e-9 / geometry->rows &&
         fabs(z - round(z)) < 5e-10;
}

void release(rs_plan *plan) {
  stack_tables *tables = (stack_tables *)plan->tables;
  for (int64_t pointer : tables->pointers) rs_cuda_table_free(pointer);
  free(tables);
  plan->tables = nullptr;
}

int32_t put_matrix(const rs_plan *plan, const stack_matrix &matrix, int64_t rows, decltype(stack_tables::slices_of_row) &device,
                   int64_t *pointers) {
  int64_t terms = matrix.begin[rows], some = terms ? terms : 1;
  int32_t status = rs_cuda_table(plan->device, matrix.begin, (rows + 1) * (int64_t)sizeof(int64_t), (void **)&device.begin, pointers);
  if (!status) status = rs_cuda_table(plan->device, matrix.index, some * (int64_t)sizeof(int32_t), (void **)&device.index, pointers + 1);
  if (!status) status = rs_cuda_table(plan->device, matrix.weight, some * (int64_t)sizeof(float), (void **)&device.weight, pointers + 2);
  return status;
}

int32_t make_matrices(const rs_plan *plan, stack_tables *tables) {
  stack_matrix slices_of_row = {}, rows_of_slice = {};
  int32_t status = rs_stack_matrices(&plan->geometry, &slices_of_row, &rows_of_slice);
  if (!status) status = put_matrix(plan, slices_of_row, plan->geometry.rows, tables->slices_of_row, tables->pointers);
  if (!status) status = put_matrix(plan, rows_of_slice, plan->geometry.shape[RS_Z], tables->rows_of_slice, tables->pointers + 3);
  rs_stack_free_matrix(&slices_of_row);
  rs_stack_free_matrix(&rows_of_slice);
  return status;
}

// Which kernels, and their blocks.
int32_t share_out(const rs_plan *plan, stack_tables *tables, const stack_view *view) {
  const stack_plane &plane = tables->plane;
  stack_block_list list;
  int32_t status = stack_make_blocks(tables->room, plane, view, &list);
  if (status) return status;
  tables->forward_blocks = plane.views * parts(plane.columns, STACK_SIDE);
  tables->upright = !list.count;
  if (list.count) {
    tables->forward_blocks = list.count;
    for (int64_t k = 0; k < list.count; k++) {
      const stack_block &block = list.block[k];
      (view[block.view].main == RS_Y ? tables->upright : tables->sideways) = 1;
      const size_t shared[3] = {stack_forward_bytes<1>(block.planes, block.voxels), stack_forward_bytes<2>(block.planes, block.voxels),
                                stack_forward_bytes<4>(block.planes, block.voxels)};
      for (int n = 0; n < 3; n++) tables->shared[n] = shared[n] > tables->shared[n] ? shared[n] : tables->shared[n];
    }
    status =
        rs_cuda_table(plan->device, list.block, list.count * (int64_t)sizeof *list.block, (void **)&tables->blocks, tables->pointers + 7);
  }
  free(list.block);
  tables->columns = stack_count_columns(plane, view);
  tables->back_blocks = parts(plane.ny, tables->columns ? STACK_SIDE : 1) * parts(plane.nx, STACK_SIDE);
  return status;
}

int32_t make_views(const rs_plan *plan, stack_tables *tables) {
  const rs_geometry *geometry = &plan->geometry;
  stack_line *line = (stack_line *)malloc((size_t)geometry->views * sizeof *line);
  stack_view *view = (stack_view *)malloc((size_t)geometry->views * sizeof *view);
  int32_t status = RS_OK;
  if (line && view) {
    rs_stack_lines(geometry, line);
    for (int32_t i = 0; i < geometry->views; i++) view[i] = stack_view_of(geometry, line[i]);
    status = share_out(plan, tables, view);
    if (!status)
      status =
          rs_cuda_table(plan->device, view, geometry->views * (int64_t)sizeof *view, (void **)&tables->plane.view, tables->pointers + 6);
  } else {
    status = rs_fail(RS_EMEMORY, "no host memory for the tables of %d views", geometry->views);
  }
  free(line);
  free(view);
  return status;
}

// Places of the packed arrays of a chunk.
struct stack_layout {
  int64_t along, across;
  int32_t margin;
};

stack_layout layout_of(const stack_tables *tables, bool back) {
  const stack_plane &plane = tables->plane;
  if (back) return {plane.views * (plane.columns + 2 * (int64_t)tables->columns), 0, tables->columns};
  const int32_t margin = tables->blocks ? STACK_OUTSIDE : 0;
  return {tables->upright * plane.ny * (plane.nx + 2 * (int64_t)margin), tables->sideways * plane.nx * (plane.ny + 2 * (int64_t)margin),
          margin};
}

// Wide vectors share more work, and whole sums need not be added up, but small problems then leave multiprocessors idle.
stack_shares share_lanes(const rs_plan *plan, bool back, int64_t lanes) {
  const stack_tables *tables = (const stack_tables *)plan->tables;
  const stack_plane &plane = tables->plane;
  const double cost[3] = {1, .58, .38}; // of a step, a view or a plane, with vectors of 4, 2 and 1 lanes
  const int64_t multiprocessors = rs_cuda_multiprocessors(plan->device), tile = STACK_SIDE * STACK_SIDE;
  const int64_t steps = back ? plane.views : plane.ny > plane.nx ? plane.ny : plane.nx;
  const bool divisible = back ? tables->columns : tables->blocks != nullptr;
  double least = INFINITY;
  stack_shares best = {lanes, 32, 1, 0};
  for (int k = 0; k < 3; k++) {
    if (128 >> k > tables->room.lanes) continue;
    const int64_t width = 128 >> k, tiles = (back ? tables->back_blocks : tables->forward_blocks) * parts(lanes, width);
    for (int64_t splits = 1; splits <= STACK_MOST_SPLITS && splits * 8 <= steps + 7; splits++) {
      const int64_t floats = splits > 1 ? tiles * splits * tile * (width + 4) : 0;
      if (splits > 1 && (!divisible || tiles > STACK_MOST_TILES || floats > tables->shares_floats)) break;
      // A join takes about as long as two steps, and reading a part as long as an eighth of one for each lane of a vector.
      const double block = cost[k] * (double)steps / (double)splits + 2 + (splits > 1 ? 2 + (double)(splits * width) / 256 : 0);
      const double time = block * (double)parts(tiles * splits, multiprocessors);
      if (time < least) least = time, best = {lanes, width, splits, floats};
    }
  }
  return best;
}

int32_t prepare(rs_plan *plan) {
  const rs_geometry *geometry = &plan->geometry;
  stack_tables *tables = (stack_tables *)calloc(1, sizeof *tables);
  if (!tables) return rs_fail(RS_EMEMORY, "no host memory for the tables of a plan");
  plan->tables = tables;
  tables->room = stack_room_of(plan->device);
  stack_plane &plane = tables->plane;
  plane = {nullptr, geometry->views, geometry->columns, geometry->supersampling, geometry->shape[RS_Y], geometry->shape[RS_X]};
  if (geometry->law == RS_ASTRA) plane.slack = stack_astra::SLACK;
  int32_t status = make_matrices(plan, tables);
  if (!status) status = make_views(plan, tables);
  if (!status) {
    const unsigned zeros[STACK_MOST_TILES] = {};
    status = rs_cuda_table(plan->device, zeros, sizeof zeros, (void **)&tables->arrived, tables->pointers + 8);
  }
  if (status) {
    release(plan);
    return status;
  }
  stack_layout volume = layout_of(tables, false), projections = layout_of(tables, true);
  int64_t rows = geometry->rows, slices = geometry->shape[RS_Z], units = rows > slices ? rows : slices;
  int64_t forward_places = volume.along + volume.across;
  int64_t places = forward_places > projections.along ? forward_places : projections.along, chunks = PASS_BYTES / 4 / (places * 128);
  tables->pass = smaller(padded(units), (chunks > 1 ? chunks : 1) * 128);
  tables->packed_floats = places * tables->pass;
  const int64_t sums = tables->forward_blocks * (rows > tables->pass ? rows : tables->pass);
  tables->sums_floats = parts(sums * (int64_t)sizeof(double), 16) * 4;
  tables->shares_floats = INT64_MAX; // how much a call would like to have
  tables->whole[0] = share_lanes(plan, false, smaller(rows, tables->pass));
  tables->whole[1] = share_lanes(plan, true, smaller(slices, tables->pass));
  tables->shares_floats = tables->whole[0].floats > tables->whole[1].floats ? tables->whole[0].floats : tables->whole[1].floats;
  plan->workspace_floats = tables->packed_floats + tables->sums_floats + tables->shares_floats;
  return RS_OK;
}

// ASTRA has its own rule for what main axis a view at 45 degrees has.
int32_t prepare_astra(rs_plan *plan) {
  const rs_geometry *geometry = &plan->geometry;
  if (astra_check(geometry)) return RS_EARGUMENT;
  for (int32_t i = 0; i < geometry->views; i++) {
    rs_view *view = &geometry->view[i];
    view->main = astra_main_axis(geometry, view);
    view->cross = view->main == RS_X ? RS_Y : RS_X;
  }
  return prepare(plan);
}

// One call on its way.
struct call {
  const rs_operation *operation;
  const rs_plan *plan;
  const stack_tables *tables;
  stack_source source;
  stack_target target;
  stack_layout layout;
  stack_packed packed;
  int64_t blocks;
  bool back;
  unsigned splits;
};

template <class Law, int VEC> int32_t work_off(call c, int64_t first, int64_t count) {
  c.source.lanes.first = c.target.lanes.first = first;
  c.source.lanes.count = c.target.lanes.count = count;
  const unsigned chunks = (unsigned)parts(count, 32 * VEC);
  const stack_plane &plane = c.tables->plane;
  cudaStream_t stream = rs_cuda_stream(c.operation);
  dim3 packs((unsigned)(parts(c.source.line, STACK_PACK_SPAN) * c.source.lines), chunks), grid((unsigned)c.blocks, chunks, c.splits);
  int32_t status = RS_LAUNCH((stack_pack<VEC>), packs, STACK_PACK_THREADS, 0, stream, c.source, c.packed);
  if (status) return status;
  const int32_t columns = c.tables->columns, stage = stack_stage(c.tables->room, columns);
  if (c.back && columns)
    return RS_LAUNCH((stack_back<Law, VEC>), grid, STACK_THREADS, stack_back_bytes<VEC>(stage, columns), stream, plane,
                     (const float *)c.packed.along, c.target, stage, columns);
  if (!c.back && c.tables->blocks)
    return RS_LAUNCH((stack_forward<Law, VEC>), grid, STACK_THREADS, c.tables->shared[VEC / 2], stream, plane,
                     (const stack_block *)c.tables->blocks, (const float *)c.packed.along, (const float *)c.packed.across, c.target);
  const size_t shared = STACK_SIDE * STACK_TILE_STRIDE<VEC> * sizeof(float);
  return RS_LAUNCH((c.back ? stack_back_plain<Law, VEC> : stack_forward_plain<Law, VEC>), grid, STACK_THREADS, shared, stream, plane,
                   (const float *)c.packed.along, c.target);
}

// A pass: whole chunks of one width, then narrower ones for what is left.
template <class Law> int32_t work_off_pass(call c, int64_t first, int64_t count) {
  const stack_shares &whole = c.tables->whole[c.back], shares = count == whole.lanes ? whole : share_lanes(c.plan, c.back, count);
  c.splits = (unsigned)shares.splits;
  int64_t width = shares.width;
  for (; count > 0 && width >= 32; width /= 2) {
    const int64_t whole = width == 32 || count % width > width / 2 ? parts(count, width) * width : count / width * width;
    if (!whole) continue;
    const int64_t lanes = smaller(whole, count);
    int32_t status = width == 128  ? work_off<Law, 4>(c, first, lanes)
                     : width == 64 ? work_off<Law, 2>(c, first, lanes)
                                   : work_off<Law, 1>(c, first, lanes);
    if (status) return status;
    first += lanes;
    count -= lanes;
    if (c.packed.along) c.packed.along += whole * c.layout.along;
    if (c.packed.across) c.packed.across += whole * c.layout.across;
  }
  return RS_OK;
}

// As many whole items a pass as fit, or several passes an item.
int32_t work_off_batch(call c, int64_t batch, double *norm) {
  const int64_t units = c.target.lanes.units, pass = c.tables->pass;
  c.target.shares = c.plan->workspace + c.tables->packed_floats + c.tables->sums_floats;
  c.target.arrived = c.tables->arrived;
  const int64_t most = units <= pass ? pass / units : 1;
  const auto work_off_lanes = c.tables->plane.slack > 0 ? work_off_pass<stack_astra> : work_off_pass<stack_exact>;
  int64_t items;
  for (int64_t item = 0; item < batch; item += items) {
    items = smaller(most, batch - item);
    c.target.sums_first = item * units;
    int32_t status = RS_OK;
    for (int64_t lane = 0; lane < items * units && !status; lane += pass)
      status = work_off_lanes(c, item * units + lane, smaller(pass, items * units - lane));
    if (!status && norm) status = rs_sum_blocks(c.operation, c.target.sums, c.blocks * units, items, norm + item);
    if (status) return status;
  }
  return RS_OK;
}

int32_t forward(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *volume, int64_t batch, double *norm) {
  const stack_tables *tables = (const stack_tables *)plan->tables;
  const rs_geometry *geometry = &plan->geometry;
  const stack_plane &plane = tables->plane;
  const int64_t voxels = (int64_t)plane.ny * plane.nx, pixels = (int64_t)plane.views * plane.columns;
  call c = {operation, plan, tables, {}, {}, layout_of(tables, false), {}, tables->forward_blocks, false, 1};
  if (tables->upright) c.packed.along = plan->workspace;
  if (tables->sideways) c.packed.across = plan->workspace + c.layout.along * tables->pass;
  c.packed.margin = c.layout.margin;
  c.source.input = volume;
  c.source.lanes = {0, 0, geometry->rows, geometry->shape[RS_Z] * voxels, voxels};
  c.source.begin = tables->slices_of_row.begin;
  c.source.index = tables->slices_of_row.index;
  c.source.weight = tables->slices_of_row.weight;
  c.source.lines = plane.ny;
  c.source.line = plane.nx;
  c.target.output = *output;
  c.target.lanes = {0, 0, geometry->rows, geometry->rows * pixels, pixels};
  c.target.sums = norm ? (double *)(plan->workspace + tables->packed_floats) : nullptr;
  return work_off_batch(c, batch, norm);
}

int32_t back(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *projections, int64_t batch) {
  const stack_tables *tables = (const stack_tables *)plan->tables;
  const rs_geometry *geometry = &plan->geometry;
  const stack_plane &plane = tables->plane;
  const int64_t voxels = (int64_t)plane.ny * plane.nx, pixels = (int64_t)plane.views * plane.columns;
  call c = {operation, plan, tables, {}, {}, layout_of(tables, true), {}, tables->back_blocks, true, 1};
  c.packed = {plan->workspace, nullptr, c.layout.margin};
  c.source.input = projections;
  c.source.lanes = {0, 0, geometry->shape[RS_Z], geometry->rows * pixels, pixels};
  c.source.begin = tables->rows_of_slice.begin;
  c.source.index = tables->rows_of_slice.index;
  c.source.weight = tables->rows_of_slice.weight;
  c.source.lines = plane.views;
  c.source.line = plane.columns;
  c.source.view = plane.view;
  c.target.output = *output;
  c.target.lanes = {0, 0, geometry->shape[RS_Z], geometry->shape[RS_Z] * voxels, voxels};
  return work_off_batch(c, batch, nullptr);
}

} // namespace

extern "C" const rs_family rs_stack_cuda, rs_astra_stack_cuda;
const rs_family rs_stack_cuda = {"stack", accepts, prepare, release, forward, back};
const rs_family rs_astra_stack_cuda = {"stack, law astra", accepts_astra, prepare_astra, release, forward, back};
