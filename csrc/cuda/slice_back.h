// slice_back.h: back projection of a slice, where a voxel sees at most two columns of a view. With two CHANNELS the tiles are those of
// the first half of the rows, and a thread does the counterparts of its voxels, see slice_plane, as well.
//
// Voxels on top of each other lie at most one column apart, so a pair of them sees three columns together: three loads instead of four.
#pragma once
#include "slice_kernels.h"

constexpr int SLICE_WIDTH = 32;     // voxels of a tile: the lanes of a warp
constexpr int SLICE_TILE_BITS = 25; // of positions inside a tile, counted from its middle

// A view as the voxels of a tile see it: the position of its middle behind column `low`, steps from voxel to voxel, and its place in the
// projections. Columns count backwards where that makes positions rise with y.
struct __align__(16) slice_line {
  uint32_t middle;
  int32_t along_y, along_x;
  float pitch;
  int32_t low, view, backwards;
  float length;
};

// A tile has ROWS voxels a thread, in pairs where there are several, and WARPS x ROWS rows. So many threads make a group, which does a part
// of the views, in stages.
constexpr int SLICE_STAGE = 8;  // views
constexpr int SLICE_BESIDE = 5; // columns that a tile may see of a view beside those between its outermost voxels

template <int CHANNELS, int ROWS, int WARPS> static inline size_t slice_back_bytes(int groups, int32_t columns) {
  const size_t stages = (size_t)groups * SLICE_STAGE * (2 * columns * CHANNELS * sizeof(float) + 3 * sizeof(slice_line));
  const size_t partial = (size_t)groups * 32 * WARPS * ROWS * CHANNELS * sizeof(float);
  return stages > partial ? stages : partial;
}

// The threads of a group meet. Groups do not wait for one another, so that one brings columns to shared memory while others add up.
template <int GROUP> __device__ static inline void slice_meet(int group) {
#ifdef __CUDA_ARCH__
  asm volatile("bar.sync %0, %1;" ::"r"(1 + group), "n"(GROUP) : "memory"); // __syncthreads() is barrier 0
#else
  (void)group;
  __syncthreads(); // all groups come here as often
#endif
}

// What all channels have in one column.
template <int CHANNELS> struct slice_pixel { float channel[CHANNELS]; };
template <int CHANNELS> __device__ static inline slice_pixel<CHANNELS> slice_pixel_at(const float *shared, int32_t view, int32_t place) {
  slice_pixel<CHANNELS> pixel;
  if constexpr (CHANNELS == 1) {
    pixel.channel[0] = (shared + view)[place];
  } else {
    const float2 v = reinterpret_cast<const float2 *>(shared)[view + place];
    pixel.channel[0] = v.x, pixel.channel[1] = v.y;
  }
  return pixel;
}

// `columns` is the room for what a tile sees of a view. The groups of a block are added up in the end.
template <int CHANNELS, int ROWS, int WARPS>
__global__ void __launch_bounds__(1024, 1)
    slice_back(slice_plane plane, const float *projections, slice_lanes lanes, rs_output output, int32_t columns) {
  constexpr int HEIGHT = WARPS * ROWS, GROUP = 32 * WARPS, STAGE = SLICE_STAGE, VIEWS = STAGE / WARPS;
  constexpr int TALL = ROWS > 1 ? 2 : 1; // rows that a thread does together
  constexpr double TILE_ONE = 1 << SLICE_TILE_BITS;
  constexpr int PARTS = (HEIGHT + SLICE_WIDTH + SLICE_BESIDE + 31) / 32; // columns of a view that a lane brings
  RS_SHARED(float, shared);
  const int groups = blockDim.x / GROUP, group = threadIdx.x / GROUP, t = threadIdx.x % GROUP;
  const int lane = t % 32, warp = t / 32;
  const int tiles = (plane.nx + SLICE_WIDTH - 1) / SLICE_WIDTH;
  const int32_t y = blockIdx.x / tiles * HEIGHT, x = blockIdx.x % tiles * SLICE_WIDTH;
  const int64_t slice = lanes.first + blockIdx.y;
  projections += slice * plane.views * plane.columns;
  const int32_t share = (plane.views + groups - 1) / groups, begin = group * share;
  const int32_t end = begin + share < plane.views ? begin + share : plane.views;
  const int stage_floats = STAGE * columns * CHANNELS;
  slice_line *lines = reinterpret_cast<slice_line *>(shared + (size_t)groups * 2 * stage_floats) + group * 3 * STAGE;
  float *stages = shared + group * 2 * stage_floats;

  auto aim = [&](int32_t stage) { // a warp finds the lines of a stage, two ahead of their use
    const int32_t k = begin + stage * STAGE + lane;
    if (lane >= STAGE) return;
    slice_line line = {0, 0, 0, 0, plane.columns, 0, 0, 0}; // all voxels at the column behind the last
    if (k < end) {
      const stack_view &view = plane.view[k];
      const bool backwards = TALL > 1 && view.along_y < 0;
      const double along_y = backwards ? -view.along_y : view.along_y, along_x = backwards ? -view.along_x : view.along_x;
      double middle = view.origin + view.along_y * (y + HEIGHT / 2) + view.along_x * (x + SLICE_WIDTH / 2);
      if (backwards) middle = plane.columns - 1 - middle;
      const double least = middle - fabs(along_y) * (HEIGHT / 2) - fabs(along_x) * (SLICE_WIDTH / 2) - 1e-5;
      if (least < plane.columns && least + columns > -1) {
        line = {0,
                (int32_t)lrint(along_y * TILE_ONE),
                (int32_t)lrint(along_x * TILE_ONE),
                view.pitch,
                (int32_t)floor(least),
                view.view,
                backwards,
                view.length};
        line.middle = (uint32_t)llrint((middle - line.low) * TILE_ONE);
      }
    }
    lines[stage % 3 * STAGE + lane] = line;
  };
  slice_pixel<CHANNELS> held[VIEWS][PARTS] = {};
  auto fetch = [&](int32_t stage) { // a warp reads VIEWS views of a stage, nothing waits for them before `put`
#pragma unroll
    for (int n = 0; n < VIEWS; n++) {
      const slice_line &line = lines[stage % 3 * STAGE + warp * VIEWS + n];
      const int32_t low = line.low + lane;
      const float *view = projections + (int64_t)line.view * plane.columns;
      const float *row = view + low, *turned = view + plane.columns - 1 - low;
#pragma unroll
      for (int p = 0; p < PARTS; p++) {
        if (p * 32 >= columns) break;
        const bool here = (uint32_t)(low + p * 32) < (uint32_t)plane.columns;
        held[n][p].channel[0] = here ? row[p * 32] : 0;
        if constexpr (CHANNELS == 2)
          held[n][p].channel[1] = here ? turned[-p * 32] : 0;
        else if (TALL > 1 && line.backwards)
          held[n][p].channel[0] = here ? turned[-p * 32] : 0;
      }
    }
  };
  auto put = [&](int32_t stage) {
#pragma unroll
    for (int n = 0; n < VIEWS; n++) {
      const slice_line line = lines[stage % 3 * STAGE + warp * VIEWS + n];
      float *data = stages + (stage & 1) * stage_floats;
      const int32_t place = (warp * VIEWS + n) * columns + lane;
#pragma unroll
      for (int p = 0; p < PARTS; p++) {
        if (p * 32 + lane >= columns) break;
        const float one = held[n][p].channel[0] * line.length, other = held[n][p].channel[CHANNELS - 1] * line.length;
        if constexpr (CHANNELS == 1)
          data[place + p * 32] = one;
        else
          reinterpret_cast<float2 *>(data)[place + p * 32] = TALL > 1 && line.backwards ? make_float2(other, one) : make_float2(one, other);
      }
    }
  };

  const int32_t part_bits = plane.part_bits;
  float sum[ROWS][CHANNELS] = {};
  if (warp < 2) aim(warp);
  slice_meet<GROUP>(group);
  fetch(0);
  put(0);
  const int32_t count = (share + STAGE - 1) / STAGE; // the same for all groups
  for (int32_t stage = 0; stage < count; stage++) {
    const int32_t from = begin + stage * STAGE;
    slice_meet<GROUP>(group);
    if (stage + 1 < count) fetch(stage + 1);
    if (warp == stage % WARPS && stage + 2 < count) aim(stage + 2);
    const float *data = stages + (stage & 1) * stage_floats;
    auto add = [&](int k) {
      const slice_line line = lines[stage % 3 * STAGE + k];
      const float pitch = line.pitch, above = 1 + pitch, below = 1 - 2 * pitch, beyond = 1 - 3 * pitch, between = 2 * pitch;
      // Up to 2^7 columns, and no sign.
      uint32_t at = (line.middle + (uint32_t)((lane - SLICE_WIDTH / 2) * line.along_x + (warp * TALL - HEIGHT / 2) * line.along_y)) >>
                    (SLICE_TILE_BITS - SLICE_BITS);
      const uint32_t step = (uint32_t)line.along_y * (TALL * WARPS >> (SLICE_TILE_BITS - SLICE_BITS));
      const float next = (float)line.along_y * (1.0f / (1 << SLICE_TILE_BITS)); // from voxel to voxel of a pair
#pragma unroll
      for (int n = 0; n < ROWS; n += TALL, at += step) {
        const int32_t place = (int32_t)(at >> SLICE_BITS);
        const slice_pixel<CHANNELS> first = slice_pixel_at<CHANNELS>(data, k * columns, place),
                                    second = slice_pixel_at<CHANNELS>(data, k * columns, place + 1);
        const float part = slice_part((int32_t)at, part_bits);
        const float near = __saturatef(fmaf(-pitch, part, above)), far = __saturatef(fmaf(pitch, part, below));
#pragma unroll
        for (int c = 0; c < CHANNELS; c++) sum[n][c] = fmaf(far, second.channel[c], fmaf(near, first.channel[c], sum[n][c]));
        if constexpr (TALL == 2) {
          const slice_pixel<CHANNELS> third = slice_pixel_at<CHANNELS>(data, k * columns, place + 2);
          const float other = part + next; // 1 + how far the upper voxel lies behind the first column
          const float one = __saturatef(fmaf(-pitch, other, above)), two = __saturatef(1 - fabsf(fmaf(pitch, other, -between)));
          const float three = __saturatef(fmaf(pitch, other, beyond));
#pragma unroll
          for (int c = 0; c < CHANNELS; c++)
            sum[n + 1][c] = fmaf(three, third.channel[c], fmaf(two, second.channel[c], fmaf(one, first.channel[c], sum[n + 1][c])));
        }
      }
    };
    if (end - from >= STAGE) {
#pragma unroll 8
      for (int k = 0; k < STAGE; k++) add(k);
    } else {
#pragma unroll 1
      for (int k = 0; k < end - from; k++) add(k);
    }
    if (stage + 1 < count) put(stage + 1);
  }
  __syncthreads();
  constexpr int SUMS = ROWS * CHANNELS * GROUP;
#pragma unroll
  for (int n = 0; n < ROWS * CHANNELS; n++) shared[group * SUMS + n * GROUP + t] = sum[n / CHANNELS][n % CHANNELS];
  __syncthreads();
  const int64_t image = (int64_t)plane.ny * plane.nx;
  const size_t item = (size_t)(slice / lanes.units * lanes.units * image), unit = (size_t)(slice % lanes.units * image);
#pragma unroll 1
  for (int n = threadIdx.x; n < SUMS; n += blockDim.x) {
    float value = 0;
#pragma unroll 4
    for (int g = 0; g < groups; g++) value += shared[g * SUMS + n];
    const int32_t own = n / GROUP / CHANNELS; // of the rows of a thread
    const int32_t column = x + n % 32, row = y + (n % GROUP / 32 + own / TALL * WARPS) * TALL + own % TALL;
    const bool turned = n / GROUP % CHANNELS;
    if (column >= plane.nx || row >= (turned ? plane.ny / 2 : plane.ny)) continue; // a row in the middle is its own counterpart
    const int64_t voxel = (int64_t)row * plane.nx + column;
    rs_finish(output, item, unit + (turned ? image - 1 - voxel : voxel), value);
  }
}
