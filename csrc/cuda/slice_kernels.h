// slice_kernels.h: the kernels of the `rs_slice_cuda` family. Threads are rays or voxels; one launch is a whole operator.
//
// CHANNELS slices share the weights that a thread finds. Positions are fixed-point numbers with 23 bits behind the point, all that the
// mantissa of a float32 in [1, 2) holds: such a number, 1 + the part of a position behind its cell, is made by one logical operation.
#pragma once
#include "stack_blocks.h"

constexpr int SLICE_BITS = 23;
constexpr int SLICE_FINE_BITS = 40; // of the int64_t positions at which rays enter a band
constexpr int SLICE_BAND = 16;      // planes of which forward projection holds a window in shared memory
constexpr int SLICE_STAGE = 8;      // views of which a group of back projection does
constexpr int SLICE_WIDTH = 32;     // of a tile of back projection; a group has as many threads as 8 rows of it
constexpr int SLICE_GROUP = 256;
constexpr int SLICE_TILE_BITS = 25; // of positions inside a tile, counted from its middle

struct slice_plane {
  const stack_view *view;
  int32_t views, columns, ny, nx;
};

// Slices of all items of a batch, `count` of them from `first` on.
struct slice_lanes {
  int64_t first, count;
  int32_t units; // slices of an item
};

// What two neighbouring samples of all channels become: one load for a position.
template <int CHANNELS> struct slice_pair { float near[CHANNELS], far[CHANNELS]; };
// [2 halves][stride] of float4 for four channels, which spreads neighbours over all banks; otherwise the pairs one behind the other.
template <int CHANNELS>
__device__ static inline void slice_put(float *shared, int32_t place, int32_t half, const slice_pair<CHANNELS> &pair) {
  if constexpr (CHANNELS == 1) {
    reinterpret_cast<float2 *>(shared)[place] = make_float2(pair.near[0], pair.far[0]);
  } else if constexpr (CHANNELS == 2) {
    reinterpret_cast<float4 *>(shared)[place] = make_float4(pair.near[0], pair.near[1], pair.far[0], pair.far[1]);
  } else {
    reinterpret_cast<float4 *>(shared)[place] = make_float4(pair.near[0], pair.near[1], pair.near[2], pair.near[3]);
    reinterpret_cast<float4 *>(shared)[half + place] = make_float4(pair.far[0], pair.far[1], pair.far[2], pair.far[3]);
  }
}
template <int CHANNELS> __device__ static inline slice_pair<CHANNELS> slice_get(const float *shared, int32_t place, int32_t half) {
  slice_pair<CHANNELS> pair;
  if constexpr (CHANNELS == 1) {
    const float2 v = reinterpret_cast<const float2 *>(shared)[place];
    pair.near[0] = v.x, pair.far[0] = v.y;
  } else if constexpr (CHANNELS == 2) {
    const float4 v = reinterpret_cast<const float4 *>(shared)[place];
    pair.near[0] = v.x, pair.near[1] = v.y, pair.far[0] = v.z, pair.far[1] = v.w;
  } else {
    const float4 v = reinterpret_cast<const float4 *>(shared)[place], w = reinterpret_cast<const float4 *>(shared)[half + place];
    pair.near[0] = v.x, pair.near[1] = v.y, pair.near[2] = v.z, pair.near[3] = v.w;
    pair.far[0] = w.x, pair.far[1] = w.y, pair.far[2] = w.z, pair.far[3] = w.w;
  }
  return pair;
}
// 1 + the part of a position behind its cell
__device__ static inline float slice_part(uint32_t position) { return __uint_as_float((position & 0x7fffffu) | 0x3f800000u); }

// ---- forward

// A block owns the rays of `views` x 16 block.pieces columns, two a thread: half of the columns apart. It goes from band to band of
// planes; shared memory holds what its rays see of a band, as (2 a - b, b - a) for neighbours a and b, so that a + f (b - a) is a sum and
// a multiply-add with 1 + f. views is a power of two; voxels is the room for a plane.
template <int CHANNELS>
__global__ void __launch_bounds__(SLICE_GROUP)
    slice_forward(slice_plane plane, const stack_block *blocks, const float *volume, slice_lanes lanes, rs_output output, double *sums,
                  int32_t views, int32_t voxels) {
  RS_SHARED(float, shared);
  __shared__ int32_t windows[2][2]; // first voxel and count, of this band and the next
  const int t = threadIdx.x, lane = t % 32, warp = t / 32, warps = blockDim.x / 32;
  const stack_block block = blocks[blockIdx.x];
  const bool upright = plane.view[block.view].main == RS_Y;
  const int32_t cross = upright ? plane.nx : plane.ny, half = SLICE_BAND * voxels;
  const int64_t image = (int64_t)plane.ny * plane.nx, first = lanes.first + (int64_t)blockIdx.y * CHANNELS;
  const int channels = lanes.first + lanes.count - first < CHANNELS ? (int)(lanes.first + lanes.count - first) : CHANNELS;
  volume += first * image;
  const int slot = t % views, apart = block.pieces * (STACK_SIDE / 2), column = block.column + t / views;
  const stack_view &view = plane.view[block.view + (slot < block.views ? slot : 0)];
  const double start = ldexp(view.start + view.column * column + view.plane * block.first, SLICE_FINE_BITS);
  int64_t position[2] = {llrint(start), llrint(start + ldexp(view.column * apart, SLICE_FINE_BITS))};
  const int64_t band_step = llrint(ldexp(view.plane * SLICE_BAND, SLICE_FINE_BITS));
  const int32_t step = (int32_t)lrint(ldexp(view.plane, SLICE_BITS));

  // The window of the band that begins at a plane, by one warp: lanes are views and both ends of the columns.
  auto find = [&](int32_t from, int32_t *window) {
    const int32_t to = from + SLICE_BAND < block.last ? from + SLICE_BAND - 1 : block.last - 1;
    int32_t low = INT32_MAX, high = INT32_MIN;
    if (lane % STACK_MOST_VIEWS < block.views) {
      const stack_view &v = plane.view[block.view + lane % STACK_MOST_VIEWS];
      const int end = block.column + (lane < STACK_MOST_VIEWS ? 0 : block.pieces * STACK_SIDE - 1);
      const double a = stack_voxel_of(v, end, from), b = stack_voxel_of(v, end, to);
      low = (int32_t)floor(fmin(a, b) - 1e-5); // what rounding of fixed-point positions may need
      high = (int32_t)floor(fmax(a, b) + 1e-5);
    }
    for (int k = 16; k > 0; k /= 2) {
      const int32_t other_low = __shfl_xor_sync(0xffffffffu, low, k), other_high = __shfl_xor_sync(0xffffffffu, high, k);
      low = other_low < low ? other_low : low;
      high = other_high > high ? other_high : high;
    }
    if (lane == 0) window[0] = low, window[1] = high - low + 1 < voxels ? high - low + 1 : voxels;
  };
  auto fill = [&](int32_t s, int32_t m, int32_t place, int32_t voxel) {
    const bool here = voxel >= 0 && voxel < cross, behind = voxel >= -1 && voxel < cross - 1;
    const float *from = volume + (upright ? (int64_t)m * plane.nx + voxel : (int64_t)voxel * plane.nx + m);
    const int64_t next = upright ? 1 : plane.nx;
    slice_pair<CHANNELS> pair;
#pragma unroll
    for (int c = 0; c < CHANNELS; c++, from += image) {
      const float a = here && c < channels ? *from : 0, b = behind && c < channels ? from[next] : 0;
      pair.near[c] = 2 * a - b;
      pair.far[c] = b - a;
    }
    slice_put<CHANNELS>(shared, s * voxels + place, half, pair);
  };

  float sum[2][CHANNELS] = {};
  if (warp == 0 && block.first < block.last) find(block.first, windows[0]);
  __syncthreads();
  for (int32_t from = block.first, band = 0; from < block.last; from += SLICE_BAND, band ^= 1) {
    const int32_t low = windows[band][0], count = windows[band][1];
    const int32_t planes = block.last - from < SLICE_BAND ? block.last - from : SLICE_BAND;
    if (upright)
      for (int32_t s = warp; s < planes; s += warps)
        for (int32_t k = lane; k < count; k += 32) fill(s, from + s, k, low + k);
    else
      for (int32_t k = t / SLICE_BAND; k < count; k += blockDim.x / SLICE_BAND)
        if (t % SLICE_BAND < planes) fill(t % SLICE_BAND, from + t % SLICE_BAND, k, low + k);
    if (warp == 0 && from + SLICE_BAND < block.last) find(from + SLICE_BAND, windows[band ^ 1]);
    __syncthreads();
#pragma unroll
    for (int r = 0; r < 2; r++) {
      uint32_t at = (uint32_t)((position[r] - ((int64_t)low << SLICE_FINE_BITS)) >> (SLICE_FINE_BITS - SLICE_BITS));
      position[r] += band_step;
      float partial[CHANNELS] = {}; // short sums keep the errors of float32 small
      auto add = [&](int s) {
        const slice_pair<CHANNELS> pair = slice_get<CHANNELS>(shared, s * voxels + (int32_t)(at >> SLICE_BITS), half);
        const float part = slice_part(at);
#pragma unroll
        for (int c = 0; c < CHANNELS; c++) partial[c] = fmaf(part, pair.far[c], partial[c] + pair.near[c]);
        at += step;
      };
      if (planes == SLICE_BAND) {
#pragma unroll
        for (int s = 0; s < SLICE_BAND; s++) add(s);
      } else {
        for (int s = 0; s < planes; s++) add(s);
      }
#pragma unroll
      for (int c = 0; c < CHANNELS; c++) sum[r][c] += partial[c];
    }
    __syncthreads();
  }
  const int64_t sinogram = (int64_t)plane.views * plane.columns;
#pragma unroll
  for (int c = 0; c < CHANNELS; c++) {
    double squares = 0;
    const size_t item = (size_t)((first + c) / lanes.units * lanes.units * sinogram);
    const size_t unit = (size_t)((first + c) % lanes.units * sinogram + (int64_t)view.view * plane.columns);
    for (int r = 0; r < 2; r++)
      if (c < channels && slot < block.views && column + r * apart < plane.columns)
        squares += rs_finish(output, item, unit + column + r * apart, view.length * sum[r][c]);
    if (!sums) continue;
    squares = rs_block_sum(squares);
    if (t == 0 && c < channels) sums[(first + c) * gridDim.x + blockIdx.x] = squares;
  }
}

// ---- back

// A view as the voxels of a tile see it: the position of its middle on the detector, and steps from voxel to voxel.
struct slice_line {
  uint32_t middle;
  int32_t along_y, along_x;
  float pitch;
};

template <int CHANNELS> static inline size_t slice_back_bytes(int groups, int rows, int32_t columns) {
  const size_t stages = (size_t)groups * 2 * SLICE_STAGE * (columns * sizeof(slice_pair<CHANNELS>) + sizeof(slice_line));
  const size_t partial = (size_t)(groups - 1) * SLICE_GROUP * rows * CHANNELS * sizeof(float);
  return stages > partial ? stages : partial;
}

// Groups of a block: as many as registers allow.
constexpr int slice_groups(int channels, int rows) { return channels * rows > 4 ? 2 : 4; }

// A block owns SLICE_WIDTH x 8 ROWS voxels. Its groups of threads see to a part of the views each, and are added up in the end.
template <int CHANNELS, int ROWS>
__global__ void __launch_bounds__(slice_groups(CHANNELS, ROWS) * SLICE_GROUP)
    slice_back(slice_plane plane, const float *projections, slice_lanes lanes, rs_output output, int32_t columns) {
  constexpr int HEIGHT = 8 * ROWS;
  RS_SHARED(float, shared);
  const int groups = blockDim.x / SLICE_GROUP, group = threadIdx.x / SLICE_GROUP, t = threadIdx.x % SLICE_GROUP;
  const int lane = t % 32, warp = t / 32;
  const int tiles = (plane.nx + SLICE_WIDTH - 1) / SLICE_WIDTH;
  const int32_t y = blockIdx.x / tiles * HEIGHT, x = blockIdx.x % tiles * SLICE_WIDTH;
  const int64_t first = lanes.first + (int64_t)blockIdx.y * CHANNELS, sinogram = (int64_t)plane.views * plane.columns;
  const int channels = lanes.first + lanes.count - first < CHANNELS ? (int)(lanes.first + lanes.count - first) : CHANNELS;
  projections += first * sinogram;
  const int32_t share = (plane.views + groups - 1) / groups, begin = group * share;
  const int32_t end = begin + share < plane.views ? begin + share : plane.views;
  const int32_t half = SLICE_STAGE * columns;
  const int stage_floats = SLICE_STAGE * columns * 2 * CHANNELS;
  slice_line *lines = reinterpret_cast<slice_line *>(shared + (size_t)groups * 2 * stage_floats) + group * 2 * SLICE_STAGE;
  float *stages = shared + group * 2 * stage_floats;

  // A warp brings a view of the stage that begins with view `from`.
  auto bring = [&](int32_t from, int which) {
    if (from + warp >= end) return;
    const stack_view &view = plane.view[from + warp];
    const double middle = view.origin + view.along_y * (y + HEIGHT / 2) + view.along_x * (x + SLICE_WIDTH / 2);
    const double least = middle - fabs(view.along_y) * (HEIGHT / 2) - fabs(view.along_x) * (SLICE_WIDTH / 2) - 1e-5;
    const bool seen = least < plane.columns && least + columns > -1;
    const int32_t low = seen ? (int32_t)floor(least) : 0;
    if (lane == 0) {
      slice_line line = {0, 0, 0, view.pitch}; // all voxels at column 0 of nothing
      if (seen) {
        line.middle = (uint32_t)llrint(ldexp(middle - low, SLICE_TILE_BITS));
        line.along_y = (int32_t)lrint(ldexp(view.along_y, SLICE_TILE_BITS));
        line.along_x = (int32_t)lrint(ldexp(view.along_x, SLICE_TILE_BITS));
      }
      lines[which * SLICE_STAGE + warp] = line;
    }
    const float *row = projections + (int64_t)view.view * plane.columns;
    for (int32_t k = lane; k < columns; k += 32) {
      const int32_t column = low + k;
      const bool here = seen && column >= 0 && column < plane.columns, behind = seen && column >= -1 && column < plane.columns - 1;
      slice_pair<CHANNELS> pair;
#pragma unroll
      for (int c = 0; c < CHANNELS; c++) {
        pair.near[c] = here && c < channels ? view.length * row[c * sinogram + column] : 0;
        pair.far[c] = behind && c < channels ? view.length * row[c * sinogram + column + 1] : 0;
      }
      slice_put<CHANNELS>(stages + which * stage_floats, warp * columns + k, half, pair);
    }
  };

  float sum[ROWS][CHANNELS] = {};
  bring(begin, 0);
  const int32_t count = (share + SLICE_STAGE - 1) / SLICE_STAGE; // the same for all groups
  for (int32_t stage = 0; stage < count; stage++) {
    const int32_t from = begin + stage * SLICE_STAGE;
    const int which = stage & 1;
    __syncthreads();
    bring(from + SLICE_STAGE, which ^ 1);
    const float *data = stages + which * stage_floats;
    auto add = [&](int k) {
      const slice_line line = lines[which * SLICE_STAGE + k];
      const float above = 1 + line.pitch, below = 1 - 2 * line.pitch;
      uint32_t at = (line.middle + (uint32_t)((lane - SLICE_WIDTH / 2) * line.along_x + (warp - HEIGHT / 2) * line.along_y)) >>
                    (SLICE_TILE_BITS - SLICE_BITS);
      const uint32_t step = (uint32_t)(line.along_y * (8 >> (SLICE_TILE_BITS - SLICE_BITS)));
#pragma unroll
      for (int n = 0; n < ROWS; n++, at += step) {
        const slice_pair<CHANNELS> pair = slice_get<CHANNELS>(data, k * columns + (int32_t)(at >> SLICE_BITS), half);
        const float part = slice_part(at);
        const float near = __saturatef(fmaf(-line.pitch, part, above)), far = __saturatef(fmaf(line.pitch, part, below));
#pragma unroll
        for (int c = 0; c < CHANNELS; c++) sum[n][c] = fmaf(far, pair.far[c], fmaf(near, pair.near[c], sum[n][c]));
      }
    };
    if (end - from >= SLICE_STAGE) {
#pragma unroll
      for (int k = 0; k < SLICE_STAGE; k++) add(k);
    } else {
      for (int k = 0; k < end - from; k++) add(k);
    }
  }
  __syncthreads();
  if (group > 0)
#pragma unroll
    for (int n = 0; n < ROWS * CHANNELS; n++)
      shared[((group - 1) * ROWS * CHANNELS + n) * SLICE_GROUP + t] = sum[n / CHANNELS][n % CHANNELS];
  __syncthreads();
  if (group > 0 || x + lane >= plane.nx) return;
  const int64_t image = (int64_t)plane.ny * plane.nx;
#pragma unroll
  for (int n = 0; n < ROWS; n++)
#pragma unroll
    for (int c = 0; c < CHANNELS; c++) {
      float value = sum[n][c];
      for (int g = 0; g < groups - 1; g++) value += shared[((g * ROWS + n) * CHANNELS + c) * SLICE_GROUP + t];
      const int32_t row = y + warp + 8 * n;
      if (c < channels && row < plane.ny)
        rs_finish(output, (size_t)((first + c) / lanes.units * lanes.units * image),
                  (size_t)((first + c) % lanes.units * image + (int64_t)row * plane.nx + x + lane), value);
    }
}
