// astra.c: the family `rs_astra`: what ASTRA's CUDA projectors compute, on the CPU, for parallel and cone beams with any vectors.
//
// Forward: Joseph's method with one main axis a view, interpolated by the texture law of astra_texture.h. Lanes are neighbouring
// columns of the detector.
// Back: not the transpose. Every voxel's centre is projected onto the detector, and the projection interpolated there by the same
// law is added with the weight of the ray's density. Lanes are neighbours along x.
// Law RS_ASTRA_2D is that of the 2D projectors: in the plane of one slice; a fan's rays each have their own main axis, and its back
// projection falls off with the distance instead of its square.
//
// The workspace holds the volume (z, y, x) or the projections (view, row, column) with a border of zeros.
#include "astra_lanes.h"
#include "astra_views.h"
#include "output_row.h"
#include "plan.h"
#include "status.h"

#include <float.h>
#include <stdlib.h>

#define TILE 64           // columns in a task of forward, voxels along x in a task of back
#define GROUP 32          // most detector rows in a task of forward
#define SIDE 8            // most voxels along y and z in a task of back
#define SAMPLES 2097152.0 // in a task, roughly: some milliseconds

typedef struct {
  astra_view *view;
  int flat;              // law RS_ASTRA_2D
  int32_t group;         // detector rows in a task of forward
  int64_t groups, tiles; // of a view
  int32_t height, depth; // voxels along y and z in a task of back
  int64_t packed_floats; // of the workspace; then the sums of squares of forward's tasks
} astra_tables;

static int64_t parts(int64_t count, int64_t size) { return (count + size - 1) / size; }
static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static int accepts(const rs_geometry *geometry) {
  (void)geometry;
  return 1;
}

// ---- tables

static void release(rs_plan *plan) {
  astra_tables *tables = plan->tables;
  free(tables->view);
  free(tables);
  plan->tables = NULL;
}

static int32_t prepare(rs_plan *plan) {
  const rs_geometry *geometry = &plan->geometry;
  const int32_t *shape = geometry->shape;
  if (astra_check(geometry)) return RS_EARGUMENT;
  const int64_t image = astra_image_floats(geometry), volume = astra_volume_floats(geometry);
  astra_tables *tables = calloc(1, sizeof *tables);
  astra_view *view = malloc((size_t)geometry->views * sizeof *view);
  if (!tables || !view) {
    free(tables);
    free(view);
    return rs_fail(RS_EMEMORY, "no host memory for the tables of %d views", geometry->views);
  }
  plan->tables = tables;
  tables->view = view;
  tables->flat = geometry->law == RS_ASTRA_2D;
  for (int32_t i = 0; i < geometry->views; i++) astra_make_view(geometry, &geometry->view[i], &view[i]);
  int32_t longest = shape[RS_X] > shape[RS_Y] ? shape[RS_X] : shape[RS_Y];
  if (longest < shape[RS_Z]) longest = shape[RS_Z];
  double s = geometry->supersampling, n = geometry->voxel_supersampling;
  double rows = SAMPLES / (TILE * s * s * longest), side = SAMPLES / (TILE * n * n * n * geometry->views);
  tables->group = (int32_t)fmax(1, fmin(GROUP, rows));
  tables->groups = parts(geometry->rows, tables->group);
  tables->tiles = parts(geometry->columns, TILE);
  tables->height = (int32_t)fmax(1, fmin(SIDE, sqrt(side)));
  tables->depth = (int32_t)fmax(1, fmin(fmin(SIDE, shape[RS_Z]), side / tables->height));
  int64_t floats = geometry->views * image > volume ? geometry->views * image : volume;
  tables->packed_floats = parts(floats, 16) * 16;
  plan->workspace_floats = tables->packed_floats + 2 * geometry->views * tables->groups * tables->tiles;
  return RS_OK;
}

// What the tasks of a parallel loop share.
typedef struct {
  const rs_plan *plan;
  const astra_tables *tables;
  rs_output output;   // of one batch item
  const float *input; // of one batch item
  float *packed;
  double *squares; // of forward's tasks, or NULL
} astra_work;

// A row of an image with its border, or the border itself where source is NULL.
static void pack_row(float *to, const float *source, int32_t count) {
  to[0] = to[count + 1] = to[count + 2] = 0;
  if (source)
    memcpy(to + 1, source, (size_t)count * sizeof *to);
  else
    memset(to + 1, 0, (size_t)count * sizeof *to);
}

// ---- forward

static void pack_slice(void *context, int64_t z, int worker) {
  (void)worker;
  const astra_work *work = context;
  const int32_t *shape = work->plan->geometry.shape;
  int64_t pitch = shape[RS_X] + RS_TEXTURE_BORDER, rows = shape[RS_Y] + RS_TEXTURE_BORDER;
  for (int64_t y = 0; y < rows; y++) {
    int inside = z >= 1 && z <= shape[RS_Z] && y >= 1 && y <= shape[RS_Y];
    const float *source = inside ? work->input + ((z - 1) * shape[RS_Y] + y - 1) * shape[RS_X] : NULL;
    pack_row(work->packed + (z * rows + y) * pitch, source, shape[RS_X]);
  }
}

static void forward_task(void *context, int64_t task, int worker) {
  (void)worker;
  const astra_work *work = context;
  const astra_tables *tables = work->tables;
  const rs_geometry *geometry = &work->plan->geometry;
  int64_t tile = task % tables->tiles, group = task / tables->tiles % tables->groups, index = task / tables->tiles / tables->groups;
  const rs_view *view = &geometry->view[index];
  int32_t column = (int32_t)tile * TILE, row = (int32_t)group * tables->group;
  int columns = (int)smaller(TILE, geometry->columns - column), rows = (int)smaller(tables->group, geometry->rows - row);
  float sum[GROUP][TILE];
  memset(sum, 0, sizeof sum);
  for (int c = 0; c < columns; c += ASTRA_LANES) {
    int count = (int)smaller(ASTRA_LANES, columns - c);
    for (int r = 0; r < rows; r++)
      if (tables->flat && geometry->beam == RS_CONE) {
        astra_project(geometry, view, RS_Y, work->packed, row + r, column + c, count, sum[r] + c);
        astra_project(geometry, view, RS_X, work->packed, row + r, column + c, count, sum[r] + c);
      } else {
        astra_project(geometry, view, astra_main_axis(geometry, view), work->packed, row + r, column + c, count, sum[r] + c);
      }
  }
  double squares = 0;
  for (int r = 0; r < rows; r++)
    squares += rs_output_row(&work->output, (size_t)(((int64_t)(row + r) * geometry->views + index) * geometry->columns + column), sum[r],
                             columns);
  if (work->squares) work->squares[task] = squares;
}

static int64_t voxel_count(const rs_geometry *geometry) { return (int64_t)geometry->shape[0] * geometry->shape[1] * geometry->shape[2]; }
static int64_t pixel_count(const rs_geometry *geometry) { return (int64_t)geometry->rows * geometry->views * geometry->columns; }

static int32_t forward(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *volume, int64_t batch,
                       double *norm) {
  const astra_tables *tables = plan->tables;
  const rs_geometry *geometry = &plan->geometry;
  int64_t voxels = voxel_count(geometry), pixels = pixel_count(geometry), tasks = geometry->views * tables->groups * tables->tiles;
  double *squares = (double *)(plan->workspace + tables->packed_floats);
  for (int64_t item = 0; item < batch; item++) {
    astra_work work = {plan, tables, *output, volume + item * voxels, plan->workspace, norm ? squares : NULL};
    work.output.target += item * pixels;
    if (output->mode == RS_RESIDUAL) work.output.measured += item * pixels;
    if (rs_parallel_for(operation, geometry->shape[RS_Z] + RS_TEXTURE_BORDER, pack_slice, &work)) return RS_CANCELLED;
    if (rs_parallel_for(operation, tasks, forward_task, &work)) return RS_CANCELLED;
    if (!norm) continue;
    norm[item] = 0;
    for (int64_t i = 0; i < tasks; i++) norm[item] += squares[i];
  }
  return RS_OK;
}

// ---- back

static void pack_view(void *context, int64_t view, int worker) {
  (void)worker;
  const astra_work *work = context;
  const rs_geometry *geometry = &work->plan->geometry;
  int64_t pitch = geometry->columns + RS_TEXTURE_BORDER, rows = geometry->rows + RS_TEXTURE_BORDER;
  for (int64_t row = 0; row < rows; row++) {
    int inside = row >= 1 && row <= geometry->rows;
    const float *source = inside ? work->input + ((row - 1) * geometry->views + view) * geometry->columns : NULL;
    pack_row(work->packed + (view * rows + row) * pitch, source, geometry->columns);
  }
}

// sum[k] += 256 times what a parallel view adds to voxels of row y, counted from the volume's middle: those at x + k in the slice that
// lies `steps` above z.
ASTRA_INLINE void collect_parallel(const float *image, int32_t pitch, const double *last, const astra_view *view, float z, int steps,
                                   float y, float x, float *sum) {
  const double offset = RS_TEXTURE_OFFSET - 0.5 * RS_TEXTURE_SCALE;
  for (int k = 0; k < ASTRA_LANES; k++) {
    float column = astra_place32(view->column32, z, y, x + (float)k), row = astra_place32(view->row32, z, y, x + (float)k);
    for (int step = 0; step < steps; step++) column += view->column32[0], row += view->row32[0];
    const int32_t p = rs_texture_place(RS_TEXTURE_SCALE * column + offset, last[0]),
                  q = rs_texture_place(RS_TEXTURE_SCALE * row + offset, last[1]);
    sum[k] += (float)view->weight * rs_texture_sample(image, p, q, 1, pitch, RS_TEXTURE_XZ);
  }
}

// sum[k] += 256 times what view adds to the voxels at (z, y, x + k). `power`: of the depth by which the weight is divided.
ASTRA_INLINE void collect(const float *image, int32_t pitch, const double *last, const astra_view *view, double z, double y, double x,
                          int cone, int power, float *sum) {
  const double *c = view->column, *r = view->row, *d = view->depth;
  const double column = c[0] * z + c[1] * y + c[3], row = r[0] * z + r[1] * y + r[3], depth = d[0] * z + d[1] * y + d[3];
  const float weight = (float)view->weight;
  double p[ASTRA_LANES], q[ASTRA_LANES];
  float share[ASTRA_LANES];
  for (int k = 0; k < ASTRA_LANES; k++) {
    p[k] = column + c[2] * (x + k);
    q[k] = row + r[2] * (x + k);
    share[k] = weight;
    if (!cone) continue;
    const double near = 1 / (depth + d[2] * (x + k));
    p[k] = p[k] * near + RS_TEXTURE_OFFSET;
    q[k] = q[k] * near + RS_TEXTURE_OFFSET;
    const float all = weight * (float)(power == 2 ? near * near : fabs(near));
    share[k] = all < FLT_MAX ? all : 0; // in the plane of the source there is no place either
  }
  for (int k = 0; k < ASTRA_LANES; k++)
    sum[k] +=
        share[k] * rs_texture_sample(image, rs_texture_place(p[k], last[0]), rs_texture_place(q[k], last[1]), 1, pitch, RS_TEXTURE_XZ);
}

// Where the rays through neighbours along x meet a curved detector: columns, scaled for rs_texture_place, and how many times as far from
// the source as the voxels that is; not a number where a ray misses the cylinder.
typedef struct {
  double column[ASTRA_LANES], way[ASTRA_LANES];
} astra_shadows;

// rs_bend_angle in vectors: a detector is less than half a circle, so an angle of a quarter turn or more is outside and may be any such.
static void cast_shadows(const astra_view *view, int32_t columns, double z, double y, double x, astra_shadows *shadows) {
  // atan(t) / t as a polynomial in the square of t = -1 ... 1, through its values at Chebyshev's nodes: right to 1e-15.
  static const double arc[] = {-4.572466752859746e-05, 0.0004611471226395625, -0.0021983905110338,   0.006642618398837011,
                               -0.014458808736889693,  0.02458916421806469,   -0.034874503444929254, 0.04377190010711523,
                               -0.051278290246137094,  0.05845587712383866,   -0.06659119943643073,  0.07691170067941966,
                               -0.09090787968013053,   0.11111102499422242,   -0.14285713910426773,  0.19999999991319195,
                               -0.33333333333253284,   0.9999999999999988};
  const double *c = view->column, *d = view->depth, *s = view->source;
  const double scale = 2 * RS_TEXTURE_SCALE / view->turn, middle = RS_TEXTURE_SCALE * 0.5 * (columns - 1) + RS_TEXTURE_OFFSET;
  const double start = c[0] * z + c[1] * y + c[3], depth = d[0] * z + d[1] * y + d[3], outside = s[0] * s[0] + s[1] * s[1] - 1;
  for (int k = 0; k < ASTRA_LANES; k++) {
    const double p0 = start + c[2] * (x + k), p1 = depth + d[2] * (x + k), square = p0 * p0 + p1 * p1, along = s[0] * p0 + s[1] * p1;
    const double root = sqrt(along * along - square * outside), way = (p1 < 0 ? root : -root) - along;
    // `square` times: the way, the sine, and 1 plus the cosine, whose ratio is the tangent of half the angle.
    const double sine = s[0] * square + way * p0, cosine = square - (s[1] * square + way * p1), inverse = 1 / (square * cosine);
    const double half = sine * square * inverse, half_square = half * half, in_front = fabs(half) < 1;
    double series = arc[0];
#pragma GCC unroll 17
    for (int n = 1; n < 18; n++) series = series * half_square + arc[n];
    shadows->column[k] = (middle + scale * (half * series)) * in_front;
    shadows->way[k] = way * cosine * inverse;
  }
}

// collect for a curved detector: the ray through a voxel's centre is followed to where it leaves the cylinder, and the weight is the
// square of how much further that is. A voxel whose ray misses the cylinder gets nothing; ASTRA then forgets to go on to the next one of
// its column, which gets the value of another place.
static void collect_curved(const float *image, int32_t pitch, const double *last, const astra_view *view, const astra_shadows *shadows,
                           double z, double y, double x, float *sum) {
  const double *r = view->row, start = r[0] * z + r[1] * y + r[3], source = view->source[2] + RS_TEXTURE_OFFSET;
  for (int k = 0; k < ASTRA_LANES; k++) {
    const double way = shadows->way[k], row = source + way * (start + r[2] * (x + k));
    const float all = (float)(view->weight * way * way), share = all < FLT_MAX ? all : 0;
    sum[k] += share * rs_texture_sample(image, rs_texture_place(shadows->column[k], last[0]), rs_texture_place(row, last[1]), 1, pitch,
                                        RS_TEXTURE_XZ);
  }
}

static void back_task(void *context, int64_t task, int worker) {
  (void)worker;
  const astra_work *work = context;
  const astra_tables *tables = work->tables;
  const rs_geometry *geometry = &work->plan->geometry;
  const int32_t *shape = geometry->shape;
  const int n = geometry->voxel_supersampling, n_z = tables->flat ? 1 : n;
  int64_t across = parts(shape[RS_X], TILE), along = parts(shape[RS_Y], tables->height);
  int32_t x0 = (int32_t)(task % across) * TILE, y0 = (int32_t)(task / across % along) * tables->height,
          z0 = (int32_t)(task / across / along) * tables->depth;
  int columns = (int)smaller(TILE, shape[RS_X] - x0), rows = (int)smaller(tables->height, shape[RS_Y] - y0),
      slices = (int)smaller(tables->depth, shape[RS_Z] - z0);
  int32_t pitch = geometry->columns + RS_TEXTURE_BORDER;
  const double last[2] = {rs_texture_last(geometry->columns), rs_texture_last(geometry->rows)};
  const double middle[3] = {0.5 * (shape[0] - 1), 0.5 * (shape[1] - 1), 0.5 * (shape[2] - 1)};
  float sum[SIDE][SIDE][TILE];
  memset(sum, 0, sizeof sum);
  for (int32_t view = 0; view < geometry->views; view++) {
    const float *image = work->packed + (int64_t)view * (geometry->rows + RS_TEXTURE_BORDER) * pitch;
    const astra_view *at = &tables->view[view];
    const int upright = at->column[RS_Z] == 0 && at->depth[RS_Z] == 0; // a detector's rows along z: all slices share their columns
    for (int y = 0; y < rows; y++)
      for (int x = 0; x < columns; x += ASTRA_LANES)
        for (int sub = 0; sub < n * n; sub++) {
          const double py = y0 + y + (sub / n + 0.5) / n - 0.5, px = x0 + x + (sub % n + 0.5) / n - 0.5;
          astra_shadows shadows;
          for (int z = 0; z < slices * n_z; z++) {
            const double pz = z0 + (z + 0.5) / n_z - 0.5;
            float *to = sum[z / n_z][y] + x;
            if (at->turn != 0 && (z == 0 || !upright)) cast_shadows(at, geometry->columns, pz, py, px, &shadows);
            if (geometry->beam == RS_PARALLEL && tables->flat)
              collect(image, pitch, last, at, pz, py, px, 0, 0, to);
            else if (geometry->beam == RS_PARALLEL) {
              const int steps = n == 1 ? (z0 + z) % ASTRA_STEPS : 0;
              collect_parallel(image, pitch, last, at, (float)(pz - steps - middle[RS_Z]), steps, (float)(py - middle[RS_Y]),
                               (float)(px - middle[RS_X]), to);
            } else if (at->turn != 0)
              collect_curved(image, pitch, last, at, &shadows, pz, py, px, to);
            else if (tables->flat)
              collect(image, pitch, last, at, pz, py, px, 1, 1, to);
            else
              collect(image, pitch, last, at, pz, py, px, 1, 2, to);
          }
        }
  }
  const float share = (float)(1 / (RS_TEXTURE_SCALE * n_z * n * n));
  for (int z = 0; z < slices; z++)
    for (int y = 0; y < rows; y++) {
      for (int x = 0; x < columns; x++) sum[z][y][x] *= share;
      rs_output_row(&work->output, (size_t)(((int64_t)(z0 + z) * shape[RS_Y] + y0 + y) * shape[RS_X] + x0), sum[z][y], columns);
    }
}

static int32_t back(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *projections, int64_t batch) {
  const astra_tables *tables = plan->tables;
  const rs_geometry *geometry = &plan->geometry;
  int64_t tasks =
      parts(geometry->shape[RS_X], TILE) * parts(geometry->shape[RS_Y], tables->height) * parts(geometry->shape[RS_Z], tables->depth);
  for (int64_t item = 0; item < batch; item++) {
    astra_work work = {plan, tables, *output, projections + item * pixel_count(geometry), plan->workspace, NULL};
    work.output.target += item * voxel_count(geometry);
    if (rs_parallel_for(operation, geometry->views, pack_view, &work)) return RS_CANCELLED;
    if (rs_parallel_for(operation, tasks, back_task, &work)) return RS_CANCELLED;
  }
  return RS_OK;
}

const rs_family RS_NAME(rs_astra) = {
    .name = "astra", .accepts = accepts, .prepare = prepare, .release = release, .forward = forward, .back = back};
