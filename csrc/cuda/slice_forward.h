// slice_forward.h: forward projection of a slice. A block owns the rays of a few neighbouring views on a strip of planes, and goes
// through it band by band. The shares of all strips are added up by the block that comes last (split.h) or, where that would take a block
// long, by a launch of their own. With two CHANNELS the strips are those of the first half of the planes: a ray crosses the other half
// where its counterpart, see slice_plane, crosses the first half of the image that is turned over.
#pragma once
#include "slice_kernels.h"

constexpr int SLICE_BAND = 16;             // planes in shared memory together
constexpr int SLICE_STEP = SLICE_BAND + 1; // from voxel to voxel there: odd, which spreads them over the banks
constexpr int SLICE_NEXT = 8;              // voxels that a thread brings to shared memory side by side
constexpr int SLICE_VOXELS = 640;          // of a plane, over all channels, that the rays of a block may see, at most
constexpr int SLICE_THREADS = 544;
constexpr int SLICE_SUM_THREADS = 128;
constexpr int SLICE_RAYS = 8 * SLICE_THREADS; // of a block, over all channels, at most

// Room for so many rays: whole pairs a thread.
constexpr int32_t SLICE_PAIRS = 2 * SLICE_THREADS;
static inline int32_t slice_padded(int32_t rays) { return (rays + SLICE_PAIRS - 1) / SLICE_PAIRS * SLICE_PAIRS; }

// `views` from `view` on, in each `columns` from `column` on, on the planes first ... last - 1. Blocks of the same views make a group.
struct slice_block {
  int32_t view, views, column, columns, first, last;
  int32_t group, count;  // its group, and the number of blocks in that
  int32_t begin, strips; // the first strip of the group and their number
  int32_t window;        // of the first band
  int32_t across;        // floats from a channel of its share to the next
  int64_t share;         // floats in front of its share of the sums: [channel][column][slot of a view]
};

// The shares of all blocks of a group on the same planes: the sums of `columns` from `column` on, in one.
struct __align__(16) slice_strip {
  int64_t share;
  int32_t column, columns;
};

// What forward projection needs beside its input.
struct slice_work {
  const slice_block *blocks; // those with most to do first
  const slice_strip *strips; // by groups
  const stack_window *windows;
  const slice_block *heads;  // one of each group
  unsigned *arrived;         // [slice][group], see rs_last_block
  float *shares;             // [slice][share_floats]
  double *sums;              // or null: sums of squares [slice][group][turn]
  int64_t share_floats;      // of a slice
  int32_t groups, slot_bits; // a block has room for 1 << slot_bits views
  int32_t voxels, rays;      // room in shared memory, the rays of whole pairs a thread
  int32_t turns;             // of a launch that adds up the columns of a group, or 1: the last block of the group adds up
};

template <int CHANNELS> static inline size_t slice_forward_bytes(const slice_work &work) {
  return ((size_t)work.rays + 2 * SLICE_STEP * work.voxels) * CHANNELS * sizeof(float);
}

// Brings a band of planes into shared memory, [voxel][plane], as (2 a - b, b - a) for neighbours a and b, so that a + f (b - a) is a sum
// and a multiply-add with 1 + f. Zero beside the volume. May fill the room for voxels up to the next multiple of SLICE_NEXT.
template <int CHANNELS>
__device__ static inline void slice_fill(float *shared, const slice_plane &plane, const float *volume, bool upright, int32_t from,
                                         int32_t planes, const stack_window &window) {
  constexpr int BAND = SLICE_BAND, STEP = SLICE_STEP, PLANES = 8 / CHANNELS;
  const int32_t cross = upright ? plane.nx : plane.ny;
  // A plane in the middle is in the first half already.
  const int32_t turned = ((upright ? plane.ny : plane.nx) / 2) - from;
  const float *last = volume + (int64_t)plane.ny * plane.nx - 1;
  auto put = [&](int32_t place, const float *a, const float *b) {
    slice_pair<CHANNELS> pair;
#pragma unroll
    for (int c = 0; c < CHANNELS; c++) pair.near[c] = fmaf(2, a[c], -b[c]), pair.far[c] = b[c] - a[c];
    slice_put<CHANNELS>(shared, place, pair);
  };
  if (upright) { // lanes are voxels, a warp does PLANES planes, a warp too many none
    constexpr int PARTS = BAND / PLANES, AHEAD = SLICE_THREADS / 32 / PARTS * 32;
    const int first = threadIdx.x / 32 % PARTS * PLANES;
    const int32_t depth = planes - first, depth_turned = (planes < turned ? planes : turned) - first;
    const int32_t begin = threadIdx.x / 32 / PARTS * 32;
    for (int32_t k = begin < AHEAD ? begin + threadIdx.x % 32 : window.count; k < window.count; k += AHEAD) {
      const bool here = (uint32_t)(window.low + k) < (uint32_t)cross, behind = (uint32_t)(window.low + k + 1) < (uint32_t)cross;
      const int32_t most = here ? depth : 0, most_behind = behind ? depth : 0;
      const int32_t most_turned = here ? depth_turned : 0, most_behind_turned = behind ? depth_turned : 0;
      const int64_t at = (int64_t)(from + first) * plane.nx + window.low + k;
      const float *row = volume + at, *back = last - at;
      float a[PLANES][CHANNELS], b[PLANES][CHANNELS];
#pragma unroll
      for (int s = 0; s < PLANES; s++, row += plane.nx, back -= plane.nx) {
        a[s][0] = s < most ? row[0] : 0;
        b[s][0] = s < most_behind ? row[1] : 0;
        if constexpr (CHANNELS == 2) {
          a[s][1] = s < most_turned ? back[0] : 0;
          b[s][1] = s < most_behind_turned ? back[-1] : 0;
        }
      }
#pragma unroll
      for (int s = 0; s < PLANES; s++) put(k * STEP + first + s, a[s], b[s]);
    }
  } else { // lanes are planes, which do SLICE_NEXT voxels
    const int s = threadIdx.x % BAND;
    const uint32_t most = s < planes ? cross : 0, most_turned = s < turned ? most : 0;
    for (int32_t k = threadIdx.x / BAND * SLICE_NEXT; k < window.count; k += SLICE_THREADS / BAND * SLICE_NEXT) {
      const int64_t at = (int64_t)(window.low + k) * plane.nx + from + s;
      const float *row = volume + at, *back = last - at;
      float value[SLICE_NEXT + 1][CHANNELS];
#pragma unroll
      for (int n = 0; n <= SLICE_NEXT; n++, row += plane.nx, back -= plane.nx) {
        value[n][0] = (uint32_t)(window.low + k + n) < most ? row[0] : 0;
        if constexpr (CHANNELS == 2) value[n][1] = (uint32_t)(window.low + k + n) < most_turned ? back[0] : 0;
      }
      const int32_t place = k * STEP + s;
#pragma unroll
      for (int n = 0; n < SLICE_NEXT; n++) put(place + n * STEP, value[n], value[n + 1]);
    }
  }
}

// What so many threads do in a turn of adding up.
constexpr int SLICE_SHARES = 4, SLICE_COLUMNS = 4; // shares and columns that a thread has on their way together
static inline int32_t slice_turn(int threads, int slot_bits) { return SLICE_COLUMNS * (threads >> slot_bits); } // columns

// Adds up the shares of the group of a block, with THREADS threads those in one turn of columns, and finishes the sums.
template <int CHANNELS, int THREADS>
__device__ static inline void slice_add_up(const slice_plane &plane, const slice_work &work, const slice_block &block,
                                           const slice_lanes &lanes, const rs_output &output, int32_t turn) {
  constexpr int SHARES = SLICE_SHARES, COLUMNS = SLICE_COLUMNS;
  const int t = threadIdx.x, slot_bits = work.slot_bits, slots = 1 << slot_bits, slot = t & (slots - 1);
  const int64_t slice = lanes.first + blockIdx.y;
  // Read before anything is written: a thread that reads a table behind its own writes waits for memory every time.
  const int32_t views = block.views, count = block.strips;
  const stack_view &view = plane.view[block.view + (slot < views ? slot : 0)];
  const float length = view.length;
  const float *shares = work.shares + blockIdx.y * work.share_floats;
  const int64_t sinogram = (int64_t)plane.views * plane.columns;
  const size_t item = (size_t)(slice / lanes.units * lanes.units * sinogram);
  const size_t unit = (size_t)(slice % lanes.units * sinogram + (int64_t)view.view * plane.columns);
  const slice_strip *strips = work.strips + block.begin;
  const int32_t beside = THREADS >> slot_bits, column = turn * COLUMNS * beside + (t >> slot_bits);
  double squares = 0;
  if (column < plane.columns) {
    float sum[COLUMNS] = {};
    for (int32_t k = 0; k < count; k += SHARES) { // so many loads on their way together
      float share[SHARES][CHANNELS][COLUMNS];
#pragma unroll
      for (int n = 0; n < SHARES; n++) {
        const slice_strip strip = strips[k + n < count ? k + n : k];
        const int32_t columns = k + n < count ? strip.columns : 0;
#pragma unroll
        for (int c = 0; c < CHANNELS; c++) {
          const int32_t place = (c ? plane.columns - 1 - column : column) - strip.column;
          const float *from = shares + strip.share + (c * columns + place) * slots + slot;
#pragma unroll
          for (int m = 0; m < COLUMNS; m++)
            share[n][c][m] = (uint32_t)(c ? place - m * beside : place + m * beside) < (uint32_t)columns
                                 ? __ldcg(from + (c ? -m * THREADS : m * THREADS))
                                 : 0;
        }
      }
#pragma unroll
      for (int n = 0; n < SHARES * CHANNELS * COLUMNS; n++)
        sum[n % COLUMNS] += share[n / COLUMNS / CHANNELS][n / COLUMNS % CHANNELS][n % COLUMNS];
    }
    squares = rs_finish_all<COLUMNS>(
        output, item, [&](int m) { return slot < views && column + m * beside < plane.columns; },
        [&](int m) { return unit + column + m * beside; }, [&](int m) { return length * sum[m]; });
  }
  if (!work.sums) return;
  squares = rs_block_sum(squares);
  if (t == 0) work.sums[(slice * work.groups + block.group) * work.turns + turn] = squares;
}

// Which of 32 rays that lie next to each other a lane takes. Eight lanes read shared memory together, 16 bytes each, which has room for
// eight voxels next to each other: four views of two columns lie as close as that, eight views of one column do so near the middle only.
__device__ static inline int slice_ray(int lane, int slot_bits) {
  if (slot_bits < 3) return lane;
  const int others = slot_bits - 2; // bits of a slot behind the first two
  return (lane & 3) | (lane >> 3 & ((1 << others) - 1)) << 2 | (lane >> 2 & 1) << slot_bits | lane >> 3 >> others << (slot_bits + 1);
}

template <int CHANNELS>
__global__ void __launch_bounds__(SLICE_THREADS, 2)
    slice_forward(slice_plane plane, slice_work work, const float *volume, slice_lanes lanes, rs_output output) {
  constexpr int BAND = SLICE_BAND, STEP = SLICE_STEP, THREADS = SLICE_THREADS;
  RS_SHARED(float, shared);
  float *total = shared, *pairs = shared + work.rays * CHANNELS; // [thread and turn][channel]
  const int t = threadIdx.x, slot_bits = work.slot_bits, slots = 1 << slot_bits, ray = slice_ray(t % 32, slot_bits);
  const int slot = ray & (slots - 1);
  const slice_block block = work.blocks[blockIdx.x];
  const bool upright = plane.view[block.view].main == RS_Y;
  const int64_t slice = lanes.first + blockIdx.y;
  const int32_t rays = block.columns << slot_bits, last = block.columns - 1; // ray n is column n / slots of view n % slots
  const stack_view &view = plane.view[block.view + (slot < block.views ? slot : 0)];
  // Where the first column crosses the middle of a band, from which errors of `per_plane` grow, rounded in what is left of it.
  int64_t middle = llrint(ldexp(view.start + view.column * block.column + view.plane * (block.first + BAND / 2), SLICE_FINE_BITS)) +
                   (1 << (SLICE_FINE_BITS - SLICE_BITS - 1));
  const int64_t per_column = llrint(ldexp(view.column, SLICE_FINE_BITS)), per_band = llrint(ldexp(view.plane * BAND, SLICE_FINE_BITS));
  const int32_t per_plane = (int32_t)lrint(ldexp(view.plane, SLICE_BITS)), part_bits = plane.part_bits;
  for (int32_t n = t; n < work.rays * CHANNELS; n += THREADS) total[n] = 0;
  total += (t % 32 - ray) * CHANNELS; // at [ray], so that lanes next to each other have theirs next to each other

  const stack_window *windows = work.windows + block.window;
  stack_window next = {0, 0}; // read long before it is wanted
  if (block.first < block.last) next = *windows;
  for (int32_t from = block.first; from < block.last; from += BAND, middle += per_band) {
    const stack_window window = next;
    if (from + BAND < block.last) next = *++windows;
    if (!window.count) continue;
    const int32_t planes = block.last - from < BAND ? block.last - from : BAND;
    __syncthreads(); // the band before was read
    slice_fill<CHANNELS>(pairs, plane, volume + slice * plane.ny * plane.nx, upright, from, planes, window);
    __syncthreads();
#pragma unroll 1
    for (int32_t n = t / 32 * 64 + ray; n - ray < rays; n += 2 * THREADS) { // two rays at a time, of 64 that lie next to each other
      int32_t at[2];
      const float *data[2];
      float sum[2][CHANNELS] = {}; // short sums keep the errors of float32 small
#pragma unroll
      for (int r = 0; r < 2; r++) {
        const int32_t column = (n + r * 32) >> slot_bits;
        const int64_t position = middle + per_column * (uint32_t)(column > last ? last : column);
        at[r] = ((int32_t)(position >> (SLICE_FINE_BITS - SLICE_BITS)) & part_bits) - BAND / 2 * per_plane;
        data[r] = pairs + ((int32_t)(position >> SLICE_FINE_BITS) - window.low) * (STEP * 2 * CHANNELS);
      }
      auto add = [&](int s) {
#pragma unroll
        for (int r = 0; r < 2; r++) {
          const slice_pair<CHANNELS> pair = slice_get<CHANNELS>(data[r], (at[r] >> SLICE_BITS) * STEP + s);
          const float part = slice_part(at[r], part_bits);
#pragma unroll
          for (int c = 0; c < CHANNELS; c++) sum[r][c] = fmaf(part, pair.far[c], sum[r][c] + pair.near[c]);
          at[r] += per_plane;
        }
      };
      if (planes == BAND) {
#pragma unroll
        for (int s = 0; s < BAND; s++) add(s);
      } else {
#pragma unroll 1
        for (int s = 0; s < planes; s++) add(s);
      }
#pragma unroll
      for (int r = 0; r < 2; r++)
#pragma unroll
        for (int c = 0; c < CHANNELS; c++) total[(n + r * 32) * CHANNELS + c] += sum[r][c];
    }
  }

  __syncthreads();
  float *shares = work.shares + blockIdx.y * work.share_floats;
#pragma unroll
  for (int c = 0; c < CHANNELS; c++)
    for (int32_t n = t - t % 32 + ray; n < rays; n += THREADS) __stcg(shares + block.share + c * block.across + n, total[n * CHANNELS + c]);
  if (work.turns > 1) return;
  if (!rs_last_block(work.arrived + (int64_t)blockIdx.y * work.groups + block.group, block.count)) return;
  slice_add_up<CHANNELS, THREADS>(plane, work, block, lanes, output, 0);
}

// Adds up after `slice_forward`: a block for each turn of each group of each slice.
template <int CHANNELS>
__global__ void __launch_bounds__(SLICE_SUM_THREADS, 9) slice_add(slice_plane plane, slice_work work, slice_lanes lanes, rs_output output) {
  const int32_t group = blockIdx.x / work.turns, turn = blockIdx.x % work.turns;
  slice_add_up<CHANNELS, SLICE_SUM_THREADS>(plane, work, work.heads[group], lanes, output, turn);
}
