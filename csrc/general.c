// general.c: the family `rs_general`: parallel and cone beams with any vectors.
//
// Joseph's method (P. M. Joseph, "An improved algorithm for reprojecting rays through pixel images", IEEE Trans. Med. Imaging 1,
// 1982): a ray takes one bilinear sample on every plane of the view's main axis. Here the lanes of a vector are neighbouring planes,
// so the same few instructions find the samples of a ray in both directions: forward gathers them from the volume, back adds to
// them, and because no two lanes share a plane the lanes of a scatter never meet.
//
// Views are worked off by main axis, each axis with its own copy of the volume in the workspace: blocks of planes, stored
// [third axis][plane][cross axis] with a border of zeros, so that a block's part around a few rays lies close together (see
// general_box). Forward: a task is a block of pixels of some views. Back: a task owns a block of planes and a band of cells of the
// third axis for all rays; every sample falls into one cell, and voxels between two bands are added up when they are unpacked.
#include "general_kernel.h"
#include "general_phase.h"
#include "general_window.h"
#include "output_row.h"
#include "status.h"

#include <stdlib.h>

#define SAMPLES 2097152 // per task, roughly: some milliseconds
#define TILE 64         // pixels side by side in a task of forward
#define GROUP 16        // most detector rows in it
#define VIEWS 16        // that are worked off row by row, while what they see of the volume is in the caches

typedef struct {
  int phases;
  general_phase phase[3];
  int32_t *order;        // views, phase by phase
  int32_t group;         // detector rows in a task of forward, at most GROUP
  int64_t tiles, groups; // of a view
  int64_t volume_floats; // of the workspace; then the sums of squares of forward's tasks
} general_tables;

static int accepts(const rs_geometry *geometry) {
  (void)geometry;
  return 1;
}

static void release(rs_plan *plan) {
  general_tables *tables = plan->tables;
  free(tables->order);
  free(tables);
  plan->tables = NULL;
}

static int32_t prepare(rs_plan *plan) {
  const rs_geometry *geometry = &plan->geometry;
  general_tables *tables = calloc(1, sizeof *tables);
  int32_t *order = malloc((size_t)geometry->views * sizeof *order);
  if (!tables || !order) {
    free(tables);
    free(order);
    return rs_fail(RS_EMEMORY, "no host memory for the tables of %d views", geometry->views);
  }
  plan->tables = tables;
  tables->order = order;
  int32_t most_planes = 1;
  for (int main = 0; main < 3; main++) {
    const int32_t *first = order;
    for (int32_t i = 0; i < geometry->views; i++)
      if (geometry->view[i].main == main) *order++ = i;
    if (order == first) continue;
    general_phase *phase = &tables->phase[tables->phases++];
    phase->view = first;
    phase->views = order - first;
    if (make_phase(phase, geometry, main)) {
      release(plan);
      return RS_EARGUMENT;
    }
    int64_t forward = 2 * phase->blocks * room_of(phase, phase->rows + 1);
    int64_t back = 2 * phase->blocks * phase->bands * room_of(phase, phase->band);
    int64_t floats = forward > back ? forward : back;
    if (tables->volume_floats < floats) tables->volume_floats = parts(floats, 16) * 16;
    if (most_planes < phase->planes) most_planes = phase->planes;
  }
  tables->tiles = parts(geometry->columns, TILE);
  int64_t group = SAMPLES / ((int64_t)TILE * geometry->sub_rows * geometry->supersampling * most_planes);
  tables->group = (int32_t)smaller(GROUP, group < 1 ? 1 : group);
  tables->groups = parts(geometry->rows, tables->group);
  plan->workspace_floats = tables->volume_floats + 2 * geometry->views * tables->groups * tables->tiles;
  return RS_OK;
}

// What the tasks of a parallel loop share.
typedef struct {
  const rs_plan *plan;
  const general_tables *tables;
  const general_phase *phase;
  rs_output output;   // of one batch item
  const float *input; // of one batch item
  float *packed;
  double *squares;    // of the phase's forward tasks, or NULL
  int64_t first, end; // fine rows that back adds, counted over the views of the phase
} general_work;

static int64_t voxel_stride(const rs_geometry *geometry, int axis) {
  int64_t row = geometry->shape[RS_X];
  return axis == RS_X ? 1 : axis == RS_Y ? row : row * geometry->shape[RS_Y];
}

// ---- forward

// A row of entries of a plane: to[2 i], to[2 i + 1] = row[i step], next[i next_step]
static void pack_entries(float *to, const float *row, int64_t step, const float *next, int64_t next_step, int32_t count) {
  const general_indexes lane = {GENERAL_LANES};
  const rs_vi low = (rs_vi)(lane / 2 + lane % 2 * RS_LANES), high = low + RS_LANES / 2;
  int32_t i = 0;
  for (; step == 1 && next_step == 1 && i + RS_LANES <= count; i += RS_LANES) {
    rs_store(to + 2 * i, rs_pick(rs_load(row + i), rs_load(next + i), low));
    rs_store(to + 2 * i + RS_LANES, rs_pick(rs_load(row + i), rs_load(next + i), high));
  }
  for (; i < count; i++) to[2 * i] = row[i * step], to[2 * i + 1] = next[i * next_step];
}

static void pack_row(void *context, int64_t task, int worker) {
  (void)worker;
  static const float zeros[GENERAL_PLANES];
  const general_work *work = context;
  const general_phase *phase = work->phase;
  const rs_geometry *geometry = &work->plan->geometry;
  int32_t rows = phase->rows + 1 + 2 * phase->margin, row = (int32_t)(task % rows) - phase->margin - 1;
  general_box box;
  make_box(phase, phase->rows + 1, task / rows, 0, &box);
  float *begin = work->packed + 2 * (task / rows * room_of(phase, phase->rows + 1)),
        *base = begin + 2 * (box.origin + (int64_t)(row + 1) * box.stride);
  size_t edge = 2 * (size_t)phase->pitch * sizeof *base;
  if (task % rows == 0) memset(begin, 0, edge);
  if (task % rows == rows - 1) memset(base + 2 * box.stride, 0, edge);
  if (row < -1 || row >= phase->rows) {
    memset(base, 0, 2 * (size_t)box.stride * sizeof *base);
    return;
  }
  int64_t plane_stride = voxel_stride(geometry, phase->main), column_stride = voxel_stride(geometry, phase->cross);
  const float *source = work->input + box.plane * plane_stride + row * voxel_stride(geometry, phase->third);
  const float *next = source + voxel_stride(geometry, phase->third);
  int64_t step = column_stride, next_step = step, way = plane_stride, next_way = way;
  if (row < 0) source = zeros, step = way = 0;
  if (row == phase->rows - 1) next = zeros, next_step = next_way = 0;
  int32_t columns = phase->columns, pitch = phase->pitch;
  for (int32_t k = 0; k < box.planes; k++) {
    float *to = base + 2 * (int64_t)k * pitch;
    to[0] = to[1] = 0;
    memset(to + 2 * (1 + columns), 0, 2 * (size_t)(pitch - 1 - columns) * sizeof *to);
    if (column_stride == 1) pack_entries(to + 2, source + k * way, step, next + k * next_way, next_step, columns);
  }
  if (column_stride != 1)
    for (int32_t a = 0; a < columns; a++)
      for (int32_t k = 0; k < box.planes; k++) {
        float *to = base + 2 * ((int64_t)k * pitch + 1 + a);
        to[0] = source[a * step + k * way], to[1] = next[a * next_step + k * next_way];
      }
}

// sum[pixel] += what the rays of one detector row find in a box. sum has room for whole vectors of pixels.
static void gather_row(const rs_geometry *geometry, const rs_view *view, const general_box *box, const general_ways *ways,
                       const general_window *window, const float *base, int32_t row, int32_t pixel, int pixels, float *sum) {
  const int supersampling = geometry->supersampling, sub_rows = geometry->sub_rows;
  general_rays rays;
  for (int32_t fine = row * sub_rows; fine < (row + 1) * sub_rows; fine++) {
    int32_t first = pixel * supersampling, end = (pixel + pixels) * supersampling, from = first;
    general_clip(window, fine, &first, &end);
    if (first >= end) continue;
    first -= (first - from) % RS_LANES;
    for (; first < end; first += GENERAL_RAYS) {
      int count = (int)smaller(end - first, GENERAL_RAYS);
      general_aim(geometry, view, box, fine, first, count, &rays);
      for (int i = 0; i < count; i += RS_LANES) {
        rs_vf found = general_gather_rays(box, ways, &rays, i, (int)smaller(count - i, RS_LANES), base);
        if (supersampling == 1)
          rs_store(sum + first - from + i, rs_load(sum + first - from + i) + found);
        else
          for (int k = 0; k < RS_LANES && i + k < count; k++) sum[(first + i + k) / supersampling - pixel] += found[k];
      }
    }
  }
}

static void forward_task(void *context, int64_t task, int worker) {
  (void)worker;
  const general_work *work = context;
  const general_tables *tables = work->tables;
  const general_phase *phase = work->phase;
  const rs_geometry *geometry = &work->plan->geometry;
  int64_t tile = task % tables->tiles, group = task / tables->tiles % tables->groups, first = task / tables->tiles / tables->groups * VIEWS;
  const int32_t *view = phase->view + first;
  int32_t pixel = (int32_t)tile * TILE, row = (int32_t)group * tables->group;
  int views = (int)smaller(VIEWS, phase->views - first);
  int pixels = (int)smaller(TILE, geometry->columns - pixel), rows = (int)smaller(tables->group, geometry->rows - row);
  float sum[VIEWS][GROUP][TILE];
  memset(sum, 0, sizeof sum);
  for (int64_t block = 0; block < phase->blocks; block++) {
    general_box box;
    general_ways ways;
    general_window window[VIEWS];
    const float *base = work->packed + 2 * block * room_of(phase, phase->rows + 1);
    make_box(phase, phase->rows + 1, block, 0, &box);
    general_pave(&box, &ways);
    for (int k = 0; k < views; k++) general_frame(geometry, &geometry->view[view[k]], &box, &window[k]);
    for (int r = 0; r < rows; r++)
      for (int k = 0; k < views; k++)
        gather_row(geometry, &geometry->view[view[k]], &box, &ways, &window[k], base, row + r, pixel, pixels, sum[k][r]);
  }
  double squares = 0;
  for (int r = 0; r < rows; r++)
    for (int k = 0; k < views; k++) {
      size_t index = ((size_t)(row + r) * (size_t)geometry->views + (size_t)view[k]) * (size_t)geometry->columns + (size_t)pixel;
      squares += rs_output_row(&work->output, index, sum[k][r], pixels);
    }
  if (work->squares) work->squares[task] = squares;
}

static int32_t forward(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *volume, int64_t batch,
                       double *norm) {
  const general_tables *tables = plan->tables;
  const rs_geometry *geometry = &plan->geometry;
  int64_t voxels = voxel_stride(geometry, RS_Z) * geometry->shape[RS_Z];
  int64_t pixels = (int64_t)geometry->rows * geometry->views * geometry->columns, tasks = tables->groups * tables->tiles;
  double *squares = (double *)(plan->workspace + tables->volume_floats);
  for (int64_t item = 0; item < batch; item++) {
    general_work work = {.plan = plan, .tables = tables, .output = *output, .input = volume + item * voxels, .packed = plan->workspace};
    work.output.target += item * pixels;
    if (output->mode == RS_RESIDUAL) work.output.measured += item * pixels;
    int64_t done = 0;
    for (int p = 0; p < tables->phases; p++) {
      const general_phase *phase = work.phase = &tables->phase[p];
      if (norm) work.squares = squares + done;
      if (rs_parallel_for(operation, phase->blocks * (phase->rows + 1 + 2 * phase->margin), pack_row, &work)) return RS_CANCELLED;
      if (rs_parallel_for(operation, parts(phase->views, VIEWS) * tasks, forward_task, &work)) return RS_CANCELLED;
      done += parts(phase->views, VIEWS) * tasks;
    }
    if (norm) {
      norm[item] = 0;
      for (int64_t i = 0; i < done; i++) norm[item] += squares[i];
    }
  }
  return RS_OK;
}

// ---- back

// The first of an entry's numbers is what a voxel gets from the cells of its row, the second what the one behind it in the next row gets
// from them.
static float *make_band(const general_work *work, int64_t block, int64_t band, general_box *box) {
  const general_phase *phase = work->phase;
  make_box(phase, phase->band, block, band, box);
  return work->packed + 2 * (block * phase->bands + band) * room_of(phase, phase->band);
}

static void clear_band(void *context, int64_t task, int worker) {
  (void)worker;
  const general_work *work = context;
  const general_phase *phase = work->phase;
  general_box box;
  float *base = make_band(work, task / phase->bands, task % phase->bands, &box);
  memset(base + 2 * box.origin, 0, 2 * (size_t)box.rows * (size_t)box.stride * sizeof *base);
}

static void scatter_task(void *context, int64_t task, int worker) {
  (void)worker;
  const general_work *work = context;
  const general_phase *phase = work->phase;
  const rs_geometry *geometry = &work->plan->geometry;
  const int supersampling = geometry->supersampling;
  general_box box;
  general_rays rays;
  general_ways ways;
  float value[GENERAL_RAYS];
  float *base = make_band(work, task / phase->bands, task % phase->bands, &box);
  general_pave(&box, &ways);
  for (int64_t line = work->first, next; line < work->end; line = next) {
    // Whole views, or rows of one.
    const int32_t *view = phase->view + line / geometry->fine_rows;
    int32_t row = (int32_t)(line % geometry->fine_rows), last = (int32_t)smaller(geometry->fine_rows, row + work->end - line);
    int views = last - row < geometry->fine_rows ? 1 : (int)smaller(VIEWS, (work->end - line) / geometry->fine_rows);
    next = line + (int64_t)views * (last - row);
    general_window window[VIEWS];
    for (int k = 0; k < views; k++) general_frame(geometry, &geometry->view[view[k]], &box, &window[k]);
    // Strips: neighbouring rows and views find their voxels in the caches.
    for (int32_t strip = 0; strip < geometry->fine_columns; strip += GENERAL_RAYS)
      for (int32_t r = row; r < last; r++)
        for (int k = 0; k < views; k++) {
          int32_t column = strip, end = (int32_t)smaller((int64_t)strip + GENERAL_RAYS, geometry->fine_columns);
          general_clip(&window[k], r, &column, &end);
          if (column >= end) continue;
          const float *values = work->input + ((int64_t)(r / geometry->sub_rows) * geometry->views + view[k]) * geometry->columns;
          general_aim(geometry, &geometry->view[view[k]], &box, r, column, end - column, &rays);
          for (int i = 0; i < end - column; i++) // a division takes as long as a third of a ray
            value[i] = supersampling == 1 ? values[column + i] : values[(column + i) / supersampling];
          for (int i = 0; i < end - column; i += GENERAL_BATCH)
            general_scatter_rays(&box, &ways, &rays, i, (int)smaller(end - column - i, GENERAL_BATCH), value, base);
        }
  }
}

// The entries of a row of cells on a plane, from that of the first voxel on.
static const float *find_row(const general_work *work, int32_t plane, int32_t row) {
  const general_phase *phase = work->phase;
  general_box box;
  int64_t block = plane / phase->run, band = (row + 1) / phase->band;
  const float *base = make_band(work, block, band, &box);
  return base + 2 * (box.origin + (int64_t)(row - box.row) * box.stride + (int64_t)(plane - box.plane) * box.pitch + 1);
}

#define PIECE 256 // voxels in a row that are finished at once

// The voxels first ... first + count - 1 of a row along the cross axis.
static void sum_row(const general_work *work, int32_t plane, int32_t row, int32_t first, int count, float *sum) {
  const float *own = find_row(work, plane, row) + 2 * first, *before = find_row(work, plane, row - 1) + 2 * first;
  for (int i = 0; i < count; i++) sum[i] = own[2 * i] + before[2 * i + 1];
}

// A row along x, for main axes z and y.
static void unpack_row(void *context, int64_t task, int worker) {
  (void)worker;
  const general_work *work = context;
  const general_phase *phase = work->phase;
  const rs_geometry *geometry = &work->plan->geometry;
  int32_t plane = (int32_t)(task / phase->rows), row = (int32_t)(task % phase->rows);
  size_t index = (size_t)(plane * voxel_stride(geometry, phase->main) + row * voxel_stride(geometry, phase->third));
  float sum[PIECE];
  for (int32_t x = 0; x < phase->columns; x += PIECE) {
    int count = (int)smaller(phase->columns - x, PIECE);
    sum_row(work, plane, row, x, count, sum);
    rs_output_row(&work->output, index + (size_t)x, sum, count);
  }
}

#define SIDE 16 // rows along x in a task of unpack_square

// The same for main axis x, whose rows lie along y.
static void unpack_square(void *context, int64_t task, int worker) {
  (void)worker;
  const general_work *work = context;
  const general_phase *phase = work->phase;
  const rs_geometry *geometry = &work->plan->geometry;
  int64_t squares = parts(phase->columns, SIDE);
  int32_t z = (int32_t)(task / squares), y = (int32_t)(task % squares) * SIDE;
  int rows = (int)smaller(phase->columns - y, SIDE);
  float value[SIDE][PIECE], sum[SIDE];
  for (int32_t x = 0; x < phase->planes; x += PIECE) {
    int count = (int)smaller(phase->planes - x, PIECE);
    for (int i = 0; i < count; i++) {
      sum_row(work, x + i, z, y, rows, sum);
      for (int j = 0; j < rows; j++) value[j][i] = sum[j];
    }
    for (int j = 0; j < rows; j++)
      rs_output_row(&work->output, (size_t)(z * voxel_stride(geometry, RS_Z) + (y + j) * voxel_stride(geometry, RS_Y) + x), value[j],
                    count);
  }
}

static int32_t back(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *projections, int64_t batch) {
  const general_tables *tables = plan->tables;
  const rs_geometry *geometry = &plan->geometry;
  int64_t voxels = voxel_stride(geometry, RS_Z) * geometry->shape[RS_Z];
  int64_t pixels = (int64_t)geometry->rows * geometry->views * geometry->columns;
  for (int64_t item = 0; item < batch; item++) {
    general_work work = {.plan = plan, .tables = tables, .input = projections + item * pixels, .packed = plan->workspace};
    for (int p = 0; p < tables->phases; p++) {
      const general_phase *phase = work.phase = &tables->phase[p];
      // The phases add to each other in the target; an update is clamped once all are in.
      work.output = *output;
      work.output.target += item * voxels;
      if (output->mode == RS_STORE && p > 0) work.output.mode = RS_ADD;
      if (p < tables->phases - 1) work.output.minimum = -INFINITY, work.output.maximum = INFINITY;
      if (rs_parallel_for(operation, phase->blocks * phase->bands, clear_band, &work)) return RS_CANCELLED;
      // A call over all blocks and bands takes whole views, or rows of one view where a view is much.
      int64_t row = (int64_t)geometry->fine_columns * phase->run, lines = phase->views * geometry->fine_rows;
      int64_t step = SAMPLES * phase->bands / (row * geometry->fine_rows) * geometry->fine_rows;
      if (!step) step = SAMPLES / row;
      if (!step) step = 1;
      for (work.first = 0; work.first < lines; work.first = work.end) {
        work.end = smaller(work.first + step, lines);
        if (rs_parallel_for(operation, phase->blocks * phase->bands, scatter_task, &work)) return RS_CANCELLED;
      }
      int64_t unpacks = phase->main == RS_X ? phase->rows * parts(phase->columns, SIDE) : (int64_t)phase->planes * phase->rows;
      if (rs_parallel_for(operation, unpacks, phase->main == RS_X ? unpack_square : unpack_row, &work)) return RS_CANCELLED;
    }
  }
  return RS_OK;
}

const rs_family RS_NAME(rs_general) = {"general", accepts, prepare, release, forward, back};
