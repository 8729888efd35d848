// slice.c: the `rs_slice` family: parallel beams through one slice, or a few, with a detector row on each.
//
// The same rays and weights as in `rs_stack` (P. M. Joseph, IEEE Transactions on Medical Imaging 1, 1982), for problems that have too
// few slices to fill its lanes. Here one lane of a vector is one of RS_LANES neighbouring rays (forward) or voxels (back). They see
// fewer than 2 RS_LANES neighbouring voxels or columns, so two loads and two permutes fetch what would take two gathers.
//
// Most of the work would be to find cells and weights, so views share it: rays at angles t, pi/2 - t, pi/2 + t and pi - t through a
// square image are the same rays through the image turned over. Views whose rays coincide after such a turn make a bundle
// (slice_tables.h), and a kernel (slice_kernel.h) works off one bundle's views, or several batch items, as its channels. Any set of
// angles works; one that is closed under these turns is fast.
//
// The workspace holds
//   the images       [item][variant][plane][margin + x + margin], zero in the margin
//   the projections  back: [item][view][margin + column + margin]
// and the sums of squares of every forward task. Large batches fill the lanes of `rs_stack` and are handed to it. Positions are fixed-point numbers made from float64.
#include "slice_kernel.h"
#include "slice_pack.h"
#include "output_row.h"

#define SLICE_CHUNK 64       // columns of a forward task
#define SLICE_TILE_HEIGHT 32 // voxels of a back task
#define SLICE_TILE_WIDTH 64

// Rows are an odd number of cache lines apart, so that those of a tile spread over the sets of a first-level cache.
static int64_t spread(int64_t floats) { return (slice_parts(floats, SLICE_GROUP) | 1) * SLICE_GROUP; }

static void release(rs_plan *plan) {
  slice_tables *tables = plan->tables;
  if (tables->stack.tables) RS_NAME(rs_stack).release(&tables->stack);
  free(tables->bundle);
  free(tables->block);
  free(tables);
  plan->tables = NULL;
}

static int64_t forward_tasks(const slice_tables *tables, const rs_geometry *geometry) {
  return tables->blocks * slice_parts(geometry->columns, SLICE_CHUNK);
}

static int32_t prepare(rs_plan *plan) {
  const rs_geometry *geometry = &plan->geometry;
  slice_tables *tables = plan->tables = calloc(1, sizeof *tables);
  if (!tables) return rs_fail(RS_EMEMORY, "no host memory for the tables of a plan");
  if (slice_make_bundles(tables, geometry)) {
    release(plan);
    return RS_EMEMORY;
  }
  slice_make_blocks(tables, geometry);
  int64_t ny = geometry->shape[RS_Y], nx = geometry->shape[RS_X], longer = ny > nx ? ny : nx;
  // Bundles of few views leave channels to other items.
  int64_t room = SLICE_CHANNELS * tables->bundles / geometry->views;
  tables->items = room < 1 ? 1 : (int32_t)room;
  tables->image_row = spread(longer + 2 * SLICE_MARGIN);
  tables->image_floats = (slice_parts(longer, SLICE_TILE_HEIGHT) * SLICE_TILE_HEIGHT | 1) * tables->image_row;
  tables->view_row = spread(geometry->columns + 2 * SLICE_MARGIN);
  tables->projection_floats = geometry->views * tables->view_row;
  int64_t squares = forward_tasks(tables, geometry) * tables->items;
  plan->workspace_floats = tables->items * (tables->variants * tables->image_floats + tables->projection_floats) +
                           squares * (int64_t)(sizeof(double) / sizeof(float));
  tables->stack = (rs_plan){.device = plan->device, .geometry = *geometry};
  int32_t status = RS_NAME(rs_stack).prepare(&tables->stack);
  if (status)
    release(plan);
  else if (plan->workspace_floats < tables->stack.workspace_floats)
    plan->workspace_floats = tables->stack.workspace_floats;
  return status;
}

// Is this batch one for `rs_stack`? Then *stack is its plan, with this plan's workspace.
static int hand_over(const rs_plan *plan, int64_t batch, rs_plan *stack) {
  if (batch * plan->geometry.rows <= SLICE_MOST) return 0;
  *stack = ((const slice_tables *)plan->tables)->stack;
  stack->workspace = plan->workspace;
  return 1;
}

// Some items on their way.
typedef struct {
  const rs_geometry *geometry;
  const slice_tables *tables;
  const rs_output *output;
  const float *input;
  int64_t first;
  int32_t items;       // slices of batch items
  int64_t item_images; // floats between the images of two items
  float *images, *projections;
  double *squares;
} slice_work;

static slice_work make_work(const rs_plan *plan, const rs_output *output, const float *input) {
  const slice_tables *tables = plan->tables;
  slice_work work = {.geometry = &plan->geometry, .tables = tables, .output = output, .input = input};
  work.item_images = tables->variants * tables->image_floats;
  work.images = plan->workspace;
  work.projections = work.images + tables->items * work.item_images;
  work.squares = (double *)(work.projections + tables->items * tables->projection_floats);
  return work;
}

// The target of an item, which is one slice: weights are shared by the batch but not by the slices.
static rs_output item_output(const slice_work *work, int32_t item, int64_t size) {
  rs_output output = *work->output;
  int64_t place = work->first + item;
  output.target += place * size;
  if (output.measured) output.measured += place * size;
  if (output.weights) output.weights += place % work->geometry->rows * size;
  return output;
}

static int64_t image_size(const rs_geometry *geometry) { return (int64_t)geometry->shape[RS_Y] * geometry->shape[RS_X]; }
static int64_t sinogram_size(const rs_geometry *geometry) { return (int64_t)geometry->views * geometry->columns; }

// How many items one call of a kernel takes.
static int32_t items_at_once(const slice_block *block) { return SLICE_CHANNELS / block->views; }

// ---- forward

static void pack_images(void *context, int64_t task, int worker) {
  (void)worker;
  const slice_work *work = context;
  const slice_tables *tables = work->tables;
  int64_t ny = work->geometry->shape[RS_Y], nx = work->geometry->shape[RS_X], row = task * RS_LANES;
  for (int32_t item = 0; item < work->items; item++)
    for (int32_t k = 0; k < tables->variants; k++) {
      int variant = tables->variant[k], transposed = (variant & SLICE_TRANSPOSED) != 0;
      int planes = (variant & SLICE_FLIP_PLANES) != 0, cross = (variant & SLICE_FLIP_CROSS) != 0;
      if (row >= (transposed ? nx : ny)) continue;
      slice_image image = {
          work->input + (work->first + item) * nx * ny, nx, ny, nx, transposed, transposed ? cross : planes, transposed ? planes : cross};
      float *target = work->images + item * work->item_images + k * tables->image_floats + row * tables->image_row;
      for (int64_t column = 0; column < tables->image_row; column += RS_LANES) {
        rs_vf square[RS_LANES];
        slice_square(&image, row, column - SLICE_MARGIN, square);
        for (int n = 0; n < RS_LANES; n++) rs_store(target + n * tables->image_row + column, square[n]);
      }
    }
}

static void project(void *context, int64_t task, int worker) {
  (void)worker;
  const slice_work *work = context;
  const slice_tables *tables = work->tables;
  const rs_geometry *geometry = work->geometry;
  int64_t chunks = slice_parts(geometry->columns, SLICE_CHUNK);
  const slice_block *block = &tables->block[task / chunks];
  int32_t from = (int32_t)(task % chunks * SLICE_CHUNK), count = (int32_t)slice_smaller(SLICE_CHUNK, geometry->columns - from);
  float sums[SLICE_RUN * SLICE_CHANNELS * SLICE_CHUNK];
  slice_forward call = {.block = block, .bundle = tables->bundle + block->first, .row = tables->image_row, .from = from, .sums = sums};
  call.columns = (int32_t)slice_parts(count, RS_LANES) * RS_LANES;
  int32_t some;
  for (int32_t item = 0; item < work->items; item += some) {
    some = (int32_t)slice_smaller(items_at_once(block), work->items - item);
    int channels = some * block->views;
    for (int c = 0; c < channels; c++)
      call.offset[c] = c / block->views * work->item_images + block->image[c % block->views] * tables->image_floats;
    call.image = work->images + item * work->item_images + SLICE_MARGIN;
    memset(sums, 0, sizeof sums);
    for (int32_t plane = 0; plane < block->planes; plane += SLICE_RUN) slice_forward_run(channels, &call, plane);
    for (int c = 0; c < channels; c++) {
      rs_output output = item_output(work, item + c / block->views, sinogram_size(geometry));
      double squares = 0;
      for (int32_t k = 0; k < block->bundles; k++) {
        const slice_view *view = &call.bundle[k].view[c % block->views];
        const float *sum = sums + (k * SLICE_CHANNELS + c) * call.columns;
        float line[SLICE_CHUNK];
        for (int32_t i = 0; i < count; i++) line[i] = view->length * sum[view->reversed ? count - 1 - i : i];
        int32_t first = view->reversed ? geometry->columns - from - count : from;
        squares += rs_output_row(&output, (size_t)((int64_t)view->view * geometry->columns + first), line, count);
      }
      double *place = &work->squares[task * tables->items + item + c / block->views];
      *place = c % block->views ? *place + squares : squares;
    }
  }
}

static int32_t forward(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *volume, int64_t batch,
                       double *norm) {
  rs_plan stack;
  if (hand_over(plan, batch, &stack)) return RS_NAME(rs_stack).forward(operation, &stack, output, volume, batch, norm);
  const rs_geometry *geometry = &plan->geometry;
  slice_work work = make_work(plan, output, volume);
  const slice_tables *tables = work.tables;
  int64_t tasks = forward_tasks(tables, geometry), all = batch * geometry->rows;
  int64_t longer = geometry->shape[RS_Y] > geometry->shape[RS_X] ? geometry->shape[RS_Y] : geometry->shape[RS_X];
  if (norm)
    for (int64_t i = 0; i < batch; i++) norm[i] = 0;
  for (; work.first < all; work.first += work.items) {
    work.items = (int32_t)slice_smaller(tables->items, all - work.first);
    int32_t status = rs_parallel_for(operation, slice_parts(longer, RS_LANES), pack_images, &work);
    if (!status) status = rs_parallel_for(operation, tasks, project, &work);
    if (status) return status;
    if (norm)
      for (int64_t task = 0; task < tasks; task++)
        for (int32_t item = 0; item < work.items; item++)
          norm[(work.first + item) / geometry->rows] += work.squares[task * tables->items + item];
  }
  return RS_OK;
}

// ---- back

static void pack_views(void *context, int64_t task, int worker) {
  (void)worker;
  const slice_work *work = context;
  const slice_tables *tables = work->tables;
  const slice_block *block = &tables->block[task];
  int64_t columns = work->geometry->columns;
  for (int32_t item = 0; item < work->items; item++)
    for (int32_t k = 0; k < block->bundles * block->views; k++) {
      const slice_view *view = &tables->bundle[block->first + k / block->views].view[k % block->views];
      const float *line = work->input + (work->first + item) * sinogram_size(work->geometry) + view->view * columns;
      float *target = work->projections + item * tables->projection_floats + (block->slot + k) * tables->view_row;
      for (int64_t i = 0; i < tables->view_row; i += RS_LANES)
        rs_store(target + i, view->length * slice_read(line, i - SLICE_MARGIN, columns, view->reversed));
    }
}

static void back_project(void *context, int64_t task, int worker) {
  (void)worker;
  const slice_work *work = context;
  const slice_tables *tables = work->tables;
  const rs_geometry *geometry = work->geometry;
  int64_t longer = geometry->shape[RS_Y] > geometry->shape[RS_X] ? geometry->shape[RS_Y] : geometry->shape[RS_X];
  int64_t across = slice_parts(longer, SLICE_TILE_WIDTH);
  slice_back call = {.row = tables->view_row, .columns = geometry->columns, .image_row = tables->image_row};
  call.plane = (int32_t)(task / across * SLICE_TILE_HEIGHT);
  call.cross = (int32_t)(task % across * SLICE_TILE_WIDTH);
  size_t width = (size_t)slice_smaller(SLICE_TILE_WIDTH, tables->image_row - call.cross);
  for (int32_t k = 0; k < work->items * tables->variants; k++)
    for (int64_t y = 0; y < SLICE_TILE_HEIGHT; y++)
      memset(work->images + k * tables->image_floats + (call.plane + y) * tables->image_row + call.cross, 0, width * sizeof(float));
  for (int64_t b = 0; b < tables->blocks; b++) {
    const slice_block *block = call.block = &tables->block[b];
    call.height = (int32_t)slice_smaller(SLICE_TILE_HEIGHT, block->planes - call.plane);
    call.width = (int32_t)slice_smaller(SLICE_TILE_WIDTH, block->cross - call.cross);
    if (call.height <= 0 || call.width <= 0) continue;
    call.bundle = tables->bundle + block->first;
    int32_t some;
    for (int32_t item = 0; item < work->items; item += some) {
      some = (int32_t)slice_smaller(items_at_once(block), work->items - item);
      int channels = some * block->views;
      call.projections = work->projections + item * tables->projection_floats + block->slot * tables->view_row + SLICE_MARGIN;
      call.image = work->images + item * work->item_images;
      for (int c = 0; c < channels; c++) {
        call.offset[c] = c / block->views * tables->projection_floats + c % block->views * tables->view_row;
        call.target[c] = c / block->views * work->item_images + block->image[c % block->views] * tables->image_floats;
      }
      slice_back_of[channels - 1](&call);
    }
  }
}

// Adds up the variants of the image.
static void unpack_images(void *context, int64_t task, int worker) {
  (void)worker;
  const slice_work *work = context;
  const slice_tables *tables = work->tables;
  int64_t ny = work->geometry->shape[RS_Y], nx = work->geometry->shape[RS_X], row = task * RS_LANES;
  for (int32_t item = 0; item < work->items; item++) {
    rs_output output = item_output(work, item, image_size(work->geometry));
    for (int64_t from = 0; from < nx; from += SLICE_TILE_WIDTH) {
      float line[RS_LANES][SLICE_TILE_WIDTH];
      int64_t count = slice_smaller(SLICE_TILE_WIDTH, nx - from);
      for (int64_t i = 0; i < count; i += RS_LANES) {
        rs_vf sum[RS_LANES] = {{0}};
        for (int32_t k = 0; k < tables->variants; k++) {
          int variant = tables->variant[k], transposed = (variant & SLICE_TRANSPOSED) != 0;
          slice_image image = {work->images + item * work->item_images + k * tables->image_floats,
                               tables->image_row,
                               transposed ? nx : ny,
                               transposed ? ny : nx,
                               transposed,
                               (variant & SLICE_FLIP_PLANES) != 0,
                               (variant & SLICE_FLIP_CROSS) != 0};
          rs_vf square[RS_LANES];
          slice_square(&image, row, from + i, square);
          for (int n = 0; n < RS_LANES; n++) sum[n] += square[n];
        }
        for (int n = 0; n < RS_LANES; n++) rs_store(line[n] + i, sum[n]);
      }
      for (int64_t n = 0; n < RS_LANES && row + n < ny; n++) rs_output_row(&output, (size_t)((row + n) * nx + from), line[n], (int)count);
    }
  }
}

static int32_t back(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *projections, int64_t batch) {
  rs_plan stack;
  if (hand_over(plan, batch, &stack)) return RS_NAME(rs_stack).back(operation, &stack, output, projections, batch);
  const rs_geometry *geometry = &plan->geometry;
  slice_work work = make_work(plan, output, projections);
  const slice_tables *tables = work.tables;
  int64_t longer = geometry->shape[RS_Y] > geometry->shape[RS_X] ? geometry->shape[RS_Y] : geometry->shape[RS_X];
  int64_t tiles = slice_parts(longer, SLICE_TILE_WIDTH) * slice_parts(longer, SLICE_TILE_HEIGHT), all = batch * geometry->rows;
  for (; work.first < all; work.first += work.items) {
    work.items = (int32_t)slice_smaller(tables->items, all - work.first);
    int32_t status = rs_parallel_for(operation, tables->blocks, pack_views, &work);
    if (!status) status = rs_parallel_for(operation, tiles, back_project, &work);
    if (!status) status = rs_parallel_for(operation, slice_parts(geometry->shape[RS_Y], RS_LANES), unpack_images, &work);
    if (status) return status;
  }
  return RS_OK;
}

const rs_family RS_NAME(rs_slice) = {
    .name = "slice", .accepts = slice_accepts, .prepare = prepare, .release = release, .forward = forward, .back = back};
