// upright.cu: detector columns along z, in law exact: all rows of a column share their path in the plane.
//
// Forward: a warp owns a detector column and its lanes rows: where the ray is in the plane, and the weights of the two neighbours there,
// are the same for all of them. The volume is copied with z innermost and zeros around it, so that lanes read neighbours along z.
//
// Back: a warp owns CELLS neighbouring voxels along the cross axis, lanes are slices. The rays between two of these voxels add to both,
// so what a ray holds at the height of a slice (TAPS rows, with the weights of forward) is found once and used twice. Where rays are
// does not depend on the slice either: each block prepares a list of rays for every plane and view in shared memory. Projections are
// copied with rows innermost, times the length of ray between two planes, with zeros before and behind.
#include "rays.h"

#include <stdlib.h>

namespace {

constexpr int THREADS = 256, WARPS = THREADS / 32;
constexpr int GROUP = 16;             // neighbouring views whose blocks of rays run side by side
constexpr int BORDER = 2;             // voxels of zeros around the copy of the volume
constexpr double STEEP = 4;           // most cells a plane
constexpr int CELLS = 8;              // voxels of a thread along the cross axis
constexpr int LAYERS = 2;             // and along z, 32 slices apart
constexpr int DEPTH = 32 * LAYERS;    // slices of a block
constexpr int RAYS = 1024;            // rays that a block prepares at once
constexpr int FEWEST = 16, MOST = 32; // rays that a row of cells may see
constexpr int64_t PACKED = 1 << 26;   // floats of projections that are copied at once, or one view

struct upright_tables {
  ray_view *view; // on the device, those of main axis y before those of x
  int64_t pointer;
  int32_t *order; // their numbers, on the device
  int64_t order_pointer;
  int32_t along_y;     // views of main axis y
  int32_t taps, slots; // rows that a slice may see; rays that a row of cells may see
  int32_t guard, line; // back: zeros before and behind a column, floats of a column
  int64_t line_z;      // forward: floats of a column of voxels
  int64_t volume_floats;
  int32_t chunk;  // views whose projections are copied at once
  int32_t layers; // forward: rows of a lane
  int64_t column_tiles, row_tiles, blocks;
};

// What the kernels know.
struct problem {
  const ray_view *view;
  const int32_t *order;
  int32_t views, rows, columns;
  int32_t shape[3];
  int32_t guard, line, slots;
  int64_t line_z, column_tiles, row_tiles;
};

// ---- forward

// [z][y][x] to [y][x][z] with a border of zeros.
__global__ void __launch_bounds__(THREADS) pack_volume(problem p, const float *volume, float *packed) {
  __shared__ float tile[32][33];
  const int64_t width = p.shape[RS_X] + 2 * BORDER, across = (width + 31) / 32, along = p.line_z / 32, y = blockIdx.x / (across * along);
  const int32_t x = (int32_t)(blockIdx.x % across) * 32 - BORDER, z = (int32_t)(blockIdx.x / across % along) * 32 - BORDER;
  const int32_t i = threadIdx.x % 32, line = (int32_t)y - BORDER;
  for (int32_t j = threadIdx.x / 32; j < 32; j += WARPS) {
    const bool inside = line >= 0 && line < p.shape[RS_Y] && x + i >= 0 && x + i < p.shape[RS_X] && z + j >= 0 && z + j < p.shape[RS_Z];
    tile[j][i] = inside ? volume[((int64_t)(z + j) * p.shape[RS_Y] + line) * p.shape[RS_X] + x + i] : 0;
  }
  __syncthreads();
  for (int32_t j = threadIdx.x / 32; j < 32; j += WARPS)
    if (x + j + BORDER < width) packed[(y * width + x + j + BORDER) * p.line_z + z + i + BORDER] = tile[i][j];
}

// Adds the samples of a run of planes. `at` is where cell 0 of the run's middle cell lies on the first plane.
template <int LAYERS_, bool INSIDE>
__device__ inline void gather(const float *at, int64_t plane, int32_t cross, const track &a, const track *b, int32_t depth, float way,
                              int count, float *total) {
  float sum[LAYERS_] = {0};
#pragma unroll 2
  for (; count > 0; count--, way++, at += plane) {
    float far;
    const float *near_line = at + (int64_t)find(a, way, far) * cross, *far_line = near_line + cross;
    const float near = 1 - far;
#pragma unroll
    for (int k = 0; k < LAYERS_; k++) {
      float z = fmaf(way, b[k].slope, b[k].offset);
      if (!INSIDE) z = fminf(fmaxf(z, (float)(-BORDER - b[k].cell)), (float)(depth - b[k].cell));
      const float room = z + RAY_ROOM, above = z - (room - RAY_ROOM) + 0.5f;
      const int32_t cell = __float_as_int(room) - RAY_ROOM_BITS + b[k].cell;
      const float low = near * near_line[cell] + far * far_line[cell], high = near * near_line[cell + 1] + far * far_line[cell + 1];
      sum[k] += fmaf(above, high - low, low);
    }
  }
#pragma unroll
  for (int k = 0; k < LAYERS_; k++) total[k] += sum[k];
}

template <int LAYERS_>
__global__ void __launch_bounds__(THREADS) forward(problem p, rs_output output, const float *packed, double *squares) {
  __shared__ float found[WARPS][32 * LAYERS_ + 1];
  const int32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int64_t block = blockIdx.x;
  const int32_t number = (int32_t)(block / (GROUP * p.column_tiles * p.row_tiles)) * GROUP + (int32_t)(block % GROUP);
  block = block / GROUP % (p.column_tiles * p.row_tiles);
  const int32_t first_column = (int32_t)(block % p.column_tiles) * WARPS, first_row = (int32_t)(block / p.column_tiles) * 32 * LAYERS_;
  float square = 0;
  if (number < p.views) {
    const ray_view &view = p.view[number];
    const int32_t column = min(first_column + warp, p.columns - 1);
    const int32_t cross_axis = view.main == RS_X ? RS_Y : RS_X, planes = p.shape[view.main], across = p.shape[cross_axis];
    const int64_t wide = (p.shape[RS_X] + 2 * BORDER) * p.line_z, plane_step = view.main == RS_X ? p.line_z : wide;
    const int32_t cross_step = (int32_t)(view.main == RS_X ? wide : p.line_z);
    const ray r = aim(view, first_row + lane, column);
    const double inverse = 1 / r.way[0], slope = r.way[1] * inverse, position = r.point[1] - r.point[0] * slope;
    // Height on plane 0 and its slope, and what 32 rows add.
    const double rise = r.way[2] * inverse, height = r.point[2] - r.point[0] * rise;
    const double more_rise = view.cone ? 32 * view.v[2] * inverse : 0, more_height = view.cone ? -r.point[0] * more_rise : 32 * view.v[2];
    double first = 0, last = planes - 1;
    clip(position, slope, -1, across, first, last);
    int32_t plane = (int32_t)ceil(fmin(first, (double)planes));
    const int32_t end = (int32_t)floor(fmax(last, -1.0)) + 1;
    float sum[LAYERS_] = {0};
    for (; plane < end; plane += RAY_RUN) {
      const int32_t middle = plane + RAY_RUN / 2, count = min(end - plane, RAY_RUN);
      track b[LAYERS_];
      bool inside = true, outside = true;
      for (int k = 0; k < LAYERS_; k++) {
        const double z = height + k * more_height, dz = rise + k * more_rise, from = z + plane * dz, to = from + (count - 1) * dz;
        b[k] = follow(z + middle * dz, dz);
        inside = inside && fmin(from, to) > -1.5 && fmax(from, to) < p.shape[RS_Z] + 0.5;
        outside = outside && (fmax(from, to) < -1 || fmin(from, to) > p.shape[RS_Z]);
      }
      if (__all_sync(0xffffffffu, outside)) continue;
      const track a = follow(position + middle * slope, slope);
      const float *at = packed + (plane + BORDER) * plane_step + (int64_t)(a.cell + BORDER) * cross_step + BORDER;
      if (__all_sync(0xffffffffu, inside))
        gather<LAYERS_, true>(at, plane_step, cross_step, a, b, p.shape[RS_Z], (float)(plane - middle), count, sum);
      else
        gather<LAYERS_, false>(at, plane_step, cross_step, a, b, p.shape[RS_Z], (float)(plane - middle), count, sum);
    }
    const double flat = view.voxel[0] * view.voxel[0] + slope * slope * view.voxel[1] * view.voxel[1];
    for (int k = 0; k < LAYERS_; k++) {
      const double up = (rise + k * more_rise) * view.voxel[2];
      found[warp][32 * k + lane] = sum[k] * sqrtf((float)(flat + up * up));
    }
    __syncthreads();
    const int32_t place = p.order[number];
    for (int32_t i = threadIdx.x; i < 32 * LAYERS_ * WARPS; i += THREADS) {
      const int32_t y = first_row + i / WARPS, x = first_column + i % WARPS;
      if (y < p.rows && x < p.columns)
        square += rs_finish(output, 0, ((size_t)y * p.views + place) * p.columns + x, found[i % WARPS][i / WARPS]);
    }
  }
  if (squares) {
    const double total = rs_block_sum(square);
    if (threadIdx.x == 0) squares[blockIdx.x] = total;
  }
}

// ---- back

// [row][view][column] to [view][column][row], times the length of ray between two planes, for views first ... of the tables.
__global__ void __launch_bounds__(THREADS) pack_projections(problem p, int32_t first, const float *projections, float *packed) {
  __shared__ float tile[32][33];
  const int64_t across = (p.columns + 31) / 32, along = (p.line + 31) / 32;
  const int32_t number = (int32_t)(blockIdx.x / (across * along));
  const int32_t x = (int32_t)(blockIdx.x % across) * 32, y = (int32_t)(blockIdx.x / across % along) * 32 - p.guard;
  const int32_t i = threadIdx.x % 32, place = p.order[first + number];
  const ray_view &view = p.view[first + number];
  const ray r = aim(view, y, x + i);
  const float inverse = (float)(1 / r.way[0]), across_ = (float)(r.way[1] * view.voxel[1]) * inverse;
  const float up = (float)(r.way[2] * view.voxel[2]) * inverse, step = view.cone ? (float)(view.v[2] * view.voxel[2]) * inverse : 0;
  const float flat = (float)(view.voxel[0] * view.voxel[0]) + across_ * across_;
  for (int32_t j = threadIdx.x / 32; j < 32; j += WARPS) {
    const bool inside = y + j >= 0 && y + j < p.rows && x + i < p.columns;
    const float rise = up + (float)j * step;
    tile[j][i] = inside ? projections[((int64_t)(y + j) * p.views + place) * p.columns + x + i] * sqrtf(flat + rise * rise) : 0;
  }
  __syncthreads();
  for (int32_t j = threadIdx.x / 32; j < 32; j += WARPS)
    if (x + j < p.columns && y + i + p.guard < p.line)
      packed[((int64_t)number * p.columns + x + j) * p.line + y + i + p.guard] = tile[i][j];
}

// The rays of a view that pass a row of cells on a plane: ray n is at (across + n across_step) / (depth + n depth_step) cells.
struct list {
  float across, across_step, depth, depth_step;
  float rows, pitch;   // rows a slice, times depth; slices a row, times 1 / depth
  float row, row_step; // where slice 0 of the block's middle is seen, from `base`
  int32_t base, column, turn, count;
};

// One of them: the row seen from slice k of the middle is row + rows k behind `at`.
struct member {
  float across, pitch, row, rows;
};

// The list for the cells low - 1 ... high, where `low` is the first voxel and `high` the one behind the last.
__device__ void prepare_list(const problem &p, const ray_view &view, int32_t plane, int32_t low, int32_t high, double middle, list &out) {
  ray r = aim(view, 0, 0);
  const double far = plane - r.point[0], *u = view.u, *w = r.way;
  double column[2];
  for (int k = 0; k < 2; k++) {
    const double side = (k ? high : low - 1) - r.point[1];
    // source + (w + c u) t = (plane, side), or (w t + c u) for parallel rays.
    column[k] =
        view.cone ? (side * w[0] - far * w[1]) / (far * u[1] - side * u[0]) : (side * w[0] - far * w[1]) / (w[0] * u[1] - w[1] * u[0]);
  }
  const bool rising = column[0] < column[1];
  const double least = fmin(column[0], column[1]), most = fmax(column[0], column[1]);
  const int32_t first = (int32_t)ceil(fmin(fmax(least, 0.0), (double)p.columns));
  const int32_t last = (int32_t)floor(fmin(fmax(most, -1.0), p.columns - 1.0));
  out.count = plane < p.shape[view.main] ? min(max(last - first + 1, 0), p.slots) : 0;
  if (out.count == 0) return;
  out.column = rising ? first : last;
  out.turn = rising ? 1 : -1;
  r = aim(view, 0, out.column);
  const double way = plane - r.point[0], side = r.point[1] - (low - 1), rise = r.point[2] - middle;
  const double q = view.cone ? 1 / (way * view.v[2]) : 1 / (w[0] * view.v[2]);
  const double row = -(rise * r.way[0] + way * r.way[2]) * q;
  const double whole = fmin(fmax(rint(row), -1e6), 1e6);
  out.base = (int32_t)whole;
  out.row = (float)(row - whole);
  if (view.cone) {
    out.row_step = (float)(out.turn * -(rise * u[0] + way * u[2]) * q);
    out.across = (float)(side * r.way[0] + way * r.way[1]), out.across_step = (float)(out.turn * (side * u[0] + way * u[1]));
    out.depth = (float)r.way[0], out.depth_step = (float)(out.turn * u[0]);
    out.rows = (float)q, out.pitch = (float)fabs(way * view.v[2]);
  } else {
    out.row_step = (float)(out.turn * -(u[2] * w[0] - u[0] * w[2]) * q);
    out.across = (float)(side * w[0] + way * w[1]), out.across_step = (float)(out.turn * (u[1] * w[0] - u[0] * w[1]));
    out.depth = (float)w[0], out.depth_step = 0;
    out.rows = (float)q, out.pitch = (float)fabs(w[0] * view.v[2]);
  }
}

__device__ inline member prepare_member(const problem &p, const list &l, int32_t n, int32_t &offset) {
  const float k = (float)n, depth = l.depth + k * l.depth_step, inverse = 1 / depth;
  member out;
  out.across = (l.across + k * l.across_step) * inverse;
  out.pitch = l.pitch * fabsf(inverse);
  out.rows = l.rows * depth;
  const float row = l.row + k * l.row_step, whole = rintf(row);
  out.row = row - whole;
  int32_t base = l.base + (int32_t)whole;
  if (base < -p.guard / 2 || base > p.rows + p.guard / 2) base = -4, out.row = out.rows = 0; // sees none: reads zeros
  offset = (l.column + n * l.turn) * p.line + base + p.guard;
  return out;
}

// What a ray holds at a slice.
template <int TAPS> __device__ inline float sample(const float *rows, const member &ray, float slice) {
  const float at = fmaf(slice, ray.rows, ray.row), shifted = TAPS % 2 ? at : at - 0.5f;
  const float room = shifted + RAY_ROOM, whole = room - RAY_ROOM, part = (at - whole) * ray.pitch;
  const float *from = rows + (__float_as_int(room) - RAY_ROOM_BITS);
  float value = 0;
#pragma unroll
  for (int tap = -(TAPS - 1) / 2; tap <= TAPS / 2; tap++)
    value = fmaf(__saturatef(1 - fabsf(part - (float)tap * ray.pitch)), from[tap], value);
  return value;
}

// A block owns WARPS planes, CELLS voxels across and DEPTH slices; views first ... of the tables, all of one main axis.
template <int TAPS>
__global__ void __launch_bounds__(THREADS) back(problem p, rs_output output, int32_t first, int32_t count, const float *packed) {
  __shared__ list lists[RAYS / FEWEST];
  __shared__ float store[5 * RAYS];
  member *members = (member *)store;
  int32_t *offsets = (int32_t *)(store + 4 * RAYS);
  const int32_t main = p.view[first].main, cross = main == RS_X ? RS_Y : RS_X;
  const int64_t across = (p.shape[cross] + CELLS - 1) / CELLS, along = (p.shape[main] + WARPS - 1) / WARPS;
  const int32_t low = (int32_t)(blockIdx.x % across) * CELLS, high = min(low + CELLS, p.shape[cross]);
  const int32_t plane = (int32_t)(blockIdx.x / across % along) * WARPS, slice = (int32_t)(blockIdx.x / across / along) * DEPTH;
  const int32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int32_t stage = RAYS / (WARPS * p.slots); // views that are prepared at once
  float total[LAYERS][CELLS] = {{0}};
  for (int32_t begin = 0; begin < count; begin += stage) {
    const int32_t views = min(stage, count - begin);
    __syncthreads();
    if ((int32_t)threadIdx.x < views * WARPS)
      prepare_list(p, p.view[first + begin + threadIdx.x / WARPS], plane + threadIdx.x % WARPS, low, high, slice + DEPTH / 2 - 0.5,
                   lists[threadIdx.x]);
    __syncthreads();
    for (int32_t i = threadIdx.x; i < views * WARPS * p.slots; i += THREADS) {
      const list &l = lists[i / p.slots];
      if (i % p.slots < l.count) members[i] = prepare_member(p, l, i % p.slots, offsets[i]);
    }
    __syncthreads();
    for (int32_t view = 0; view < views; view++) {
      const int32_t rays = lists[view * WARPS + warp].count, start = (view * WARPS + warp) * p.slots;
      const float *projection = packed + (int64_t)(begin + view) * p.columns * p.line;
      if (rays == 0) continue;
      int32_t n = 0;
      member ray = members[start];
#pragma unroll
      for (int cell = 0; cell <= CELLS; cell++) {
        while (n < rays && ray.across < (float)(cell + 1)) {
          const float far = ray.across - (float)cell;
          const float *rows = projection + offsets[start + n];
#pragma unroll
          for (int k = 0; k < LAYERS; k++) {
            const float value = sample<TAPS>(rows, ray, (float)(lane + 32 * k) - (DEPTH / 2 - 0.5f));
            if (cell > 0) total[k][cell - 1] += (1 - far) * value;
            if (cell < CELLS) total[k][cell] += far * value;
          }
          n++;
          if (n < rays) ray = members[start + n];
        }
      }
    }
  }
  // Through shared memory, so that neighbours along x are written together.
  static_assert(WARPS * CELLS * (DEPTH + 1) <= 5 * RAYS && WARPS == 8 && CELLS == 8, "a block's voxels fit");
  __syncthreads();
#pragma unroll
  for (int k = 0; k < LAYERS; k++)
#pragma unroll
    for (int cell = 0; cell < CELLS; cell++) store[(cell * WARPS + warp) * (DEPTH + 1) + 32 * k + lane] = total[k][cell];
  __syncthreads();
  for (int32_t i = threadIdx.x; i < WARPS * CELLS * DEPTH; i += THREADS) {
    const int32_t x = i % 8, y = i / 8 % 8, z = i / 64;
    const int32_t at_x = (main == RS_X ? plane : low) + x, at_y = (main == RS_X ? low : plane) + y;
    const float value = store[(main == RS_X ? y * WARPS + x : x * WARPS + y) * (DEPTH + 1) + z];
    if (at_x < p.shape[RS_X] && at_y < p.shape[RS_Y] && slice + z < p.shape[RS_Z])
      rs_finish(output, 0, ((size_t)(slice + z) * p.shape[RS_Y] + at_y) * p.shape[RS_X] + at_x, value);
  }
}

// ---- the family

// What the volume asks of back and forward; all 0 where a view is not for this family.
struct reach {
  double least, most; // slices from row to row
  int32_t slots;      // columns that a row of cells sees
};

bool reach_of(const rs_geometry *geometry, const rs_view *view, reach &out) {
  if (view->main == RS_Z || view->turn != 0 || hypot(view->v[RS_Y], view->v[RS_X]) > 1e-12 * fabs(view->v[RS_Z])) return false;
  const ray_view rays = rays_of(geometry, view);
  const double edge[2] = {0, geometry->columns - 1.0}, top = geometry->rows - 1.0, up = fabs(rays.v[2]);
  double depth[2], across = INFINITY, steepest = 0; // columns apart, in cells, at the detector (cone) or everywhere
  for (int k = 0; k < 2; k++) {
    const double c = rays.cone ? edge[k] : 0;
    depth[k] = rays.way[0] + c * rays.u[0];
    const double slope = (rays.way[1] + c * rays.u[1]) / depth[k], rise = rays.way[2] + c * rays.u[2];
    const double rises = fmax(fabs(rise), rays.cone ? fabs(rise + top * rays.v[2]) : 0) / fabs(depth[k]);
    across = fmin(across, fabs(rays.u[1] - slope * rays.u[0]));
    steepest = fmax(steepest, fmax(fabs(slope), rises));
  }
  if (!(depth[0] * depth[1] > 0) || !(steepest <= STEEP)) return false;
  // The share of the way from the source to the detector is affine in the plane, so its extremes are at the volume's corners.
  double least = 1, most = 1;
  if (rays.cone) {
    const double area = rays.way[0] * rays.u[1] - rays.way[1] * rays.u[0];
    least = INFINITY, most = -INFINITY;
    for (int k = 0; k < 4; k++) {
      const double main = (k & 1 ? geometry->shape[view->main] - 1 : 0) - rays.point[0];
      const double cross = (k & 2 ? geometry->shape[view->cross] : -1) - rays.point[1];
      const double share = (main * rays.u[1] - cross * rays.u[0]) / area;
      least = fmin(least, share), most = fmax(most, share);
    }
  }
  out.least = least * up, out.most = most * up;
  const double columns = (CELLS + 1) / (least * across) + 2;
  if (!(out.least >= 0.5001 && columns <= MOST)) return false; // at most 4 taps
  out.slots = columns <= FEWEST ? FEWEST : MOST;
  return true;
}

bool reach_of_all(const rs_geometry *geometry, reach &out) {
  out = {INFINITY, 0, FEWEST};
  for (int32_t i = 0; i < geometry->views; i++) {
    reach one;
    if (!reach_of(geometry, &geometry->view[i], one)) return false;
    out.least = fmin(out.least, one.least), out.most = fmax(out.most, one.most);
    if (out.slots < one.slots) out.slots = one.slots;
  }
  return true;
}

void lay_out(const rs_geometry *geometry, const reach &r, upright_tables *tables) {
  tables->taps = r.least > 1.0001 ? 2 : r.least > 0.6668 ? 3 : 4;
  tables->slots = r.slots;
  tables->guard = 2 * ((int32_t)ceil(DEPTH / 2 / r.least) + 4);
  tables->line = geometry->rows + 2 * tables->guard;
  tables->line_z = parts(geometry->shape[RS_Z] + 2 * BORDER, 32) * 32;
}

int accepts(const rs_geometry *geometry) {
  reach r;
  // Lanes are rows and slices: with few of them most would idle.
  if (geometry->supersampling > 1 || geometry->rows < 16 || geometry->shape[RS_Z] < 16 || !reach_of_all(geometry, r)) return 0;
  upright_tables tables;
  lay_out(geometry, r, &tables);
  return (int64_t)geometry->columns * tables.line < INT32_MAX && (geometry->shape[RS_X] + 2 * BORDER) * tables.line_z < INT32_MAX;
}

void release(rs_plan *plan) {
  upright_tables *tables = (upright_tables *)plan->tables;
  rs_cuda_table_free(tables->pointer);
  rs_cuda_table_free(tables->order_pointer);
  free(tables);
}

int32_t prepare(rs_plan *plan) {
  const rs_geometry *geometry = &plan->geometry;
  const int64_t views = geometry->views;
  upright_tables *tables = (upright_tables *)calloc(1, sizeof *tables);
  ray_view *rays = (ray_view *)malloc((size_t)views * sizeof *rays);
  int32_t *order = (int32_t *)malloc((size_t)views * sizeof *order), count = 0;
  int32_t status = tables && rays && order ? RS_OK : rs_fail(RS_EMEMORY, "no host memory for the tables of %d views", geometry->views);
  for (int main = RS_Y; !status && main <= RS_X; main++)
    for (int32_t i = 0; i < views; i++) {
      if (geometry->view[i].main != main) continue;
      order[count] = i;
      rays[count] = rays_of(geometry, &geometry->view[i]);
      rays[count].v[0] = rays[count].v[1] = 0; // nearly so before: lanes must agree on the way in the plane
      count++;
      if (main == RS_Y) tables->along_y = count;
    }
  if (!status) status = rs_cuda_table(plan->device, rays, views * (int64_t)sizeof *rays, (void **)&tables->view, &tables->pointer);
  if (!status) status = rs_cuda_table(plan->device, order, views * (int64_t)sizeof *order, (void **)&tables->order, &tables->order_pointer);
  free(rays);
  free(order);
  if (status) {
    if (tables) rs_cuda_table_free(tables->pointer);
    free(tables);
    return status;
  }
  reach r;
  reach_of_all(geometry, r);
  lay_out(geometry, r, tables);
  const int32_t *n = geometry->shape, rows = geometry->rows;
  tables->layers = rows > 64 ? 4 : rows > 32 ? 2 : 1;
  tables->column_tiles = parts(geometry->columns, WARPS);
  tables->row_tiles = parts(rows, 32 * tables->layers);
  tables->blocks = parts(views, GROUP) * GROUP * tables->column_tiles * tables->row_tiles;
  tables->volume_floats = (n[RS_Y] + 2 * BORDER) * (n[RS_X] + 2 * BORDER) * tables->line_z;
  const int64_t view_floats = (int64_t)geometry->columns * tables->line, most = PACKED / view_floats;
  tables->chunk = (int32_t)(most < 1 ? 1 : most < views ? most : views);
  const int64_t forward = tables->volume_floats + 2 * tables->blocks, back = tables->chunk * view_floats;
  plan->workspace_floats = forward > back ? forward : back;
  plan->tables = tables;
  return RS_OK;
}

problem problem_of(const rs_plan *plan) {
  const upright_tables *tables = (const upright_tables *)plan->tables;
  const rs_geometry *g = &plan->geometry;
  return {tables->view,  tables->order, g->views,      g->rows,        g->columns,           {g->shape[0], g->shape[1], g->shape[2]},
          tables->guard, tables->line,  tables->slots, tables->line_z, tables->column_tiles, tables->row_tiles};
}

int32_t project_forward(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *volume, int64_t batch,
                        double *norm) {
  const upright_tables *tables = (const upright_tables *)plan->tables;
  const int32_t *n = plan->geometry.shape;
  const int64_t pixels = (int64_t)plan->geometry.rows * plan->geometry.views * plan->geometry.columns;
  const cudaStream_t stream = rs_cuda_stream(operation);
  const problem p = problem_of(plan);
  const dim3 grid((unsigned)tables->blocks);
  const dim3 packs((unsigned)((n[RS_Y] + 2 * BORDER) * parts(n[RS_X] + 2 * BORDER, 32) * (tables->line_z / 32)));
  const float *packed = plan->workspace;
  double *squares = norm ? (double *)(plan->workspace + tables->volume_floats) : nullptr;
  rs_output target = *output;
  int32_t status = RS_OK;
  for (int64_t item = 0; item < batch && !status; item++, volume += (int64_t)n[0] * n[1] * n[2], advance(&target, pixels)) {
    status = RS_LAUNCH(pack_volume, packs, THREADS, 0, stream, p, volume, plan->workspace);
    if (status) break;
    switch (tables->layers) {
    case 1: status = RS_LAUNCH(forward<1>, grid, THREADS, 0, stream, p, target, packed, squares); break;
    case 2: status = RS_LAUNCH(forward<2>, grid, THREADS, 0, stream, p, target, packed, squares); break;
    default: status = RS_LAUNCH(forward<4>, grid, THREADS, 0, stream, p, target, packed, squares);
    }
    if (!status && norm) status = rs_sum_blocks(operation, squares, tables->blocks, 1, norm + item);
  }
  return status;
}

int32_t launch_back(const rs_plan *plan, cudaStream_t stream, const rs_output &output, int32_t first, int32_t count) {
  const upright_tables *tables = (const upright_tables *)plan->tables;
  const int32_t *n = plan->geometry.shape;
  const bool along_y = first < tables->along_y;
  const problem p = problem_of(plan);
  const float *packed = plan->workspace;
  const dim3 grid((unsigned)(parts(n[along_y ? RS_X : RS_Y], CELLS) * parts(n[along_y ? RS_Y : RS_X], WARPS) * parts(n[RS_Z], DEPTH)));
  switch (tables->taps) {
  case 2: return RS_LAUNCH(back<2>, grid, THREADS, 0, stream, p, output, first, count, packed);
  case 3: return RS_LAUNCH(back<3>, grid, THREADS, 0, stream, p, output, first, count, packed);
  default: return RS_LAUNCH(back<4>, grid, THREADS, 0, stream, p, output, first, count, packed);
  }
}

int32_t project_back(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *projections, int64_t batch) {
  const upright_tables *tables = (const upright_tables *)plan->tables;
  const rs_geometry *geometry = &plan->geometry;
  const int32_t *n = geometry->shape;
  const int64_t pixels = (int64_t)geometry->rows * geometry->views * geometry->columns;
  const int64_t tiles = parts(geometry->columns, 32) * parts(tables->line, 32);
  const cudaStream_t stream = rs_cuda_stream(operation);
  const problem p = problem_of(plan);
  rs_output item = *output;
  int32_t status = RS_OK;
  for (int64_t i = 0; i < batch && !status; i++, projections += pixels, advance(&item, (int64_t)n[0] * n[1] * n[2]))
    for (int32_t first = 0, end; first < geometry->views && !status; first = end) {
      end = first < tables->along_y ? tables->along_y : geometry->views;
      if (end - first > tables->chunk) end = first + tables->chunk;
      // The chunks add to each other in the target; an update is clamped once all are in.
      rs_output target = item;
      if (first > 0 && target.mode == RS_STORE) target.mode = RS_ADD;
      if (end < geometry->views) target.minimum = -INFINITY, target.maximum = INFINITY;
      const dim3 packs((unsigned)((end - first) * tiles));
      status = RS_LAUNCH(pack_projections, packs, THREADS, 0, stream, p, first, projections, plan->workspace);
      if (!status) status = launch_back(plan, stream, target, first, end - first);
    }
  return status;
}

} // namespace

extern "C" const rs_family rs_upright_cuda = {"upright", accepts, prepare, release, project_forward, project_back};
