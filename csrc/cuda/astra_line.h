// astra_line.h: the kernels of ASTRA's laws for one slice whose rays stay on it: textures then interpolate along one axis alone.
//
// Images are packed as pairs: a pixel, and how much more the next one holds; with a zero before the first and after the last, so that
// place p of astra_sample.h is in pair p / 256.
#pragma once
#include "astra_upright.h"

struct astra_line_work {
  rs_output output;
  size_t item;
  const astra_aimed *aimed; // forward
  const astra_view *views;  // back
  double *squares;
  const float2 *rows, *columns; // of the slice (forward), of the projections by view (back)
  int32_t view_count, detectors, height, width, supersampling, cone, fan;
};

// Packs `count` lines of `length` values, line_step and step apart.
__device__ inline void astra_pack_line(float2 *to, const float *from, int64_t count, int64_t length, int64_t line_step, int64_t step) {
  const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, line = i / (length + 2), at = i % (length + 2) - 1;
  if (line >= count) return;
  const float *value = from + line * line_step + at * step;
  const float here = at >= 0 && at < length ? *value : 0;
  to[i] = make_float2(here, (at + 1 < length ? value[step] : 0) - here);
}

// An image by rows and, where asked for, by columns.
__global__ void astra_pack_lines(float2 *rows, float2 *columns, const float *from, int32_t height, int32_t width) {
  if (blockIdx.y == 0)
    astra_pack_line(rows, from, height, width, width, 1);
  else
    astra_pack_line(columns, from, width, height, 1, width);
}

// What a pair gives at a place, times 1.
__device__ inline float astra_line_sample(const float2 *line, uint32_t place) {
  const float2 pair = line[place >> 8];
  return fmaf(astra_fraction(place) - 1, pair.y, pair.x);
}

// A thread is a pixel.
__global__ void __launch_bounds__(256) astra_line_forward(astra_line_work work) {
  const int32_t tiles = (work.detectors + 31) / 32, warp = blockIdx.x * 8 + threadIdx.x / 32, view = warp % work.view_count,
                column = warp / work.view_count * 32 + threadIdx.x % 32;
  double square = 0;
  if (warp / work.view_count < tiles && column < work.detectors) {
    const astra_aimed &aimed = work.aimed[view];
    const int along_x = work.fan && astra_fan_axis(&aimed.fan, column) == RS_X, main = along_x ? RS_X : aimed.main;
    const astra_frame &frame = aimed.frame[along_x];
    const float counts[3] = {(float)(main == RS_X ? work.width : work.height), (float)(main == RS_X ? work.height : work.width), 1};
    const uint32_t last = 256 * ((uint32_t)counts[1] + 1);
    const float2 *lines = main == RS_X ? work.columns : work.rows;
    const int64_t step = (int64_t)counts[1] + 2;
    const int s = work.supersampling;
    float total = 0;
    for (int sub = 0; sub < s; sub++) {
      const astra_ray ray = astra_aim(&frame, work.cone, 0, astra_sub_pixel(column, sub, s));
      const float slope = 256 * ray.slope[0];
      float first, end, sum = 0;
      astra_clip(&ray, counts, &first, &end);
      if (!(first <= end)) continue;
      const int32_t stop = (int32_t)fminf(end + 2, counts[0]);
      for (int32_t slab = (int32_t)first / frame.slab * frame.slab; slab < stop; slab += frame.slab) {
        float a = 256 * astra_enter(ray.start[0], ray.slope[0], (float)slab, counts[0], counts[1]);
        const float2 *line = lines + slab * step;
        const int32_t count = min(frame.slab, stop - slab);
#pragma unroll 4
        for (int32_t k = 0; k < count; k++, line += step) {
          sum += astra_line_sample(line, astra_place(a, last));
          a += slope;
        }
      }
      total += sum * (ray.length / (float)s);
    }
    square = rs_finish(work.output, work.item, (size_t)view * work.detectors + column, total);
  }
  if (!work.squares) return;
  square = rs_block_sum(square);
  if (threadIdx.x == 0) work.squares[blockIdx.x] = square;
}

// A thread is a voxel. `power`: of the depth by which the weight is divided.
template <int power> __global__ void __launch_bounds__(256) astra_line_back(astra_line_work work) {
  const uint32_t tiles = (work.width + 31) / 32;
  const int32_t x = blockIdx.x % tiles * 32 + threadIdx.x % 32, y = blockIdx.x / tiles * 8 + threadIdx.x / 32;
  if (x >= work.width || y >= work.height) return;
  const uint32_t last = 256 * ((uint32_t)work.detectors + 1);
  const int n = work.supersampling;
  float sum = 0;
  for (int sub = 0; sub < n * n; sub++) {
    const double at_y = y + (sub / n + 0.5) / n - 0.5, at_x = x + (sub % n + 0.5) / n - 0.5;
    const float2 *line = work.rows;
#pragma unroll 4
    for (int32_t i = 0; i < work.view_count; i++, line += work.detectors + 2) {
      const astra_view &view = work.views[i];
      double p = view.column[1] * at_y + view.column[3] + view.column[2] * at_x;
      float share = (float)view.weight;
      if (power) {
        const double near = astra_reciprocal(view.depth[1] * at_y + view.depth[3] + view.depth[2] * at_x);
        p = p * near + RS_TEXTURE_OFFSET;
        share *= (float)(power == 2 ? near * near : fabs(near));
        if (!(share < FLT_MAX)) share = 0, p = -1;
      }
      sum = fmaf(share, astra_line_sample(line, (uint32_t)min(max(__double2int_rd(p), 0), (int)last)), sum);
    }
  }
  rs_finish(work.output, work.item, (size_t)y * work.width + x, sum / (float)(n * n));
}
