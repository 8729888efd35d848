// upright_forward.h: a warp owns a detector column, its lanes rows: where the ray is in the plane, and the weights of the two neighbours
// there, are the same for all of them.
//
// The volume is copied with z innermost and zeros around it, so that lanes read neighbours along z.
#pragma once
#include "upright_problem.h"

namespace {

constexpr int GROUP = 32; // neighbouring views whose blocks of rays run side by side

// [z][y][x] to [y][x][z] with a border of zeros.
__global__ void __launch_bounds__(THREADS) pack_volume(upright_problem p, const float *volume, float *packed) {
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

// Four neighbours of a point, and the share of the upper ones.
struct cell_values {
  float low[2], high[2], above; // of the near and the far line
};

// Those at height `z` of a plane; `line` is cell 0 beside the middle cell on the near line.
__device__ inline void fetch(const float *line, int32_t cross, float z, int32_t cell, cell_values &out) {
  const float *near_line = place(line, find(z, out.above) + cell), *far_line = near_line + cross;
  out.low[0] = near_line[0], out.high[0] = near_line[1], out.low[1] = far_line[0], out.high[1] = far_line[1];
}

__device__ inline void add(const cell_values &cell, float far, float &sum) {
  sum = fmaf(1 - far, fmaf(cell.above, cell.high[0] - cell.low[0], cell.low[0]), sum);
  sum = fmaf(far, fmaf(cell.above, cell.high[1] - cell.low[1], cell.low[1]), sum);
}

// Adds the samples of a run of planes. `line` is where cell 0 beside the run's middle cell lies on the first plane. What a plane holds is
// added after the next one is asked for, so that nobody waits for memory.
template <int LAYERS_, bool INSIDE>
__device__ inline void gather(const float *line, int64_t plane, int32_t cross, const track &a, const track *b, int32_t depth, float way,
                              int count, float *total) {
  cell_values cells[LAYERS_];
  float far = 0, sum[LAYERS_] = {0};
#pragma unroll 1
  for (int n = 0; n < count; n++, way++, line += plane) {
    float next;
    const float *near_line = place(line, find(a, way, next) * cross);
#pragma unroll
    for (int k = 0; k < LAYERS_; k++) {
      if (n > 0) add(cells[k], far, sum[k]);
      float z = fmaf(way, b[k].slope, b[k].offset);
      if (!INSIDE) z = fminf(fmaxf(z, (float)(-BORDER - b[k].cell)), (float)(depth - b[k].cell));
      fetch(near_line, cross, z, b[k].cell, cells[k]);
    }
    far = next;
  }
#pragma unroll
  for (int k = 0; k < LAYERS_; k++) {
    add(cells[k], far, sum[k]);
    total[k] += sum[k];
  }
}

template <int LAYERS_>
__global__ void __launch_bounds__(THREADS, 3) forward(upright_problem p, rs_output output, const float *packed, double *squares) {
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
#pragma unroll
      for (int k = 0; k < LAYERS_; k++) {
        const double dz = rise + k * more_rise;
        b[k] = follow(height + k * more_height + middle * dz, dz);
        const float z = (float)b[k].cell + b[k].offset, enter = z + (float)(plane - middle) * b[k].slope;
        const float leave = enter + (float)(count - 1) * b[k].slope, low = fminf(enter, leave), high = fmaxf(enter, leave);
        inside = inside && low > -1.5f && high < (float)p.shape[RS_Z] + 0.5f;
        outside = outside && (high < -1.1f || low > (float)p.shape[RS_Z] + 0.1f);
      }
      if (__all_sync(0xffffffffu, outside)) continue;
      track a = follow(position + middle * slope, slope);
      a.slope = __shfl_sync(0xffffffffu, a.slope, 0);
      const float *line = packed + (plane + BORDER) * plane_step + (int64_t)(a.cell + BORDER) * cross_step + BORDER;
      if (__all_sync(0xffffffffu, inside))
        gather<LAYERS_, true>(line, plane_step, cross_step, a, b, p.shape[RS_Z], (float)(plane - middle), count, sum);
      else
        gather<LAYERS_, false>(line, plane_step, cross_step, a, b, p.shape[RS_Z], (float)(plane - middle), count, sum);
    }
    const double flat = view.voxel[0] * view.voxel[0] + slope * slope * view.voxel[1] * view.voxel[1];
    for (int k = 0; k < LAYERS_; k++) {
      const double up = (rise + k * more_rise) * view.voxel[2];
      found[warp][32 * k + lane] = sum[k] * sqrtf((float)(flat + up * up));
    }
    __syncthreads();
    const int32_t place = p.order[number];
    static_assert(THREADS % WARPS == 0, "a thread writes one column");
    const int32_t x = first_column + threadIdx.x % WARPS;
    const auto row = [&](int k) { return (k * THREADS + (int)threadIdx.x) / WARPS; };
    square += rs_finish_all<LAYERS_>(
        output, 0, [&](int k) { return x < p.columns && first_row + row(k) < p.rows; },
        [&](int k) { return ((size_t)(first_row + row(k)) * p.views + place) * p.columns + x; },
        [&](int k) { return found[threadIdx.x % WARPS][row(k)]; });
  }
  if (squares) {
    const double total = rs_block_sum(square);
    if (threadIdx.x == 0) squares[blockIdx.x] = total;
  }
}

} // namespace
