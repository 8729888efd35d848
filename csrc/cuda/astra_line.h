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

// A view as the voxels of a block see it, as offsets from the block's middle: where they are seen, from place `base` on and times the
// depth, and the depth, both with their steps along y and x. Numbers so small have float32 to spare.
struct astra_line_view {
  float seen, seen_y, seen_x, weight, depth, depth_y, depth_x;
  int32_t base;
};

constexpr int ASTRA_LINE_VOXELS = 2; // of a thread, 8 lines apart

template <int power> __device__ inline astra_line_view astra_approach(const astra_view &view, double y, double x) {
  const double *c = view.column, *d = view.depth, seen = c[1] * y + c[2] * x + c[3], depth = power ? d[1] * y + d[2] * x + d[3] : 1,
               offset = power ? RS_TEXTURE_OFFSET : 0, base = rint(fmin(fmax(seen / depth + offset, -1e9), 1e9)), from = base - offset;
  if (!power) return {(float)(seen - base), (float)c[1], (float)c[2], (float)view.weight, 1, 0, 0, (int32_t)base};
  return {(float)(seen - from * depth),
          (float)(c[1] - from * d[1]),
          (float)(c[2] - from * d[2]),
          (float)view.weight,
          (float)depth,
          (float)d[1],
          (float)d[2],
          (int32_t)base};
}

// A block is 32 x 16 voxels. `power`: of the depth by which the weight is divided.
template <int power> __global__ void __launch_bounds__(256) astra_line_back(astra_line_work work) {
  constexpr int VIEWS = 256, HIGH = 8 * ASTRA_LINE_VOXELS;
  __shared__ astra_line_view views[VIEWS];
  const uint32_t tiles = (work.width + 31) / 32;
  const int32_t x0 = blockIdx.x % tiles * 32, y0 = blockIdx.x / tiles * HIGH, lane = threadIdx.x % 32, warp = threadIdx.x / 32,
                last = 256 * (work.detectors + 1);
  const int n = work.supersampling;
  float sum[ASTRA_LINE_VOXELS] = {};
  for (int32_t first = 0; first < work.view_count; first += VIEWS) {
    __syncthreads(); // the views before were read
    if (first + (int32_t)threadIdx.x < work.view_count)
      views[threadIdx.x] = astra_approach<power>(work.views[first + threadIdx.x], y0 + 0.5 * (HIGH - 1), x0 + 15.5);
    __syncthreads();
    const int32_t count = min(work.view_count - first, VIEWS);
    for (int sub = 0; sub < n * n; sub++) {
      const float y = warp - 0.5f * (HIGH - 1) + (sub / n + 0.5f) / n - 0.5f, x = lane - 15.5f + (sub % n + 0.5f) / n - 0.5f;
      const float2 *line = work.rows + first * (int64_t)(work.detectors + 2);
#pragma unroll 2
      for (int32_t i = 0; i < count; i++, line += work.detectors + 2) {
        const astra_line_view view = views[i];
#pragma unroll
        for (int k = 0; k < ASTRA_LINE_VOXELS; k++) {
          float seen = fmaf(view.seen_x, x, fmaf(view.seen_y, y + 8 * k, view.seen)), share = view.weight;
          if (power) {
            const float depth = fmaf(view.depth_x, x, fmaf(view.depth_y, y + 8 * k, view.depth));
            float near = __fdividef(1, depth);
            near = fmaf(near, fmaf(-depth, near, 1), near);
            seen *= near;
            share *= power == 2 ? near * near : fabsf(near);
          }
          const float rounded = __fadd_rd(fminf(fmaxf(seen, -4e6f), 4e6f), 1.5f * RS_MAGIC);
          const int32_t place = view.base + (int32_t)(__float_as_uint(rounded) - __float_as_uint(1.5f * RS_MAGIC));
          sum[k] = fmaf(share, astra_line_sample(line, (uint32_t)min(max(place, 0), last)), sum[k]);
        }
      }
    }
  }
#pragma unroll
  for (int k = 0; k < ASTRA_LINE_VOXELS; k++) {
    const int32_t y = y0 + warp + 8 * k, x = x0 + lane;
    if (x < work.width && y < work.height) rs_finish(work.output, work.item, (size_t)y * work.width + x, sum[k] / (float)(n * n));
  }
}
