// stack.c: the `rs_stack` family: parallel beams along the slices of a volume, the default of tomography.
//
// The rays are sampled where they cross the planes of the main axis, with linear interpolation in between (P. M. Joseph, IEEE
// Transactions on Medical Imaging 1, 1982). When no ray leaves its slice, all slices share their weights. So one lane of a vector is
// one detector row (forward) or one slice (back) of one batch item, and the inner loop (stack_kernel.h) is two multiply-adds a vector
// with a weight that was computed once for all lanes. Rows that fall between slices read weighted sums of them, made while packing.
//
// Lanes are worked off in blocks. The workspace holds one block of
//   the volume       forward: [margin + y + margin][margin + x + margin][lane], zero in the margin; back: [tile][y][x][lane]
//   the projections  forward: [group][column chunk][view][column][lane]; back: [view][padding + column + padding][lane]
// and the sums of squares of every forward task. Views are sorted by slope into groups (stack_tables.h), and supersampled columns are
// one wider footprint, so they cost no memory. Positions are float64 down to a run or patch and 8.24 fixed point inside, from the same
// numbers both ways: back is the transpose of forward to float32 rounding. A task's data stays in the second-level cache and a run's or
// patch's in the first: 16 planes x (4 + a few) voxels and 16 views x a few columns of 256 bytes each.
#include "stack_kernel.h"
#include "stack_pack.h"

#define STACK_CHUNK STACK_SPAN // columns of a forward task
#define STACK_CHUNK_ROW STACK_SPREAD(STACK_CHUNK)
#define STACK_TILE_WIDTH STACK_SPAN // voxels of a back task
#define STACK_TILE_HEIGHT 32        // at most: large tiles read fewer columns for each voxel
#define STACK_ENOUGH_TASKS 64       // ... but every thread should have some

static void release(rs_plan *plan) {
  stack_tables *tables = plan->tables;
  free(tables->group);
  rs_stack_free_matrix(&tables->slices_of_row);
  rs_stack_free_matrix(&tables->rows_of_slice);
  free(tables);
  plan->tables = NULL;
}

static int64_t forward_tasks(const stack_tables *tables, const rs_geometry *geometry) {
  return tables->groups * stack_parts(geometry->columns, STACK_CHUNK);
}

static int64_t back_tasks(const stack_tables *tables, const rs_geometry *geometry) {
  return stack_parts(geometry->shape[RS_Y], tables->tile_height) * stack_parts(geometry->shape[RS_X], STACK_TILE_WIDTH);
}

static int32_t prepare(rs_plan *plan) {
  const rs_geometry *geometry = &plan->geometry;
  stack_tables *tables = plan->tables = calloc(1, sizeof *tables);
  if (!tables) return rs_fail(RS_EMEMORY, "no host memory for the tables of a plan");
  if (stack_make_groups(tables, geometry) || rs_stack_matrices(geometry, &tables->slices_of_row, &tables->rows_of_slice)) {
    release(plan);
    return RS_EMEMORY;
  }
  plan->rows_alike = rs_stack_alike(&tables->slices_of_row, geometry->rows);
  plan->slices_alike = rs_stack_alike(&tables->rows_of_slice, geometry->shape[RS_Z]);
  int64_t most = geometry->rows > geometry->shape[RS_Z] ? geometry->rows : geometry->shape[RS_Z];
  tables->block = (int32_t)stack_smaller(STACK_BLOCK, stack_parts(most, RS_LANES) * RS_LANES);
  tables->volume_row = STACK_SPREAD(geometry->shape[RS_X] + 2 * (int64_t)tables->margin);
  tables->view_row = STACK_SPREAD(geometry->columns + 2 * (int64_t)tables->padding);
  tables->tile_height = STACK_TILE_HEIGHT;
  while (tables->tile_height > STACK_PATCH && back_tasks(tables, geometry) < STACK_ENOUGH_TASKS) tables->tile_height /= 2;
  int64_t tasks = forward_tasks(tables, geometry);
  int64_t bordered = (geometry->shape[RS_Y] + 2 * tables->margin) * tables->volume_row;
  int64_t tiled = back_tasks(tables, geometry) * tables->tile_height * STACK_TILE_WIDTH;
  int64_t chunked = tasks * STACK_RUN * STACK_CHUNK_ROW, padded = geometry->views * tables->view_row;
  tables->volume_floats = (bordered > tiled ? bordered : tiled) * tables->block;
  tables->projection_floats = (chunked > padded ? chunked : padded) * tables->block;
  int64_t squares = tasks * tables->block;
  plan->workspace_floats = tables->volume_floats + tables->projection_floats + squares * (int64_t)(sizeof(double) / sizeof(float));
  return RS_OK;
}

// One block of lanes on its way.
typedef struct {
  const rs_geometry *geometry;
  const stack_tables *tables;
  stack_source source;
  stack_target target;
  int reads; // or all is zero
  int vectors;
  float *volume, *projections;
  double *squares;
} stack_block;

// Blocks have nearly the same number of vectors, so that no small one is left at the end.
static void next_block(stack_block *block, int64_t lanes, int64_t *first) {
  int64_t vectors = stack_parts(lanes - *first, RS_LANES);
  int64_t blocks = stack_parts(vectors, block->tables->block / RS_LANES);
  block->vectors = (int)stack_parts(vectors, blocks);
  block->source.first = block->target.first = *first;
  block->source.lanes = block->target.lanes = (int32_t)stack_smaller(lanes - *first, block->vectors * RS_LANES);
  block->reads = stack_reads(&block->source);
  *first += block->source.lanes;
}

static stack_block make_block(const rs_plan *plan, const rs_output *output, const float *input) {
  const stack_tables *tables = plan->tables;
  stack_block block = {.geometry = &plan->geometry, .tables = tables};
  block.source.input = input;
  block.target.output = output;
  block.volume = plan->workspace;
  block.projections = block.volume + tables->volume_floats;
  block.squares = (double *)(block.projections + tables->projection_floats);
  return block;
}

// ---- forward

static void pack_volume(void *context, int64_t task, int worker) {
  (void)worker;
  const stack_block *block = context;
  int64_t lanes = block->vectors * RS_LANES, margin = block->tables->margin, y = task - margin;
  int64_t ny = block->geometry->shape[RS_Y], nx = block->geometry->shape[RS_X], row = block->tables->volume_row * lanes;
  float *target = block->volume + task * row;
  if (y < 0 || y >= ny) {
    memset(target, 0, (size_t)row * sizeof *target);
    return;
  }
  int64_t before = margin * lanes, behind = (margin + nx) * lanes;
  memset(target, 0, (size_t)before * sizeof *target);
  memset(target + behind, 0, (size_t)(row - behind) * sizeof *target);
  for (int32_t lane = 0; lane < lanes; lane += RS_LANES)
    stack_pack(&block->source, lane, y * nx, (int32_t)nx, 1, target + before + lane, lanes);
}

static void project(void *context, int64_t task, int worker) {
  (void)worker;
  const stack_block *block = context;
  const stack_tables *tables = block->tables;
  const rs_geometry *geometry = block->geometry;
  int64_t chunks = stack_parts(geometry->columns, STACK_CHUNK), lanes = block->vectors * RS_LANES;
  const stack_group *group = &tables->group[task / chunks];
  int64_t row = tables->volume_row * lanes;
  stack_forward_work work = {.group = group, .supersampling = geometry->supersampling, .vectors = block->vectors};
  work.main_count = geometry->shape[group->main];
  work.cross_count = geometry->shape[group->main == RS_Y ? RS_X : RS_Y];
  work.main_step = group->main == RS_Y ? row : lanes;
  work.cross_step = group->main == RS_Y ? lanes : row;
  work.volume = block->volume + tables->margin * (row + lanes);
  work.from = (int32_t)(task % chunks * STACK_CHUNK);
  work.to = (int32_t)stack_smaller(work.from + STACK_CHUNK, geometry->columns);
  work.view_step = STACK_CHUNK_ROW * lanes;
  work.sums = block->projections + task * STACK_RUN * work.view_step;
  memset(work.sums, 0, (size_t)(group->views * work.view_step) * sizeof *work.sums);
  for (int32_t plane = 0; block->reads && plane < work.main_count; plane += STACK_RUN) stack_forward_planes(&work, plane);
  double *squares = block->squares + task * tables->block;
  memset(squares, 0, (size_t)lanes * sizeof *squares);
  for (int v = 0; v < group->views; v++)
    for (int32_t lane = 0; lane < lanes; lane += RS_LANES)
      stack_unpack(&block->target, lane, work.sums + v * work.view_step + lane, lanes, work.to - work.from, group->length[v],
                   (int64_t)group->view[v] * geometry->columns + work.from, squares);
}

static int32_t forward(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *volume, int64_t batch,
                       double *norm) {
  const rs_geometry *geometry = &plan->geometry;
  stack_block block = make_block(plan, output, volume);
  const stack_tables *tables = block.tables;
  block.source.matrix = &tables->slices_of_row;
  block.source.units = block.target.units = geometry->rows;
  block.source.plane_step = (int64_t)geometry->shape[RS_Y] * geometry->shape[RS_X];
  block.source.item_size = geometry->shape[RS_Z] * block.source.plane_step;
  block.target.unit_step = (int64_t)geometry->views * geometry->columns;
  block.target.item_size = geometry->rows * block.target.unit_step;
  int64_t tasks = forward_tasks(tables, geometry), lanes = batch * geometry->rows, first = 0;
  if (norm)
    for (int64_t i = 0; i < batch; i++) norm[i] = 0;
  while (first < lanes) {
    next_block(&block, lanes, &first);
    int32_t status = RS_OK;
    if (block.reads) status = rs_parallel_for(operation, geometry->shape[RS_Y] + 2 * tables->margin, pack_volume, &block);
    if (!status) status = rs_parallel_for(operation, tasks, project, &block);
    if (status) return status;
    if (norm)
      for (int64_t task = 0; task < tasks; task++)
        for (int32_t lane = 0; lane < block.target.lanes; lane++)
          norm[(block.target.first + lane) / geometry->rows] += block.squares[task * tables->block + lane];
  }
  return RS_OK;
}

// ---- back

static void pack_projections(void *context, int64_t task, int worker) {
  (void)worker;
  const stack_block *block = context;
  const stack_tables *tables = block->tables;
  int64_t lanes = block->vectors * RS_LANES, columns = block->geometry->columns, padding = tables->padding;
  int64_t row = tables->view_row * lanes, before = padding * lanes, behind = (padding + columns) * lanes;
  const stack_group *group = tables->group;
  int64_t v = task;
  for (; v >= group->views; group++) v -= group->views;
  float *target = block->projections + task * row;
  memset(target, 0, (size_t)before * sizeof *target);
  memset(target + behind, 0, (size_t)(row - behind) * sizeof *target);
  for (int32_t lane = 0; lane < lanes; lane += RS_LANES)
    stack_pack(&block->source, lane, group->view[v] * columns, (int32_t)columns, group->length[v], target + before + lane, lanes);
}

static void back_project(void *context, int64_t task, int worker) {
  (void)worker;
  const stack_block *block = context;
  const stack_tables *tables = block->tables;
  const rs_geometry *geometry = block->geometry;
  int64_t across = stack_parts(geometry->shape[RS_X], STACK_TILE_WIDTH), lanes = block->vectors * RS_LANES;
  stack_back_work work = {.supersampling = geometry->supersampling, .vectors = block->vectors};
  work.columns = geometry->columns;
  work.padding = tables->padding;
  work.view_step = tables->view_row * lanes;
  work.y = (int32_t)(task / across * tables->tile_height);
  work.x = (int32_t)(task % across * STACK_TILE_WIDTH);
  work.height = (int32_t)stack_smaller(tables->tile_height, geometry->shape[RS_Y] - work.y);
  work.width = (int32_t)stack_smaller(STACK_TILE_WIDTH, geometry->shape[RS_X] - work.x);
  work.sums = block->volume + task * tables->tile_height * STACK_TILE_WIDTH * lanes;
  work.projections = block->projections;
  memset(work.sums, 0, (size_t)(work.height * work.width * lanes) * sizeof *work.sums);
  for (int64_t g = 0; block->reads && g < tables->groups; g++) {
    work.group = &tables->group[g];
    stack_back_views(&work);
    work.projections += work.group->views * work.view_step;
  }
  for (int32_t y = 0; y < work.height; y++)
    for (int32_t lane = 0; lane < lanes; lane += RS_LANES)
      stack_unpack(&block->target, lane, work.sums + y * work.width * lanes + lane, lanes, work.width, 1,
                   (int64_t)(work.y + y) * geometry->shape[RS_X] + work.x, NULL);
}

static int32_t back(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *projections, int64_t batch) {
  const rs_geometry *geometry = &plan->geometry;
  stack_block block = make_block(plan, output, projections);
  block.source.matrix = &block.tables->rows_of_slice;
  block.source.units = block.target.units = geometry->shape[RS_Z];
  block.source.plane_step = (int64_t)geometry->views * geometry->columns;
  block.source.item_size = geometry->rows * block.source.plane_step;
  block.target.unit_step = (int64_t)geometry->shape[RS_Y] * geometry->shape[RS_X];
  block.target.item_size = geometry->shape[RS_Z] * block.target.unit_step;
  int64_t lanes = batch * geometry->shape[RS_Z], first = 0;
  while (first < lanes) {
    next_block(&block, lanes, &first);
    int32_t status = RS_OK;
    if (block.reads) status = rs_parallel_for(operation, geometry->views, pack_projections, &block);
    if (!status) status = rs_parallel_for(operation, back_tasks(block.tables, geometry), back_project, &block);
    if (status) return status;
  }
  return RS_OK;
}

const rs_family RS_NAME(rs_stack) = {
    .name = "stack", .accepts = stack_accepts, .prepare = prepare, .release = release, .forward = forward, .back = back};
