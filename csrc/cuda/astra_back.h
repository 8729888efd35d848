// astra_back.h: the back kernel of ASTRA's laws for any view: a thread is a few voxels above one another.
#pragma once
#include "astra_tables.h"

constexpr int ASTRA_SLICES = 4; // voxels of a thread

// 256 times what a view adds to the place (z, y, x). `power`: of the depth by which the weight is divided.
template <int power>
__device__ inline float astra_collect(const float *image, int32_t pitch, const int32_t *last, double middle, const astra_view &view,
                                      double z, double y, double x) {
  const double *c = view.column, *r = view.row, *d = view.depth;
  double p = c[0] * z + c[1] * y + c[3] + c[2] * x, q = r[0] * z + r[1] * y + r[3] + r[2] * x;
  float share = (float)view.weight;
  if (power == 2 && view.turn != 0) {
    // The ray through the voxel's centre is followed to where it leaves the cylinder, if it meets it.
    const double to[3] = {p, d[0] * z + d[1] * y + d[3] + d[2] * x, q};
    double way;
    const double angle = rs_bend_angle(to, view.source, &way);
    if (!(fabs(way) < FLT_MAX)) return 0;
    p = RS_TEXTURE_SCALE * (middle + angle / view.turn) + RS_TEXTURE_OFFSET;
    q = view.source[2] + way * q + RS_TEXTURE_OFFSET;
    share = (float)(view.weight * way * way);
  } else if (power) {
    const double near = 1 / (d[0] * z + d[1] * y + d[3] + d[2] * x);
    p = p * near + RS_TEXTURE_OFFSET;
    q = q * near + RS_TEXTURE_OFFSET;
    share *= (float)(power == 2 ? near * near : fabs(near));
    if (!(share < FLT_MAX)) share = 0; // in the plane of the source there is no place either
  }
  const int32_t a = max(0, min(__double2int_rd(p), last[0])), b = max(0, min(__double2int_rd(q), last[1]));
  const float *texel = image + (a >> 8) + (b >> 8) * pitch;
  const rs_weights w = rs_texture_weights<RS_TEXTURE_XZ>(a, b);
  return share * ((w.self * texel[0] + w.first * texel[1]) + (w.second * texel[pitch] + w.both * texel[pitch + 1]));
}

// The same for a parallel view, for the place `steps` above (z, y, x), which counts from the volume's middle.
__device__ inline float astra_collect_parallel(const float *image, int32_t pitch, const int32_t *last, const astra_view &view, float z,
                                               int steps, float y, float x) {
  float column = astra_place32(view.column32, z, y, x), row = astra_place32(view.row32, z, y, x);
  for (int step = 0; step < steps; step++) column += view.column32[0], row += view.row32[0];
  const int32_t a = max(0, min(rs_texture_place_of(column), last[0])), b = max(0, min(rs_texture_place_of(row), last[1]));
  const float *texel = image + (a >> 8) + (b >> 8) * pitch;
  const rs_weights w = rs_texture_weights<RS_TEXTURE_XZ>(a, b);
  return (float)view.weight * ((w.self * texel[0] + w.first * texel[1]) + (w.second * texel[pitch] + w.both * texel[pitch + 1]));
}

// `power`: see astra_collect; ASTRA_PARALLEL: parallel beams in law RS_ASTRA.
constexpr int ASTRA_PARALLEL = -1;
template <int power> __global__ void astra_back(astra_back_work work) {
  const uint32_t across = (work.width + 31) / 32, along = (work.height + 7) / 8;
  const int32_t x = blockIdx.x % across * 32 + threadIdx.x, y = blockIdx.x / across % along * 8 + threadIdx.y,
                z = blockIdx.x / across / along * ASTRA_SLICES;
  if (x >= work.width || y >= work.height) return;
  const int32_t pitch = work.columns + RS_TEXTURE_BORDER, n = work.sub_rows, subs = work.sub_slices * n * n,
                last[2] = {(int32_t)rs_texture_last(work.columns), (int32_t)rs_texture_last(work.rows)};
  float sum[ASTRA_SLICES] = {0};
  for (int32_t view = 0; view < work.view_count; view++) {
    const float *image = work.packed + (int64_t)view * (work.rows + RS_TEXTURE_BORDER) * pitch;
    for (int sub = 0; sub < subs; sub++) {
      const double dz = (sub / n / n + 0.5) / work.sub_slices - 0.5, dy = (sub / n % n + 0.5) / n - 0.5, dx = (sub % n + 0.5) / n - 0.5;
#pragma unroll
      for (int k = 0; k < ASTRA_SLICES; k++) {
        if constexpr (power == ASTRA_PARALLEL) {
          const int steps = n == 1 ? (z + k) % ASTRA_STEPS : 0;
          sum[k] += astra_collect_parallel(image, pitch, last, work.views[view], (float)(z + k + dz - steps - 0.5 * (work.depth - 1)),
                                           steps, (float)(y + dy - 0.5 * (work.height - 1)), (float)(x + dx - 0.5 * (work.width - 1)));
          continue;
        }
        sum[k] += astra_collect<power>(image, pitch, last, 0.5 * (work.columns - 1), work.views[view], z + k + dz, y + dy, x + dx);
      }
    }
  }
  const float share = (float)(1 / (RS_TEXTURE_SCALE * subs));
  rs_finish_all<ASTRA_SLICES>(
      work.output, work.item, [&](int k) { return z + k < work.depth; },
      [&](int k) { return ((size_t)(z + k) * work.height + y) * work.width + x; }, [&](int k) { return share * sum[k]; });
}
