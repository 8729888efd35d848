// general_back.h: the transpose of general_forward.h as a gather.
//
// A thread owns voxels and asks which rays of a view pass within one voxel of them on their plane of the main axis: those in the box
// around the projected footprint. Their weights are those of forward. No sums are shared, so results are the same in every run.
//
// Projections are copied view by view with MARGIN pixels of zeros around, one value for every ray of a supersampled pixel, times the
// length of ray between two planes: so a quick look takes the same number of pixels for all voxels of a tile and checks none.
#pragma once
#include "general_sight.h"

namespace {

constexpr int WIDTH = 16, HEIGHT = THREADS / WIDTH; // a tile of voxels along x and y
constexpr int VIEWS = 32;                           // views that back prepares at once

__global__ void __launch_bounds__(THREADS) pack(general_problem p, int32_t first, int32_t views, const float *projections, float *packed) {
  const int32_t s = p.supersampling, rows = p.rows * p.sub_rows, columns = p.columns * s, wide = columns + 2 * MARGIN;
  const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, view_floats = (int64_t)wide * (rows + 2 * MARGIN);
  if (i >= views * view_floats) return;
  const int32_t number = (int32_t)(i / view_floats), row = (int32_t)(i % view_floats / wide) - MARGIN;
  const int32_t column = (int32_t)(i % view_floats % wide) - MARGIN;
  float value = 0;
  if (row >= 0 && row < rows && column >= 0 && column < columns) {
    const ray_view &view = p.view[first + number];
    const ray r = aim(view, row, column);
    double world = 0;
    for (int k = 0; k < 3; k++) world += r.way[k] * view.voxel[k] * (r.way[k] * view.voxel[k]);
    value = projections[((int64_t)(row / p.sub_rows) * p.views + first + number) * p.columns + column / s];
    value *= (float)(sqrt(world) / (fabs(r.way[0]) * p.sub_rows * s));
    if (r.way[0] == 0) value = 0;
  }
  packed[i] = value;
}

// A voxel as a sight has it: where it is seen (column / depth, row / depth), how far from it the ray in row and column 0 passes, as
// numerators, and what rows, columns and the way to the axis of a curved detector add to those.
struct bearing {
  float column, row, depth, a, b, a_row, b_row, a_column, b_column, a_axis, b_axis;
};

__device__ inline bearing bearing_of(const sight &s, float i, float j, float k) {
  return {s.column[3] + i * s.column[0] + j * s.column[1] + k * s.column[2],
          s.row[3] + i * s.row[0] + j * s.row[1] + k * s.row[2],
          s.depth[3] + i * s.depth[0] + j * s.depth[1] + k * s.depth[2],
          s.a + i * s.way[1] - j * s.way[0],
          s.b + i * s.way[2] - k * s.way[0],
          s.a_row + i * s.v[1] - j * s.v[0],
          s.b_row + i * s.v[2] - k * s.v[0],
          s.a_column + i * s.u[1] - j * s.u[0],
          s.b_column + i * s.u[2] - k * s.u[0],
          s.a_axis + i * s.axis[1] - j * s.axis[0],
          s.b_axis + i * s.axis[2] - k * s.axis[0]};
}

// What a step along z adds.
__device__ inline bearing step_of(const sight &s) {
  if (s.main == RS_Z) return {s.column[0], s.row[0], s.depth[0], s.way[1], s.way[2], s.v[1], s.v[2], s.u[1], s.u[2], s.axis[1], s.axis[2]};
  return {s.column[2], s.row[2], s.depth[2], 0, -s.way[0], 0, -s.v[0], 0, -s.u[0], 0, -s.axis[0]};
}

__device__ inline bearing moved(const bearing &from, const bearing &step, float n) {
  return {fmaf(n, step.column, from.column),
          fmaf(n, step.row, from.row),
          fmaf(n, step.depth, from.depth),
          fmaf(n, step.a, from.a),
          fmaf(n, step.b, from.b),
          fmaf(n, step.a_row, from.a_row),
          fmaf(n, step.b_row, from.b_row),
          fmaf(n, step.a_column, from.a_column),
          fmaf(n, step.b_column, from.b_column),
          fmaf(n, step.a_axis, from.a_axis),
          fmaf(n, step.b_axis, from.b_axis)};
}

__device__ inline float weigh(float a, float b) { return __saturatef(1 - fabsf(a)) * __saturatef(1 - fabsf(b)); }

// Rounds up, and keeps where packed projections reach.
__device__ inline float whole_above(float at, float first, float count) {
  const float up = fminf(fmaxf(at + 0.5f, -first - MARGIN), count - first);
  return up + RAY_ROOM - RAY_ROOM;
}

// The first row that may see what is seen in `row`; the only one where there is one.
__device__ inline float first_row(const general_problem &p, const sight &s, float row) {
  const int32_t rows = p.rows * p.sub_rows;
  return rows == 1 ? 0 : whole_above(row - s.reach_row, (float)s.first_row, (float)rows);
}

// What the rays of one view add to a voxel. `pixels` is the sight's first pixel, `pitch` floats a row; COLUMNS 0: as the sight says.
template <bool CONE, int COLUMNS>
__device__ inline float receive(const general_problem &p, const sight &s, const float *pixels, int32_t pitch, const bearing &voxel) {
  const float inverse = reciprocal(voxel.depth);
  const float x = whole_above(voxel.column * inverse - s.reach_column, (float)s.first_column, (float)(p.columns * p.supersampling));
  const float y = first_row(p, s, voxel.row * inverse);
  const float *line = pixels + ((int64_t)(int32_t)y * pitch + (int32_t)x);
  float a = voxel.a + y * voxel.a_row + x * voxel.a_column, b = voxel.b + y * voxel.b_row + x * voxel.b_column, sum = 0;
  float way = CONE ? s.way[0] + y * s.v[0] + x * s.u[0] : 1;
  for (int32_t m = s.near_rows; m > 0; m--, a += voxel.a_row, b += voxel.b_row, line += pitch) {
    float a_here = a, b_here = b, way_here = way;
    const auto pixel = [&](int32_t n) {
      const float share = CONE ? reciprocal(way_here) : 1;
      sum = fmaf(weigh(a_here * share, b_here * share), line[n], sum);
      a_here += voxel.a_column, b_here += voxel.b_column;
      if (CONE) way_here += s.u[0];
    };
    if (COLUMNS > 0) {
#pragma unroll
      for (int32_t n = 0; n < COLUMNS; n++) pixel(n);
    } else {
      for (int32_t n = 0; n < s.near_columns; n++) pixel(n);
    }
    if (CONE) way += s.v[0];
  }
  return sum;
}

// The same for a curved detector, whose columns in sight lie within a radian; ROWS 0: as the sight says.
template <int ROWS>
__device__ inline float receive_bent(const general_problem &p, const sight &s, const float *pixels, int32_t pitch, const bearing &voxel) {
  const float inverse = reciprocal(voxel.depth), from = voxel.column * inverse - s.reach_column, row = voxel.row * inverse;
  float x = whole_above(fmaf(s.bend * from, from, from) - s.slack, (float)s.first_column, (float)(p.columns * p.supersampling)), sum = 0;
  for (int32_t m = s.near_columns; m > 0; m--, x++) {
    float along, rise;
    bend_near(s, x, along, rise);
    const float y = first_row(p, s, row - rise * s.inverse * (row - s.foot_row));
    const float *line = pixels + ((int64_t)(int32_t)y * pitch + (int32_t)x);
    float a = voxel.a + y * voxel.a_row + along * voxel.a_column + rise * voxel.a_axis;
    float b = voxel.b + y * voxel.b_row + along * voxel.b_column + rise * voxel.b_axis;
    float way = s.way[0] + y * s.v[0] + along * s.u[0] + rise * s.axis[0];
    const auto pixel = [&]() {
      const float share = reciprocal(way);
      sum = fmaf(weigh(a * share, b * share), *line, sum);
      a += voxel.a_row, b += voxel.b_row, way += s.v[0], line += pitch;
    };
    if (ROWS > 0) {
#pragma unroll
      for (int32_t n = 0; n < ROWS; n++) pixel();
    } else {
#pragma unroll 1
      for (int32_t n = 0; n < s.near_rows; n++) pixel();
    }
  }
  return sum;
}

// The same without haste: tiles in whose voxels many pixels or the source are seen.
__device__ __attribute__((noinline)) float receive_slowly(const general_problem &p, const sight &s, const float *pixels, int32_t pitch,
                                                          float i, float j, float k) {
  int32_t low_row = -s.first_row, high_row = p.rows * p.sub_rows - 1 - s.first_row;
  int32_t low = -s.first_column, high = p.columns * p.supersampling - 1 - s.first_column;
  const bool curved = s.turn != 0;
  const bearing voxel = bearing_of(s, i, j, k);
  if (curved) {
    bound_curved(s, i, j, k, low, high);
  } else {
    const float depth = voxel.depth, inverse = 1 / depth, column = voxel.column * inverse, row = voxel.row * inverse;
    // A point (e, f) beside the voxel is seen (e c_1 + f c_2) / (depth + e depth_1 + f depth_2) columns from it.
    const float nearest = fabsf(depth) - fabsf(s.depth[1]) - fabsf(s.depth[2]);
    if (nearest > 1e-4f * fabsf(depth)) { // else the footprint reaches the plane of the source
      const float share = 1.0001f / nearest, slack = 1e-3f;
      const float c = fabsf(s.column[1] - column * s.depth[1]) + fabsf(s.column[2] - column * s.depth[2]);
      const float r = fabsf(s.row[1] - row * s.depth[1]) + fabsf(s.row[2] - row * s.depth[2]);
      bound(column, c * share + slack, low, high);
      bound(row, r * share + slack, low_row, high_row);
    }
  }
  float sum = 0;
  for (int32_t x = low; x <= high; x++) {
    float along = (float)x, a = voxel.a, b = voxel.b, way = s.way[0];
    int32_t from = low_row, to = high_row;
    if (curved) {
      const float half = sinf(0.5f * s.turn * along), rise = 2 * half * half;
      along = sinf(s.turn * along) / s.turn;
      a += rise * (s.a_axis + i * s.axis[1] - j * s.axis[0]), b += rise * (s.b_axis + i * s.axis[2] - k * s.axis[0]);
      way += rise * s.axis[0];
    }
    a += along * voxel.a_column, b += along * voxel.b_column, way += along * s.u[0];
    if (curved) { // the rows within a voxel along both axes
      const float sign = way + (float)from * s.v[0] > 0 ? 1 : -1, ahead = sign * way, step = sign * s.v[0];
      if (ahead + (float)from * step > 0 && ahead + (float)to * step > 0) {
        above_zero(ahead - a, step - voxel.a_row, from, to), above_zero(ahead + a, step + voxel.a_row, from, to);
        above_zero(ahead - b, step - voxel.b_row, from, to), above_zero(ahead + b, step + voxel.b_row, from, to);
      }
    }
    for (int32_t y = from; y <= to; y++) {
      const float f = (float)y, share = 1 / (way + f * s.v[0]),
                  weight = weigh((a + f * voxel.a_row) * share, (b + f * voxel.b_row) * share);
      if (weight > 0) sum += weight * pixels[(int64_t)y * pitch + x];
    }
  }
  return sum;
}

// What the rays of one view add to DEPTH voxels along z. COUNT: columns that see one, or rows where BENT; 0: as the sight says.
template <bool CONE, bool BENT, int DEPTH, int COUNT>
__device__ inline void receive_all(const general_problem &p, const sight &s, const float *pixels, int32_t pitch, float i, float j, float k,
                                   float *sum) {
  const bearing base = bearing_of(s, i, j, k), step = step_of(s);
#pragma unroll
  for (int n = 0; n < DEPTH; n++) {
    const bearing voxel = moved(base, step, (float)n);
    sum[n] += BENT ? receive_bent<COUNT>(p, s, pixels, pitch, voxel) : receive<CONE, COUNT>(p, s, pixels, pitch, voxel);
  }
}

// A block owns WIDTH x HEIGHT x DEPTH voxels, a thread DEPTH of them; the views are first ... first + count - 1.
template <bool CONE, bool CURVED, int DEPTH>
__global__ void __launch_bounds__(THREADS, 3) back(general_problem p, rs_output output, int32_t first, int32_t count, const float *packed) {
  __shared__ sight sights[VIEWS];
  const int64_t across = (p.shape[RS_X] + WIDTH - 1) / WIDTH, along = (p.shape[RS_Y] + HEIGHT - 1) / HEIGHT;
  const int32_t corner[3] = {(int32_t)(blockIdx.x / (across * along)) * DEPTH, (int32_t)(blockIdx.x / across % along) * HEIGHT,
                             (int32_t)(blockIdx.x % across) * WIDTH};
  const int32_t middle[3] = {corner[0] + DEPTH / 2, corner[1] + HEIGHT / 2, corner[2] + WIDTH / 2};
  const int32_t x = corner[2] + (int32_t)threadIdx.x % WIDTH, y = corner[1] + (int32_t)threadIdx.x / WIDTH;
  const float way_x = (float)(x - middle[2]), way_y = (float)(y - middle[1]);
  const int32_t pitch = p.columns * p.supersampling + 2 * MARGIN, view_rows = p.rows * p.sub_rows + 2 * MARGIN;
  float total[DEPTH] = {0};
  for (int32_t begin = 0; begin < count; begin += VIEWS) {
    const int32_t views = min(VIEWS, count - begin);
    __syncthreads();
    if ((int32_t)threadIdx.x < views)
      look(p, p.view[first + begin + threadIdx.x], middle, DEPTH / 2, HEIGHT / 2, WIDTH / 2, sights[threadIdx.x]);
    __syncthreads();
    float sum[DEPTH] = {0};
    for (int32_t view = 0; view < views; view++) {
      const sight &s = sights[view];
      const float *pixels = packed + (((int64_t)(begin + view) * view_rows + s.first_row + MARGIN) * pitch + s.first_column + MARGIN);
      const float way_z = (float)(-(DEPTH / 2)), i = s.main == RS_X ? way_x : s.main == RS_Y ? way_y : way_z;
      const float j = s.main == RS_X ? way_y : way_x, k = s.main == RS_Z ? way_y : way_z;
      if (CURVED && s.turn != 0 && s.near_columns > 0) {
        if (s.near_rows == 3)
          receive_all<CONE, true, DEPTH, 3>(p, s, pixels, pitch, i, j, k, sum);
        else
          receive_all<CONE, true, DEPTH, 0>(p, s, pixels, pitch, i, j, k, sum);
        continue;
      }
      switch (s.near_columns) {
      case 0:
        for (int n = 0; n < DEPTH; n++) {
          const float way = (float)n;
          sum[n] += receive_slowly(p, s, pixels, pitch, s.main == RS_Z ? i + way : i, j, s.main == RS_Z ? k : k + way);
        }
        break;
      case 1:
      case 2: receive_all<CONE, false, DEPTH, 2>(p, s, pixels, pitch, i, j, k, sum); break;
      case 3: receive_all<CONE, false, DEPTH, 3>(p, s, pixels, pitch, i, j, k, sum); break;
      case 4: receive_all<CONE, false, DEPTH, 4>(p, s, pixels, pitch, i, j, k, sum); break;
      default: receive_all<CONE, false, DEPTH, 0>(p, s, pixels, pitch, i, j, k, sum);
      }
    }
    for (int n = 0; n < DEPTH; n++) total[n] += sum[n];
  }
  if (x >= p.shape[RS_X] || y >= p.shape[RS_Y]) return;
  rs_finish_all<DEPTH>(
      output, 0, [&](int n) { return corner[0] + n < p.shape[RS_Z]; },
      [&](int n) { return ((size_t)(corner[0] + n) * p.shape[RS_Y] + y) * p.shape[RS_X] + x; }, [&](int n) { return total[n]; });
}

} // namespace
