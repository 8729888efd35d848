// upright.c: the `rs_upright` family: detectors whose columns stand along z; cone beams on circles and helices, tilted parallel beams.
//
// The rays are sampled where they cross the planes of the main axis, with linear interpolation in between (P. M. Joseph, IEEE
// Transactions on Medical Imaging 1, 1982). All rows of a detector column take the same way through the (y, x) plane, and on a given
// plane their heights z are equally spaced. So the weights across are shared by a whole column, and along z a vector of rows finds its
// neighbours with permutations instead of gathers: RS_LANES of them, less than two voxels apart, lie in 2 RS_LANES voxels.
//
//   forward  a vector is RS_LANES rows of a column. On every plane the voxel columns on both sides are mixed, then each row picks the
//            two slices around it.
//   back     a vector is RS_LANES slices. On every plane each slice picks the rows that are nearer than one voxel, and their weighted
//            sum goes to the voxel columns on both sides. Views come in phases: packed, projected into tiles, added up.
//
// The workspace holds, for forward, the volume as [zeros][1 + y + 1][1 + x + 1][z, zeros] and sums of squares of every task; for back,
// the sums of every tile and one phase of the projections as [zeros][virtual view][column][row, zeros]. Places are computed in float64
// and kept as an integer and a float32 part below one: the weights of both directions agree to float32 rounding.
#include "output_row.h"
#include "upright_pack.h"

#define UPRIGHT_COLUMNS 16           // columns of a forward task
#define UPRIGHT_VIEWS 16             // views of a forward task
#define UPRIGHT_TILE 16              // voxels of a back task along y and x
#define UPRIGHT_PHASE 64             // virtual views of a back phase
#define UPRIGHT_FRONT (3 * RS_LANES) // the first zeros, aligned

_Static_assert(UPRIGHT_TILE <= UPRIGHT_RUN, "a tile has at most the planes of a run");
_Static_assert(UPRIGHT_TILE == UPRIGHT_SIDE && UPRIGHT_COLUMNS == UPRIGHT_SIDE, "both are unpacked in one go");

static void release(rs_plan *plan) {
  upright_tables *tables = plan->tables;
  free(tables->turned);
  free(tables);
  plan->tables = NULL;
}

static int64_t forward_tasks(const upright_tables *tables, const rs_geometry *geometry) {
  return upright_parts(tables->comb_rows, UPRIGHT_SPAN) * tables->combs * upright_parts(geometry->columns, UPRIGHT_COLUMNS) *
         upright_parts(geometry->views, tables->group);
}

static int64_t back_tasks(const rs_geometry *geometry) {
  return upright_parts(geometry->shape[RS_Z], UPRIGHT_SPAN) * upright_parts(geometry->shape[RS_Y], UPRIGHT_TILE) *
         upright_parts(geometry->shape[RS_X], UPRIGHT_TILE);
}

// Rows of a tile lie an odd number of vectors apart, so that its planes do not compete for the same cache lines.
#define UPRIGHT_TILE_ROW (UPRIGHT_TILE * UPRIGHT_SPAN + RS_LANES)
#define UPRIGHT_TILE_FLOATS (UPRIGHT_TILE * UPRIGHT_TILE_ROW)

// The same for packed data.
static int64_t odd_vectors(int64_t floats) { return (upright_parts(floats, RS_LANES) | 1) * RS_LANES; }

static int64_t virtual_views(const upright_tables *tables, const rs_geometry *geometry) {
  return (int64_t)geometry->views * tables->parts * tables->combs;
}

static int32_t prepare(rs_plan *plan) {
  const rs_geometry *geometry = &plan->geometry;
  upright_tables *tables = plan->tables = calloc(1, sizeof *tables);
  if (tables) tables->turned = malloc((size_t)geometry->views);
  if (!tables || !tables->turned) {
    if (tables) release(plan);
    return rs_fail(RS_EMEMORY, "no host memory for the tables of a plan");
  }
  for (int32_t i = 0; i < geometry->views; i++) {
    double low, high;
    upright_pitch_range(geometry, &geometry->view[i], &low, &high);
    tables->turned[i] = low + high < 0;
  }
  // Combs as wide as the vectors allow leave back projection the fewest rows a slice. Each has its own zeros, so short ones do not pay.
  double most = fmin(UPRIGHT_COMBS, geometry->rows / (2 * RS_LANES));
  tables->combs = upright_integer(UPRIGHT_PITCH / upright_largest_pitch(geometry), 1, (int32_t)fmax(1, most));
  tables->comb_rows = (int32_t)upright_parts(geometry->rows, tables->combs);
  tables->parts = geometry->supersampling * geometry->supersampling;
  tables->group = UPRIGHT_VIEWS / tables->parts > 1 ? UPRIGHT_VIEWS / tables->parts : 1;
  tables->column_floats = odd_vectors(geometry->shape[RS_Z] + UPRIGHT_ZEROS);
  tables->row_floats = odd_vectors((geometry->shape[RS_X] + 2) * tables->column_floats);
  tables->pixel_floats = odd_vectors(tables->comb_rows + UPRIGHT_ZEROS);
  tables->volume_floats = UPRIGHT_FRONT + (geometry->shape[RS_Y] + 2) * tables->row_floats;
  int64_t phase = upright_smaller(UPRIGHT_PHASE, virtual_views(tables, geometry));
  tables->packed_floats = UPRIGHT_FRONT + phase * geometry->columns * tables->pixel_floats;
  int64_t forward = tables->volume_floats + forward_tasks(tables, geometry) * (int64_t)(sizeof(double) / sizeof(float));
  int64_t back = tables->packed_floats + back_tasks(geometry) * UPRIGHT_TILE_FLOATS;
  plan->workspace_floats = forward > back ? forward : back;
  return RS_OK;
}

// What the tasks of one batch item share.
typedef struct {
  const rs_geometry *geometry;
  const upright_tables *tables;
  const rs_output *output;
  const float *input;
  float *packed;    // the volume (forward) or a phase of the projections (back), behind its first zeros
  double *squares;  // forward: of every task
  float *tiles;     // back: of every task
  int64_t from, to; // back: virtual views of the phase
} upright_item;

// ---- forward

static void pack_volume(void *context, int64_t task, int worker) {
  (void)worker;
  const upright_item *item = context;
  const upright_tables *tables = item->tables;
  const int32_t *n = item->geometry->shape;
  float *row = item->packed + task * tables->row_floats;
  int64_t y = task - 1, used = n[RS_X] * tables->column_floats;
  if (task == 0) memset(row - UPRIGHT_ZEROS, 0, UPRIGHT_ZEROS * sizeof *row);
  if (y < 0 || y >= n[RS_Y]) {
    memset(row, 0, (size_t)tables->row_floats * sizeof *row);
    return;
  }
  float *first = row + tables->column_floats, *end = first + used;
  memset(row, 0, (size_t)tables->column_floats * sizeof *row);
  upright_pack_row(item->input + y * n[RS_X], (int64_t)n[RS_Y] * n[RS_X], n[RS_Z], n[RS_X], first, tables->column_floats);
  memset(end, 0, (size_t)(row + tables->row_floats - end) * sizeof *row);
}

// Rays of a forward task: `rows` rows of a comb from j on, of `columns` columns.
typedef struct {
  const upright_item *item;
  int32_t comb, j, rows, column, columns;
} upright_bundle;

// The rays of one column, which may cross the volume on planes [first, last).
typedef struct {
  upright_line line;
  int32_t first, last;
} upright_way;

static upright_way way_of(const upright_bundle *bundle, const upright_detector *detector, int32_t column) {
  const rs_geometry *geometry = bundle->item->geometry;
  const rs_view *view = detector->view;
  upright_way way = {.line = upright_line_of(geometry, detector, column), .first = 0, .last = geometry->shape[view->main]};
  const upright_line *line = &way.line;
  upright_clip(line->cross, line->cross_step, -1, geometry->shape[view->cross], &way.first, &way.last);
  // Rises with the rows on all planes: the last row must be above the floor and the first one below the ceiling.
  if (fmin(line->pitch + line->pitch_step * way.first, line->pitch + line->pitch_step * way.last) >= 0) {
    int32_t end = bundle->j + bundle->rows;
    upright_clip(line->z + line->pitch * end, line->z_step + line->pitch_step * end, -1, INFINITY, &way.first, &way.last);
    upright_clip(line->z + line->pitch * bundle->j, line->z_step + line->pitch_step * bundle->j, -INFINITY, geometry->shape[RS_Z],
                 &way.first, &way.last);
  }
  return way;
}

// Adds the samples of the planes [plane, plane + UPRIGHT_RUN) to the sums of one column. Rising: the next column lies further across.
static void project_run(const upright_bundle *bundle, const rs_view *view, const upright_way *way, int32_t plane, int rising, float *sums) {
  const rs_geometry *geometry = bundle->item->geometry;
  const upright_tables *tables = bundle->item->tables;
  int first = way->first > plane ? way->first - plane : 0, last = way->last < plane + UPRIGHT_RUN ? way->last - plane : UPRIGHT_RUN;
  if (first >= last) return;
  upright_samples samples;
  int inside = upright_forward_places(&way->line, plane, bundle->j, geometry->shape[RS_Z], &samples) & upright_mask(bundle->rows);
  if (!inside) return;
  upright_cross(&way->line, plane, -1, geometry->shape[view->cross], &samples);
  int64_t plane_step = view->main == RS_Y ? tables->row_floats : tables->column_floats;
  int64_t cross_step = view->main == RS_Y ? tables->column_floats : tables->row_floats;
  const float *volume = bundle->item->packed + tables->row_floats + tables->column_floats + plane * plane_step;
  int low = __builtin_ctz((unsigned)inside), vectors = 32 - __builtin_clz((unsigned)inside) - low;
  double a = way->line.pitch + way->line.pitch_step * (plane + first), b = way->line.pitch + way->line.pitch_step * (plane + last - 1);
  int dense = fmax(fabs(a), fabs(b)) < UPRIGHT_DENSE;
  int64_t ahead = rising ? 2 * cross_step : -cross_step; // the voxel column that the next detector column is likely to need
  sums += low * RS_LANES;
#define UPRIGHT_CASE(vectors, dense) \
  case 2 * vectors + dense: upright_gather(vectors, dense, low, &samples, first, last, volume, plane_step, cross_step, ahead, sums); break;
  switch (2 * vectors + dense) {
    UPRIGHT_CASE(1, 0)
    UPRIGHT_CASE(1, 1)
    UPRIGHT_CASE(2, 0)
    UPRIGHT_CASE(2, 1)
    UPRIGHT_CASE(3, 0)
    UPRIGHT_CASE(3, 1)
    UPRIGHT_CASE(4, 0)
    UPRIGHT_CASE(4, 1)
  }
#undef UPRIGHT_CASE
}

// Hands the rows of one view to the output; sums[column][row].
static double unpack_rows(const upright_bundle *bundle, int32_t view, const float *sums) {
  const rs_geometry *geometry = bundle->item->geometry;
  upright_name name = {.view = view, .comb = bundle->comb};
  double squares = 0;
  for (int32_t j = 0; j < bundle->rows; j += RS_LANES) {
    float lines[RS_LANES][UPRIGHT_SIDE];
    upright_unpack(sums + j, UPRIGHT_SPAN, lines);
    for (int k = 0; k < RS_LANES; k++) {
      int64_t row = upright_row(geometry, bundle->item->tables, &name, bundle->j + j + k);
      if (row < 0) break;
      int64_t index = (row * geometry->views + view) * geometry->columns + bundle->column;
      squares += rs_output_row(bundle->item->output, (size_t)index, lines[k], bundle->columns);
    }
  }
  return squares;
}

static void project(void *context, int64_t task, int worker) {
  (void)worker;
  const upright_item *item = context;
  const upright_tables *tables = item->tables;
  const rs_geometry *geometry = item->geometry;
  int64_t chunks = upright_parts(geometry->columns, UPRIGHT_COLUMNS), groups = upright_parts(geometry->views, tables->group), rest = task;
  upright_bundle bundle = {.item = item};
  bundle.column = (int32_t)(rest % chunks * UPRIGHT_COLUMNS);
  bundle.columns = (int32_t)upright_smaller(UPRIGHT_COLUMNS, geometry->columns - bundle.column);
  rest /= chunks;
  int32_t view = (int32_t)(rest % groups * tables->group), views = (int32_t)upright_smaller(tables->group, geometry->views - view);
  rest /= groups;
  bundle.comb = (int32_t)(rest % tables->combs);
  bundle.j = (int32_t)(rest / tables->combs * UPRIGHT_SPAN);
  bundle.rows = (int32_t)upright_smaller(UPRIGHT_SPAN, tables->comb_rows - bundle.j);

  // Sums of the virtual view at work lie behind those of the whole views, if there are several.
  float sums[UPRIGHT_VIEWS][UPRIGHT_COLUMNS][UPRIGHT_SPAN], scale = 1.0f / (float)tables->parts;
  upright_way way[UPRIGHT_VIEWS][UPRIGHT_COLUMNS];
  int32_t columns = bundle.columns, work = tables->parts > 1 ? views : 0;
  int32_t planes = geometry->shape[RS_Y] > geometry->shape[RS_X] ? geometry->shape[RS_Y] : geometry->shape[RS_X];
  memset(sums, 0, (size_t)views * sizeof *sums);
  for (int32_t part = 0; part < tables->parts; part++) {
    for (int32_t v = 0; v < views; v++) {
      upright_detector detector = upright_detector_of(geometry, tables, &(upright_name){view + v, part, bundle.comb});
      for (int32_t i = 0; i < columns; i++) way[v][i] = way_of(&bundle, &detector, bundle.column + i);
    }
    if (work) memset(sums[work], 0, (size_t)views * sizeof *sums);
    for (int32_t plane = 0; plane < planes; plane += UPRIGHT_RUN)
      for (int32_t v = 0; v < views; v++) {
        const upright_line *near = &way[v][0].line, *far = &way[v][columns - 1].line;
        int rising = far->cross + far->cross_step * plane > near->cross + near->cross_step * plane;
        for (int32_t i = 0; i < columns; i++) project_run(&bundle, &geometry->view[view + v], &way[v][i], plane, rising, sums[work + v][i]);
      }
    for (int32_t v = 0; v < views; v++)
      for (int32_t i = 0; i < columns; i++)
        for (int32_t k = 0; k < UPRIGHT_SPAN; k += RS_LANES) {
          rs_vf length = upright_lengths(geometry, &geometry->view[view + v], &way[v][i].line, bundle.j + k, scale);
          rs_store(sums[work + v][i] + k, length * rs_load(sums[work + v][i] + k));
        }
    for (int32_t v = 0; v < work; v++)
      for (int32_t i = 0; i < columns; i++)
        for (int32_t k = 0; k < UPRIGHT_SPAN; k++) sums[v][i][k] += sums[work + v][i][k];
  }
  double squares = 0;
  for (int32_t v = 0; v < views; v++) squares += unpack_rows(&bundle, view + v, sums[v][0]);
  item->squares[task] = squares;
}

static int32_t forward(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *volume, int64_t batch,
                       double *norm) {
  const rs_geometry *geometry = &plan->geometry;
  const upright_tables *tables = plan->tables;
  int64_t tasks = forward_tasks(tables, geometry), size = (int64_t)geometry->rows * geometry->views * geometry->columns;
  rs_output target = *output;
  upright_item item = {.geometry = geometry, .tables = tables, .output = &target, .input = volume};
  item.packed = plan->workspace + UPRIGHT_FRONT;
  item.squares = (double *)(plan->workspace + tables->volume_floats);
  for (int64_t b = 0; b < batch; b++) {
    int32_t status = rs_parallel_for(operation, geometry->shape[RS_Y] + 2, pack_volume, &item);
    if (!status) status = rs_parallel_for(operation, tasks, project, &item);
    if (status) return status;
    if (norm) {
      norm[b] = 0;
      for (int64_t task = 0; task < tasks; task++) norm[b] += item.squares[task];
    }
    item.input += (int64_t)geometry->shape[RS_Z] * geometry->shape[RS_Y] * geometry->shape[RS_X];
    target.target += size;
    if (target.measured) target.measured += size;
  }
  return RS_OK;
}

// ---- back

static upright_name name_of(const upright_tables *tables, int64_t virtual_view) {
  int32_t sets = tables->parts * tables->combs, set = (int32_t)(virtual_view % sets);
  return (upright_name){(int32_t)(virtual_view / sets), set / tables->combs, set % tables->combs};
}

static void pack_projections(void *context, int64_t task, int worker) {
  (void)worker;
  const upright_item *item = context;
  upright_name name = name_of(item->tables, item->from + task);
  float *target = item->packed + task * item->geometry->columns * item->tables->pixel_floats;
  if (task == 0) memset(target - UPRIGHT_ZEROS, 0, UPRIGHT_ZEROS * sizeof *target);
  upright_pack_view(item->geometry, item->tables, &name, item->input, target);
}

// A tile of voxels; sums[y][x][z].
typedef struct {
  const upright_item *item;
  int32_t z, y, x, depth, height, width;
  float *sums;
} upright_tile;

// The columns of a virtual view whose rays may cross the tile, give or take one.
static void tile_columns(const upright_tile *tile, const upright_detector *detector, int32_t *from, int32_t *to) {
  const rs_geometry *geometry = tile->item->geometry;
  const rs_view *view = detector->view;
  const int m = view->main, c = view->cross;
  double low = INFINITY, high = -INFINITY, side = 0;
  for (int k = 0; k < 4; k++) {
    double y = tile->y + (k & 1 ? tile->height : -1), x = tile->x + (k & 2 ? tile->width : -1);
    double main = m == RS_Y ? y : x, cross = m == RS_Y ? x : y, depth, i;
    if (view->turn != 0) {
      i = upright_curved_column(geometry, view, main, cross, &depth);
    } else if (geometry->beam == RS_CONE) {
      // source + t (corner + i u - source) = (main, cross)
      double a = main - view->origin[m], b = cross - view->origin[c], e = view->corner[m] - view->origin[m],
             f = view->corner[c] - view->origin[c];
      depth = (a * view->u[c] - b * view->u[m]) / (e * view->u[c] - f * view->u[m]);
      i = (b * e - a * f) / (a * view->u[c] - b * view->u[m]);
    } else {
      double a = main - view->corner[m], b = cross - view->corner[c];
      depth = 1;
      i = (a * view->origin[c] - b * view->origin[m]) / (view->u[m] * view->origin[c] - view->u[c] * view->origin[m]);
    }
    low = fmin(low, i);
    high = fmax(high, i);
    if (k == 0) side = depth;
    if (!(depth * side > 0)) side = 0;
  }
  *from = 0;
  *to = geometry->columns;
  if (side == 0) return; // the source is inside, or its plane cuts the tile
  *from = upright_integer(floor((low - detector->column) / detector->column_step), 0, *to);
  *to = upright_integer(ceil((high - detector->column) / detector->column_step) + 1, 0, *to);
}

// Adds one detector column.
static void spread_line(const upright_tile *tile, const rs_view *view, const upright_planes *planes, const upright_line *line,
                        const float *rows) {
  const int y_main = view->main == RS_Y;
  int32_t plane = y_main ? tile->y : tile->x, height = y_main ? tile->height : tile->width;
  int32_t low = y_main ? tile->x : tile->y, high = low + (y_main ? tile->width : tile->height);
  int32_t first = plane, last = plane + height, comb_rows = tile->item->tables->comb_rows;
  upright_clip(line->cross, line->cross_step, low - 1, high, &first, &last);
  if (first >= last) return;
  upright_samples samples;
  int inside =
      upright_back_places(tile->item->geometry, view, line, planes, plane, tile->z, comb_rows, &samples) & upright_mask(tile->depth);
  upright_cross(line, plane, low - 1, high, &samples);
  int begin = inside ? __builtin_ctz((unsigned)inside) : 0, end = inside ? 32 - __builtin_clz((unsigned)inside) : 0;
  const int64_t plane_step = y_main ? UPRIGHT_TILE_ROW : UPRIGHT_SPAN, cross_step = y_main ? UPRIGHT_SPAN : UPRIGHT_TILE_ROW;
  for (int n = first - plane; n < last - plane; n++) {
    // A neighbour outside the tile has weight 0 here.
    int32_t a = samples.cell[n] - low, b = a + 1;
    if (a < 0) a = 0, samples.near[n] = 0;
    if (b >= high - low) b = high - low - 1, samples.far[n] = 0;
    float *near = tile->sums + n * plane_step + a * cross_step, *far = tile->sums + n * plane_step + b * cross_step;
    switch (upright_taps(samples.pitch[n])) {
    case 2: upright_spread(2, n, begin, end, &samples, rows, near, far); break;
    case 3: upright_spread(3, n, begin, end, &samples, rows, near, far); break;
    case 4: upright_spread(4, n, begin, end, &samples, rows, near, far); break;
    default: upright_spread_rows(line, plane + n, tile->z, comb_rows, rows, samples.near[n], samples.far[n], near, far);
    }
  }
}

static void unpack_tile(const upright_tile *tile) {
  const int32_t *n = tile->item->geometry->shape;
  for (int32_t y = 0; y < tile->height; y++)
    for (int32_t z = 0; z < tile->depth; z += RS_LANES) {
      float lines[RS_LANES][UPRIGHT_SIDE];
      upright_unpack(tile->sums + y * UPRIGHT_TILE_ROW + z, UPRIGHT_SPAN, lines);
      for (int k = 0; k < RS_LANES && z + k < tile->depth; k++) {
        int64_t index = ((int64_t)(tile->z + z + k) * n[RS_Y] + tile->y + y) * n[RS_X] + tile->x;
        rs_output_row(tile->item->output, (size_t)index, lines[k], tile->width);
      }
    }
}

static void back_project(void *context, int64_t task, int worker) {
  (void)worker;
  const upright_item *item = context;
  const upright_tables *tables = item->tables;
  const rs_geometry *geometry = item->geometry;
  const int32_t *shape = geometry->shape;
  int64_t across = upright_parts(shape[RS_X], UPRIGHT_TILE), along = upright_parts(shape[RS_Y], UPRIGHT_TILE);
  float sums[UPRIGHT_TILE_FLOATS] = {0};
  upright_tile tile = {.item = item, .sums = sums};
  tile.x = (int32_t)(task % across * UPRIGHT_TILE);
  tile.y = (int32_t)(task / across % along * UPRIGHT_TILE);
  tile.z = (int32_t)(task / across / along * UPRIGHT_SPAN);
  tile.depth = (int32_t)upright_smaller(UPRIGHT_SPAN, shape[RS_Z] - tile.z);
  tile.width = (int32_t)upright_smaller(UPRIGHT_TILE, shape[RS_X] - tile.x);
  tile.height = (int32_t)upright_smaller(UPRIGHT_TILE, shape[RS_Y] - tile.y);
  for (int64_t w = item->from; w < item->to; w++) {
    upright_name name = name_of(tables, w);
    upright_detector detector = upright_detector_of(geometry, tables, &name);
    const float *packed = item->packed + (w - item->from) * geometry->columns * tables->pixel_floats;
    upright_planes planes = upright_planes_of(geometry, detector.view, detector.view->main == RS_Y ? tile.y : tile.x);
    int32_t from, to;
    tile_columns(&tile, &detector, &from, &to);
    for (int32_t i = from; i < to; i++) {
      upright_line line = upright_line_of(geometry, &detector, i);
      spread_line(&tile, detector.view, &planes, &line, packed + i * tables->pixel_floats);
    }
  }
  float *kept = item->tiles + task * UPRIGHT_TILE_FLOATS;
  if (item->from > 0)
    for (int k = 0; k < UPRIGHT_TILE_FLOATS; k++) sums[k] += kept[k];
  if (item->to < virtual_views(tables, geometry))
    memcpy(kept, sums, sizeof sums);
  else
    unpack_tile(&tile);
}

static int32_t back(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *projections, int64_t batch) {
  const rs_geometry *geometry = &plan->geometry;
  const upright_tables *tables = plan->tables;
  rs_output target = *output;
  upright_item item = {.geometry = geometry, .tables = tables, .output = &target, .input = projections};
  item.packed = plan->workspace + UPRIGHT_FRONT;
  item.tiles = plan->workspace + tables->packed_floats;
  int64_t all = virtual_views(tables, geometry);
  for (int64_t b = 0; b < batch; b++) {
    for (item.from = 0; item.from < all; item.from = item.to) {
      item.to = upright_smaller(item.from + UPRIGHT_PHASE, all);
      int32_t status = rs_parallel_for(operation, item.to - item.from, pack_projections, &item);
      if (!status) status = rs_parallel_for(operation, back_tasks(geometry), back_project, &item);
      if (status) return status;
    }
    item.input += (int64_t)geometry->rows * geometry->views * geometry->columns;
    target.target += (int64_t)geometry->shape[RS_Z] * geometry->shape[RS_Y] * geometry->shape[RS_X];
  }
  return RS_OK;
}

const rs_family RS_NAME(rs_upright) = {
    .name = "upright", .accepts = upright_accepts, .prepare = prepare, .release = release, .forward = forward, .back = back};
