// matrix_forward.h: forward projection of the `rs_matrix_cuda` family.
//
// A block owns up to 256 rays, of a group of views with similar slopes, for a chunk of lanes, in registers until the last plane; a warp owns
// a tile of 16 of them, neighbouring columns of 1, 2 or 4 views. Stages of up to 16 planes bring the voxels that the block's rays see into shared
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
  int64_t voxels;       // for the host, about: how many it sees on all planes
  int64_t units;        // how many units these are
  double clocks;        // how long it takes
  matrix_segment segment[MATRIX_SEGMENTS];
};

constexpr double MATRIX_FIXED = 4294967296.0; // positions on a plane are int64_t numbers with 32 bits behind the point
constexpr int MATRIX_SLOPE_BITS = 8;          // that their slopes have besides
constexpr int MATRIX_PLACE_BITS = 9;          // of those that a place in a window leaves off, so that the others are an int32_t
constexpr float MATRIX_PLACE = (1 << MATRIX_PLACE_BITS) / (float)MATRIX_FIXED;

constexpr int MATRIX_PLANES = 16; // of a stage, at most
constexpr int MATRIX_LIST = 112;  // units of a tile in a stage: each plane has at most one for every 8 voxels begun
constexpr int MATRIX_MOST_RECORDS = 8 * (MATRIX_LIST - MATRIX_PLANES); // of a stage, therefore

// What a warp knows about a stage: its units, and for each plane how far the first column of each of its views (law astra: each ray) lies
// from the tile's first voxel. A unit has 4 bits that are free | 4 plane | 4 number in its plane | 4 voxels | first record in the slot.
template <class Law> struct matrix_list {
  uint32_t unit[MATRIX_LIST + 4];
  float place[MATRIX_PLANES][Law::ROUNDED ? 16 : 4];
};

// Where the tile's first column of a view is on the block's first plane, by how much that moves from plane to plane, and how far it is to
// its first and to its last voxel there.
struct matrix_path {
  int64_t start, slope, low, high;
};

// The windows of a stage: as many planes as a slot has room for.
struct matrix_stage {
  int32_t first, planes; // counted from the block's first
  int32_t low[MATRIX_PLANES], count[MATRIX_PLANES], record[MATRIX_PLANES];
};
constexpr int MATRIX_KNOWN = 4; // stages whose windows are known: those under way, and the next one

// The records of a slot where shared memory has room for two slots and some records of zeros.
__host__ __device__ static inline int32_t matrix_slot(int32_t records) {
  const int32_t slot = (records - MATRIX_ZEROS) / 2;
  return slot < MATRIX_MOST_RECORDS ? slot : MATRIX_MOST_RECORDS;
}

template <int TILES, bool SPLIT> static inline size_t matrix_forward_bytes(int32_t records) {
  const size_t stages = (size_t)(2 * matrix_slot(records) + MATRIX_ZEROS) * MATRIX_RECORD<TILES, SPLIT>;
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
  __shared__ matrix_stage stages[MATRIX_KNOWN];
  __shared__ matrix_list<Law> lists[MATRIX_WARPS];
  __shared__ matrix_path paths[MATRIX_WARPS][4];
  __shared__ matrix_segment segments[MATRIX_SEGMENTS];
  __shared__ __align__(8) float scale[8 * TILES];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, q = lane % 4;
  const int64_t chunk = chunks_first ? blockIdx.x : blockIdx.y;
  const unsigned number = chunks_first ? blockIdx.y : blockIdx.x, numbers = chunks_first ? gridDim.y : gridDim.x;
  const matrix_block &all = blocks[number];
  const stack_block block = all.share;
  const int tile_views = all.tile_views, tile_columns = STACK_SIDE / tile_views;
  const int32_t room = matrix_slot(records), height = block.last - block.first, segment_bits = all.segment_bits;
  const bool is_upright = plane.view[block.view].main == RS_Y;
  const int32_t cross = is_upright ? plane.nx : plane.ny;
  const char *packed = (is_upright ? upright : sideways) + chunk * plane.ny * plane.nx * RECORD;
  matrix_list<Law> &list = lists[warp];
  const shared_address ring_at = shared_hold(&ring), rows_at = shared_hold(rows);

  // The tile, and the rays of rows g and g + 8.
  const int across = block.pieces * tile_views, tile_view = warp / across * tile_views;
  const int32_t column = block.column + warp % across * tile_columns;
  const bool busy = tile_view < block.views && height > 0;
  const stack_view *views = plane.view + block.view + (busy ? tile_view : 0);
  const int last_view = busy ? min(tile_views, block.views - tile_view) - 1 : 0; // rows behind it repeat it, and nobody reads them
  const int ray_view[2] = {g / tile_columns, (g + 8) / tile_columns}, ray_column[2] = {g % tile_columns, (g + 8) % tile_columns};
  const float shift[2] = {(Law::ROUNDED ? 0 : (float)views[min(ray_view[0], last_view)].column * ray_column[0]) - 2 * q,
                          (Law::ROUNDED ? 0 : (float)views[min(ray_view[1], last_view)].column * ray_column[1]) - 2 * q};

  auto find = [&](int stage) { // the windows of a stage by a warp, a lane a plane, behind those of the stage before
    const matrix_stage &before = stages[(stage + MATRIX_KNOWN - 1) % MATRIX_KNOWN];
    const int32_t first = stage ? before.first + before.planes : 0, on = first + lane;
    const bool there = lane < MATRIX_PLANES && on < height;
    int32_t low = 0, count = 0;
    if (there) {
      const matrix_segment &line = segments[on >> segment_bits];
      const double way = on & ((1 << segment_bits) - 1);
      const int32_t high = (int32_t)floor(line.high + way * line.high_step + plane.slack) + 1;
      low = max((int32_t)floor(line.low + way * line.low_step - plane.slack), 0);
      count = min(max(min(high, cross - 1) - low + 1, 0), room);
    }
    int32_t end = count;
    for (int n = 1; n < MATRIX_PLANES; n *= 2) {
      const int32_t other = __shfl_up_sync(0xffffffffu, end, n);
      end += lane >= n ? other : 0;
    }
    const bool fits = there && end <= room;
    const unsigned all_that_fit = __ballot_sync(0xffffffffu, fits);
    matrix_stage &found = stages[stage % MATRIX_KNOWN];
    if (lane < MATRIX_PLANES) found.low[lane] = low, found.count[lane] = fits ? count : 0, found.record[lane] = end - count;
    if (lane == 0) found.first = first, found.planes = __popc(all_that_fit);
    __syncwarp();
  };
  auto send = [&](int stage) { // a lane sends the window of a plane
    const int slot = stage & 1, k = lane % MATRIX_PLANES;
    const matrix_stage &found = stages[stage % MATRIX_KNOWN];
    ring_send(ring, slot, lane < MATRIX_PLANES, rows + (MATRIX_ZEROS + slot * room + found.record[k]) * RECORD,
              packed + ((block.first + found.first + k) * (int64_t)cross + found.low[k]) * RECORD, found.count[k] * RECORD);
  };
  if (lane < 4) {
    const stack_view &view = views[min(lane, last_view)];
    const double span = view.column * (tile_columns - 1);
    paths[warp][lane] = {llrint(stack_voxel_of(view, column, block.first) * MATRIX_FIXED),
                         llrint(view.plane * MATRIX_FIXED * (1 << MATRIX_SLOPE_BITS)),
                         llrint((fmin(span, 0.0) - plane.slack) * MATRIX_FIXED), llrint((fmax(span, 0.0) + plane.slack) * MATRIX_FIXED)};
  }
  Law law;
  auto make = [&](int stage) { // the list of a stage, two lanes a plane with two views each; returns its length
    const matrix_stage &found = stages[stage % MATRIX_KNOWN];
    const int k = lane / 2, planes = found.planes;
    const matrix_path *path = paths[warp] + lane % 2 * 2;
    const int64_t way = found.first + k;
    int64_t at[2];
    int32_t low = INT32_MAX, high = INT32_MIN;
#pragma unroll
    for (int n = 0; n < 2; n++) {
      at[n] = path[n].start + (way * path[n].slope >> MATRIX_SLOPE_BITS);
      low = min(low, (int32_t)((at[n] + path[n].low) >> 32));
      high = max(high, (int32_t)((at[n] + path[n].high) >> 32) + 1);
    }
    low = max(min(low, __shfl_xor_sync(0xffffffffu, low, 1)), found.low[k]);
    high = min(max(high, __shfl_xor_sync(0xffffffffu, high, 1)), found.low[k] + found.count[k] - 1);
    const int units = k < planes && low <= high ? (high - low) / 8 + 1 : 0;
    int before = units;
    for (int n = 2; n < 32; n *= 2) {
      const int other = __shfl_up_sync(0xffffffffu, before, n);
      before += lane >= n ? other : 0;
    }
    const int total = __shfl_sync(0xffffffffu, before, 31);
    __syncwarp(); // the last list was read
    if constexpr (Law::ROUNDED) {
      const int ray = lane % 16, view = min(ray / tile_columns, last_view);
#pragma unroll 1
      for (int n = 0; n < planes; n += 2) {
        const int on = n + lane / 16;
        const int32_t first = __shfl_sync(0xffffffffu, low, 2 * on);
        if (on >= planes) continue;
        const int32_t s = block.first + found.first + on;
        list.place[on][ray] = (float)law.voxel_of(views[view], column + ray % tile_columns, s) - (float)first;
      }
    } else {
#pragma unroll
      for (int n = 0; n < 2; n++)
        list.place[k][lane % 2 * 2 + n] = (float)(int32_t)((at[n] - ((int64_t)low << 32)) >> MATRIX_PLACE_BITS) * MATRIX_PLACE;
    }
#pragma unroll 1
    for (int n = lane % 2; n < units; n += 2)
      list.unit[before - units + n] = (uint32_t)(found.record[k] + low - found.low[k] + 8 * n) << 16 |
                                      (uint32_t)min(high - low - 8 * n + 1, 8) << 12 | (uint32_t)n << 8 | (uint32_t)k << 4;
    if (lane < 4) list.unit[total + lane] = 0; // no voxels
    __syncwarp();
    return total;
  };

  const int entry[2] = {Law::ROUNDED ? g : ray_view[0], Law::ROUNDED ? g + 8 : ray_view[1]};
  const float sparse = 2 * q - q % 2 * 4; // from the two places of a lane in a pair of units to its four places of four units
  float sum[TILES][4] = {};
  auto place_of_row = [&](uint32_t unit, int ray) {
    return list.place[unit >> 4 & 15][entry[ray]] + shift[ray] - (float)(unit & 0xf00) / 32;
  };
  auto row_of = [&](int slot, uint32_t unit) { // of place lane % 8
    const bool there = (uint32_t)(lane % 8) < (unit >> 12 & 15);
    const int32_t record = MATRIX_ZEROS + slot * room + (int32_t)(unit >> 16) + lane % 8;
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

  if (threadIdx.x == 0) ring_prepare(ring, 2, 1, MATRIX_PLANES, MATRIX_WARPS);
  for (int k = threadIdx.x; k < MATRIX_ZEROS * RECORD / 4; k += MATRIX_THREADS) reinterpret_cast<float *>(rows)[k] = 0;
  rs_await();
  matrix_find_scales<TILES>(largest + chunk * 8 * TILES, target.lanes.count - chunk * 8 * TILES, scale);
  if (threadIdx.x < MATRIX_SEGMENTS) segments[threadIdx.x] = all.segment[threadIdx.x];
  __syncthreads();
  if (warp == 0) find(0), find(1);
  __syncthreads();
  if (warp == 0 && height > 0) send(0);
  int total = busy ? make(0) : 0;
#pragma unroll 1
  for (int stage = 0; stages[stage % MATRIX_KNOWN].planes; stage++) {
    const int slot = stage & 1, phase = stage >> 1 & 1;
    if (warp == stage % MATRIX_WARPS) {
      // All are done with the stage before this one, so its slot takes the next, and its windows make place.
      if (stage) ring_wait(ring_empty(ring_at, slot ^ 1), (stage - 1) >> 1 & 1);
      if (stages[(stage + 1) % MATRIX_KNOWN].planes) find(stage + 2), send(stage + 1);
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
    total = make(stage + 1);
  }
  if (SPLIT) matrix_recall(kept, sum);
  __syncthreads(); // the rows were read: their place takes the tile
  float *tile = reinterpret_cast<float *>(rows);
  // stack_finish wants lines of STACK_SIDE columns of a view.
  auto place_of = [&](int ray) {
    const int line = warp % across * tile_columns / STACK_SIDE, at = warp % across * tile_columns % STACK_SIDE;
    return ((tile_view + ray_view[ray]) * block.pieces + line) * STACK_SIDE + at + ray_column[ray];
  };
  if (tile_view < block.views) matrix_put<TILES>(tile, place_of(0), place_of(1), sum, scale);
  __syncthreads();
  auto first_column = [&](int row) { return block.column + row % block.pieces * STACK_SIDE; };
  stack_finish<TILES / 4>(
      target, tile, block.views * block.pieces, chunk, [&](int row) { return plane.columns - first_column(row); },
      [&](int row) { return (size_t)plane.view[block.view + row / block.pieces].view * plane.columns + first_column(row); },
      [&](int row) { return plane.view[block.view + row / block.pieces].length; }, number, numbers);
}
