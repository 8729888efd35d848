// matrix.cu: the `rs_matrix_cuda` family: parallel beams along the slices of a volume on tensor cores, for precisions below float32.
//
// The operators of stack.cu. Where a tile of 4 x 4 voxels, or of 16 rays, meets 8 columns of a view or 8 voxels of a plane, its weights are
// a small matrix, the same for all lanes: a "hat matrix", after the shape of linear interpolation's weights. RS_PRECISION_HIGH splits
// weights and data into two float16 numbers each (M. Ootomo and R. Yokota, Int. J. High Perform. Comput. Appl. 36, 2022, have the idea for
// general products), RS_PRECISION_HALF rounds both.
#include "matrix_back.h"
#include "matrix_forward.h"
#include "stack_blocks.h"
#include "stack_passes.h"

namespace {

// Bytes of shared memory beside the rows, and to spare; forward, beside what is known about stages, too.
constexpr int64_t MATRIX_STATIC = 2 << 10, MATRIX_BACK_STATIC = 10 << 10;
constexpr float MATRIX_PITCH = 1 - 1e-6f;        // from here on no voxel meets more than two columns, but for rounding
constexpr int MATRIX_LEAST_LANES = 16;           // below, most of a product would be empty
constexpr double MATRIX_COST[3] = {1, .58, .38}; // of a block of 128, 64 and 32 lanes
// The most columns of a unit that a block may see: chunks of 32 lanes then fit into 64 KiB, what the smallest device has.
constexpr int32_t MATRIX_COLUMNS_HIGH = 49, MATRIX_COLUMNS_HALF = 90;

struct matrix_tables {
  stack_plane plane; // with pointers to the device
  stack_rows slices_of_row, rows_of_slice;
  matrix_block *blocks;
  matrix_unit *units;
  float weight;                // the most of a view in back projection
  int32_t unit_count, columns; // of back projection; the most columns of a unit that a block sees
  int32_t upright, sideways;   // does forward projection need the volume with rows along x, along y?
  int64_t forward_bytes;       // of shared memory for records
  stack_room room;
  int64_t pointers[9];
  int64_t pass; // most lanes of a pass: whole chunks
  int64_t forward_blocks, back_blocks;
  double clocks[3];           // forward: of the rows of an item in chunks of 128, 64 and 32
  int64_t packed_bytes, sums; // then the largest values
};

// Of chunks of 8 `tiles` lanes.
int64_t record_bytes(const rs_geometry *geometry, int tiles) { return tiles * (geometry->precision == RS_PRECISION_HIGH ? 32 : 16) + 16; }

// ---- back projection: units

// How many units a view has, and the most columns of one that a block sees.
int32_t units_of(const stack_view &view, int32_t *columns) {
  const double rise = fabs(view.along_y) + fabs(view.along_x), reach = 1 / (double)view.pitch;
  *columns = (int32_t)floor(fmin((STACK_SIDE - 1) * rise + 2 * reach, (STACK_SIDE - 4) * rise + 8)) + 2;
  const int32_t units = (int32_t)ceil(ceil(3 * rise + 2 * reach - 1e-6) / 8);
  return view.pitch < MATRIX_PITCH ? 2 * units : units;
}

// The slots of a ring with so many records in each.
int32_t slots_of(int64_t bytes, int64_t record, int32_t records) {
  const int64_t slots = (bytes / record - MATRIX_ZEROS) / records;
  return (int32_t)(slots < RING_SLOTS ? slots : RING_SLOTS);
}

int accepts(const rs_geometry *geometry) {
  if (geometry->precision == RS_PRECISION_FLOAT32 || geometry->supersampling > 1) return 0;
  if (geometry->rows < MATRIX_LEAST_LANES || geometry->shape[RS_Z] < MATRIX_LEAST_LANES) return 0;
  if (!rs_stack_along_slices(geometry)) return 0;
  for (int32_t i = 0; i < geometry->views; i++) {
    const double pitch = fabs(rs_stack_line(geometry, i).column);
    int32_t columns;
    if (!(pitch < 2 - 1e-6 && pitch >= 1. / 16)) return 0; // also where law astra takes the other axis at 45 degrees
    units_of(stack_view_of(geometry, rs_stack_line(geometry, i)), &columns);
    if (columns > (geometry->precision == RS_PRECISION_HIGH ? MATRIX_COLUMNS_HIGH : MATRIX_COLUMNS_HALF)) return 0;
  }
  return 1;
}

int accepts_astra(const rs_geometry *geometry) { return stack_accepts_astra(geometry) && accepts(geometry); }

void release(rs_plan *plan) {
  matrix_tables *tables = (matrix_tables *)plan->tables;
  for (int64_t pointer : tables->pointers) rs_cuda_table_free(pointer);
  free(tables);
  plan->tables = nullptr;
}

int32_t make_units(const rs_plan *plan, matrix_tables *tables, const stack_view *view) {
  int64_t count = 0;
  for (int32_t v = 0; v < tables->plane.views; v++) {
    int32_t columns;
    count += units_of(view[v], &columns);
    tables->columns = columns > tables->columns ? columns : tables->columns;
  }
  matrix_unit *units = (matrix_unit *)malloc((size_t)count * sizeof *units), *next = units;
  if (!units) return rs_fail(RS_EMEMORY, "no host memory for the tables of %d views", tables->plane.views);
  for (int32_t v = 0; v < tables->plane.views; v++) {
    int32_t columns, some = units_of(view[v], &columns);
    for (int32_t n = 0; n < some; n++)
      *next++ = view[v].pitch < MATRIX_PITCH ? matrix_unit{v, n / 2 * 8, n % 2 * 2.0f, n % 2 * 2.0f} : matrix_unit{v, n * 8, 0, 2};
  }
  tables->unit_count = (int32_t)count;
  tables->back_blocks = stack_parts(tables->plane.ny, STACK_SIDE) * stack_parts(tables->plane.nx, STACK_SIDE);
  int32_t status = rs_cuda_table(plan->device, units, count * (int64_t)sizeof *units, (void **)&tables->units, tables->pointers + 7);
  free(units);
  return status;
}

// ---- forward projection: blocks

// A block's planes, of which some are counted.
int32_t step_of(const stack_block &block) { return (block.last - block.first) / 8 + 1; }

// About how many voxels a block sees.
int64_t count_voxels(const stack_plane &plane, const stack_view *view, const stack_block &block) {
  const int32_t cross = view[block.view].main == RS_Y ? plane.nx : plane.ny, step = step_of(block);
  double count = 0;
  for (int32_t s = block.first + step / 2; s < block.last; s += step) {
    double low, high;
    stack_see_plane(view, block, s, &low, &high);
    count += fmax(0, fmin(cross - 1, floor(high) + 1) - fmax(0, floor(low)) + 1);
  }
  return (int64_t)count * step;
}

// About how many units a block takes, with tiles of that many views.
int64_t count_units(const stack_plane &plane, const stack_view *view, const stack_block &block, int32_t tile_views) {
  const int32_t columns = STACK_SIDE / tile_views, cross = view[block.view].main == RS_Y ? plane.nx : plane.ny;
  const int32_t step = step_of(block);
  int64_t count = 0;
  for (int32_t s = block.first + step / 2; s < block.last; s += step)
    for (int32_t v = 0; v < block.views; v += tile_views)
      for (int32_t i = 0; i < block.pieces * STACK_SIDE; i += columns) {
        double least = STACK_FAR, most = -STACK_FAR;
        for (int32_t k = 0; k < tile_views && v + k < block.views; k++)
          for (int end = 0; end < 2; end++) {
            const double p = stack_voxel_of(view[block.view + v + k], block.column + i + end * (columns - 1), s);
            least = fmin(least, p), most = fmax(most, p);
          }
        const int32_t low = (int32_t)fmax(0, floor(least)), high = (int32_t)fmin(cross - 1, floor(most) + 1);
        count += low <= high ? (high - low) / 8 + 1 : 0;
      }
  return count * step;
}

// Clocks by the times and profiles at N = 128 and 256 on an H100. Of a unit of 128 lanes: where tensor cores and shared memory are full,
// or where few warps wait for themselves.
double clocks_of_unit(const rs_geometry *geometry, int32_t warps) {
  return geometry->precision == RS_PRECISION_HIGH ? fmax(41, 500. / warps) : fmax(13, 170. / warps);
}

// Of a block with chunks of 128 >> k lanes: its units, its stages, and what comes before and behind.
double clocks_of(const rs_geometry *geometry, const matrix_block &block, int k, int32_t records) {
  const stack_block &share = block.share;
  if (share.first >= share.last) return 21000 * MATRIX_COST[k];
  const double rows = (double)block.voxels / (matrix_slot(records) - share.voxels / 2.0); // a stage leaves half a window unused
  const double stages = fmax(ceil(rows), (double)stack_parts(share.last - share.first, MATRIX_PLANES));
  return (21000 + clocks_of_unit(geometry, matrix_busy(share, block.tile_views)) * (double)block.units) * MATRIX_COST[k] + 2000 * stages;
}

// Long blocks begin first, so that the last ones to end are short.
int compare_blocks(const void *a, const void *b) {
  const matrix_block *p = (const matrix_block *)a, *q = (const matrix_block *)b;
  return p->clocks != q->clocks ? (p->clocks > q->clocks ? -1 : 1) : stack_compare_blocks(&p->share, &q->share);
}

// A few blocks for each multiprocessor begin by their length, whatever their chunk; of more, those of a chunk, which read the same data.
bool chunks_first(int64_t blocks, int64_t chunks, int32_t device) { return blocks * chunks <= 4 * rs_cuda_multiprocessors(device); }

// When forward projection of some chunks ends; puts the blocks into the order for that.
double end_of(const rs_plan *plan, matrix_block *blocks, int64_t count, int k, int64_t forward_bytes) {
  const int32_t records = (int32_t)(forward_bytes / record_bytes(&plan->geometry, 16 >> k));
  for (int64_t n = 0; n < count; n++) blocks[n].clocks = clocks_of(&plan->geometry, blocks[n], k, records);
  qsort(blocks, (size_t)count, sizeof *blocks, compare_blocks);
  const int64_t chunks = stack_parts(plan->geometry.rows, 128 >> k);
  const bool mixed = chunks_first(count, chunks, plan->device);
  return stack_end_of(count * chunks, rs_cuda_multiprocessors(plan->device),
                      [&](int64_t n) { return blocks[mixed ? n / chunks : n % count].clocks; });
}

void make_segments(const stack_view *view, matrix_block *block) {
  const int32_t first = block->share.first, last = block->share.last - 1;
  while ((last - first) >> block->segment_bits >= MATRIX_SEGMENTS) block->segment_bits++;
  for (int32_t n = 0; first + (n << block->segment_bits) <= last; n++) {
    const int32_t from = first + (n << block->segment_bits), end = from + (1 << block->segment_bits), to = end < last ? end : last;
    matrix_segment *segment = &block->segment[n];
    stack_see_plane(view, block->share, from, &segment->low, &segment->high);
    if (from == to) continue;
    double low, high;
    stack_see_plane(view, block->share, to, &low, &high);
    segment->low_step = (low - segment->low) / (to - from), segment->high_step = (high - segment->high) / (to - from);
  }
}

int32_t make_blocks(const rs_plan *plan, matrix_tables *tables, const stack_view *view) {
  const stack_plane &plane = tables->plane;
  stack_block_list list;
  int32_t status = stack_make_blocks(stack_room_of(plan->device), plane, view, &list);
  if (status) return status;
  matrix_block *blocks = (matrix_block *)calloc((size_t)list.count + 1, sizeof *blocks);
  if (!blocks) status = rs_fail(RS_EMEMORY, "no host memory for the tables of %d views", plane.views);
  tables->forward_blocks = list.count;
  const size_t warp =
      sizeof(matrix_path[4]) + (plan->geometry.law == RS_ASTRA ? sizeof(matrix_list<stack_astra>) : sizeof(matrix_list<stack_exact>));
  const size_t known = MATRIX_WARPS * warp + sizeof(matrix_stage[MATRIX_KNOWN]) + sizeof(matrix_segment[MATRIX_SEGMENTS]);
  tables->forward_bytes = rs_cuda_shared(plan->device) - MATRIX_STATIC - (int64_t)known;
  for (int64_t k = 0; k < list.count && !status; k++) {
    stack_block &block = blocks[k].share = list.block[k];
    (view[block.view].main == RS_Y ? tables->upright : tables->sideways) = 1;
    make_segments(view, &blocks[k]);
    blocks[k].voxels = count_voxels(plane, view, block);
    double least = INFINITY;
    for (int32_t views = 4; views >= 1; views /= 2) {
      const int32_t warps = matrix_busy(block, views);
      if (warps > MATRIX_WARPS) continue;
      const int64_t units = count_units(plane, view, block, views);
      const double clocks = clocks_of_unit(&plan->geometry, warps) * (double)units;
      if (clocks < least) least = clocks, blocks[k].units = units, blocks[k].tile_views = views;
    }
  }
  for (int k = 2; k >= 0 && list.count && !status; k--) // in the order for 128 lanes at last
    if (128 >> k <= tables->room.lanes) tables->clocks[k] = end_of(plan, blocks, list.count, k, tables->forward_bytes);
  if (!status)
    status = rs_cuda_table(plan->device, blocks, list.count * (int64_t)sizeof *blocks, (void **)&tables->blocks, tables->pointers + 8);
  free(list.block);
  free(blocks);
  return status;
}

int32_t prepare(rs_plan *plan) {
  const rs_geometry *geometry = &plan->geometry;
  matrix_tables *tables = (matrix_tables *)calloc(1, sizeof *tables);
  if (!tables) return rs_fail(RS_EMEMORY, "no host memory for the tables of a plan");
  plan->tables = tables;
  stack_plane &plane = tables->plane;
  plane = {nullptr, geometry->views, geometry->columns, 1, geometry->shape[RS_Y], geometry->shape[RS_X]};
  if (geometry->law == RS_ASTRA) plane.slack = stack_astra::SLACK;
  int32_t status = stack_put_rows(plan, &tables->slices_of_row, &tables->rows_of_slice, tables->pointers);
  if (!status)
    status = stack_put_views(plan, &plane.view, tables->pointers + 6, [&](const stack_view *view) {
      for (int32_t v = 0; v < plane.views; v++) tables->weight = view[v].weight > tables->weight ? view[v].weight : tables->weight;
      const int32_t made = make_units(plan, tables, view);
      tables->room = {stack_room_of(plan->device).lanes, rs_cuda_shared(plan->device) - MATRIX_BACK_STATIC};
      while (tables->room.lanes > 32 &&
             slots_of(tables->room.bytes, record_bytes(geometry, tables->room.lanes / 8), MATRIX_UNITS * tables->columns) < 2)
        tables->room.lanes /= 2;
      return made ? made : make_blocks(plan, tables, view);
    });
  if (status) {
    release(plan);
    return status;
  }
  const int64_t voxels = (int64_t)plane.ny * plane.nx * (tables->upright + tables->sideways), pixels = (int64_t)plane.views * plane.columns;
  const int64_t places = voxels > pixels ? voxels : pixels, chunks = STACK_PASS_BYTES / record_bytes(geometry, 16) / places;
  const int64_t rows = geometry->rows, slices = geometry->shape[RS_Z];
  tables->pass = stack_smaller(stack_padded(rows > slices ? rows : slices), (chunks > 1 ? chunks : 1) * 128);
  tables->packed_bytes = places * tables->pass / 32 * record_bytes(geometry, 4);
  tables->sums = tables->forward_blocks * (rows > tables->pass ? rows : tables->pass);
  plan->workspace_floats = tables->packed_bytes / 4 + tables->sums * 2 + tables->pass;
  return RS_OK;
}

int32_t prepare_astra(rs_plan *plan) {
  const int32_t status = stack_aim_astra(plan);
  return status ? status : prepare(plan);
}

// One call on its way.
struct call {
  rs_operation *operation;
  int32_t device;
  const matrix_tables *tables;
  int64_t pass, blocks, widest;
  stack_source source;
  stack_target target;
  matrix_packed packed;
  unsigned *largest; // of the lanes to come
  bool back, split, astra;

  // Wide chunks share more work, but small problems then leave multiprocessors idle.
  int64_t width_of(int64_t count) const {
    double least = INFINITY;
    int64_t width = 32;
    for (int k = 0; k < 3; k++) {
      if (128 >> k > tables->room.lanes) continue;
      const int64_t chunks = stack_parts(count, 128 >> k);
      const double time = back ? MATRIX_COST[k] * (double)stack_parts(blocks * chunks, rs_cuda_multiprocessors(device))
                               : tables->clocks[k] * (double)chunks / (double)stack_parts(target.lanes.units, 128 >> k);
      if (time < least) least = time, width = 128 >> k;
    }
    return width;
  }

  template <class Law, int TILES, bool SPLIT> int32_t work_off(unsigned chunks) {
    constexpr int64_t RECORD = MATRIX_RECORD<TILES, SPLIT>;
    const stack_plane &plane = tables->plane;
    cudaStream_t stream = rs_cuda_stream(operation);
    const int64_t places = (int64_t)source.lines * source.line;
    const dim3 packs((unsigned)(stack_parts(source.line, MATRIX_PACK_SPAN) * source.lines * chunks)), grid((unsigned)blocks, chunks);
    int32_t status = RS_LAUNCH_EARLY(matrix_largest, (unsigned)source.lanes.count, MATRIX_LOOK_THREADS, 0, stream, source,
                                     back ? tables->weight : 1.0f, largest);
    if (!status)
      status =
          RS_LAUNCH_EARLY((matrix_pack<TILES, SPLIT>), packs, STACK_PACK_THREADS, 0, stream, source, (const unsigned *)largest, packed);
    if (!status && back) {
      const int32_t slots = slots_of(tables->room.bytes, RECORD, MATRIX_UNITS * tables->columns);
      status = RS_LAUNCH_EARLY((matrix_back<Law, TILES, SPLIT>), grid, MATRIX_THREADS,
                               (matrix_back_bytes<TILES, SPLIT>(slots, tables->columns)), stream, plane, (const matrix_unit *)tables->units,
                               tables->unit_count, (const char *)packed.along, (const unsigned *)largest, target, slots, tables->columns);
    } else if (!status) {
      const int32_t records = (int32_t)(tables->forward_bytes / RECORD);
      const bool mixed = chunks_first(blocks, chunks, device);
      status = RS_LAUNCH_EARLY((matrix_forward<Law, TILES, SPLIT>), (mixed ? dim3(chunks, (unsigned)blocks) : grid), MATRIX_THREADS,
                               (matrix_forward_bytes<TILES, SPLIT>(records)), stream, plane, (const matrix_block *)tables->blocks,
                               (const char *)packed.along, (const char *)packed.across, records, mixed, (const unsigned *)largest, target);
    }
    if (packed.along) packed.along += chunks * places * RECORD;
    if (packed.across) packed.across += chunks * places * RECORD;
    largest += source.lanes.count;
    return status;
  }

  template <class Law, bool SPLIT> int32_t work_off(int64_t width, unsigned chunks) {
    return width == 128  ? work_off<Law, 16, SPLIT>(chunks)
           : width == 64 ? work_off<Law, 8, SPLIT>(chunks)
                         : work_off<Law, 4, SPLIT>(chunks);
  }

  // Works off the next chunks of that width.
  int32_t work_off(int64_t width, unsigned chunks) {
    if (astra) return split ? work_off<stack_astra, true>(width, chunks) : work_off<stack_astra, false>(width, chunks);
    return split ? work_off<stack_exact, true>(width, chunks) : work_off<stack_exact, false>(width, chunks);
  }
};

call begin(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *input, bool back) {
  const matrix_tables *tables = (const matrix_tables *)plan->tables;
  const rs_geometry *geometry = &plan->geometry;
  const int64_t voxels = (int64_t)tables->plane.ny * tables->plane.nx;
  call c = {};
  c.operation = operation;
  c.device = plan->device;
  c.tables = tables;
  c.pass = tables->pass;
  c.blocks = back ? tables->back_blocks : tables->forward_blocks;
  c.back = back;
  c.split = geometry->precision == RS_PRECISION_HIGH;
  c.astra = geometry->law == RS_ASTRA;
  c.source = stack_source_of(geometry, tables->plane, back ? tables->rows_of_slice : tables->slices_of_row, input, back);
  c.target = stack_target_of(geometry, tables->plane, *output, back);
  char *packed = (char *)plan->workspace;
  if (back || tables->upright) c.packed.along = packed;
  if (!back && tables->sideways) c.packed.across = packed + (tables->upright ? voxels * tables->pass / 32 * record_bytes(geometry, 4) : 0);
  c.largest = (unsigned *)(packed + tables->packed_bytes + tables->sums * (int64_t)sizeof(double));
  return c;
}

int32_t forward(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *volume, int64_t batch, double *norm) {
  call c = begin(operation, plan, output, volume, false);
  if (norm) c.target.sums = (double *)((char *)plan->workspace + c.tables->packed_bytes);
  return stack_work_off_batch(c, batch, norm);
}

int32_t back(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *projections, int64_t batch) {
  return stack_work_off_batch(begin(operation, plan, output, projections, true), batch, nullptr);
}

} // namespace

extern "C" const rs_family rs_matrix_cuda, rs_astra_matrix_cuda;
const rs_family rs_matrix_cuda = {"matrix", accepts, prepare, release, forward, back};
const rs_family rs_astra_matrix_cuda = {"matrix, law astra", accepts_astra, prepare_astra, release, forward, back};
