// matrix_back.h: back projection of the `rs_matrix_cuda` family.
//
// A block owns STACK_SIDE x STACK_SIDE voxels of a chunk of lanes, a warp a tile of 4 x 4 of them, in registers until the last view. The
// columns that the block sees come in loads of four units. A unit is 8 columns of a view, from the first one that a tile sees. A view
// whose columns lie less than a voxel apart has several units, 8 columns apart, and each of them twice: a voxel meets more than two of
// four columns, so one has the first two of every four, one the others.
#pragma once
#include "matrix_pack.h"
#include "matrix_sparse.h"
#include "ring.h"

constexpr int MATRIX_UNITS = MATRIX_GROUP; // of a load
constexpr int MATRIX_FOUND = 8;            // loads whose windows a warp finds at a time, a lane a unit
static_assert(MATRIX_FOUND * MATRIX_UNITS == 32 && ring_ahead(RING_SLOTS) <= MATRIX_FOUND, "windows must be found in time");

struct matrix_unit {
  int32_t view, shift; // columns from the first that a tile sees
  float least, most;   // of four columns, the first whose weight it may take
};

// The columns of a unit that a block sees, as it lies in shared memory. Positions count from the first column that the block sees of the
// view, on the detector or not: the same numbers in all units of a view, so that rounding cannot part one from the next.
template <class Law> struct alignas(16) matrix_window {
  float corner, along_y, along_x;  // voxel (y, x) of the block lies at corner + along_y y + along_x x
  float begin, shift;              // floor(p + begin) + shift is the first column of a tile whose voxel (0, 0) lies at p
  float pitch, least, most;        // voxels between columns; of a matrix_unit
  float texel[3], from;            // law astra: column32 of an astra_view, for (y, x, 1), and where positions begin in it
  int32_t count, view, low, ahead; // columns, the first of them, and how far that lies from where positions begin
};
constexpr int MATRIX_WINDOWS = 4 * MATRIX_FOUND * MATRIX_UNITS; // those in use, and as many to come

// Shared memory: the records of zeros and of the ring, then the tile.
template <int TILES, bool SPLIT> static inline size_t matrix_back_bytes(int32_t slots, int32_t columns) {
  const size_t ring = ((size_t)slots * MATRIX_UNITS * columns + MATRIX_ZEROS) * MATRIX_RECORD<TILES, SPLIT>;
  const size_t tile = STACK_SIDE * STACK_SIDE * STACK_TILE_STRIDE<TILES / 4> * sizeof(float);
  return ring > tile ? ring : tile;
}

// The columns first ... last of a unit that the tiles of a block at voxel (y, x) see.
struct matrix_reach {
  double corner, first, last;
};
__host__ __device__ static inline matrix_reach matrix_reach_of(const stack_view &view, int32_t shift, double corner) {
  const double reach = 1 / (double)view.pitch, high_y = fmax(0., view.along_y), high_x = fmax(0., view.along_x);
  const double low_y = fmin(0., view.along_y), low_x = fmin(0., view.along_x), last = STACK_SIDE - 1;
  const double first = floor(corner + last * (low_y + low_x) - reach) + 1 + shift;
  // The first column of the last tile to begin, and what the last voxel sees.
  const double begin = floor(corner + (last - 3) * (high_y + high_x) + 3 * (low_y + low_x) - reach) + 1 + shift;
  return {corner, first, fmin(begin + 7, ceil(corner + last * (high_y + high_x) + reach) - 1)};
}

// packed: [chunk][view][column], records. `columns` is the room for a unit's window.
template <class Law, int TILES, bool SPLIT>
__global__ void __launch_bounds__(MATRIX_THREADS, 1)
    matrix_back(stack_plane plane, const matrix_unit *units, int32_t count, const char *packed, const unsigned *largest,
                stack_target target, int32_t slots, int32_t columns) {
  constexpr int RECORD = MATRIX_RECORD<TILES, SPLIT>;
  constexpr bool SPLIT_WEIGHTS = SPLIT && !Law::ROUNDED;
  RS_SHARED(char, rows);
  __shared__ ring_arrivals ring;
  __shared__ matrix_window<Law> windows[MATRIX_WINDOWS];
  __shared__ __align__(8) float scale[8 * TILES];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, q = lane % 4;
  const int64_t chunk = blockIdx.y;
  const int tiles = (plane.nx + STACK_SIDE - 1) / STACK_SIDE;
  const int y = blockIdx.x / tiles * STACK_SIDE, x = blockIdx.x % tiles * STACK_SIDE;
  const shared_address ring_at = shared_hold(&ring), rows_at = shared_hold(rows);
  packed += chunk * plane.views * plane.columns * RECORD;

  auto find = [&](int32_t load) {
    const int32_t number = load * MATRIX_UNITS + lane;
    matrix_window<Law> window = {};
    if (number < count) {
      const matrix_unit unit = units[number];
      const stack_view &view = plane.view[unit.view];
      const matrix_reach reach = matrix_reach_of(view, unit.shift, stack_exact::column_of(view, y, x));
      const double begin = reach.first - unit.shift, first = fmax(reach.first, 0.), last = fmin(reach.last, plane.columns - 1.);
      if (first <= last)
        window = {(float)(reach.corner - begin),
                  (float)view.along_y,
                  (float)view.along_x,
                  3 * (fminf((float)view.along_y, 0) + fminf((float)view.along_x, 0)) + 1 - 1 / view.pitch,
                  (float)unit.shift,
                  view.pitch,
                  unit.least,
                  unit.most,
                  {},
                  (float)begin + 0.5f,
                  min((int32_t)(last - first) + 1, columns),
                  unit.view,
                  (int32_t)first,
                  (int32_t)(first - begin)};
      if constexpr (Law::ROUNDED)
        for (int k = 0; k < 3; k++) window.texel[k] = view.aim.column32[k + 1];
    }
    windows[number % MATRIX_WINDOWS] = window;
    __syncwarp();
  };
  auto send = [&](int32_t load, int slot) {
    const bool sender = lane < MATRIX_UNITS;
    const matrix_window<Law> &window = windows[(load * MATRIX_UNITS + lane % MATRIX_UNITS) % MATRIX_WINDOWS];
    ring_send(ring, slot, sender, rows + (MATRIX_ZEROS + (slot * MATRIX_UNITS + lane % MATRIX_UNITS) * columns) * RECORD,
              packed + ((int64_t)window.view * plane.columns + window.low) * RECORD, window.count * RECORD);
  };

  auto find_and_send = [&](int32_t load, int slot) {
    if (load % MATRIX_FOUND == 0) find(load + MATRIX_FOUND);
    send(load, slot);
  };

  const float top = warp / 4 * 4, left = warp % 4 * 4;    // of the tile
  auto first_of = [&](const matrix_window<Law> &window) { // the tile's first column
    return floorf(window.along_x * left + (window.along_y * top + window.corner) + window.begin) + window.shift;
  };
  const float y_in = top + g / 4, x_in = left + g % 4; // of row g in the block; row g + 8 is two voxels on along y
  const float y_middle = y + y_in - 0.5f * (plane.ny - 1), x_middle = x + x_in - 0.5f * (plane.nx - 1);
  auto position = [&](const matrix_window<Law> &window, float rows) {
    if constexpr (!Law::ROUNDED) return window.along_x * x_in + (window.along_y * (y_in + rows) + window.corner);
    const float texel = fmaf(y_middle + rows, window.texel[0], fmaf(x_middle, window.texel[1], window.texel[2])); // as its column_of
    return floorf(fmaf(texel, 256, 0.5f)) * (1 / 256.0f) - window.from;
  };

  const int32_t loads = (count + MATRIX_UNITS - 1) / MATRIX_UNITS;
  if (threadIdx.x == 0) ring_prepare(ring, slots, 1, MATRIX_UNITS, MATRIX_WARPS);
  for (int k = threadIdx.x; k < MATRIX_ZEROS * RECORD / 4; k += MATRIX_THREADS) reinterpret_cast<float *>(rows)[k] = 0;
  rs_await();
  matrix_find_scales<TILES>(largest + chunk * 8 * TILES, target.lanes.count - chunk * 8 * TILES, scale);
  if (warp < 2) find(warp * MATRIX_FOUND);
  __syncthreads();
  for (int load = 0; warp == 0 && load < min(loads, ring_ahead(slots)); load++) send(load, load);
  float sum[TILES][4] = {};
  matrix_kept<TILES> kept;
  if (SPLIT) matrix_forget(kept);
#pragma unroll 1
  for (ring_place at; at.load < loads; ring_go_on<MATRIX_WARPS>(ring_at, at, loads, slots, find_and_send)) {
    const matrix_window<Law> *window = windows + at.load * MATRIX_UNITS % MATRIX_WINDOWS;
    matrix_sparse_weights weights;
    unsigned chosen[4];
#pragma unroll
    for (int n = 0; n < 2; n++) {
      const matrix_window<Law> &unit = window[2 * n + q / 2];
      const float first = first_of(unit) + q % 2 * 4;
#pragma unroll
      for (int k = 2 * n; k < 2 * n + 2; k++)
        chosen[k] = matrix_sparse_weigh<SPLIT_WEIGHTS>(position(unit, k % 2 * 2) - first, unit.pitch, unit.least, unit.most,
                                                       weights.high[k], weights.low[k]);
    }
    weights.places = matrix_sparse_places(chosen);
    const matrix_window<Law> &mine = window[lane / 8];
    const int place = (int)first_of(mine) - mine.ahead + lane % 8;
    const int record = MATRIX_ZEROS + (at.slot * MATRIX_UNITS + lane / 8) * columns + place;
    const int row = (unsigned)place < (unsigned)mine.count ? record : record & (MATRIX_ZEROS - 1);
    ring_wait(ring_full(ring_at, at.slot), at.phase);
    matrix_sparse_add<TILES, SPLIT, SPLIT_WEIGHTS>(sum, weights, rows_at + row * RECORD);
    if (SPLIT && (at.load + warp) % MATRIX_CHAIN == 0) matrix_keep(kept, sum); // one warp after the other
  }
  if (SPLIT) matrix_recall(kept, sum);
  __syncthreads(); // the rows were read: their place takes the tile
  float *tile = reinterpret_cast<float *>(rows);
  const int place = (int)(top + g / 4) * STACK_SIDE + (int)left + g % 4;
  matrix_put<TILES>(tile, place, place + 2 * STACK_SIDE, sum, scale);
  __syncthreads();
  stack_finish<TILES / 4>(
      target, tile, plane.ny - y < STACK_SIDE ? plane.ny - y : STACK_SIDE, chunk, [&](int) { return plane.nx - x; },
      [&](int row) { return (size_t)(y + row) * plane.nx + x; }, [](int) { return 1.0f; });
}
