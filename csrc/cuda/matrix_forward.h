// matrix_forward.h: forward projection of the `rs_matrix_cuda` family.
//
// A block owns up to 256 rays, of a group of views with similar slopes, for a chunk of lanes, in registers until the last plane; a warp owns
// a tile of 16 of them, neighbouring columns of 1, 2 or 4 views. The voxels that the block's rays see come in loads of a plane or a few. A unit is 8
// voxels of a plane; a tile takes as many as its rays see there, four at a time, wherever one plane ends and the next begins.
#pragma once
#include "matrix_pack.h"
#include "matrix_ring.h"
#include "stack_forward.h"

// Where the voxels lie that the rays of a block see on the planes of a segment: between two lines, from its first plane on. The leftmost
// of several lines is concave and the rightmost convex, so that between two planes both run inside of their chords.
struct matrix_segment {
  double low, low_step, high, high_step;
};
constexpr int32_t MATRIX_SEGMENTS = 16; // of a block; short enough that chords are no wider than what is seen by more than a voxel

struct matrix_block {
  stack_block share;
  int32_t tile_views;   // views of a tile: 1, 2 or 4, which divides those of the block
  int32_t segment_bits; // a segment has 1 << segment_bits planes
  int32_t load_bits;    // and a load 1 << load_bits
  matrix_segment segment[MATRIX_SEGMENTS];
};

constexpr double MATRIX_FIXED = 4294967296.0; // positions on a plane are int64_t numbers with 32 bits behind the point
constexpr int MATRIX_PLACE_BITS = 9;          // of those that a place in a window leaves off, so that the others are an int32_t
constexpr float MATRIX_PLACE = (1 << MATRIX_PLACE_BITS) / (float)MATRIX_FIXED;

constexpr int MATRIX_LISTED = 8;                       // planes whose units a warp finds at a time, four lanes a plane
constexpr int MATRIX_PLACES = 2 * MATRIX_LISTED;       // planes of a list: these, and those before, of which units may be left
constexpr int MATRIX_LIST = MATRIX_GROUP - 1 + 8 * 14; // units: those left, and of a plane at most one for every 8 voxels begun

// The units that a warp has still to take, and for each plane how far the first column of each of its views (law astra: each ray) lies
// from the tile's first voxel.
template <class Law> struct matrix_list {
  uint32_t
      unit[MATRIX_LIST + MATRIX_GROUP]; // bits: 3 none | 4 number in its plane | 4 plane % MATRIX_PLACES | 4 voxels | record of the first
  float place[MATRIX_PLACES][Law::ROUNDED ? 16 : 4];
};
__device__ static inline int matrix_plane_of(uint32_t unit) { return unit >> 7 & (MATRIX_PLACES - 1); }

template <int TILES, bool SPLIT> static inline size_t matrix_forward_bytes(int32_t voxels) { // of all slots of a block
  const size_t ring = ((size_t)voxels + MATRIX_ZEROS) * MATRIX_RECORD<TILES, SPLIT>;
  const size_t tile = STACK_SIDE * STACK_SIDE * STACK_TILE_STRIDE<TILES / 4> * sizeof(float);
  return ring > tile ? ring : tile;
}

// upright: [chunk][y][x], sideways: [chunk][x][y], records.
template <class Law, int TILES, bool SPLIT>
__global__ void __launch_bounds__(MATRIX_THREADS, 1) matrix_forward(stack_plane plane, const matrix_block *blocks, const char *upright,
                                                                    const char *sideways, const unsigned *largest, stack_target target) {
  constexpr int RECORD = MATRIX_RECORD<TILES, SPLIT>;
  constexpr bool SPLIT_WEIGHTS = SPLIT && !Law::ROUNDED;
  RS_SHARED(char, rows);
  __shared__ matrix_ring ring;
  __shared__ matrix_list<Law> lists[MATRIX_WARPS];
  __shared__ matrix_segment segments[MATRIX_SEGMENTS];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, q = lane % 4;
  const int64_t chunk = blockIdx.y;
  const stack_block block = blocks[blockIdx.x].share;
  const int tile_views = blocks[blockIdx.x].tile_views, tile_columns = STACK_SIDE / tile_views;
  const int32_t planes = block.last - block.first, slots = block.planes, voxels = block.voxels;
  const int32_t segment_bits = blocks[blockIdx.x].segment_bits, load_bits = blocks[blockIdx.x].load_bits;
  const int32_t load_planes = 1 << load_bits, loads = (planes + load_planes - 1) >> load_bits;
  const bool is_upright = plane.view[block.view].main == RS_Y;
  const int32_t cross = is_upright ? plane.nx : plane.ny;
  const char *packed = (is_upright ? upright : sideways) + chunk * plane.ny * plane.nx * RECORD;
  matrix_list<Law> &list = lists[warp];
  const matrix_address ring_at = matrix_hold(&ring), rows_at = matrix_hold(rows);

  // The tile, and the rays of rows g and g + 8.
  const int across = block.pieces * tile_views, tile_view = warp / across * tile_views;
  const int32_t column = block.column + warp % across * tile_columns;
  const bool busy = tile_view < block.views && planes > 0;
  const stack_view *views = plane.view + block.view + (busy ? tile_view : 0);
  const int ray_view[2] = {g / tile_columns, (g + 8) / tile_columns}, ray_column[2] = {g % tile_columns, (g + 8) % tile_columns};
  const float shift[2] = {(Law::ROUNDED ? 0 : (float)views[ray_view[0]].column * ray_column[0]) - q % 2 * 4,
                          (Law::ROUNDED ? 0 : (float)views[ray_view[1]].column * ray_column[1]) - q % 2 * 4};

  auto window_of = [&](int32_t on) { // of the block, on a plane counted from its first
    const int32_t segment = on >> segment_bits;
    stack_window window = {0, 0};
    if (on >= planes) return window;
    const matrix_segment &line = segments[segment];
    const double way = on - (segment << segment_bits);
    const int32_t high = (int32_t)floor(line.high + way * line.high_step + plane.slack) + 1;
    window.low = max((int32_t)floor(line.low + way * line.low_step - plane.slack), 0);
    window.count = max(min(min(high, cross - 1) - window.low + 1, voxels), 0);
    return window;
  };
  auto send = [&](int load, int slot) { // a lane a plane
    const int32_t on = (load << load_bits) + lane;
    const stack_window window = window_of(on);
    matrix_send(ring, slot, lane < load_planes, rows + (MATRIX_ZEROS + ((slot << load_bits) + lane) * voxels) * RECORD,
                packed + ((block.first + on) * (int64_t)cross + window.low) * RECORD, window.count * RECORD);
  };
  // Where the first column of view q of the tile is on plane lane / 4 of the next list, and from there to the first and the last column;
  // and the plane's slot.
  const stack_view &mine = views[q < tile_views ? q : 0];
  const double span = mine.column * (tile_columns - 1);
  int64_t at = llrint(stack_voxel_of(mine, column, block.first + lane / 4) * MATRIX_FIXED);
  const int64_t stride = llrint(mine.plane * MATRIX_LISTED * MATRIX_FIXED);
  const int64_t to_low = llrint((fmin(span, 0.0) - plane.slack) * MATRIX_FIXED),
                to_high = llrint((fmax(span, 0.0) + plane.slack) * MATRIX_FIXED);
  Law law;
  int slot_of_mine = (lane / 4 >> load_bits) % slots;
  auto make = [&](int first_plane, int done, int total) { // a list, behind the units that are left of the last one; returns its length
    const int k = lane / 4, on = first_plane + k;
    const stack_window window = window_of(on);
    const int left = total - done;
    const uint32_t unit_left = lane < left ? list.unit[done + lane] : 0;
    int32_t low = (int32_t)((at + to_low) >> 32), high = (int32_t)((at + to_high) >> 32) + 1;
    for (int n = 1; n < 4; n *= 2) {
      low = min(low, __shfl_xor_sync(0xffffffffu, low, n));
      high = max(high, __shfl_xor_sync(0xffffffffu, high, n));
    }
    low = max(low, window.low);
    high = min(high, window.low + window.count - 1);
    const int units = low <= high ? (high - low) / 8 + 1 : 0;
    int before = units;
    for (int n = 4; n < 32; n *= 2) {
      const int other = __shfl_up_sync(0xffffffffu, before, n);
      before += lane >= n ? other : 0;
    }
    before += left;
    total = __shfl_sync(0xffffffffu, before, 31);
    __syncwarp(); // the last list was read
    if (lane < left) list.unit[lane] = unit_left;
    float(*place)[Law::ROUNDED ? 16 : 4] = list.place + first_plane % MATRIX_PLACES;
    if constexpr (Law::ROUNDED) {
      const int ray = lane % 16, view = ray / tile_columns;
#pragma unroll 1
      for (int n = lane / 16 * 4; n < lane / 16 * 4 + 4; n++) {
        const int32_t first = __shfl_sync(0xffffffffu, low, 4 * n);
        place[n][ray] = (float)law.voxel_of(views[view], column + ray % tile_columns, block.first + first_plane + n) - (float)first;
      }
    } else {
      place[k][q] = (float)(int32_t)((at - ((int64_t)low << 32)) >> MATRIX_PLACE_BITS) * MATRIX_PLACE;
    }
    const uint32_t record = MATRIX_ZEROS + ((slot_of_mine << load_bits) + (k & (load_planes - 1))) * voxels + low - window.low;
#pragma unroll 1
    for (int n = q; n < units; n += 4)
      list.unit[before - units + n] =
          (record + 8 * n) << 15 | (uint32_t)min(high - low - 8 * n + 1, 8) << 11 | (uint32_t)(on % MATRIX_PLACES) << 7 | (uint32_t)n << 3;
    if (lane < MATRIX_GROUP) list.unit[total + lane] = 0; // no voxels
    __syncwarp();
    at += stride;
    slot_of_mine += (MATRIX_LISTED >> load_bits) % slots;
    slot_of_mine -= slot_of_mine >= slots ? slots : 0;
    return total;
  };

  const int entry[2] = {Law::ROUNDED ? g : ray_view[0], Law::ROUNDED ? g + 8 : ray_view[1]};
  float sum[TILES][4] = {};
  auto add = [&](const uint32_t *unit, bool taken) { // four units, of which this lane's may be left for later
    matrix_weights weights;
    unsigned chosen[4];
#pragma unroll
    for (int n = 0; n < 2; n++) {
      const uint32_t own = unit[2 * n + q / 2];
      const float *place = list.place[matrix_plane_of(own)];
#pragma unroll
      for (int ray = 0; ray < 2; ray++)
        chosen[2 * n + ray] = matrix_weigh<SPLIT_WEIGHTS>(place[entry[ray]] + shift[ray] - (float)(own & 0x78), 1, 0, 2,
                                                          weights.high[2 * n + ray], weights.low[2 * n + ray]);
    }
    weights.places = matrix_places(chosen);
    const uint32_t own = unit[lane / 8];
    const int32_t record = (int32_t)(own >> 15) + lane % 8;
    const bool there = taken && (uint32_t)(lane % 8) < (own >> 11 & 15);
    const int32_t row = there ? record : record & (MATRIX_ZEROS - 1);
    matrix_add<TILES, SPLIT, SPLIT_WEIGHTS>(sum, weights, rows_at + row * RECORD);
  };
  matrix_kept<TILES> kept;
  if (SPLIT) matrix_forget(kept);
  int chain = warp * (MATRIX_CHAIN / MATRIX_WARPS); // groups of units; one warp after the other keeps its sums

  if (threadIdx.x == 0) matrix_prepare(ring, slots, load_planes, MATRIX_WARPS);
  for (int k = threadIdx.x; k < MATRIX_ZEROS * RECORD / 4; k += MATRIX_THREADS) reinterpret_cast<float *>(rows)[k] = 0;
  if (threadIdx.x < MATRIX_SEGMENTS) segments[threadIdx.x] = blocks[blockIdx.x].segment[threadIdx.x];
  __syncthreads();
  const int ahead = matrix_ahead(slots);
  for (int load = 0; warp == 0 && load < min(loads, ahead); load++) send(load, load);
  // Four units may begin in a load that all else is done with, and end some loads later: no more of them than are sent ahead, so that no
  // warp waits for a load that another one would send if this one let go of the first.
  const int most = min(ahead, MATRIX_LISTED >> load_bits);
  matrix_place coming, leaving; // loads to wait for, and to let go
  auto come = [&] {
    matrix_wait(matrix_full(ring_at, coming.slot), coming.phase);
    matrix_step(coming, slots);
  };
  auto leave = [&](int to) {
#pragma unroll 1
    while (leaving.load < to) {
      if (coming.load == leaving.load) come();
      matrix_release(ring_at, leaving, loads, slots, send);
    }
  };
  const int mask = (MATRIX_PLACES >> load_bits) - 1;
  auto behind = [&](uint32_t unit, int load) { return ((matrix_plane_of(unit) >> load_bits) - load) & mask; }; // loads
  int done = 0, total = 0;
#pragma unroll 1
  for (int first_plane = 0; first_plane < planes; first_plane += MATRIX_LISTED) {
    const int end = min(first_plane + MATRIX_LISTED, planes), least = end < planes ? MATRIX_GROUP : 1;
    const int old = total - done; // units, which may wait for others no longer
    if (busy) total = make(first_plane, done, total), done = 0;
#pragma unroll 1
    while (total - done >= least || done < old) {
      const uint32_t *unit = list.unit + done;
      leave(leaving.load + behind(unit[0], leaving.load));
      const bool taken = behind(unit[lane / 8], leaving.load) < most;
      const unsigned others = __ballot_sync(0xffffffffu, !taken);
      const int count = min(others ? (__ffs((int)others) - 1) / 8 : MATRIX_GROUP, total - done);
      const int last = leaving.load + behind(unit[count - 1], leaving.load);
#pragma unroll 1
      while (coming.load <= last) come();
      add(unit, taken);
      done += count;
      if (SPLIT && ++chain >= MATRIX_CHAIN) matrix_keep(kept, sum), chain = 0;
    }
    leave(done < total ? leaving.load + behind(list.unit[done], leaving.load) : (end + load_planes - 1) >> load_bits);
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
      [&](int row) { return plane.view[block.view + row / block.pieces].length; });
}
