// stack_back.h: back projection where a voxel sees at most two columns of a view.
//
// A block owns STACK_SIDE x STACK_SIDE voxels of a chunk of lanes, a warp 4 x 4 of them, in registers until the last view. Stages of a few
// views bring the columns that the block sees into shared memory while the stage before is worked off. Quads are four voxels along the
// main axis, along which neighbours see nearly the same columns.
#pragma once
#include "stack_quad.h"

// Shared memory: the rows of two stages, [view][column of the window], and the tables of their warps.
template <int VEC> static inline size_t stack_back_bytes(int32_t stage, int32_t columns) {
  const size_t stages = (size_t)2 * stage * (columns * 32 * VEC + STACK_WARPS * STACK_ENTRY) * sizeof(float);
  const size_t tile = STACK_SIDE * STACK_SIDE * STACK_TILE_STRIDE<VEC> * sizeof(float);
  return stages > tile ? stages : tile;
}

// The first column of a view that the block's voxels see.
template <class Law> __device__ static inline int32_t stack_first_column(const stack_view &view, int y, int x) {
  constexpr int LAST = STACK_SIDE - 1;
  return (int32_t)floor(Law::column_of(view, view.along_y < 0 ? y + LAST : y, view.along_x < 0 ? x + LAST : x));
}

// sum[across the main axis][along it] of 4 x 4 voxels: turned over where the next view has another main axis or runs the other way.
template <int VEC> __device__ static inline void stack_turn(stack_vector<VEC> (&sum)[4][4], int from, int to) {
  auto swap = [](stack_vector<VEC> &a, stack_vector<VEC> &b) {
    const stack_vector<VEC> c = a;
    a = b;
    b = c;
  };
  auto reverse = [&] {
#pragma unroll
    for (int q = 0; q < 4; q++) swap(sum[q][0], sum[q][3]), swap(sum[q][1], sum[q][2]);
  };
  if (from & 1) reverse();
  if ((from ^ to) & 2) {
#pragma unroll
    for (int q = 0; q < 4; q++)
#pragma unroll
      for (int k = 0; k < q; k++) swap(sum[q][k], sum[k][q]);
  }
  if (to & 1) reverse();
}

// Blocks that differ in blockIdx.z do a part of the views each. packed: [chunk][view][columns + detector + columns][lane], zero beside the detector. `columns` is the room for a view's window, `stage`
// the views of a stage, an even number.
template <class Law, int VEC>
__global__ void __launch_bounds__(STACK_THREADS, 1)
    stack_back(stack_plane plane, const float *packed, stack_target target, int32_t stage, int32_t columns) {
  constexpr int WIDTH = 32 * VEC;
  RS_SHARED(float, rows);
  __shared__ stack_arrival arrivals[2];
  float *tables = rows + (size_t)2 * stage * columns * WIDTH;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t chunk = blockIdx.y, line = plane.columns + 2 * (int64_t)columns;
  const int tiles = (plane.nx + STACK_SIDE - 1) / STACK_SIDE;
  const int y = blockIdx.x / tiles * STACK_SIDE, x = blockIdx.x % tiles * STACK_SIDE;
  packed += (chunk * plane.views * line + columns) * WIDTH;
  const int32_t begin = (int32_t)((int64_t)plane.views * blockIdx.z / gridDim.z);
  const int32_t end = (int32_t)((int64_t)plane.views * (blockIdx.z + 1) / gridDim.z);

  auto send = [&](int32_t from, int half) { // a lane sends the window of a view
    unsigned bytes = 0;
    int32_t first = 0;
    if (lane < stage && from + lane < end) {
      first = stack_first_column<Law>(plane.view[from + lane], y, x);
      first = first < -columns ? -columns : first > plane.columns ? plane.columns : first; // beyond these all is zero
      bytes = columns * WIDTH * (unsigned)sizeof(float);
    }
    stack_send(&arrivals[half], rows + (half * stage + lane) * columns * WIDTH, packed + ((from + lane) * line + first) * WIDTH, bytes);
  };
  auto make = [&](int32_t from, int slot) { // the tables of two views
    const int32_t number = from + lane / 16 < end ? from + lane / 16 : end - 1;
    const stack_view &view = plane.view[number];
    const int across = lane % 16 / 4, k = lane % 4, along = view.turn & 1 ? 3 - k : k;
    const int top = y + warp / 4 * 4, left = x + warp % 4 * 4;
    const double position =
        view.main == RS_Y ? Law::column_of(view, top + along, left + across) : Law::column_of(view, top + across, left + along);
    const int32_t window = stack_first_column<Law>(view, y, x) - (slot + lane / 16) * columns;
    stack_make_quads(tables + ((slot + lane / 16) * STACK_WARPS + warp) * STACK_ENTRY, position, view.back_kind, INT32_MIN, INT32_MAX,
                     view.pitch, [&](int32_t first) { return (first - window) * WIDTH * (int32_t)sizeof(float); });
  };

  if (threadIdx.x == 0) stack_expect_lanes(&arrivals[0]), stack_expect_lanes(&arrivals[1]);
  __syncthreads();
  rs_await();
  stack_vector<VEC> sum[4][4] = {};
  int turn = 0;
  if (warp == 0) send(begin, 0);
  for (int k = 0; k < stage; k += 2) make(begin + k, k);
  for (int32_t from = begin, n = 0; from < end; from += stage, n++) {
    const int half = n & 1;
    stack_wait(&arrivals[half], n >> 1 & 1);
    __syncthreads();
    if (warp == n % STACK_WARPS && from + stage < end) send(from + stage, half ^ 1);
    const char *data = reinterpret_cast<const char *>(rows + lane * VEC);
#pragma unroll 1
    for (int k = 0; k < stage && from + k < end; k++) {
      if (k % 2 == 0 && from + stage + k < end) make(from + stage + k, (half ^ 1) * stage + k);
      const stack_view &view = plane.view[from + k];
      if (view.turn != turn) {
        stack_turn<VEC>(sum, turn, view.turn);
        turn = view.turn;
      }
      const float *table = tables + ((half * stage + k) * STACK_WARPS + warp) * STACK_ENTRY;
      switch (view.back_kind) {
      case 0: stack_add_quads<VEC, 0>(sum, table, data); break;
      case 1: stack_add_quads<VEC, 1>(sum, table, data); break;
      case 2: stack_add_quads<VEC, 2>(sum, table, data); break;
      default: stack_add_quads<VEC, 3>(sum, table, data); break;
      }
    }
  }
  __syncthreads(); // the rows were read: their place takes the tile
  stack_turn<VEC>(sum, turn, 0);
#pragma unroll
  for (int n = 0; n < 16; n++) // sum[x][y]
    stack_store(rows + ((warp / 4 * 4 + n % 4) * STACK_SIDE + warp % 4 * 4 + n / 4) * STACK_TILE_STRIDE<VEC> + lane * VEC,
                sum[n / 4][n % 4]);
  __syncthreads();
  if (!stack_join<VEC>(target, rows)) return;
  stack_finish<VEC>(
      target, rows, plane.ny - y < STACK_SIDE ? plane.ny - y : STACK_SIDE, chunk, [&](int) { return plane.nx - x; },
      [&](int row) { return (size_t)(y + row) * plane.nx + x; }, [](int) { return 1.0f; });
}
