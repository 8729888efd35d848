// general_forward.h: one ray a thread, over the planes of its view's main axis.
//
// Main axis x reads a copy of the volume with y innermost, so that neighbouring columns of the detector read neighbouring voxels in every
// view. A supersampled pixel is the mean of its rays.
#pragma once
#include "general_problem.h"

namespace {

constexpr double STEEP = 4; // cells a plane: steeper rays are set anew on every plane
constexpr double FAR = 6e7; // voxels, or voxels a plane: a ray which is further away or flatter than this is left out
constexpr int GROUP = 16;   // neighbouring views whose blocks of rays run side by side, so that they share the cached volume

// The sum of the samples on the planes plane ... end - 1. CHECKED: some may lie outside; else all neighbours are voxels. THIN: the volume
// is one voxel thick along the third axis, so that a sample has two neighbours, and a weight for how far it passes beside them.
template <bool CHECKED, bool THIN, typename Stride>
__device__ float gather(const float *volume, const general_layout &l, const double *position, const double *slope, bool steep, int plane,
                        int end) {
  const Stride third = (Stride)l.third;
  float total = 0;
  while (plane < end) {
    const int middle = steep ? plane : plane + RAY_RUN / 2, last = min(end, steep ? plane + 1 : plane + RAY_RUN);
    const track a = follow(position[0] + middle * slope[0], slope[0]), b = follow(position[1] + middle * slope[1], slope[1]);
    const float *at = volume + (plane * l.plane + (THIN ? 0 : b.cell * l.third) + a.cell);
    float way = (float)(plane - middle), sum = 0;
#pragma unroll 4
    for (int n = last - plane; n > 0; n--, way++, at += l.plane) {
      float far_a, far_b, near, far;
      const int i = find(a, way, far_a);
      if (THIN) {
        const float v0 = !CHECKED || (a.cell + i >= 0 && a.cell + i < l.count[1]) ? at[i] : 0;
        const float v1 = !CHECKED || (a.cell + i >= -1 && a.cell + i < l.count[1] - 1) ? at[i + 1] : 0;
        const float weight = __saturatef(1 - fabsf(fmaf(way, b.slope, b.offset) + (float)b.cell));
        sum = fmaf(weight, fmaf(far_a, v1 - v0, v0), sum);
        continue;
      }
      const int j = find(b, way, far_b);
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
template <bool THIN, typename Stride>
__device__ float project(const float *volume, const general_layout &l, const ray_view &view, bool wanted, double row, double column) {
  const ray r = aim(view, row, column);
  double slope[2] = {r.way[1] / r.way[0], r.way[2] / r.way[0]};
  double position[2] = {r.point[1] - r.point[0] * slope[0], r.point[2] - r.point[0] * slope[1]};
  wanted = wanted && fabs(position[0]) + fabs(position[1]) + fabs(slope[0]) + fabs(slope[1]) < FAR;
  double first = 0, last = wanted ? l.count[0] - 1 : -1, from = 0, to = last;
  for (int k = 0; k < 2; k++) {
    const double slack = 1e-4 * (1 + fabs(slope[k])); // voxels, far above the rounding errors of a run
    clip(position[k], slope[k], -1, l.count[1 + k], first, last);
    if (k == 0 || !THIN) clip(position[k], slope[k], slack, l.count[1 + k] - 1 - slack, from, to);
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
  float sum = gather<true, THIN, Stride>(volume, l, position, slope, steep, begin, inner);
  sum += gather<false, THIN, Stride>(volume, l, position, slope, steep, inner, outer);
  sum += gather<true, THIN, Stride>(volume, l, position, slope, steep, outer, end);
  double world = 0;
  for (int k = 0; k < 3; k++) {
    double side = k ? slope[k - 1] * view.voxel[k] : view.voxel[0];
    world += side * side;
  }
  return wanted ? sum * sqrtf((float)world) : 0;
}

// THIN: every view's volume is.
template <bool THIN, typename Stride>
__global__ void __launch_bounds__(THREADS, 4)
    forward(general_problem p, rs_output output, const float *volume, const float *copy, double *squares) {
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
    const general_layout &l = p.layouts[rays.main];
    const int s = p.supersampling;
    float sum = 0;
    for (int i = 0; i < p.sub_rows * s; i++)
      sum += project<THIN, Stride>(l.copied ? copy : volume, l, rays, wanted, (double)row * p.sub_rows + i / s, (double)column * s + i % s);
    if (wanted) square = rs_finish(output, 0, ((size_t)row * p.views + view) * p.columns + column, sum / (float)(p.sub_rows * s));
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

} // namespace
