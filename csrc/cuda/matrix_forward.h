// matrix_forward.h: forward projection of the `rs_matrix_cuda` family.
//
// A block owns up to 256 rays, of a group of views with similar slopes, for a chunk of lanes, in registers until the last plane; a warp owns
// a tile of 16 of them, neighbouring columns of 1, 2 or 4 views. Stages of a few planes bring the voxels that the block's rays see into shared
// memory while the stage before is worked off. A unit is 8 voxels of a plane; a tile takes as many as its rays see there, four at a time
// and the last one or two of a stage together.
#pragma once
#include "matrix_pack.h"
#include "matrix_sparse.h"
#include "ring.h"
#include "stack_forward.h"

// Where the voxels lie that the rays of a block see on the planes of a segment: between two lines, from its first plane on. The leftmost
// of several lines is concave and the rightmost convex, so that between two planes both run inside of their chords.
struct matrix_segment {
  double low, low_step, high, high_step;
};
constexpr int32_t MATRIX_SEGMENTS = 16; // of a block; short enough that chords are no wider than what is seen by more than a voxel

struct matrix_block {
  stack_block share;
  int32_t tile_views;   // views of a tile: 1, 2 or 4; the last one of a block may have fewer
  int32_t segment_bits; // a segment has 1 << segment_bits planes
  int64_t units;        // for the host, about: how many it takes
  double clocks;        // and for how long
  matrix_segment segment[MATRIX_SEGMENTS];
};

constexpr double MATRIX_FIXED = 4294967296.0; // positions on a plane are int64_t numbers with 32 bits behind the point
constexpr int MATRIX_PLACE_BITS = 9;          // of those that a place in a window leaves off, so that the others are an int32_t
constexpr float MATRIX_PLACE = (1 << MATRIX_PLACE_BITS) / (float)MATRIX_FIXED;

constexpr int MATRIX_LIST = 112; // units of a tile in a stage: each plane has at most one for every 8 voxels begun

// What a warp knows about a stage: its units, and for each plane how far the first column of each of its views (law astra: each ray) lies
// from the tile's first voxel.
template <class Law> struct matrix_list {
  uint32_t unit[MATRIX_LIST + 4]; // bits: 3 plane | 4 number in its plane | 4 voxels | first voxel of the window
  float place[STACK_MOST_PLANES][Law::ROUNDED ? 16 : 4];
};

constexpr int MATRIX_KNOWN = 4; // stages whose windows are known: those under way, and the next one

// The planes of a stage where shared memory has room for so many records, two stages of them and some of zeros.
__host__ __device__ static inline int32_t matrix_planes(int32_t records, int32_t voxels) {
  const int32_t planes = (records - MATRIX_ZEROS) / (2 * voxels);
  return planes < STACK_MOST_PLANES ? planes : STACK_MOST_PLANES;
}

template <int TILES, bool SPLIT> static inline size_t matrix_forward_bytes(int32_t records) {
  const size_t stages = (size_t)records * MATRIX_RECORD<TILES, SPLIT>;
  const size_t tile = STACK_SIDE * STACK_SIDE * STACK_TILE_STRIDE<TILES / 4> * sizeof(float);
  return stages > tile ? stages : tile;
}

// The warps that have a tile.
__host__ __device__ static inline int32_t matrix_busy(const stack_block &block, int32_t tile_views) {
  return (block.views + tile_views - 1) / tile_views * tile_views * block.pieces;
}

// upright: [chunk][y][x], sideways: [chunk][x][y], records. Blocks and chunks are blockIdx.x and .y, or the other way about.
template <class Law, int TILES, bool SPLIT>
__global__ void __launch_bounds__(MATRIX_THREADS, 1)
    matrix_forward(stack_plane plane, const matrix_block *blocks, const char *upright, const char *sideways, int32_t records,
                   bool chunks_first, const unsigned *largest, stack_target target) {
  constexpr int RECORD = MATRIX_RECORD<TILES, SPLIT>;
  constexpr bool SPLIT_WEIGHTS = SPLIT && !Law::ROUNDED;
  RS_SHARED(char, rows);
  __shared__ ring_arrivals ring; // two slots
  __shared__ stack_window windows[MATRIX_KNOWN][STACK_MOST_PLANES];
  __shared__ matrix_list<Law> lists[MATRIX_WARPS];
  __shared__ matrix_segment segments[MATRIX_SEGMENTS];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, q = lane % 4;
  const int64_t chunk = chunks_first ? blockIdx.x : blockIdx.y;
  const unsigned number = chunks_first ? blockIdx.y : blockIdx.x, numbers = chunks_first ? gridDim.y : gridDim.x;
  const matrix_block &all = blocks[number];
  const stack_block block = all.share;
  const int tile_views = all.tile_views, tile_columns = STACK_SIDE / tile_views;
  const int32_t voxels = block.voxels, planes = matrix_planes(records, voxels), segment_bits = all.segment_bits;
  const bool is_upright = plane.view[block.view].main == RS_Y;
  const int32_t cross = is_upright ? plane.nx : plane.ny;
  const char *packed = (is_upright ? upright : sideways) + chunk * plane.ny * plane.nx * RECORD;
  matrix_list<Law> &list = lists[warp];
  const shared_address ring_at = shared_hold(&ring), rows_at = shared_hold(rows);

  // The tile, and the rays of rows g and g + 8.
  const int across = block.pieces * tile_views, tile_view = warp / across * tile_views;
  const int32_t column = block.column + warp % across * tile_columns;
  const bool busy = tile_view < block.views && block.first < block.last;
  const stack_view *views = plane.view + block.view + (busy ? tile_view : 0);
  const int last_view = busy ? min(tile_views, block.views - tile_view) - 1 : 0; // rows behind it repeat it, and nobody reads them
  const int ray_view[2] = {g / tile_columns, (g + 8) / tile_columns}, ray_column[2] = {g % tile_columns, (g + 8) % tile_columns};
  const float shift[2] = {(Law::ROUNDED ? 0 : (float)views[min(ray_view[0], last_view)].column * ray_column[0]) - 2 * q,
                          (Law::ROUNDED ? 0 : (float)views[min(ray_view[1], last_view)].column * ray_column[1]) - 2 * q};

  auto find = [&](int stage) { // the windows of a stage by a warp, a lane a plane
    if (lane >= STACK_MOST_PLANES) return;
    const int32_t on = stage * planes + lane, segment = on >> segment_bits;
    stack_window window = {0, 0};
    if (lane < planes && block.first + on < block.last) {
      const matrix_segment &line = segments[segment];
      const double way = on - (segment << segment_bits);
      const int32_t high = (int32_t)floor(line.high + way * line.high_step + plane.slack) + 1;
      window.low = max((int32_t)floor(line.low + way * line.low_step - plane.slack), 0);
      window.count = max(min(min(high, cross - 1) - window.low + 1, voxels), 0);
    }
    windows[stage % MATRIX_KNOWN][lane] = window;
  };
  auto send = [&](int stage) { // a lane sends the window of a plane
    const int slot = stage & 1;
    const stack_window window = windows[stage % MATRIX_KNOWN][lane % STACK_MOST_PLANES];
    ring_send(ring, slot, lane < STACK_MOST_PLANES, rows + (MATRIX_ZEROS + (slot * planes + lane) * voxels) * RECORD,
              packed + ((block.first + stage * planes + lane) * (int64_t)cross + window.low) * RECORD, window.count * RECORD);
  };
  // Where the first column of view q of the tile is on plane lane / 4 of a stage, and from there to the first and the last column.
  const stack_view &mine = views[min(q, last_view)];
  const double span = mine.column * (tile_columns - 1);
  int64_t at = llrint(stack_voxel_of(mine, column, block.first + lane / 4) * MATRIX_FIXED);
  const int64_t stride = llrint(mine.plane * planes * MATRIX_FIXED);
  const int64_t to_low = llrint((fmin(span, 0.0) - plane.slack) * MATRIX_FIXED),
                to_high = llrint((fmax(span, 0.0) + plane.slack) * MATRIX_FIXED);
  Law law;
  auto make = [&](int stage) { // the list of a stage, four lanes a plane; returns its length
    const int k = lane / 4;
    const stack_window window = windows[stage % MATRIX_KNOWN][k];
    int32_t low = (int32_t)((at + to_low) >> 32), high = (int32_t)((at + to_high) >> 32) + 1;
    for (int n = 1; n < 4; n *= 2) {
      low = min(low, __shfl_xor_sync(0xffffffffu, low, n));
      high = max(high, __shfl_xor_sync(0xffffffffu, high, n));
    }
    low = max(low, window.low);
    high = min(high, window.low + window.count - 1);
    const int units = k < planes && low <= high ? (high - low) / 8 + 1 : 0;
    int before = units;
    for (int n = 4; n < 32; n *= 2) {
      const int other = __shfl_up_sync(0xffffffffu, before, n);
      before += lane >= n ? other : 0;
    }
    const int total = __shfl_sync(0xffffffffu, before, 31);
    __syncwarp(); // the last list was read
    if constexpr (Law::ROUNDED) {
      const int ray = lane % 16, view = min(ray / tile_columns, last_view);
#pragma unroll 1
      for (int n = 0; n < 4; n++) {
        const int on = lane / 16 * 4 + n;
        const int32_t first = __shfl_sync(0xffffffffu, low, 4 * on);
        if (on >= planes) continue;
        const int32_t s = block.first + stage * planes + on;
        list.place[on][ray] = (float)law.voxel_of(views[view], column + ray % tile_columns, s) - (float)first;
      }
    } else {
      list.place[k][q] = (float)(int32_t)((at - ((int64_t)low << 32)) >> MATRIX_PLACE_BITS) * MATRIX_PLACE;
    }
#pragma unroll 1
    for (int n = q; n < units; n += 4)
      list.unit[before - units + n] =
          (uint32_t)(low - window.low + 8 * n) << 11 | (uint32_t)min(high - low - 8 * n + 1, 8) << 7 | (uint32_t)n << 3 | (uint32_t)k;
    if (lane < 4) list.unit[total + lane] = 0; // no voxels
    __syncwarp();
    at += stride;
    return total;
  };

  const int entry[2] = {Law::ROUNDED ? g : ray_view[0], Law::ROUNDED ? g + 8 : ray_view[1]};
  const float sparse = 2 * q - q % 2 * 4; // from the two places of a lane in a pair of units to its four places of four units
  float sum[TILES][4] = {};
  auto place_of_row = [&](uint32_t unit, int ray) { return list.place[unit & 7][entry[ray]] + shift[ray] - (float)(unit & 0x78); };
  auto row_of = [&](int slot, uint32_t unit) { // of place lane % 8
    const bool there = (uint32_t)(lane % 8) < (unit >> 7 & 15);
    const int32_t record = MATRIX_ZEROS + (slot * planes + (int32_t)(unit & 7)) * voxels + (int32_t)(unit >> 11) + lane % 8;
    return rows_at + (there ? record : record & (MATRIX_ZEROS - 1)) * RECORD;
  };
  auto add_two = [&](int slot, const uint32_t *unit) {
    matrix_weights weights;
#pragma unroll
    for (int k = 0; k < 4; k++) // row g + k % 2 * 8 of unit k / 2
      matrix_weigh<SPLIT_WEIGHTS>(place_of_row(unit[k / 2], k % 2), 1, weights.high[k], weights.low[k]);
    matrix_add<TILES, SPLIT, SPLIT_WEIGHTS>(sum, weights, row_of(slot, unit[lane / 8 % 2]) + lane / 16 * 16);
  };
  auto add_four = [&](int slot, const uint32_t *unit) {
    matrix_sparse_weights weights;
    unsigned chosen[4];
#pragma unroll
    for (int k = 0; k < 4; k++)
      chosen[k] = matrix_sparse_weigh<SPLIT_WEIGHTS>(place_of_row(unit[k / 2 * 2 + q / 2], k % 2) + sparse, 1, 0, 2, weights.high[k],
                                                     weights.low[k]);
    weights.places = matrix_sparse_places(chosen);
    matrix_sparse_add<TILES, SPLIT, SPLIT_WEIGHTS>(sum, weights, row_of(slot, unit[lane / 8]));
  };
  matrix_kept<TILES> kept;
  if (SPLIT) matrix_forget(kept);
  int chain = warp * (MATRIX_CHAIN / MATRIX_WARPS); // products; one warp after the other keeps its sums

  if (threadIdx.x == 0) ring_prepare(ring, 2, 1, STACK_MOST_PLANES, MATRIX_WARPS);
  for (int k = threadIdx.x; k < MATRIX_ZEROS * RECORD / 4; k += MATRIX_THREADS) reinterpret_cast<float *>(rows)[k] = 0;
  if (threadIdx.x < MATRIX_SEGMENTS) segments[threadIdx.x] = all.segment[threadIdx.x];
  __syncthreads();
  const int stages = (block.last - block.first + planes - 1) / planes;
  if (warp < 2 && stages) find(warp);
  __syncthreads();
  if (warp == 0 && stages) send(0);
  int total = busy ? make(0) : 0;
#pragma unroll 1
  for (int stage = 0; stage < stages; stage++) {
    const int slot = stage & 1, phase = stage >> 1 & 1;
    if (warp == stage % MATRIX_WARPS && stage + 1 < stages) {
      // All are done with the stage before this one, so its slot takes the next, and its windows make place.
      if (stage) ring_wait(ring_empty(ring_at, slot ^ 1), (stage - 1) >> 1 & 1);
      find(stage + 2);
      __syncwarp();
      send(stage + 1);
    }
    ring_wait(ring_full(ring_at, slot), phase);
#pragma unroll 1
    for (int u = 0; u < total; u += 4)
      if (total - u > 2)
        add_four(slot, list.unit + u);
      else
        add_two(slot, list.unit + u);
    ring_release(ring_at, slot);
    if (!busy) continue;
    chain += (total + 3) / 4;
    if (SPLIT && chain >= MATRIX_CHAIN) matrix_keep(kept, sum), chain = 0;
    if (stage + 1 < stages) total = make(stage + 1);
  }
  if (SPLIT) matrix_recall(kept, sum);
  __syncthreads(); // the rows were read: their place takes the tile
  float *tile = reinterpret_cast<float *>(rows);
  // stack_finish wants lines of STACK_SIDE columns of a view.
  auto place_of = [&](int ray) {
    const int line = warp % across * tile_columns / STACK_SIDE, at = warp % across * tile_columns % STACK_SIDE;
    return ((tile_view + ray_view[ray]) * block.pieces + line) * STACK_SIDE + at + ray_column[ray];
  };
  if (tile_view < block.views)
    matrix_put<TILES>(tile, place_of(0), place_of(1), sum, largest + chunk * 8 * TILES, target.lanes.count - chunk * 8 * TILES);
  __syncthreads();
  auto first_column = [&](int row) { return block.column + row % block.pieces * STACK_SIDE; };
  stack_finish<TILES / 4>(
      target, tile, block.views * block.pieces, chunk, [&](int row) { return plane.columns - first_column(row); },
      [&](int row) { return (size_t)plane.view[block.view + row / block.pieces].view * plane.columns + first_column(row); },
      [&](int row) { return plane.view[block.view + row / block.pieces].length; }, number, numbers);
}
