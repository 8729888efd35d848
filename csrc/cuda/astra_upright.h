// astra_upright.h: the kernels of ASTRA's laws for detectors whose columns stand along z, as in circular scans: all rows of a column,
// and all voxels above one another, share their path in the plane.
//
// The second coordinate of a sample, along z or the detector's rows, is then the only one that every sample needs anew. Its place is
// found by one float32 addition of 2^23 that rounds down, which leaves it in the last bits of the sum.
#pragma once
#include "astra_tables.h"

#define ASTRA_MOST 32000 // voxels or pixels along an axis, so that places stay below 2^23

// What one fraction `a` contributes to the weights of all samples that share it. Weights here are true ones, multiples of 1/256; a
// product is rounded to such by adding 1.5 2^15, and its halves are pushed up or down before.
#define ASTRA_ROUND 49152.0f
struct astra_shared {
  float far, near, above;
  __device__ astra_shared(uint32_t fraction, bool yz) {
    const float a = (float)fraction * (1 / 256.0f), up = a + a * (1 / 65536.0f), down = a - a * (1 / 65536.0f);
    far = yz ? down : up;
    near = yz ? up : down;
    above = a + ASTRA_ROUND;
  }
};

// 1 + the fraction of a place.
__device__ inline float astra_fraction(uint32_t place) { return __uint_as_float(((place << 15) & 0x7f8000u) | 0x3f800000u); }

// The place of a position that counts 256ths of a voxel from half a voxel before the first one, as rs_texture_place32.
__device__ inline uint32_t astra_place(float position, uint32_t last) {
  return min(__float_as_uint(__fadd_rd(position + 0.5f, RS_MAGIC + RS_TEXTURE_OFFSET32)) - RS_MAGIC_BITS, last);
}

constexpr int ASTRA_UPRIGHT_VIEWS = 2, ASTRA_UPRIGHT_COLUMNS = 8, ASTRA_UPRIGHT_THREADS = 32 * ASTRA_UPRIGHT_VIEWS * ASTRA_UPRIGHT_COLUMNS;

struct astra_upright_work {
  rs_output output;
  size_t item;
  const astra_aimed *views;
  double *squares;
  const float *packed; // (y, x, z) with a border of zeros
  int64_t step[3];     // in floats along z, y, x
  float count[3];      // voxels along z, y, x
  int32_t view_count, rows, columns, supersampling, cone;
};

// A warp is a column of a view, its lanes are rows; `count` rows a lane, 32 apart.
template <int count> __global__ void __launch_bounds__(ASTRA_UPRIGHT_THREADS) astra_upright_forward(astra_upright_work work) {
  const int32_t groups = (work.view_count + ASTRA_UPRIGHT_VIEWS - 1) / ASTRA_UPRIGHT_VIEWS,
                tiles = (work.columns + ASTRA_UPRIGHT_COLUMNS - 1) / ASTRA_UPRIGHT_COLUMNS, warp = threadIdx.x / 32;
  const int32_t view = blockIdx.x % groups * ASTRA_UPRIGHT_VIEWS + warp / ASTRA_UPRIGHT_COLUMNS,
                column = blockIdx.x / groups % tiles * ASTRA_UPRIGHT_COLUMNS + warp % ASTRA_UPRIGHT_COLUMNS,
                row = blockIdx.x / groups / tiles * (32 * count) + threadIdx.x % 32;
  double square = 0;
  if (view < work.view_count && column < work.columns) {
    const astra_aimed &aimed = work.views[view];
    const int main = aimed.main, across = main == RS_X ? RS_Y : RS_X;
    const float counts[3] = {work.count[main], work.count[across], work.count[RS_Z]};
    const int64_t plane_step = work.step[main], first_step = work.step[across];
    const uint32_t last_a = 256 * ((uint32_t)counts[1] + 1), last_b = 256 * ((uint32_t)counts[2] + 1);
    const int s = work.supersampling, planes = aimed.frame[0].slab;
    float total[count] = {};
    for (int sub = 0; sub < s * s; sub++) {
      float start[count], slope[count], length[count], sum[count] = {}, first = counts[0], last = -1, start_a = 0, slope_a = 0;
#pragma unroll
      for (int k = 0; k < count; k++) {
        const astra_ray ray =
            astra_aim(&aimed.frame[0], work.cone, astra_sub_pixel(row + 32 * k, sub / s, s), astra_sub_pixel(column, sub % s, s));
        float low, high;
        astra_clip(&ray, counts, &low, &high);
        const bool inside = row + 32 * k < work.rows && low <= high;
        first = inside ? fminf(first, low) : first;
        last = inside ? fmaxf(last, high) : last;
        start[k] = 256 * ray.start[1];
        slope[k] = 256 * ray.slope[1];
        length[k] = ray.length;
        start_a = ray.start[0];
        slope_a = ray.slope[0];
      }
#pragma unroll
      for (int k = 16; k > 0; k /= 2) {
        first = fminf(first, __shfl_xor_sync(0xffffffffu, first, k));
        last = fmaxf(last, __shfl_xor_sync(0xffffffffu, last, k));
      }
      const int32_t end = last < first ? 0 : (int32_t)fminf(last + 2, counts[0]);
      for (int32_t slab = (int32_t)first / planes * planes; slab < end; slab += planes) {
        float a = 256 * astra_enter(start_a, slope_a, (float)slab, counts[0], counts[1]), b[count];
        const float height = (float)slab - 0.5f * counts[0] + 0.5f;
#pragma unroll
        for (int k = 0; k < count; k++) b[k] = fmaf(slope[k], height, start[k]) + 128 * counts[2]; // astra_enter, but for - 0.5 + 0.5
        const float *plane = work.packed + (slab + 1) * plane_step;
        const int32_t stop = min(slab + planes, end);
        for (int32_t at = slab; at < stop; at++, plane += plane_step) {
          const uint32_t place = astra_place(a, last_a);
          const astra_shared shared(place & 255, main == RS_X);
          const float *near = plane + (place >> 8) * first_step, *far = near + first_step;
#pragma unroll
          for (int k = 0; k < count; k++) {
            const uint32_t z = astra_place(b[k], last_b), index = z >> 8;
            const float f = astra_fraction(z), fraction = f - 1;
            const float both = fmaf(shared.far, fraction, ASTRA_ROUND) - ASTRA_ROUND,
                        one = shared.above - fmaf(shared.near, fraction, ASTRA_ROUND);
            sum[k] = fmaf((2 - f) - one, near[index], sum[k]);
            sum[k] = fmaf(one, far[index], sum[k]);
            sum[k] = fmaf(fraction - both, near[index + 1], sum[k]);
            sum[k] = fmaf(both, far[index + 1], sum[k]);
            b[k] += slope[k];
          }
          a += 256 * slope_a;
        }
      }
#pragma unroll
      for (int k = 0; k < count; k++) total[k] += sum[k] * (length[k] / (float)(s * s));
    }
    square += rs_finish_all<count>(
        work.output, work.item, [&](int k) { return row + 32 * k < work.rows; },
        [&](int k) { return ((size_t)(row + 32 * k) * work.view_count + view) * work.columns + column; }, [&](int k) { return total[k]; });
  }
  if (!work.squares) return;
  square = rs_block_sum(square);
  if (threadIdx.x == 0) work.squares[blockIdx.x] = square;
}

// 1 / x to 40 bits or more.
__device__ inline double astra_reciprocal(double x) {
  const double near = __fdividef(1, (float)x);
  return near + near * (1 - x * near);
}
