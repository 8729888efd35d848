// astra_columns.h: back projection by law astra where detector columns stand along z: voxels above one another see one column, and rows
// at even distances. (Cones with a mirror image take astra_fours_back.h.)
//
// A block owns ASTRA_TALL x STACK_SIDE voxels of a chunk of slices in registers until the last view; lanes are slices, a warp owns 4 x 4
// places. The window of a view that the block sees is copied into shared memory while the view before is worked off. What all slices of
// a place share comes from a table: the weights of the column, and the row of lane 16 in 2^-23 of a row.
#pragma once
#include "astra_upright.h"
#include "stack_quad.h"

// Views are packed by columns, rows next to one another: a pixel, and how much more the next column holds. There is a column of zeros
// before the first one, and the last one is followed by another; `margin` + 1 rows of zeros come before the first.
struct astra_columns {
  int32_t lines, length, margin; // packed columns, rows of each
  int32_t wide, high;            // room for the window of a block: columns, rows
  int32_t chunk;                 // slices
};

struct astra_columns_work {
  stack_target target;
  const astra_view *views;
  const float2 *packed;
  int32_t view_count, height, width;
  astra_columns columns;
};

// What the slices of a place share: the weights of a column, and a share in all; where lane 16 is, in 2^-23 of a row, and the step to
// lane 48, which is that to the next lane in 2^-28; bytes to the column.
struct alignas(16) astra_entry {
  float far, near, above, share;
  int32_t at, step, line;
};

constexpr int ASTRA_WARPS = 8;  // of a block; two run on a multiprocessor, so that one has work while the other waits
constexpr int ASTRA_TALL = 8;   // voxels of a block along y
constexpr int ASTRA_WIDE = 64;  // most columns of a window
constexpr int ASTRA_HIGH = 500; // most rows of it: they are counted in 9 bits

static inline size_t astra_columns_bytes(const astra_columns &c) {
  const size_t stages = 2 * ((size_t)c.wide * c.high * sizeof(float2) + ASTRA_TALL * STACK_SIDE * sizeof(astra_entry));
  const size_t tile = ASTRA_TALL * STACK_SIDE * (c.chunk + 4) * sizeof(float);
  return stages > tile ? stages : tile;
}

// Where a voxel of slice 0 is seen, as places, and how far the next slice is; `power`: of the depth by which the weight is divided.
struct astra_seen {
  double column, row, step;
  float share;
};
template <int power> __host__ __device__ static inline astra_seen astra_see(const astra_view &view, int y, int x) {
  double near = 1, offset = 0;
  if (power) near = 1 / (view.depth[1] * y + view.depth[3] + view.depth[2] * x), offset = RS_TEXTURE_OFFSET;
  return {(view.column[1] * y + view.column[3] + view.column[2] * x) * near + offset,
          (view.row[1] * y + view.row[3] + view.row[2] * x) * near + offset, view.row[0] * near,
          (float)view.weight * (float)(power ? near * near : 1)};
}

__global__ void astra_pack_columns(float2 *to, const float *from, int32_t view_count, int32_t rows, int32_t columns, int64_t views,
                                   astra_columns packed) {
  __shared__ float tile[32][34];
  const int32_t across = (packed.lines + 31) / 32, line0 = blockIdx.x % across * 32, at0 = blockIdx.x / across * 32,
                thread = threadIdx.y * 32 + threadIdx.x;
  for (int64_t view = blockIdx.y; view < view_count; view += gridDim.y) {
    for (int k = thread; k < 32 * 33; k += 256) {
      const int32_t row = at0 + k / 33 - packed.margin - 1, column = line0 + k % 33 - 1;
      const bool inside = row >= 0 && row < rows && column >= 0 && column < columns;
      tile[k / 33][k % 33] = inside ? from[(row * views + view) * columns + column] : 0;
    }
    __syncthreads();
    const int32_t at = at0 + threadIdx.x;
    for (int k = threadIdx.y; k < 32; k += 8)
      if (line0 + k < packed.lines && at < packed.length) {
        const float here = tile[threadIdx.x][k];
        to[(view * packed.lines + line0 + k) * packed.length + at] = make_float2(here, tile[threadIdx.x][k + 1] - here);
      }
    __syncthreads();
  }
}

template <int VEC, int power> __global__ void __launch_bounds__(32 * ASTRA_WARPS, 2) astra_columns_back(astra_columns_work work) {
  constexpr int CHUNK = 32 * VEC, PLACES = ASTRA_TALL * STACK_SIDE;
  RS_SHARED(float2, rows);
  __shared__ stack_arrival arrivals[2];
  __shared__ int2 windows[3]; // first column, first row: in packed ones
  const astra_columns c = work.columns;
  const int32_t slot = c.wide * c.high;
  astra_entry *tables = (astra_entry *)(rows + 2 * slot);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, tiles = (work.width + STACK_SIDE - 1) / STACK_SIDE;
  const int64_t chunk = blockIdx.y;
  const int y0 = blockIdx.x / tiles * ASTRA_TALL, x0 = blockIdx.x % tiles * STACK_SIDE, z0 = (int)chunk * CHUNK;

  auto find = [&](int32_t n) { // the window of a view: four corners, both ends
    const astra_seen seen = astra_see<power>(work.views[n], min(y0 + lane % 2 * (ASTRA_TALL - 1), work.height - 1),
                                             min(x0 + lane / 2 % 2 * (STACK_SIDE - 1), work.width - 1));
    int32_t column = __double2int_rd((seen.column - 0.5) * (1 / RS_TEXTURE_SCALE)),
            row = __double2int_rd((seen.row + seen.step * (z0 + lane / 4 % 2 * (CHUNK - 1)) - 0.5) * (1 / RS_TEXTURE_SCALE));
    for (int k = 1; k < 8; k *= 2) {
      column = min(column, __shfl_xor_sync(0xffffffffu, column, k));
      row = min(row, __shfl_xor_sync(0xffffffffu, row, k));
    }
    row = min(max(row + c.margin, 0) & ~1, c.length - c.high);
    if (lane == 0) windows[n % 3] = make_int2(min(max(column, 0), c.lines - c.wide), row);
  };
  auto send = [&](int32_t n) { // a lane sends two columns
    const int2 window = windows[n % 3];
    for (int k = lane; k < ASTRA_WIDE; k += 32)
      stack_send(&arrivals[n & 1], (float *)(rows + (n & 1) * slot + min(k, c.wide - 1) * c.high),
                 (const float *)(work.packed + ((int64_t)n * c.lines + window.x + k) * c.length + window.y),
                 k < c.wide ? c.high * (unsigned)sizeof(float2) : 0);
  };
  auto make = [&](int32_t n) { // the tables of a view
    if (lane >= 16) return;
    const int2 window = windows[n % 3];
    const astra_seen seen = astra_see<power>(work.views[n], min(y0 + warp / 4 * 4 + lane / 4, work.height - 1),
                                             min(x0 + warp % 4 * 4 + lane % 4, work.width - 1));
    const uint32_t column = min(max(__double2int_rd(seen.column), 0), 256 * (c.lines - 1));
    const astra_shared shared(column & 255, false);
    const double row = seen.row + seen.step * (z0 + 16) + RS_TEXTURE_SCALE * (c.margin - window.y);
    const int32_t line = min(max((int32_t)(column >> 8) - window.x, 0), c.wide - 1);
    astra_entry entry = {shared.far, shared.near, shared.above, seen.share, 0, 0, 0};
    entry.at = (int32_t)(int64_t)rint(row * 32768);
    entry.step = (int32_t)rint(seen.step * (32 * 32768.0));
    entry.line = ((n & 1) * slot + line * c.high) * (int32_t)sizeof(float2);
    tables[(n & 1) * PLACES + warp * 16 + lane] = entry;
  };

  if (threadIdx.x == 0) stack_expect_lanes(&arrivals[0], ASTRA_WIDE), stack_expect_lanes(&arrivals[1], ASTRA_WIDE);
  if (warp < 2 && warp < work.view_count) find(warp);
  __syncthreads();
  const int32_t ahead = (lane - 16) * (1 << 27);
  float sum[16][VEC] = {};
  if (warp == 0) send(0);
  make(0);
  for (int32_t n = 0; n < work.view_count; n++) {
    stack_wait(&arrivals[n & 1], n >> 1 & 1);
    __syncthreads();
    if (warp == n % ASTRA_WARPS && n + 1 < work.view_count) {
      send(n + 1);
      if (n + 2 < work.view_count) find(n + 2);
    }
    if (n + 1 < work.view_count) make(n + 1);
    const float4 *table = (const float4 *)(tables + (n & 1) * PLACES + warp * 16);
#pragma unroll
    for (int p = 0; p < 16; p++) {
      const float4 weights = table[2 * p], steps = table[2 * p + 1];
      const char *line = (const char *)rows + __float_as_uint(steps.z);
      uint32_t at = __float_as_uint(steps.x) + (uint32_t)((int64_t)__float_as_int(steps.y) * ahead >> 32);
#pragma unroll
      for (int k = 0; k < VEC; k++, at += __float_as_uint(steps.y)) {
        const float2 *pixel = (const float2 *)line + (at >> 23), here = pixel[0], next = pixel[1];
        const float fraction = __uint_as_float((at & 0x7f8000u) | 0x3f800000u) - 1,
                    both = fmaf(weights.x, fraction, ASTRA_ROUND) - ASTRA_ROUND, one = weights.z - fmaf(weights.y, fraction, ASTRA_ROUND);
        const float value = fmaf(both, next.y, fmaf(fraction, next.x - here.x, fmaf(one, here.y, here.x)));
        sum[p][k] = fmaf(weights.w, value, sum[p][k]);
      }
    }
  }
  __syncthreads(); // the rows were read: their place takes the tile
  float *tile = (float *)rows;
#pragma unroll
  for (int p = 0; p < 16; p++)
#pragma unroll
    for (int k = 0; k < VEC; k++)
      tile[((warp / 4 * 4 + p / 4) * STACK_SIDE + warp % 4 * 4 + p % 4) * STACK_TILE_STRIDE<VEC> + lane + 32 * k] = sum[p][k];
  __syncthreads();
  const int32_t high = min(work.height - y0, ASTRA_TALL), wide = work.width - x0;
  stack_finish<VEC>(
      work.target, tile, high, chunk, [&](int) { return wide; }, [&](int row) { return (size_t)(y0 + row) * work.width + x0; },
      [](int) { return 1.0f; });
}

// ---- on the host

struct astra_span {
  double low = INFINITY, high = -INFINITY;
  void add(double x) { low = x < low ? x : low, high = x > high ? x : high; }
};

// What blocks of so many voxels and chunks of slices see of views: the most columns and rows, in places, and the most from slice to slice;
// all rows, and what views weigh.
struct astra_tile {
  int32_t tall, wide, chunk, slices;
};
struct astra_reach {
  double wide = 0, high = 0, step = 0;
  astra_span rows, shares;
};

// Measures views 0 ... count - 1, see(n). False where a voxel has no place.
template <int power, typename View>
static inline bool astra_measure_views(const rs_geometry *geometry, int32_t count, View see, const astra_tile &tile, astra_reach *reach) {
  const int32_t height = geometry->shape[RS_Y], width = geometry->shape[RS_X], last = (tile.slices - 1) / tile.chunk * tile.chunk;
  for (int32_t n = 0; n < count; n++) {
    const astra_view &view = see(n);
    for (int32_t y = 0; y < height; y += tile.tall)
      for (int32_t x = 0; x < width; x += tile.wide) {
        const int32_t y1 = y + tile.tall < height ? y + tile.tall - 1 : height - 1,
                      x1 = x + tile.wide < width ? x + tile.wide - 1 : width - 1;
        astra_span columns, rows[2]; // of the first chunk and the last: those between need no more, since rows are linear in z
        for (int k = 0; k < 4; k++) {
          const int32_t at_y = k & 1 ? y1 : y, at_x = k & 2 ? x1 : x;
          const astra_seen seen = astra_see<power>(view, at_y, at_x);
          const bool ahead = !power || view.depth[1] * at_y + view.depth[2] * at_x + view.depth[3] > 1e-6;
          if (!(ahead && seen.share < FLT_MAX)) return false;
          columns.add(seen.column);
          for (int end = 0; end < 2; end++)
            rows[end].add(seen.row + seen.step * (end * last)), rows[end].add(seen.row + seen.step * (end * last + tile.chunk - 1));
          reach->step = fmax(reach->step, fabs(seen.step));
          reach->shares.add(seen.share);
        }
        reach->wide = fmax(reach->wide, columns.high - columns.low);
        for (const astra_span &span : rows) {
          reach->high = fmax(reach->high, span.high - span.low);
          reach->rows.add(span.low);
          reach->rows.add(span.high);
        }
      }
  }
  return true;
}

// Finds the room that windows need with chunks of so many slices. False where this is no way to do it.
template <int power>
static inline bool astra_measure_columns(const rs_geometry *geometry, const astra_view *view, int32_t chunk, astra_columns *to) {
  astra_reach reach;
  if (!astra_measure_views<power>(
          geometry, geometry->views, [=](int32_t n) -> const astra_view & { return view[n]; },
          {ASTRA_TALL, STACK_SIDE, chunk, geometry->shape[RS_Z]}, &reach) ||
      !(reach.step < 7 * RS_TEXTURE_SCALE))
    return false;
  const astra_span all = reach.rows;
  const double wide = reach.wide / RS_TEXTURE_SCALE + 3, high = reach.high / RS_TEXTURE_SCALE + 6;
  const double before = fmax(0, -all.low) / RS_TEXTURE_SCALE, end = fmax(all.high / RS_TEXTURE_SCALE, geometry->rows + 2),
               most = 2 * (geometry->rows + high);
  if (!(wide <= ASTRA_WIDE && high <= ASTRA_HIGH && before < most && end < most)) return false;
  to->lines = geometry->columns + 2;
  to->wide = wide < to->lines ? (int32_t)wide : to->lines;
  to->high = (int32_t)high & ~1;
  to->margin = ((int32_t)before + 4) & ~1;
  to->length = (to->margin + (int32_t)end + 8) & ~1;
  to->chunk = chunk;
  return true;
}

// The bytes of shared memory that a block has for stages.
static inline int64_t astra_room_of(int32_t device) { return rs_cuda_shared(device) - (2 << 10); }

// Chooses the chunks with which a GPU is done first: wide ones share more work, narrow ones fill it. False where none will do.
static inline bool astra_plan_columns(const rs_geometry *geometry, const astra_view *view, int32_t device, astra_columns *to) {
  const double cost[3] = {0.36, 0.58, 1};
  const int multiprocessors = rs_cuda_multiprocessors(device);
  const int64_t tiles =
      (int64_t)((geometry->shape[RS_Y] + ASTRA_TALL - 1) / ASTRA_TALL) * ((geometry->shape[RS_X] + STACK_SIDE - 1) / STACK_SIDE);
  int32_t best = 128;
  double least = INFINITY;
  for (int k = 0; k < 3; k++) {
    const int32_t chunk = 32 << k;
    const int64_t blocks = tiles * ((geometry->shape[RS_Z] + chunk - 1) / chunk);
    const double rounds = cost[k] * (double)((blocks + multiprocessors - 1) / multiprocessors);
    if (rounds < least) least = rounds, best = chunk;
  }
  for (int32_t chunk = best; chunk >= 32; chunk /= 2)
    if ((geometry->beam == RS_CONE ? astra_measure_columns<2>(geometry, view, chunk, to)
                                   : astra_measure_columns<0>(geometry, view, chunk, to)) &&
        (int64_t)astra_columns_bytes(*to) <= astra_room_of(device))
      return true;
  return false;
}
