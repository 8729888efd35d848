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
#include "stack_passes.h"
#include "stack_plain.h"

namespace {

constexpr int64_t STACK_MOST_SPLITS = 16;  // blocks that have a share of a sum
constexpr int64_t STACK_MOST_TILES = 1024; // whose sums are shared

// How lanes are worked off: chunks of one width, and blocks that do a part of a sum each.
struct stack_shares {
  int64_t lanes, width, splits;
  int64_t floats; // of the workspace for parts of sums
};

struct stack_tables {
  stack_plane plane; // with pointers to the device
  stack_room room;
  stack_rows slices_of_row, rows_of_slice;
  stack_block *blocks;       // of forward projection, or null: the plain kernel
  int32_t columns;           // of a view that a block of back projection sees, or 0: the plain kernel
  int32_t upright, sideways; // does forward projection need the volume with rows along x, along y?
  size_t shared[3];          // bytes that forward projection needs with vectors of 1, 2 and 4 lanes
  unsigned *arrived;
  int64_t pointers[9];
  int64_t pass; // most lanes of a pass: whole chunks
  int64_t forward_blocks, back_blocks;
  int32_t *heights;                                  // host: of the blocks of forward projection, in planes; null: of all planes
  stack_shares whole[2], rest[2];                    // for one item forward and back, and for another number of lanes, the last
  int64_t packed_floats, sums_floats, shares_floats; // of the workspace
};

int accepts(const rs_geometry *geometry) { return rs_stack_along_slices(geometry); }

void release(rs_plan *plan) {
  stack_tables *tables = (stack_tables *)plan->tables;
  for (int64_t pointer : tables->pointers) rs_cuda_table_free(pointer);
  free(tables->heights);
  free(tables);
  plan->tables = nullptr;
}

// Which kernels, and their blocks.
int32_t share_out(const rs_plan *plan, stack_tables *tables, const stack_view *view) {
  const stack_plane &plane = tables->plane;
  stack_block_list list;
  int32_t status = stack_make_blocks(tables->room, plane, view, &list);
  if (status) return status;
  tables->forward_blocks = plane.views * stack_parts(plane.columns, STACK_SIDE);
  tables->upright = !list.count;
  if (list.count) {
    tables->forward_blocks = list.count;
    tables->heights = (int32_t *)malloc((size_t)list.count * sizeof *tables->heights);
    if (!tables->heights) status = rs_fail(RS_EMEMORY, "no host memory for the tables of %d views", plane.views);
    for (int64_t k = 0; k < list.count && !status; k++) {
      const stack_block &block = list.block[k];
      tables->heights[k] = block.last - block.first;
      (view[block.view].main == RS_Y ? tables->upright : tables->sideways) = 1;
      const size_t shared[3] = {stack_forward_bytes<1>(block.planes, block.voxels), stack_forward_bytes<2>(block.planes, block.voxels),
                                stack_forward_bytes<4>(block.planes, block.voxels)};
      for (int n = 0; n < 3; n++) tables->shared[n] = shared[n] > tables->shared[n] ? shared[n] : tables->shared[n];
    }
    if (!status)
      status =
          rs_cuda_table(plan->device, list.block, list.count * (int64_t)sizeof *list.block, (void **)&tables->blocks, tables->pointers + 7);
  }
  free(list.block);
  tables->columns = stack_count_columns(plane, view);
  tables->back_blocks = stack_parts(plane.ny, tables->columns ? STACK_SIDE : 1) * stack_parts(plane.nx, STACK_SIDE);
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

// The clocks of a block that takes so many planes or views, by the profiles at N = 64 and the times at N = 256 on an H100: `splits` blocks
// have a part of its sums each, and the last adds them up and finishes them.
double time_of(bool back, int64_t width, int64_t steps, int64_t splits, bool last) {
  const double step[2][3] = {{2660, 1900, 1600}, {2240, 1400, 1200}}; // with vectors of 4, 2 and 1 lanes
  double time = 6000 + (double)steps * step[back][width == 128 ? 0 : width == 64 ? 1 : 2];
  if (splits > 1) time += 2000 + 30 * (double)width;
  if (splits > 1 && last) time += 2000 + 18 * (double)(splits * width);
  return time + (last ? 120 * (double)width : 0);
}

// Wide vectors share more work, and whole sums need not be added up, but small problems then leave multiprocessors idle.
stack_shares share_lanes(const rs_plan *plan, bool back, int64_t lanes) {
  constexpr double LAUNCH = 10000; // clocks
  const stack_tables *tables = (const stack_tables *)plan->tables;
  const stack_plane &plane = tables->plane;
  const int32_t multiprocessors = rs_cuda_multiprocessors(plan->device), tile = STACK_SIDE * STACK_SIDE;
  const int64_t most = back ? plane.views : plane.ny > plane.nx ? plane.ny : plane.nx;
  const int64_t blocks = back ? tables->back_blocks : tables->forward_blocks;
  const bool divisible = back ? tables->columns : tables->blocks != nullptr;
  double least = INFINITY;
  stack_shares best = {lanes, 32, 1, 0};
  for (int64_t width = tables->room.lanes; width >= 32; width /= 2)
    for (int64_t splits = 1; stack_chunks(lanes, width) && splits <= STACK_MOST_SPLITS && splits * 8 <= most + 7; splits++) {
      const int64_t tiles = blocks * stack_parts(lanes, width), floats = splits > 1 ? tiles * splits * tile * (width + 4) : 0;
      if (splits > 1 && (!divisible || tiles > STACK_MOST_TILES || floats > tables->shares_floats)) break;
      if (splits > 1 && tiles * splits > STACK_MANY * multiprocessors) break; // enough work for all without
      double time = 0;
      for (int64_t rest = lanes, some = width; rest > 0 && time < least; some /= 2) {
        const int64_t chunks = stack_chunks(rest, some), grid = chunks * blocks;
        rest -= chunks * some;
        if (!chunks) continue;
        time += LAUNCH + stack_end_of(grid * splits, multiprocessors, [&](int64_t k) { // the block's part of its planes or views
                  const int64_t steps = back || !tables->heights ? most : tables->heights[k % blocks], part = k / grid;
                  return time_of(back, some, steps * (part + 1) / splits - steps * part / splits, splits, part == splits - 1);
                });
      }
      if (time < least) least = time, best = {lanes, width, splits, floats};
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
  int32_t status = stack_put_rows(plan, &tables->slices_of_row, &tables->rows_of_slice, tables->pointers);
  if (!status)
    status =
        stack_put_views(plan, &plane.view, tables->pointers + 6, [&](const stack_view *view) { return share_out(plan, tables, view); });
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
  int64_t places = forward_places > projections.along ? forward_places : projections.along, chunks = STACK_PASS_BYTES / 4 / (places * 128);
  tables->pass = stack_smaller(stack_padded(units), (chunks > 1 ? chunks : 1) * 128);
  tables->packed_floats = places * tables->pass;
  const int64_t sums = tables->forward_blocks * (rows > tables->pass ? rows : tables->pass);
  tables->sums_floats = stack_parts(sums * (int64_t)sizeof(double), 16) * 4;
  tables->shares_floats = INT64_MAX; // how much a call would like to have
  tables->whole[0] = share_lanes(plan, false, stack_smaller(rows, tables->pass));
  tables->whole[1] = share_lanes(plan, true, stack_smaller(slices, tables->pass));
  tables->shares_floats = tables->whole[0].floats > tables->whole[1].floats ? tables->whole[0].floats : tables->whole[1].floats;
  plan->workspace_floats = tables->packed_floats + tables->sums_floats + tables->shares_floats;
  return RS_OK;
}

int32_t prepare_astra(rs_plan *plan) {
  const int32_t status = stack_aim_astra(plan);
  return status ? status : prepare(plan);
}

// One call on its way.
struct call {
  rs_operation *operation;
  const rs_plan *plan;
  stack_tables *tables;
  int64_t pass, blocks;
  stack_source source;
  stack_target target;
  stack_layout layout;
  stack_packed packed;
  bool back;
  unsigned splits;

  int64_t width_of(int64_t count) {
    const stack_shares &whole = tables->whole[back];
    stack_shares &rest = tables->rest[back];
    if (count != whole.lanes && count != rest.lanes) rest = share_lanes(plan, back, count);
    const stack_shares &shares = count == whole.lanes ? whole : rest;
    splits = (unsigned)shares.splits;
    return shares.width;
  }

  template <class Law, int VEC> int32_t work_off(unsigned chunks) {
    const stack_plane &plane = tables->plane;
    cudaStream_t stream = rs_cuda_stream(operation);
    dim3 packs((unsigned)(stack_parts(source.line, STACK_PACK_SPAN) * source.lines), chunks), grid((unsigned)blocks, chunks, splits);
    int32_t status = RS_LAUNCH_EARLY((stack_pack<VEC>), packs, STACK_PACK_THREADS, 0, stream, source, packed);
    if (status) return status;
    const int32_t columns = tables->columns, stage = stack_stage(tables->room, columns);
    if (back && columns)
      return RS_LAUNCH_EARLY((stack_back<Law, VEC>), grid, STACK_THREADS, stack_back_bytes<VEC>(stage, columns), stream, plane,
                             (const float *)packed.along, target, stage, columns);
    if (!back && tables->blocks)
      return RS_LAUNCH_EARLY((stack_forward<Law, VEC>), grid, STACK_THREADS, tables->shared[VEC / 2], stream, plane,
                             (const stack_block *)tables->blocks, (const float *)packed.along, (const float *)packed.across, target);
    const size_t shared = STACK_SIDE * STACK_TILE_STRIDE<VEC> * sizeof(float);
    return RS_LAUNCH((back ? stack_back_plain<Law, VEC> : stack_forward_plain<Law, VEC>), grid, STACK_THREADS, shared, stream, plane,
                     (const float *)packed.along, target);
  }

  template <class Law> int32_t work_off(int64_t width, unsigned chunks) {
    return width == 128 ? work_off<Law, 4>(chunks) : width == 64 ? work_off<Law, 2>(chunks) : work_off<Law, 1>(chunks);
  }

  int32_t work_off(int64_t width, unsigned chunks) {
    const bool astra = plan->geometry.law == RS_ASTRA;
    const int32_t status = astra ? work_off<stack_astra>(width, chunks) : work_off<stack_exact>(width, chunks);
    if (packed.along) packed.along += chunks * width * layout.along;
    if (packed.across) packed.across += chunks * width * layout.across;
    return status;
  }
};

call begin(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *input, bool back) {
  stack_tables *tables = (stack_tables *)plan->tables;
  const rs_geometry *geometry = &plan->geometry;
  call c = {};
  c.operation = operation;
  c.plan = plan;
  c.tables = tables;
  c.pass = tables->pass;
  c.blocks = back ? tables->back_blocks : tables->forward_blocks;
  c.source = stack_source_of(geometry, tables->plane, back ? tables->rows_of_slice : tables->slices_of_row, input, back);
  c.target = stack_target_of(geometry, tables->plane, *output, back);
  c.target.shares = plan->workspace + tables->packed_floats + tables->sums_floats;
  c.target.arrived = tables->arrived;
  c.layout = layout_of(tables, back);
  c.packed.margin = c.layout.margin;
  if (back || tables->upright) c.packed.along = plan->workspace;
  if (!back && tables->sideways) c.packed.across = plan->workspace + c.layout.along * tables->pass;
  c.back = back;
  return c;
}

int32_t forward(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *volume, int64_t batch, double *norm) {
  call c = begin(operation, plan, output, volume, false);
  if (norm) c.target.sums = (double *)(plan->workspace + c.tables->packed_floats);
  return stack_work_off_batch(c, batch, norm);
}

int32_t back(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *projections, int64_t batch) {
  return stack_work_off_batch(begin(operation, plan, output, projections, true), batch, nullptr);
}

} // namespace

extern "C" const rs_family rs_stack_cuda, rs_astra_stack_cuda;
const rs_family rs_stack_cuda = {"stack", accepts, prepare, release, forward, back};
const rs_family rs_astra_stack_cuda = {"stack, law astra", stack_accepts_astra, prepare_astra, release, forward, back};
