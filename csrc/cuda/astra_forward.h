// astra_forward.h: the forward kernel of ASTRA's laws for any rays: a thread is a pixel.
#pragma once
#include "astra_tables.h"

constexpr int ASTRA_THREADS = 256;

// Rows that neighbouring warps share.
__host__ __device__ inline int32_t astra_high(int32_t rows) { return rows < 8 ? rows : 8; }

// 256 times what a ray finds on its planes.
template <rs_texture_roles roles>
__device__ inline float astra_march(const astra_layout &layout, const astra_ray &ray, int32_t slab_planes, float first, float last) {
  const int32_t last_a = (int32_t)rs_texture_last((int32_t)layout.count[1]), last_b = (int32_t)rs_texture_last((int32_t)layout.count[2]);
  const int32_t from = (int32_t)first, end = (int32_t)fminf(last + 2, layout.count[0]);
  float sum = 0;
  for (int32_t slab = from / slab_planes * slab_planes; slab < end; slab += slab_planes) {
    float part = 0, a = astra_enter(ray.start[0], ray.slope[0], (float)slab, layout.count[0], layout.count[1]),
          b = astra_enter(ray.start[1], ray.slope[1], (float)slab, layout.count[0], layout.count[2]);
    const int32_t stop = min(slab + slab_planes, end);
    const float *plane = layout.packed + (int64_t)(slab + 1) * layout.step[0];
    for (int32_t s = slab; s < stop; s++, plane += layout.step[0]) {
      const int32_t place_a = max(0, min(rs_texture_place_of(a), last_a)), place_b = max(0, min(rs_texture_place_of(b), last_b));
      const float *texel = plane + (place_a >> 8) * layout.step[1] + (place_b >> 8) * layout.step[2];
      const rs_weights w = rs_texture_weights<roles>(place_a, place_b);
      part += (w.self * texel[0] + w.first * texel[layout.step[1]]) +
              (w.second * texel[layout.step[2]] + w.both * texel[layout.step[1] + layout.step[2]]);
      a += ray.slope[0];
      b += ray.slope[1];
    }
    sum += part;
  }
  return sum;
}

// Warps are 32 columns of a row of a view; rows of a group come first, then views, column tiles, groups: what runs at the same time
// then looks at the same part of the volume.
__global__ void astra_forward(astra_forward_work work) {
  const int64_t warp = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  const int32_t high = astra_high(work.rows), tiles = (work.columns + 31) / 32, view = (int32_t)(warp / high % work.view_count);
  const int64_t rest = warp / high / work.view_count;
  const int32_t column = (int32_t)(rest % tiles) * 32 + threadIdx.x % 32, row = (int32_t)(rest / tiles) * high + (int32_t)(warp % high);
  double square = 0;
  if (column < work.columns && row < work.rows) {
    const astra_aimed &aimed = work.views[view];
    const int along_x = work.fan && astra_fan_axis(&aimed.fan, column) == RS_X, main = along_x ? RS_X : aimed.main;
    const astra_layout &layout = work.layout[main];
    const int s = work.supersampling, slab = aimed.frame[along_x].slab;
    float sum = 0;
    for (int i = 0; i < work.sub_rows; i++)
      for (int j = 0; j < s; j++) {
        const astra_ray ray =
            astra_aim(&aimed.frame[along_x], work.cone, astra_sub_pixel(row, i, work.sub_rows), astra_sub_pixel(column, j, s));
        float first, last, found = 0;
        astra_clip(&ray, layout.count, &first, &last);
        if (!(first <= last)) continue;
        if (main == RS_X)
          found = astra_march<RS_TEXTURE_YZ>(layout, ray, slab, first, last);
        else if (main == RS_Y)
          found = astra_march<RS_TEXTURE_XZ>(layout, ray, slab, first, last);
        else
          found = astra_march<RS_TEXTURE_XY>(layout, ray, slab, first, last);
        sum += found * (ray.length / (float)(RS_TEXTURE_SCALE * work.sub_rows * s));
      }
    square = rs_finish(work.output, work.item, ((size_t)row * work.view_count + view) * work.columns + column, sum);
  }
  if (!work.squares) return;
  square = rs_block_sum(square);
  if (threadIdx.x == 0) work.squares[blockIdx.x] = square;
}
