// matrix_forward.h: forward projection of the `rs_matrix_cuda` family.
//
// A block owns up to 256 rays, of a group of views with similar slopes, for a chunk of lanes, in registers until the last plane; a warp owns
// a tile of 16 of them, neighbouring columns of 1, 2 or 4 views. The voxels that the block's rays see come in loads of one or two planes. A
// unit is 8 voxels of a plane; a tile takes as many as its rays see there.
#pragma once
#include "matrix_pack.h"
#include "matrix_ring.h"
#include "stack_forward.h"

struct matrix_block {
  stack_block share;
  int32_t tile_views;         // views of a tile: 1, 2 or 4, which divides those of the block
  int32_t slots, load_planes; // of the ring; 1 or 2 planes of a load
  int32_t chain;              // units of a chain of products, 4 or 2
};

constexpr int MATRIX_PLANES = 8; // whose windows are found, and whose units are listed, at a time

constexpr int MATRIX_LIST = 112; // their units: each plane has at most one for every 8 voxels begun
constexpr int MATRIX_CHAIN = 4;  // most units of a chain

// What a warp knows about MATRIX_PLANES planes, and the ones before: the units that are left, and for each plane, modulo 2 MATRIX_PLANES,
// the tile's first voxel, and how far the first column of each of its views lies from there.
struct matrix_list {
  uint32_t unit[MATRIX_LIST + 2 * MATRIX_CHAIN]; // bits: 4 plane | 4 number in its plane | 4 voxels | first record
  float place[2 * MATRIX_PLANES][4];
  int32_t first[2 * MATRIX_PLANES];
};

template <int TILES, bool SPLIT> static inline size_t matrix_forward_bytes(int32_t records) {
  const size_t ring = ((size_t)records + MATRIX_ZEROS) * MATRIX_RECORD<TILES, SPLIT>;
  const size_t tile = STACK_SIDE * STACK_SIDE * STACK_TILE_STRIDE<TILES / 4> * sizeof(float);
  return ring > tile ? ring : tile;
}

// Are slots enough for a chain, whose units lie on as many neighbouring planes at the most, and not too many for windows to be found in
// time?
static inline constexpr bool matrix_fits(int32_t slots, int32_t load_planes, int32_t chain) {
  return matrix_ahead(slots) >= (chain - 1 + load_planes - 1) / load_planes + 1 && matrix_ahead(slots) <= MATRIX_PLANES / load_planes;
}

// upright: [chunk][y][x], sideways: [chunk][x][y], records.
template <class Law, int TILES, bool SPLIT>
__global__ void __launch_bounds__(MATRIX_THREADS, 1) matrix_forward(stack_plane plane, const matrix_block *blocks, const char *upright,
                                                                    const char *sideways, const unsigned *largest, stack_target target) {
  constexpr int RECORD = MATRIX_RECORD<TILES, SPLIT>;
  constexpr bool SPLIT_WEIGHTS = SPLIT && !Law::ROUNDED;
  RS_SHARED(char, rows);
  __shared__ matrix_ring ring;
  constexpr int WINDOWS = 4 * MATRIX_PLANES; // those in use, and as many to come
  __shared__ stack_window windows[WINDOWS];
  __shared__ matrix_list lists[MATRIX_WARPS];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, q = lane % 4;
  const int64_t chunk = blockIdx.y;
  const stack_block block = blocks[blockIdx.x].share;
  const int tile_views = blocks[blockIdx.x].tile_views, tile_columns = STACK_SIDE / tile_views;
  const int32_t slots = blocks[blockIdx.x].slots, voxels = block.voxels;
  const int chain = blocks[blockIdx.x].chain, per = blocks[blockIdx.x].load_planes, two = per - 1, planes = block.last - block.first,
            loads = (planes + two) >> two;
  const bool is_upright = plane.view[block.view].main == RS_Y;
  const int32_t cross = is_upright ? plane.nx : plane.ny;
  const char *packed = (is_upright ? upright : sideways) + chunk * plane.ny * plane.nx * RECORD;

  // The tile, and the rays of rows g and g + 8.
  const int across = block.pieces * tile_views, tile_view = warp / across * tile_views;
  const int32_t column = block.column + warp % across * tile_columns;
  const bool busy = tile_view < block.views;
  const stack_view *views = plane.view + block.view + (busy ? tile_view : 0);
  const int ray_view[2] = {g / tile_columns, (g + 8) / tile_columns}, ray_column[2] = {g % tile_columns, (g + 8) % tile_columns};
  const float shift[2] = {(float)views[ray_view[0]].column * ray_column[0] - 2 * q,
                          (float)views[ray_view[1]].column * ray_column[1] - 2 * q};

  // The voxels of plane from + lane / 4 that some rays see: low, and low + count - 1. Each of four lanes knows a part of the rays.
  auto window_of = [&](double least, double most, int32_t begin, int32_t end) {
    int32_t low = (int32_t)floor(least - plane.slack), high = (int32_t)floor(most + plane.slack) + 1;
    for (int k = 1; k < 4; k *= 2) {
      low = min(low, __shfl_xor_sync(0xffffffffu, low, k));
      high = max(high, __shfl_xor_sync(0xffffffffu, high, k));
    }
    low = max(low, begin);
    return stack_window{low, max(min(high, end - 1) - low + 1, 0)};
  };
  auto find = [&](int32_t load) {
    const int plane_at = (load << two) + lane / 4, s = block.first + plane_at;
    double least = STACK_FAR, most = -STACK_FAR;
    for (int v = lane % 4; v < block.views; v += 4)
      for (int end = 0; end < 2; end++) {
        const double p = stack_voxel_of(plane.view[block.view + v], block.column + end * (block.pieces * STACK_SIDE - 1), s);
        least = fmin(least, p);
        most = fmax(most, p);
      }
    stack_window window = window_of(least, most, 0, cross);
    window.count = plane_at < planes ? min(window.count, voxels) : 0;
    if (lane % 4 == 0) windows[plane_at % WINDOWS] = window;
    __syncwarp();
  };
  auto send = [&](int32_t load, int slot) {
    const int plane_at = (load << two) + (lane & two);
    const stack_window window = windows[plane_at % WINDOWS];
    matrix_send(ring, slot, lane < per, rows + (MATRIX_ZEROS + (slot * per + (lane & two)) * voxels) * RECORD,
                packed + ((block.first + plane_at) * (int64_t)cross + window.low) * RECORD, window.count * RECORD);
  };

  matrix_list &list = lists[warp];
  // Lists the units from plane block.first + from on, four lanes a plane, behind those that are left; returns how many there are. Where the
  // last plane has some, `more`, the last units may wait for those to come.
  auto make = [&](int32_t from, int at, int left, bool &more) {
    const int k = lane / 4, v = q < tile_views ? q : 0, s = block.first + from + k;
    const stack_window window = windows[(from + k) % WINDOWS];
    const double near = stack_voxel_of(views[v], column, s), far = stack_voxel_of(views[v], column + tile_columns - 1, s);
    const stack_window mine = window_of(fmin(near, far), fmax(near, far), window.low, window.low + window.count);
    const int here = from + k < planes ? (mine.count + 7) / 8 : 0;
    const int record = MATRIX_ZEROS + (((from + k) >> two) % slots * per + (k & two)) * voxels;
    // Planes between others count one unit at least: so units that go together are close.
    const unsigned seen = __ballot_sync(0xffffffffu, here > 0), up_to = (2u << lane) - 1;
    const int units = (left || seen & up_to) && seen & ~up_to ? max(here, 1) : here;
    more = seen >> 31 && from + MATRIX_PLANES < planes;
    int before = q ? 0 : units;
    for (int n = 1; n < 32; n *= 2) {
      const int other = __shfl_up_sync(0xffffffffu, before, n);
      before += lane >= n ? other : 0;
    }
    const int total = __shfl_sync(0xffffffffu, before, 31) + left;
    const uint32_t old = lane < left ? list.unit[at + lane] : 0;
    const int slot = (from + k) % (2 * MATRIX_PLANES);
    __syncwarp(); // the last list was read
    list.place[slot][q] = (float)(near - mine.low);
    list.first[slot] = mine.low;
    if (lane < left) list.unit[lane] = old;
    for (int n = q; n < units; n += 4)
      list.unit[left + before - units + n] = (uint32_t)(record + mine.low - window.low + 8 * n) << 12 |
                                             (uint32_t)max(min(mine.count - 8 * n, 8), 0) << 8 | (uint32_t)n << 4 | (uint32_t)slot;
    __syncwarp();
    if (lane < MATRIX_CHAIN && total) list.unit[total + lane] = list.unit[total - 1] & 15; // no voxels of the last plane
    __syncwarp();
    return total;
  };

  auto plane_of = [&](int32_t from, uint32_t unit) { return from - MATRIX_PLANES + (((int)unit - from + MATRIX_PLANES) & 15); };
  Law law[2];
  auto weigh = [&](int32_t from, uint32_t unit, unsigned *high, unsigned *low) {
    const int k = unit & 15, behind = unit >> 1 & 0x78;
    float place[2];
#pragma unroll
    for (int ray = 0; ray < 2; ray++)
      if constexpr (Law::ROUNDED) {
        const int32_t first = list.first[k] + behind + 2 * q;
        place[ray] = (float)law[ray].voxel_of(views[ray_view[ray]], column + ray_column[ray], block.first + plane_of(from, unit)) - first;
      } else {
        place[ray] = list.place[k][ray_view[ray]] + shift[ray] - (float)behind;
      }
    matrix_weigh<SPLIT_WEIGHTS>(place[0], 1, high[0], low[0]);
    matrix_weigh<SPLIT_WEIGHTS>(place[1], 1, high[1], low[1]);
  };
  float sum[TILES][4] = {};
  auto add = [&](int32_t from, int unit) {
    constexpr int PAIRS = MATRIX_CHAIN / 2;
    matrix_weights weights[PAIRS];
    matrix_address addresses[PAIRS];
#pragma unroll
    for (int p = 0; p < PAIRS; p++) {
      auto unit_of = [&](int n) { return n < chain ? list.unit[unit + n] : list.unit[unit + chain - 1] & 15; };
      const uint32_t first = unit_of(2 * p), second = unit_of(2 * p + 1), mine = lane & 8 ? second : first;
      weigh(from, first, weights[p].high, weights[p].low);
      weigh(from, second, weights[p].high + 2, weights[p].low + 2);
      const bool there = (uint32_t)(lane % 8) < (mine >> 8 & 15);
      const int32_t record = (int32_t)(mine >> 12) + lane % 8;
      addresses[p] = matrix_address_of(rows + (there ? record : record & (MATRIX_ZEROS - 1)) * RECORD + lane / 16 * 16);
    }
    matrix_add<TILES, SPLIT, SPLIT_WEIGHTS, PAIRS>(sum, weights, addresses);
  };

  const int tiles = block.views / tile_views * across, found = MATRIX_PLANES >> two;
  if (threadIdx.x == 0) matrix_prepare(ring, slots, per, tiles);
  for (int k = threadIdx.x; k < MATRIX_ZEROS * RECORD / 4; k += MATRIX_THREADS) reinterpret_cast<float *>(rows)[k] = 0;
  if (warp < 2) find(warp * found);
  __syncthreads();
  for (int load = 0; warp == 0 && load < min(loads, matrix_ahead(slots)); load++) send(load, load);
  matrix_place done;
  int come = 0; // loads that have come
  auto wait = [&](int count) {
#pragma unroll 1
    for (; come < count; come++) {
      const int at = done.slot + come - done.load;
      const bool over = at >= slots;
      matrix_wait(&ring.full[over ? at - slots : at], done.phase ^ over);
    }
  };
  bool more = false;
#pragma unroll 1
  for (int32_t from = 0, u = 0, total = 0; busy && from < planes; from += MATRIX_PLANES) {
    total = make(from, u, total - u, more);
#pragma unroll 1
    for (u = 0;; u += chain) {
      const int until = u < total ? plane_of(from, list.unit[u]) >> two : min((from + MATRIX_PLANES) >> two, loads);
#pragma unroll 1
      while (done.load < until) {
        wait(done.load + 1);
        matrix_release(ring, done, loads, slots, tiles, found, find, send);
      }
      if (u + (more ? chain - 1 : 0) >= total) break;
      wait((plane_of(from, list.unit[u + chain - 1]) >> two) + 1);
      add(from, u);
    }
    u = min(u, total);
  }
  __syncthreads(); // the rows were read: their place takes the tile
  float *tile = reinterpret_cast<float *>(rows);
  // stack_finish wants lines of STACK_SIDE columns of a view.
  auto place_of = [&](int ray) {
    const int line = warp % across * tile_columns / STACK_SIDE, at = warp % across * tile_columns % STACK_SIDE;
    return ((tile_view + ray_view[ray]) * block.pieces + line) * STACK_SIDE + at + ray_column[ray];
  };
  if (busy) matrix_put<TILES>(tile, place_of(0), place_of(1), sum, largest + chunk * 8 * TILES, target.lanes.count - chunk * 8 * TILES);
  __syncthreads();
  auto first_column = [&](int row) { return block.column + row % block.pieces * STACK_SIDE; };
  stack_finish<TILES / 4>(
      target, tile, block.views * block.pieces, chunk, [&](int row) { return plane.columns - first_column(row); },
      [&](int row) { return (size_t)plane.view[block.view + row / block.pieces].view * plane.columns + first_column(row); },
      [&](int row) { return plane.view[block.view + row / block.pieces].length; });
}
