// matrix_back.h: back projection of the `rs_matrix_cuda` family.
//
// A block owns STACK_SIDE x STACK_SIDE voxels of a chunk of lanes, a warp a tile of 4 x 4 of them, in registers until the last view. Stages
// of a few units bring the columns that the block sees into shared memory while the stage before is worked off. A unit is 8 columns of
// a view, from the first one that a tile sees; a view whose columns lie close together has several units, 8 columns apart.
#pragma once
#include "matrix_pack.h"
#include "stack_back.h"

constexpr int MATRIX_UNITS = 8; // most units of a stage

struct matrix_unit {
  int32_t view, shift; // columns from the first that a tile sees
};

// Positions inside a block are float32 where they are not rounded any further.
template <class Law> struct matrix_position { typedef float type; };
template <> struct matrix_position<stack_astra> { typedef double type; };

// The columns of a unit that a block sees, as it lies in shared memory. Positions count from the first of them.
template <class Law> struct matrix_window {
  typename matrix_position<Law>::type corner, along_y, along_x; // voxel (y, x) of the block lies at corner + along_y y + along_x x
  float pitch;                                                  // voxels between columns
  float begin, shift; // floor(p + begin) + shift is the first column of a tile whose least position is p
  int32_t count;
};

// Shared memory: the records of zeros and of two stages.
template <int TILES, bool SPLIT> static inline size_t matrix_back_bytes(int32_t stage, int32_t columns) {
  const size_t stages = ((size_t)2 * stage * columns + MATRIX_ZEROS) * MATRIX_RECORD<TILES, SPLIT>;
  const size_t tile = STACK_SIDE * STACK_SIDE * STACK_TILE_STRIDE<TILES / 4> * sizeof(float);
  return stages > tile ? stages : tile;
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

// packed: [chunk][view][column], records. `columns` is the room for a unit's window, `stage` the units of a stage, a multiple of 4.
template <class Law, int TILES, bool SPLIT>
__global__ void __launch_bounds__(MATRIX_THREADS, 1)
    matrix_back(stack_plane plane, const matrix_unit *units, int32_t count, const char *packed, const unsigned *largest,
                stack_target target, int32_t stage, int32_t columns) {
  constexpr int RECORD = MATRIX_RECORD<TILES, SPLIT>;
  constexpr bool SPLIT_WEIGHTS = SPLIT && !Law::ROUNDED;
  typedef typename matrix_position<Law>::type position;
  RS_SHARED(char, rows);
  __shared__ stack_arrival arrivals[2];
  __shared__ matrix_window<Law> windows[2][MATRIX_UNITS];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, q = lane % 4;
  const int64_t chunk = blockIdx.y;
  const int tiles = (plane.nx + STACK_SIDE - 1) / STACK_SIDE;
  const int y = blockIdx.x / tiles * STACK_SIDE, x = blockIdx.x % tiles * STACK_SIDE;
  packed += chunk * plane.views * plane.columns * RECORD;

  auto send = [&](int32_t from, int half) { // a lane sends the window of a unit
    unsigned bytes = 0;
    int32_t low = 0, line = 0;
    if (lane < stage) {
      matrix_window<Law> window = {};
      if (from + lane < count) {
        const matrix_unit unit = units[from + lane];
        const stack_view &view = plane.view[unit.view];
        const matrix_reach reach = matrix_reach_of(view, unit.shift, stack_exact::column_of(view, y, x));
        const double first = fmax(reach.first, 0.), last = fmin(reach.last, plane.columns - 1.);
        if (first <= last) {
          low = (int32_t)first;
          window = {(position)(reach.corner - first),
                    (position)view.along_y,
                    (position)view.along_x,
                    view.pitch,
                    1 - 1 / view.pitch,
                    (float)unit.shift,
                    min((int32_t)last - low + 1, columns)};
          bytes = window.count * RECORD;
          line = unit.view;
        }
      }
      windows[half][lane] = window;
    }
    stack_send(&arrivals[half], reinterpret_cast<float *>(rows + (MATRIX_ZEROS + (half * stage + lane) * columns) * RECORD),
               reinterpret_cast<const float *>(packed + ((int64_t)line * plane.columns + low) * RECORD), bytes);
  };

  const float top = warp / 4 * 4, left = warp % 4 * 4; // of the tile
  auto rounded = [](position place) { return (float)(Law::ROUNDED ? floor(256 * place + 0.5f) * (1 / 256.0f) : place); };
  // The weights of a unit; returns the tile's first column.
  auto weigh = [&](const matrix_window<Law> &window, unsigned *high, unsigned *low) {
    const position row = window.along_y * top + window.corner, corner = window.along_x * left + row;
    const float least = (float)corner + 3 * (fminf((float)window.along_y, 0) + fminf((float)window.along_x, 0));
    const float first = floorf(least + window.begin) + window.shift;
    const position place = window.along_x * (left + g % 4) + (window.along_y * (g / 4) + row) - (first + 2 * q);
    matrix_weigh<SPLIT_WEIGHTS>(window.pitch * rounded(place), window.pitch, high[0], low[0]);
    matrix_weigh<SPLIT_WEIGHTS>(window.pitch * rounded(2 * window.along_y + place), window.pitch, high[1], low[1]);
    return (int)first;
  };

  if (threadIdx.x == 0) stack_expect_lanes(&arrivals[0]), stack_expect_lanes(&arrivals[1]);
  for (int k = threadIdx.x; k < MATRIX_ZEROS * RECORD / 4; k += MATRIX_THREADS) reinterpret_cast<float *>(rows)[k] = 0;
  __syncthreads();
  float sum[TILES][4] = {};
  if (warp == 0) send(0, 0);
  for (int32_t from = 0, n = 0; from < count; from += stage, n++) {
    const int half = n & 1;
    stack_wait(&arrivals[half], n >> 1 & 1);
    __syncthreads();
    if (warp == n % MATRIX_WARPS && from + stage < count) send(from + stage, half ^ 1);
#pragma unroll 1
    for (int k = 0; k < stage && from + k < count; k += 4) {
      matrix_weights weights[2];
      matrix_address addresses[2];
#pragma unroll
      for (int p = 0; p < 2; p++) {
        const int a = k + 2 * p, mine = lane & 8 ? a + 1 : a;
        const matrix_window<Law> &first = windows[half][a], &second = windows[half][a + 1];
        const int in_first = weigh(first, weights[p].high, weights[p].low);
        const int in_second = weigh(second, weights[p].high + 2, weights[p].low + 2);
        const int place = (lane & 8 ? in_second : in_first) + lane % 8;
        const bool there = (unsigned)place < (unsigned)(lane & 8 ? second.count : first.count);
        const int record = MATRIX_ZEROS + (half * stage + mine) * columns + place;
        addresses[p] = matrix_address_of(rows + (there ? record : record & (MATRIX_ZEROS - 1)) * RECORD + lane / 16 * 16);
      }
      matrix_add<TILES, SPLIT, SPLIT_WEIGHTS, 2>(sum, weights, addresses);
    }
  }
  __syncthreads(); // the rows were read: their place takes the tile
  float *tile = reinterpret_cast<float *>(rows);
  const int place = (int)(top + g / 4) * STACK_SIDE + (int)left + g % 4;
  matrix_put<TILES>(tile, place, place + 2 * STACK_SIDE, sum, largest + chunk * 8 * TILES, target.lanes.count - chunk * 8 * TILES);
  __syncthreads();
  stack_finish<TILES / 4>(
      target, tile, plane.ny - y < STACK_SIDE ? plane.ny - y : STACK_SIDE, chunk, [&](int) { return plane.nx - x; },
      [&](int row) { return (size_t)(y + row) * plane.nx + x; }, [](int) { return 1.0f; });
}
