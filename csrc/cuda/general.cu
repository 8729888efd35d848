// general.cu: any geometry in law exact.
//
// Forward: a thread marches one ray at a time over the planes of its view's main axis. A position is whole cells and a float32 offset
// that is set anew, from float64, every RAY_RUN planes. Main axis x reads a copy of the volume with y innermost, so that neighbouring
// columns of the detector read neighbouring voxels in every view.
//
// Back: a thread owns voxels and asks which rays of a view pass within one voxel of them on their plane of the main axis: those in the
// box around the projected footprint. Their weights are those of forward, from offsets that count from a detector pixel near the tile
// of voxels, for which the float64 work is done once a tile and view. No sums are shared, so results are the same in every run.
#include "rays.h"

#include <stdlib.h>

namespace {

constexpr int THREADS = 256;
constexpr double STEEP = 4; // cells a plane: steeper rays are set anew on every plane
constexpr double FAR = 6e7; // voxels, or voxels a plane: a ray which is further away or flatter than this is left out
constexpr int GROUP = 16;   // neighbouring views whose blocks of rays run side by side, so that they share the cached volume
constexpr int WIDTH = 32, HEIGHT = THREADS / WIDTH; // a tile of voxels along x and y
constexpr int VIEWS = 32;                           // views that back prepares at once

// How a view's planes lie in memory; neighbours along the cross axis are next to each other.
struct layout {
  int copied; // in the copy with y innermost
  int count[3];
  int64_t plane, third;
};

struct general_tables {
  ray_view *view; // on the device
  int64_t pointer;
  int copies;  // some view reads the copy of the volume
  int columns; // of the detector, in a block of forward, whose other threads are rows
  int64_t column_tiles, row_tiles, blocks;
  layout layouts[3];
};

// What the kernels know.
struct problem {
  const ray_view *view;
  int32_t views, rows, columns, supersampling, tile_columns;
  int32_t shape[3];
  int64_t column_tiles, row_tiles;
  layout layouts[3];
};

// ---- forward

// The sum of the samples on the planes plane ... end - 1. CHECKED: some may lie outside; else all four neighbours are voxels.
template <bool CHECKED, typename Stride>
__device__ float gather(const float *volume, const layout &l, const double *position, const double *slope, bool steep, int plane, int end) {
  const Stride third = (Stride)l.third;
  float total = 0;
  while (plane < end) {
    const int middle = steep ? plane : plane + RAY_RUN / 2, last = min(end, steep ? plane + 1 : plane + RAY_RUN);
    const track a = follow(position[0] + middle * slope[0], slope[0]), b = follow(position[1] + middle * slope[1], slope[1]);
    const float *at = volume + (plane * l.plane + b.cell * l.third + a.cell);
    float way = (float)(plane - middle), sum = 0;
#pragma unroll 4
    for (int n = last - plane; n > 0; n--, way++, at += l.plane) {
      float far_a, far_b, near, far;
      const int i = find(a, way, far_a), j = find(b, way, far_b);
      const float *from = at + ((int64_t)j * third + i);
      if (CHECKED) {
        const int p = a.cell + i, q = b.cell + j;
        const bool p0 = p >= 0 && p < l.count[1], p1 = p >= -1 && p < l.count[1] - 1;
        const bool q0 = q >= 0 && q < l.count[2], q1 = q >= -1 && q < l.count[2] - 1;
        const float v00 = p0 && q0 ? from[0] : 0, v01 = p1 && q0 ? from[1] : 0;
        const float v10 = p0 && q1 ? from[third] : 0, v11 = p1 && q1 ? from[third + 1] : 0;
        near = fmaf(far_a, v01 - v00, v00), far = fmaf(far_a, v11 - v10, v10);
      } else {
        const float v00 = from[0], v01 = from[1], v10 = from[third], v11 = from[third + 1];
        near = fmaf(far_a, v01 - v00, v00), far = fmaf(far_a, v11 - v10, v10);
      }
      sum += fmaf(far_b, far - near, near);
    }
    total += sum;
    plane = last;
  }
  return total;
}

__device__ int least_of_warp(int value) {
  for (int half = 16; half > 0; half /= 2) value = min(value, __shfl_xor_sync(0xffffffffu, value, half));
  return value;
}

__device__ int most_of_warp(int value) { return -least_of_warp(-value); }

// One ray through the volume, or none. The rays of a warp are on the same plane at the same time, so that they read neighbours.
template <typename Stride>
__device__ float project(const float *volume, const layout &l, const ray_view &view, bool wanted, double row, double column) {
  const ray r = aim(view, row, column);
  double slope[2] = {r.way[1] / r.way[0], r.way[2] / r.way[0]};
  double position[2] = {r.point[1] - r.point[0] * slope[0], r.point[2] - r.point[0] * slope[1]};
  wanted = wanted && fabs(position[0]) + fabs(position[1]) + fabs(slope[0]) + fabs(slope[1]) < FAR;
  double first = 0, last = wanted ? l.count[0] - 1 : -1, from = 0, to = last;
  for (int k = 0; k < 2; k++) {
    const double slack = 1e-4 * (1 + fabs(slope[k])); // voxels, far above the rounding errors of a run
    clip(position[k], slope[k], -1, l.count[1 + k], first, last);
    clip(position[k], slope[k], slack, l.count[1 + k] - 1 - slack, from, to);
  }
  int begin = (int)ceil(first), end = (int)floor(last) + 1, inner = (int)ceil(fmin(from, (double)end));
  int outer = (int)floor(fmax(to, -1.0)) + 1;
  wanted = first <= last && begin < end;
  if (!wanted) { // follows the others inside the volume
    for (int k = 0; k < 2; k++) position[k] = 0.5 * (l.count[1 + k] - 1), slope[k] = 0;
    begin = inner = 0x7fffffff, end = outer = -1;
  }
  const int none = 0x7fffffff;
  begin = least_of_warp(begin), end = most_of_warp(end);
  inner = min(most_of_warp(wanted ? inner : -1), end), outer = min(least_of_warp(wanted ? outer : none), end);
  if (inner >= outer) inner = outer = end;
  const bool steep = __any_sync(0xffffffffu, fmax(fabs(slope[0]), fabs(slope[1])) > STEEP);
  float sum = gather<true, Stride>(volume, l, position, slope, steep, begin, inner);
  sum += gather<false, Stride>(volume, l, position, slope, steep, inner, outer);
  sum += gather<true, Stride>(volume, l, position, slope, steep, outer, end);
  double world = 0;
  for (int k = 0; k < 3; k++) {
    double side = k ? slope[k - 1] * view.voxel[k] : view.voxel[0];
    world += side * side;
  }
  return wanted ? sum * sqrtf((float)world) : 0;
}

template <typename Stride>
__global__ void __launch_bounds__(THREADS, 4)
    forward(problem p, rs_output output, const float *volume, const float *copy, double *squares) {
  int64_t block = blockIdx.x;
  const int32_t group = (int32_t)(block / (GROUP * p.column_tiles * p.row_tiles));
  const int32_t view = group * GROUP + (int32_t)(block % GROUP);
  block = block / GROUP % (p.column_tiles * p.row_tiles);
  const int32_t column = (int32_t)(block % p.column_tiles) * p.tile_columns + (int32_t)threadIdx.x % p.tile_columns;
  const int32_t row = (int32_t)(block / p.column_tiles) * (THREADS / p.tile_columns) + (int32_t)threadIdx.x / p.tile_columns;
  float square = 0;
  if (view < p.views) {
    const bool wanted = row < p.rows && column < p.columns;
    const ray_view &rays = p.view[view];
    const layout &l = p.layouts[rays.main];
    const int s = p.supersampling;
    float sum = 0;
    for (int i = 0; i < s * s; i++)
      sum += project<Stride>(l.copied ? copy : volume, l, rays, wanted, (double)row * s + i / s, (double)column * s + i % s);
    if (wanted) square = rs_finish(output, 0, ((size_t)row * p.views + view) * p.columns + column, sum / (float)(s * s));
  }
  if (squares) {
    const double total = rs_block_sum(square);
    if (threadIdx.x == 0) squares[blockIdx.x] = total;
  }
}

// [z][y][x] to [z][x][y]
__global__ void __launch_bounds__(THREADS) turn(const float *volume, float *copy, int32_t height, int32_t width) {
  __shared__ float tile[32][33];
  const int64_t across = (width + 31) / 32, along = (height + 31) / 32, z = blockIdx.x / (across * along);
  const int32_t x = (int32_t)(blockIdx.x % across) * 32, y = (int32_t)(blockIdx.x / across % along) * 32;
  const int i = threadIdx.x % 32;
  volume += z * height * width;
  copy += z * height * width;
  for (int j = threadIdx.x / 32; j < 32; j += THREADS / 32)
    if (x + i < width && y + j < height) tile[j][i] = volume[(int64_t)(y + j) * width + x + i];
  __syncthreads();
  for (int j = threadIdx.x / 32; j < 32; j += THREADS / 32)
    if (x + j < width && y + i < height) copy[(int64_t)(x + j) * height + y + i] = tile[i][j];
}

// ---- back

// A view as a tile of voxels sees it. Rows and columns count from a pixel near the tile's reference voxel, voxels (main, cross, third)
// from that voxel. Ray (r, c) is [(a + i way_a - j way_m) + r (...) + c (...)] / (way_m + r v_m + c u_m) voxels from voxel (i, j, k)
// along the cross axis, likewise along the third. Voxel (i, j, k) is seen at c = (c + i ... ) / (d + i ...) and at r likewise.
// A curved detector is described by its tangents in that pixel, and columns by where they are along u and the way to the axis.
struct sight {
  float way[3], v[3], u[3], axis[3];
  float a, a_row, a_column, a_axis, b, b_row, b_column, b_axis;
  float column[4], row[4], depth[4];
  float turn, across[4], above[4], source[2], middle; // curved: a voxel as rs_bend_angle wants it; the middle column
  int32_t first_row, first_column, main;
};

__device__ double triple(const double *a, const double *b, const double *c) {
  return a[0] * (b[1] * c[2] - b[2] * c[1]) + a[1] * (b[2] * c[0] - b[0] * c[2]) + a[2] * (b[0] * c[1] - b[1] * c[0]);
}

// The numerators and the denominator of where the point at `from` from the ray's own is seen.
__device__ void see(const ray_view &view, const double *u, const ray &r, const double *from, double &column, double &row, double &depth) {
  column = triple(from, view.v, r.way);
  row = -triple(from, u, r.way);
  depth = triple(view.cone ? from : r.way, u, view.v);
}

__device__ int32_t near_pixel(double at, double count) { return (int32_t)rint(fmin(fmax(at, 0.0), count - 1)); }

// How far apart two lines are along axis k, as a numerator: one with direction w, which moves the point or the direction (cone).
__device__ double moved(const ray_view &view, const double *from, const double *way, const double *move, int k) {
  return view.cone ? from[0] * move[k] - from[k] * move[0] : move[k] * way[0] - move[0] * way[k];
}

__device__ void look(const problem &p, const ray_view &view, const int32_t *voxel, sight &out) {
  const int main = view.main, cross = main == RS_X ? RS_Y : RS_X, third = RS_Z + RS_Y + RS_X - main - cross;
  const double at[3] = {(double)voxel[main], (double)voxel[cross], (double)voxel[third]};
  double from[3], column, row, depth, u[3], axis[3];
  ray r = aim(view, 0, 0);
  for (int k = 0; k < 3; k++) from[k] = at[k] - r.point[k];
  see(view, view.u, r, from, column, row, depth);
  out.first_row = near_pixel(row / depth, (double)p.rows * p.supersampling);
  out.first_column = near_pixel(view.turn == 0 ? column / depth : view.middle, (double)p.columns * p.supersampling);
  out.main = main;
  r = aim(view, out.first_row, out.first_column);
  const double turn = view.turn * (out.first_column - view.middle), sine = sin(turn), cosine = cos(turn);
  for (int k = 0; k < 3; k++) {
    from[k] = at[k] - r.point[k];
    u[k] = view.turn == 0 ? view.u[k] : cosine * view.u[k] + view.turn * sine * view.axis[k];
    axis[k] = view.turn == 0 ? 0 : cosine * view.axis[k] - sine / view.turn * view.u[k];
  }
  see(view, u, r, from, column, row, depth);
  out.column[3] = (float)column, out.row[3] = (float)row, out.depth[3] = (float)depth;
  // Ways are in units of the ray's own along the main axis, where it has one: then what a voxel adds along its axis is exact.
  const double scale = 1 / fmax(fabs(r.way[0]), 1e-3 * (fabs(r.way[1]) + fabs(r.way[2])));
  const double volume = triple(view.u, view.axis, view.v), per = view.turn == 0 ? 0 : 1 / volume;
  for (int k = 0; k < 3; k++) {
    const double step[3] = {k == 0 ? 1.0 : 0.0, k == 1 ? 1.0 : 0.0, k == 2 ? 1.0 : 0.0};
    see(view, u, r, step, column, row, depth);
    out.column[k] = (float)column, out.row[k] = (float)row, out.depth[k] = view.cone ? (float)depth : 0;
    out.way[k] = (float)(r.way[k] * scale);
    out.v[k] = view.cone ? (float)(view.v[k] * scale) : 0;
    out.u[k] = view.cone ? (float)(u[k] * scale) : 0;
    out.axis[k] = (float)(axis[k] * scale);
    out.across[k] = (float)(triple(step, view.axis, view.v) * per * view.turn);
    out.above[k] = (float)(triple(view.u, step, view.v) * per);
  }
  out.a = (float)((from[0] * r.way[1] - from[1] * r.way[0]) * scale), out.b = (float)((from[0] * r.way[2] - from[2] * r.way[0]) * scale);
  out.a_row = (float)(moved(view, from, r.way, view.v, 1) * scale), out.b_row = (float)(moved(view, from, r.way, view.v, 2) * scale);
  out.a_column = (float)(moved(view, from, r.way, u, 1) * scale), out.b_column = (float)(moved(view, from, r.way, u, 2) * scale);
  out.a_axis = (float)(moved(view, from, r.way, axis, 1) * scale), out.b_axis = (float)(moved(view, from, r.way, axis, 2) * scale);
  // The source, from the axis: less the way from it to the detector's middle and from there.
  double middle[3];
  for (int k = 0; k < 3; k++) middle[k] = -view.way[k] - view.middle * view.u[k] - view.axis[k];
  out.turn = (float)view.turn;
  out.across[3] = (float)(triple(from, view.axis, view.v) * per * view.turn), out.above[3] = (float)(triple(view.u, from, view.v) * per);
  out.source[0] = (float)(triple(middle, view.axis, view.v) * per * view.turn),
  out.source[1] = (float)(triple(view.u, middle, view.v) * per);
  out.middle = (float)view.middle;
}

// Narrows low ... high, pixels counted from `first`, to those within `reach` of `centre`.
__device__ inline void bound(float centre, float reach, int32_t &low, int32_t &high) {
  low = max(__float2int_ru(centre - reach), low);
  high = min(__float2int_rd(centre + reach), high);
}

// The same for the columns of a curved detector in which the corners of a voxel's footprint are seen, give or take one.
__device__ void bound_curved(const sight &s, float i, float j, float k, int32_t &low, int32_t &high) {
  float least = INFINITY, most = -INFINITY;
  int below = 0, whole = 1;
  for (int corner = 0; corner < 4; corner++) {
    const float y = j + (corner & 1 ? 1 : -1), z = k + (corner & 2 ? 1 : -1);
    const float across = s.across[3] + i * s.across[0] + y * s.across[1] + z * s.across[2];
    const float above = s.above[3] + i * s.above[0] + y * s.above[1] + z * s.above[2];
    // rs_bend_angle
    const float square = across * across + above * above, middle = s.source[0] * across + s.source[1] * above;
    const float root = sqrtf(middle * middle - square * (s.source[0] * s.source[0] + s.source[1] * s.source[1] - 1));
    const float way = (-middle + (above < 0 ? root : -root)) / square;
    const float angle = atan2f(s.source[0] + way * across, -(s.source[1] + way * above));
    whole &= fabsf(angle) < 4; // no NaN
    below += above < 0;
    least = fminf(least, angle), most = fmaxf(most, angle);
  }
  if (!whole || below % 4 != 0) return; // the line misses the cylinder, or the footprint reaches beside the source
  const float centre = s.middle - (float)s.first_column;
  low = max(__float2int_rd(fmaxf(least / s.turn + centre, -1e9f)), low);
  high = min(__float2int_ru(fminf(most / s.turn + centre, 1e9f)), high);
}

// Narrows low ... high to the rows where start + row step is above 0, give or take one.
__device__ inline void above_zero(float start, float step, int32_t &low, int32_t &high) {
  const float edge = fminf(fmaxf(-start / step, -1e9f), 1e9f); // NaN: at the end that leaves all
  if (step > 0) low = max(__float2int_rd(edge), low);
  if (step < 0) high = min(__float2int_ru(edge), high);
}

// What the rays of one view, whose projections are at `pixels`, add to the voxel (i, j, k).
template <bool CURVED>
__device__ float receive(const problem &p, const sight &s, const float *voxel_size, const float *pixels, float i, float j, float k) {
  int32_t low_row = -s.first_row, high_row = p.rows * p.supersampling - 1 - s.first_row;
  int32_t low = -s.first_column, high = p.columns * p.supersampling - 1 - s.first_column;
  if (CURVED) {
    bound_curved(s, i, j, k, low, high);
  } else {
    const float depth = s.depth[3] + i * s.depth[0] + j * s.depth[1] + k * s.depth[2], inverse = __fdividef(1.0f, depth);
    const float column = (s.column[3] + i * s.column[0] + j * s.column[1] + k * s.column[2]) * inverse;
    const float row = (s.row[3] + i * s.row[0] + j * s.row[1] + k * s.row[2]) * inverse;
    // A point (e, f) beside the voxel is seen (e c_1 + f c_2) / (depth + e depth_1 + f depth_2) columns from it.
    const float nearest = fabsf(depth) - fabsf(s.depth[1]) - fabsf(s.depth[2]);
    if (nearest > 1e-4f * fabsf(depth)) { // else the footprint reaches the plane of the source
      const float share = __fdividef(1.0001f, nearest), slack = 1e-3f;
      const float c = fabsf(s.column[1] - column * s.depth[1]) + fabsf(s.column[2] - column * s.depth[2]);
      const float r = fabsf(s.row[1] - row * s.depth[1]) + fabsf(s.row[2] - row * s.depth[2]);
      bound(column, c * share + slack, low, high);
      bound(row, r * share + slack, low_row, high_row);
    }
  }
  const float a_row = s.a_row + i * s.v[1] - j * s.v[0], b_row = s.b_row + i * s.v[2] - k * s.v[0];
  const float a_column = s.a_column + i * s.u[1] - j * s.u[0], b_column = s.b_column + i * s.u[2] - k * s.u[0];
  float sum = 0;
  for (int32_t x = low; x <= high; x++) {
    // The ray in row 0 of this column, and the rows that may matter.
    float along = (float)x;
    float a = s.a + i * s.way[1] - j * s.way[0], b = s.b + i * s.way[2] - k * s.way[0];
    float way[3] = {s.way[0], s.way[1], s.way[2]};
    int32_t from = low_row, to = high_row;
    if (CURVED) {
      const float half = sinf(0.5f * s.turn * along), rise = 2 * half * half;
      along = sinf(s.turn * along) / s.turn;
      a += rise * (s.a_axis + i * s.axis[1] - j * s.axis[0]), b += rise * (s.b_axis + i * s.axis[2] - k * s.axis[0]);
      for (int n = 0; n < 3; n++) way[n] += rise * s.axis[n];
    }
    a += along * a_column, b += along * b_column;
    for (int n = 0; n < 3; n++) way[n] += along * s.u[n];
    if (CURVED) {
      const float sign = way[0] + (float)from * s.v[0] > 0 ? 1 : -1;
      if (sign * (way[0] + (float)from * s.v[0]) > 0 && sign * (way[0] + (float)to * s.v[0]) > 0) {
        const float ahead = sign * way[0], step = sign * s.v[0];
        above_zero(ahead - a, step - a_row, from, to), above_zero(ahead + a, step + a_row, from, to);
        above_zero(ahead - b, step - b_row, from, to), above_zero(ahead + b, step + b_row, from, to);
      }
    }
    const int32_t fine = s.first_column + x;
    const float *line = pixels + (p.supersampling == 1 ? fine : fine / p.supersampling);
    for (int32_t y = from; y <= to; y++) {
      const float f = (float)y, share = __fdividef(1.0f, way[0] + f * s.v[0]);
      const float weight = __saturatef(1 - fabsf((a + f * a_row) * share)) * __saturatef(1 - fabsf((b + f * b_row) * share));
      if (!(weight > 0)) continue;
      const float slope_a = (way[1] + f * s.v[1]) * share * voxel_size[1], slope_b = (way[2] + f * s.v[2]) * share * voxel_size[2];
      const float length = sqrtf(voxel_size[0] * voxel_size[0] + slope_a * slope_a + slope_b * slope_b);
      const int32_t coarse = p.supersampling == 1 ? s.first_row + y : (s.first_row + y) / p.supersampling;
      sum += weight * length * line[(int64_t)coarse * p.views * p.columns];
    }
  }
  return sum;
}

// A block owns WIDTH x HEIGHT x DEPTH voxels, a thread DEPTH of them.
template <int DEPTH>
__global__ void __launch_bounds__(THREADS)
    back(problem p, rs_output output, const float *projections, float size_z, float size_y, float size_x) {
  __shared__ sight sights[VIEWS];
  const int64_t across = (p.shape[RS_X] + WIDTH - 1) / WIDTH, along = (p.shape[RS_Y] + HEIGHT - 1) / HEIGHT;
  const int32_t corner[3] = {(int32_t)(blockIdx.x / (across * along)) * DEPTH, (int32_t)(blockIdx.x / across % along) * HEIGHT,
                             (int32_t)(blockIdx.x % across) * WIDTH};
  const int32_t middle[3] = {corner[0] + DEPTH / 2, corner[1] + HEIGHT / 2, corner[2] + WIDTH / 2};
  const int32_t x = corner[2] + (int32_t)threadIdx.x % WIDTH, y = corner[1] + (int32_t)threadIdx.x / WIDTH;
  const float way_x = (float)(x - middle[2]), way_y = (float)(y - middle[1]);
  float total[DEPTH] = {0};
  for (int32_t first = 0; first < p.views; first += VIEWS) {
    const int32_t count = min(VIEWS, p.views - first);
    __syncthreads();
    if ((int32_t)threadIdx.x < count) look(p, p.view[first + threadIdx.x], middle, sights[threadIdx.x]);
    __syncthreads();
    float sum[DEPTH] = {0};
    for (int32_t view = 0; view < count; view++) {
      const sight &s = sights[view];
      const float *pixels = projections + (int64_t)(first + view) * p.columns;
      const float sizes[3] = {s.main == RS_X   ? size_x
                              : s.main == RS_Y ? size_y
                                               : size_z,
                              s.main == RS_X ? size_y : size_x, s.main == RS_Z ? size_y : size_z};
#pragma unroll
      for (int n = 0; n < DEPTH; n++) {
        const float way_z = (float)(n - DEPTH / 2), i = s.main == RS_X ? way_x : s.main == RS_Y ? way_y : way_z;
        const float j = s.main == RS_X ? way_y : way_x, k = s.main == RS_Z ? way_y : way_z;
        sum[n] += s.turn == 0 ? receive<false>(p, s, sizes, pixels, i, j, k) : receive<true>(p, s, sizes, pixels, i, j, k);
      }
    }
    for (int n = 0; n < DEPTH; n++) total[n] += sum[n];
  }
  if (x >= p.shape[RS_X] || y >= p.shape[RS_Y]) return;
  const float share = 1.0f / (float)(p.supersampling * p.supersampling);
  for (int n = 0; n < DEPTH; n++) {
    const int32_t z = corner[0] + n;
    if (z < p.shape[RS_Z]) rs_finish(output, 0, ((size_t)z * p.shape[RS_Y] + y) * p.shape[RS_X] + x, total[n] * share);
  }
}

// ---- the family

int accepts(const rs_geometry *) { return 1; }

void release(rs_plan *plan) {
  general_tables *tables = (general_tables *)plan->tables;
  rs_cuda_table_free(tables->pointer);
  free(tables);
}

int32_t prepare(rs_plan *plan) {
  const rs_geometry *geometry = &plan->geometry;
  general_tables *tables = (general_tables *)calloc(1, sizeof *tables);
  ray_view *views = (ray_view *)malloc((size_t)geometry->views * sizeof *views);
  int32_t status = tables && views ? RS_OK : rs_fail(RS_EMEMORY, "no host memory for the tables of %d views", geometry->views);
  for (int32_t i = 0; !status && i < geometry->views; i++) {
    views[i] = rays_of(geometry, &geometry->view[i]);
    if (views[i].main == RS_X) tables->copies = 1;
  }
  if (!status)
    status = rs_cuda_table(plan->device, views, geometry->views * (int64_t)sizeof *views, (void **)&tables->view, &tables->pointer);
  free(views);
  if (status) {
    free(tables);
    return status;
  }
  const int32_t *n = geometry->shape;
  const int64_t x = n[RS_X], y = n[RS_Y];
  tables->layouts[RS_Z] = {0, {n[RS_Z], n[RS_X], n[RS_Y]}, x * y, x};
  tables->layouts[RS_Y] = {0, {n[RS_Y], n[RS_X], n[RS_Z]}, x, x * y};
  tables->layouts[RS_X] = {1, {n[RS_X], n[RS_Y], n[RS_Z]}, y, x * y};
  int rows = 1;
  while (rows < HEIGHT && rows < geometry->rows) rows *= 2;
  tables->columns = THREADS / rows;
  tables->column_tiles = parts(geometry->columns, tables->columns);
  tables->row_tiles = parts(geometry->rows, rows);
  tables->blocks = parts(geometry->views, GROUP) * GROUP * tables->column_tiles * tables->row_tiles;
  plan->tables = tables;
  // The copy of the volume, then a float64 for every block.
  plan->workspace_floats = (tables->copies ? parts(x * y * n[RS_Z], 2) * 2 : 0) + 2 * tables->blocks;
  return RS_OK;
}

problem problem_of(const rs_plan *plan) {
  const general_tables *tables = (const general_tables *)plan->tables;
  const rs_geometry *g = &plan->geometry;
  return {tables->view,
          g->views,
          g->rows,
          g->columns,
          g->supersampling,
          tables->columns,
          {g->shape[0], g->shape[1], g->shape[2]},
          tables->column_tiles,
          tables->row_tiles,
          {tables->layouts[0], tables->layouts[1], tables->layouts[2]}};
}

int32_t project_forward(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *volume, int64_t batch,
                        double *norm) {
  const general_tables *tables = (const general_tables *)plan->tables;
  const int32_t *n = plan->geometry.shape;
  const int64_t voxels = (int64_t)n[0] * n[1] * n[2], squares_at = plan->workspace_floats - 2 * tables->blocks;
  const int64_t pixels = (int64_t)plan->geometry.rows * plan->geometry.views * plan->geometry.columns;
  const cudaStream_t stream = rs_cuda_stream(operation);
  const problem p = problem_of(plan);
  const dim3 grid((unsigned)tables->blocks), turns((unsigned)(n[RS_Z] * parts(n[RS_Y], 32) * parts(n[RS_X], 32)));
  double *squares = norm ? (double *)(plan->workspace + squares_at) : nullptr;
  rs_output target = *output;
  int32_t status = RS_OK;
  for (int64_t item = 0; item < batch && !status; item++, volume += voxels, advance(&target, pixels)) {
    const float *copy = plan->workspace;
    if (tables->copies) status = RS_LAUNCH(turn, turns, THREADS, 0, stream, volume, plan->workspace, n[RS_Y], n[RS_X]);
    if (status) break;
    if ((int64_t)n[RS_X] * n[RS_Y] < INT32_MAX)
      status = RS_LAUNCH(forward<int32_t>, grid, THREADS, 0, stream, p, target, volume, copy, squares);
    else
      status = RS_LAUNCH(forward<int64_t>, grid, THREADS, 0, stream, p, target, volume, copy, squares);
    if (!status && norm) status = rs_sum_blocks(operation, squares, tables->blocks, 1, norm + item);
  }
  return status;
}

int32_t project_back(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *projections, int64_t batch) {
  const int32_t *n = plan->geometry.shape;
  const int64_t pixels = (int64_t)plan->geometry.rows * plan->geometry.views * plan->geometry.columns;
  const int64_t tiles = parts(n[RS_X], WIDTH) * parts(n[RS_Y], HEIGHT);
  const float z = (float)plan->geometry.voxel[RS_Z], y = (float)plan->geometry.voxel[RS_Y], x = (float)plan->geometry.voxel[RS_X];
  const cudaStream_t stream = rs_cuda_stream(operation);
  const problem p = problem_of(plan);
  rs_output target = *output;
  int32_t status = RS_OK;
  for (int64_t item = 0; item < batch && !status; item++, projections += pixels, advance(&target, (int64_t)n[0] * n[1] * n[2])) {
    if (n[RS_Z] < 4)
      status = RS_LAUNCH(back<1>, dim3((unsigned)(tiles * n[RS_Z])), THREADS, 0, stream, p, target, projections, z, y, x);
    else
      status = RS_LAUNCH(back<4>, dim3((unsigned)(tiles * parts(n[RS_Z], 4))), THREADS, 0, stream, p, target, projections, z, y, x);
  }
  return status;
}

} // namespace

extern "C" const rs_family rs_general_cuda = {"general", accepts, prepare, release, project_forward, project_back};
