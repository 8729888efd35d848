// matrix_back.h: back projection of the `rs_matrix_cuda` family.
//
// A block owns STACK_SIDE x STACK_SIDE voxels of a chunk of lanes, a warp a tile of 4 x 4 of them, in registers until the last view. The
// columns that the block sees come in loads of four units. A unit is 8 columns of a view, from the first one that a tile sees; a view
// whose columns lie close together has several units, 8 columns apart.
#pragma once
#include "matrix_pack.h"
#include "matrix_ring.h"

constexpr int MATRIX_UNITS = 4; // of a load
constexpr int MATRIX_FOUND = 8; // loads whose windows a warp finds at a time, a lane a unit
static_assert(MATRIX_FOUND * MATRIX_UNITS == 32 && matrix_ahead(MATRIX_SLOTS) <= MATRIX_FOUND, "windows must be found in time");

struct matrix_unit {
  int32_t view, shift; // columns from the first that a tile sees
};

// The columns of a unit that a block sees, as it lies in shared memory. Positions count from the first column that the block sees of the
// view, on the detector or not: the same numbers in all units of a view, so that rounding cannot part one from the next.
template <class Law> struct matrix_window {
  float corner, along_y, along_x;  // voxel (y, x) of the block lies at corner + along_y y + along_x x
  float pitch;                     // voxels between columns
  float texel[3], from;            // law astra: column32 of an astra_view, for (y, x, 1), and where positions begin in it
  float begin, shift;              // floor(p + begin) + shift is the first column of a tile whose least position is p
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
  __shared__ matrix_ring ring;
  __shared__ matrix_window<Law> windows[MATRIX_WINDOWS];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, q = lane % 4;
  const int64_t chunk = blockIdx.y;
  const int tiles = (plane.nx + STACK_SIDE - 1) / STACK_SIDE;
  const int y = blockIdx.x / tiles * STACK_SIDE, x = blockIdx.x % tiles * STACK_SIDE;
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
                  view.pitch,
                  {},
                  (float)begin + 0.5f,
                  1 - 1 / view.pitch,
                  (float)unit.shift,
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
    matrix_send(ring, slot, sender, rows + (MATRIX_ZEROS + (slot * MATRIX_UNITS + lane % MATRIX_UNITS) * columns) * RECORD,
                packed + ((int64_t)window.view * plane.columns + window.low) * RECORD, window.count * RECORD);
  };

  const float top = warp / 4 * 4, left = warp % 4 * 4; // of the tile
  const float y_middle = y + top + g / 4 - 0.5f * (plane.ny - 1), x_middle = x + left + g % 4 - 0.5f * (plane.nx - 1);
  auto rounded = [&](const matrix_window<Law> &window, int rows) { // law astra: as its column_of
    const float texel = fmaf(y_middle + rows, window.texel[0], fmaf(x_middle, window.texel[1], window.texel[2]));
    return floorf(fmaf(texel, 256, 0.5f)) * (1 / 256.0f) - window.from;
  };
  // The weights of a unit; returns the tile's first column in the window.
  auto weigh = [&](const matrix_window<Law> &window, unsigned *high, unsigned *low) {
    const float row = window.along_y * top + window.corner, corner = window.along_x * left + row;
    const float least = corner + 3 * (fminf(window.along_y, 0) + fminf(window.along_x, 0));
    const float first = floorf(least + window.begin) + window.shift;
    float place = window.along_x * (left + g % 4) + (window.along_y * (g / 4) + row) - (first + 2 * q), next = 2 * window.along_y + place;
    if constexpr (Law::ROUNDED) place = rounded(window, 0) - (first + 2 * q), next = rounded(window, 2) - (first + 2 * q);
    matrix_weigh<SPLIT_WEIGHTS>(window.pitch * place, window.pitch, high[0], low[0]);
    matrix_weigh<SPLIT_WEIGHTS>(window.pitch * next, window.pitch, high[1], low[1]);
    return (int)first - window.ahead;
  };

  const int32_t loads = (count + MATRIX_UNITS - 1) / MATRIX_UNITS;
  if (threadIdx.x == 0) matrix_prepare(ring, slots, MATRIX_UNITS, MATRIX_WARPS);
  for (int k = threadIdx.x; k < MATRIX_ZEROS * RECORD / 4; k += MATRIX_THREADS) reinterpret_cast<float *>(rows)[k] = 0;
  if (warp < 2) find(warp * MATRIX_FOUND);
  __syncthreads();
  for (int load = 0; warp == 0 && load < min(loads, matrix_ahead(slots)); load++) send(load, load);
  float sum[TILES][4] = {};
  matrix_kept<TILES> kept;
  if (SPLIT) matrix_forget(kept);
#pragma unroll 1
  for (matrix_place at; at.load < loads; matrix_release(ring, at, loads, slots, MATRIX_WARPS, MATRIX_FOUND, find, send)) {
    const matrix_window<Law> *window = windows + at.load * MATRIX_UNITS % MATRIX_WINDOWS;
    matrix_wait(&ring.full[at.slot], at.phase);
#pragma unroll 1 // the weights of one pair at a time, so that registers are left for rows on their way
    for (int p = 0; p < MATRIX_UNITS / 2; p++) {
      matrix_weights weights;
      const matrix_window<Law> &first = window[2 * p], &second = window[2 * p + 1];
      const int in_first = weigh(first, weights.high, weights.low);
      const int in_second = weigh(second, weights.high + 2, weights.low + 2);
      const int place = (lane & 8 ? in_second : in_first) + lane % 8;
      const bool there = (unsigned)place < (unsigned)(lane & 8 ? second.count : first.count);
      const int record = MATRIX_ZEROS + (at.slot * MATRIX_UNITS + 2 * p + (lane >> 3 & 1)) * columns + place;
      const int row = (there ? record : record & (MATRIX_ZEROS - 1)) * RECORD + lane / 16 * 16;
      matrix_add<TILES, SPLIT, SPLIT_WEIGHTS>(sum, weights, matrix_address_of(rows + row));
    }
    if (SPLIT && (at.load + warp) % (MATRIX_CHAIN / (MATRIX_UNITS / 2)) == 0) matrix_keep(kept, sum); // one warp after the other
  }
  if (SPLIT) matrix_recall(kept, sum);
  __syncthreads(); // the rows were read: their place takes the tile
  float *tile = reinterpret_cast<float *>(rows);
  const int place = (int)(top + g / 4) * STACK_SIDE + (int)left + g % 4;
  matrix_put<TILES>(tile, place, place + 2 * STACK_SIDE, sum, largest + chunk * 8 * TILES, target.lanes.count - chunk * 8 * TILES);
  __syncthreads();
  stack_finish<TILES / 4>(
      target, tile, plane.ny - y < STACK_SIDE ? plane.ny - y : STACK_SIDE, chunk, [&](int) { return plane.nx - x; },
      [&](int row) { return (size_t)(y + row) * plane.nx + x; }, [](int) { return 1.0f; });
}
