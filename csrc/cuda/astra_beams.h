// astra_beams.h: forward projection by law astra where detector columns stand along z: the rays of a column share their way in the
// plane, and cross it at heights at even distances.
//
// A block owns 8 times 16 columns, of neighbouring views, for a chunk of rows, in registers until the last plane; lanes are rows, a warp
// owns STACK_SIDE columns of a view. The voxels of a plane that the block's rays see are copied into shared memory while the plane before
// is worked off. What all rows of a column share comes from a table as in astra_columns.h.
#pragma once
#include "astra_columns.h"

#include <stdlib.h>

// The share of a block: `views` from `view` on, in each `pieces` times STACK_SIDE columns from `column` on, on the planes
// first ... last - 1.
struct astra_beam {
  int32_t view, views, column, pieces, first, last;
};

// The volume is packed as (y, x, z): `margin` + 1 zeros before the first slice.
struct astra_beams {
  int32_t wide, high, margin, length; // room for the window of a plane: columns of voxels, slices of each; slices of a packed one
  int32_t chunk;                      // rows; 0: not this way
  int32_t views, pieces;              // of a block
};

struct astra_beams_work {
  stack_target target;
  const astra_aimed *views;
  const astra_beam *beams;
  const float *packed;
  int64_t step[3];  // in floats along z, y, x
  int32_t count[3]; // voxels along z, y, x
  int32_t columns, cone;
  astra_beams room;
};

// Where the rays of a column are on a plane h from the middle: `across` in places, the height of row 0 in voxels from the middle, and of
// one row; each [0] + h [1].
struct astra_way {
  double across[2], height[2], row[2];
};
__host__ __device__ static inline astra_way astra_way_of(const astra_frame &frame, int cone, double column, double across_count) {
  double at[3], way[3];
  for (int n = 0; n < 3; n++) at[n] = frame.first[n] + column * frame.u[n], way[n] = cone ? frame.origin[n] - at[n] : frame.origin[n];
  const double *on = at, slope = way[1] / way[0], rise = way[2] / way[0];
  double origin[3];
  if (cone) {
    for (int n = 0; n < 3; n++) origin[n] = frame.origin[n];
    on = origin;
  }
  const double share = cone ? -frame.v[2] / way[0] : 0;
  return {{256 * (on[1] - slope * on[0] + 0.5 * across_count) + 128.5, 256 * slope},
          {on[2] - rise * on[0], rise},
          {cone ? -share * on[0] : (double)frame.v[2], share}};
}

static inline int64_t astra_beams_tile(int32_t chunk) { return ASTRA_WARPS * STACK_SIDE * (chunk + 4) * (int64_t)sizeof(float); }

static inline size_t astra_beams_bytes(const astra_beams &b) {
  const size_t stages = 2 * ((size_t)b.wide * b.high * sizeof(float) + ASTRA_WARPS * STACK_SIDE * sizeof(astra_entry));
  const size_t tile = (size_t)astra_beams_tile(b.chunk);
  return stages > tile ? stages : tile;
}

constexpr int ASTRA_BEAM_LINES = 96; // most columns of voxels of a window

template <int VEC> __global__ void __launch_bounds__(32 * ASTRA_WARPS, 2) astra_beams_forward(astra_beams_work work) {
  constexpr int CHUNK = 32 * VEC, PLACES = ASTRA_WARPS * STACK_SIDE;
  RS_SHARED(float, rows);
  __shared__ stack_arrival arrivals[2];
  __shared__ int2 windows[3]; // first column of voxels, first slice: in packed ones
  __shared__ astra_way edges[2 * ASTRA_WARPS];
  const astra_beams room = work.room;
  const astra_beam beam = work.beams[blockIdx.x];
  const int32_t slot = room.wide * room.high;
  astra_entry *tables = (astra_entry *)(rows + 2 * slot);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t chunk = blockIdx.y;
  const int32_t row0 = (int32_t)chunk * CHUNK;
  const int main = work.views[beam.view].main, over = main == RS_X ? RS_Y : RS_X;
  const float count0 = work.count[main], count1 = work.count[over];
  const double middle = 0.5 * (work.count[main] - 1), height = 256 * (0.5 * work.count[RS_Z]) + 128.5;
  const int32_t lines = work.count[over] + RS_TEXTURE_BORDER, wide = min(room.wide, lines);
  const bool busy = warp < beam.views * beam.pieces && beam.first < beam.last;
  const astra_frame &frame = work.views[beam.view + (busy ? warp / beam.pieces : 0)].frame[0];
  auto first_column = [&](int w) { return beam.column + w % beam.pieces * STACK_SIDE; };

  auto find = [&](int32_t plane) { // a lane is a view's first or last column
    const astra_way &way = edges[min(lane, 2 * beam.views - 1)];
    const double h = plane - middle, z = way.height[0] + h * way.height[1], dz = way.row[0] + h * way.row[1];
    int32_t line = __double2int_rd((way.across[0] + h * way.across[1] - 2) * (1 / RS_TEXTURE_SCALE));
    int32_t slice = __double2int_rd((256 * (z + fmin(dz * row0, dz * (row0 + CHUNK - 1))) + height - 2) * (1 / RS_TEXTURE_SCALE));
    for (int k = 1; k < 32; k *= 2) {
      line = min(line, __shfl_xor_sync(0xffffffffu, line, k));
      slice = min(slice, __shfl_xor_sync(0xffffffffu, slice, k));
    }
    slice = min(max(slice + room.margin, 0) & ~3, room.length - room.high);
    if (lane == 0) windows[(plane - beam.first) % 3] = make_int2(min(max(line, 0), lines - wide), slice);
  };
  auto send = [&](int32_t plane) {
    const int n = plane - beam.first;
    const int2 window = windows[n % 3];
    const float *from = work.packed + (plane + 1) * work.step[main] + window.x * work.step[over] + window.y;
    for (int k = lane; k < ASTRA_BEAM_LINES; k += 32)
      stack_send(&arrivals[n & 1], rows + (n & 1) * slot + min(k, wide - 1) * room.high, from + k * work.step[over],
                 k < wide ? room.high * (unsigned)sizeof(float) : 0);
  };
  const int32_t column = min(first_column(warp) + lane % 16, work.columns - 1);
  const astra_way way = astra_way_of(frame, work.cone, column, count1);
  const astra_ray ray = astra_aim(&frame, work.cone, 0, (float)column);
  float position = 0;
  auto make = [&](int32_t plane) { // the tables of a plane
    if (lane >= 16) return;
    const int n = plane - beam.first;
    const int2 window = windows[n % 3];
    if (n == 0 || plane % frame.slab == 0) {
      const int32_t slab = plane / frame.slab * frame.slab;
      position = 256 * astra_enter(ray.start[0], ray.slope[0], (float)slab, count0, count1);
      for (int32_t k = slab; k < plane; k++) position += 256 * ray.slope[0];
    } else {
      position += 256 * ray.slope[0];
    }
    // As astra_place, but before the first voxel stays there, since windows may begin there.
    const float rounded = __fadd_rd(fmaxf(position, -4e6f) + 0.5f, RS_MAGIC + RS_TEXTURE_OFFSET32);
    const int32_t place = min(max((int32_t)(__float_as_uint(rounded) - RS_MAGIC_BITS), 0), 256 * (work.count[over] + 1));
    const astra_shared shared(place & 255, main == RS_X);
    const double h = plane - middle, dz = way.row[0] + h * way.row[1],
                 z = 256 * (way.height[0] + h * way.height[1] + dz * (row0 + 16)) + height + RS_TEXTURE_SCALE * (room.margin - window.y);
    const int32_t line = min(max((place >> 8) - window.x, 0), room.wide - 2);
    astra_entry entry = {shared.far, shared.near, shared.above, 0, 0, 0, 0};
    entry.at = (int32_t)(int64_t)rint(z * 32768);
    entry.step = (int32_t)rint(dz * (256 * 32 * 32768.0));
    entry.line = ((n & 1) * slot + line * room.high) * (int32_t)sizeof(float);
    tables[(n & 1) * PLACES + warp * 16 + lane] = entry;
  };

  if (threadIdx.x == 0) stack_expect_lanes(&arrivals[0], ASTRA_BEAM_LINES), stack_expect_lanes(&arrivals[1], ASTRA_BEAM_LINES);
  if (warp == 0 && lane < 2 * beam.views) {
    const int32_t last = min(beam.column + beam.pieces * STACK_SIDE, work.columns) - 1;
    edges[lane] = astra_way_of(work.views[beam.view + lane / 2].frame[0], work.cone, lane % 2 ? last : beam.column, count1);
  }
  __syncthreads();
  if (warp < 2 && beam.first + warp < beam.last) find(beam.first + warp);
  __syncthreads();
  const int32_t ahead = (lane - 16) * (1 << 27);
  float sum[16][VEC] = {};
  if (warp == 0 && beam.first < beam.last) send(beam.first);
  if (busy) make(beam.first);
  for (int32_t plane = beam.first, n = 0; plane < beam.last; plane++, n++) {
    stack_wait(&arrivals[n & 1], n >> 1 & 1);
    __syncthreads();
    if (warp == n % ASTRA_WARPS && plane + 1 < beam.last) {
      send(plane + 1);
      if (plane + 2 < beam.last) find(plane + 2);
    }
    if (!busy) continue;
    if (plane + 1 < beam.last) make(plane + 1);
    const float4 *table = (const float4 *)(tables + (n & 1) * PLACES + warp * 16);
#pragma unroll
    for (int p = 0; p < 16; p++) {
      const float4 weights = table[2 * p], steps = table[2 * p + 1];
      const char *line = (const char *)rows + __float_as_uint(steps.z);
      const float *far_line = (const float *)line + room.high;
      uint32_t at = __float_as_uint(steps.x) + (uint32_t)((int64_t)__float_as_int(steps.y) * ahead >> 32);
#pragma unroll
      for (int k = 0; k < VEC; k++, at += __float_as_uint(steps.y)) {
        const float *voxel = (const float *)line + (at >> 23), *far = far_line + (at >> 23);
        const float here = voxel[0], above = voxel[1], beside = far[0], both_ = far[1];
        const float fraction = __uint_as_float((at & 0x7f8000u) | 0x3f800000u) - 1,
                    both = fmaf(weights.x, fraction, ASTRA_ROUND) - ASTRA_ROUND, one = weights.z - fmaf(weights.y, fraction, ASTRA_ROUND);
        sum[p][k] = fmaf(both, both_ - above, fmaf(fraction, above - here, fmaf(one, beside - here, sum[p][k] + here)));
      }
    }
  }
  __syncthreads(); // the voxels were read: their place takes the tile
#pragma unroll
  for (int p = 0; p < 16; p++)
#pragma unroll
    for (int k = 0; k < VEC; k++) {
      const float length = astra_aim(&frame, work.cone, (float)(row0 + lane + 32 * k), (float)(first_column(warp) + p)).length;
      rows[(warp * STACK_SIDE + p) * STACK_TILE_STRIDE<VEC> + lane + 32 * k] = sum[p][k] * length;
    }
  __syncthreads();
  stack_finish<VEC>(
      work.target, rows, beam.views * beam.pieces, chunk, [&](int row) { return work.columns - first_column(row); },
      [&](int row) { return (size_t)(beam.view + row / beam.pieces) * work.columns + first_column(row); }, [](int) { return 1.0f; });
}

// ---- on the host

// The blocks of a multiprocessor run two at a time. With few turns some wait for the last ones: at N = 128, with 1.1 turns on 132
// multiprocessors, astra_upright_forward took 0.6 of the time, at N = 256, with 8.7, 1.09 of it.
constexpr int ASTRA_BEAM_TURNS = 4;

// The planes, counted from the middle, where from + h slope is above a bound, or below it.
static inline void astra_add_half(double from, double slope, double bound, bool above, astra_span *span) {
  const double d = above ? from - bound : bound - from, t = above ? slope : -slope;
  if (t == 0 && d <= 0) return;
  span->add(t > 0 ? -d / t : -INFINITY);
  span->add(t < 0 ? -d / t : INFINITY);
}

static inline int astra_compare_beams(const void *a, const void *b) {
  const astra_beam *p = (const astra_beam *)a, *q = (const astra_beam *)b;
  if (p->last - p->first != q->last - q->first) return p->last - p->first > q->last - q->first ? -1 : 1;
  return p->view != q->view ? (p->view < q->view ? -1 : 1) : p->column < q->column ? -1 : 1;
}

// Finds the planes of a block, and adds to the room that its windows need: columns of voxels, slices, the first and last of them.
static inline void astra_measure_beam(const rs_geometry *geometry, const astra_aimed *aimed, int32_t chunk, int32_t side, astra_beam *beam,
                                      double *wide, double *high, astra_span *all) {
  const int main = aimed[beam->view].main, over = main == RS_X ? RS_Y : RS_X, cone = geometry->beam == RS_CONE;
  const double middle = 0.5 * (geometry->shape[main] - 1), count = geometry->shape[over];
  const int32_t end = beam->column + beam->pieces * side, last = (end < geometry->columns ? end : geometry->columns) - 1;
  astra_way way[2 * ASTRA_WARPS];
  astra_span planes;
  for (int32_t v = 0; v < beam->views; v++) {
    astra_span inside, right;
    for (int k = 0; k < 2; k++) {
      way[2 * v + k] = astra_way_of(aimed[beam->view + v].frame[0], cone, k ? last : beam->column, count);
      const double *a = way[2 * v + k].across;
      astra_add_half(a[0], a[1], -2, true, &inside);
      astra_add_half(a[0], a[1], 256 * (count + 1) + 2, false, &right);
    }
    const double from = fmax(inside.low, right.low), to = fmin(inside.high, right.high);
    if (from <= to) planes.add(from), planes.add(to);
  }
  const double first = fmax(floor(planes.low + middle), 0), stop = fmin(ceil(planes.high + middle), geometry->shape[main] - 1) + 1;
  beam->first = beam->last = 0;
  if (!(first < stop)) return;
  beam->first = (int32_t)first, beam->last = (int32_t)stop;
  for (int side = 0; side < 2; side++) {
    const double h = (side ? beam->last - 1 : beam->first) - middle;
    astra_span across;
    for (int n = 0; n < 2 * beam->views; n++) across.add(way[n].across[0] + h * way[n].across[1]);
    *wide = fmax(*wide, across.high - across.low);
    for (int32_t row = 0; row < geometry->rows; row += chunk) {
      astra_span heights;
      for (int n = 0; n < 4 * beam->views; n++) {
        const astra_way &w = way[n / 2];
        heights.add(w.height[0] + h * w.height[1] + (w.row[0] + h * w.row[1]) * (n % 2 ? row + chunk - 1 : row));
      }
      *high = fmax(*high, heights.high - heights.low);
      all->add(heights.low);
      all->add(heights.high);
    }
  }
}

// How many blocks of a shape there are for a chunk of rows, and the room they need; 0 where this is no way to do it. `list` may be null.
// `side`: columns of a warp.
static inline int64_t astra_measure_beams(const rs_geometry *geometry, const astra_aimed *aimed, int32_t chunk, int32_t views,
                                          astra_beams *to, astra_beam *list, int32_t side = STACK_SIDE) {
  double wide = 0, high = 0;
  astra_span all;
  all.add(0);
  to->views = views, to->pieces = ASTRA_WARPS / views, to->chunk = chunk;
  int64_t count = 0;
  for (int32_t view = 0, some; view < geometry->views; view += some) {
    for (some = 1; some < views && view + some < geometry->views && aimed[view + some].main == aimed[view].main;) some++;
    for (int32_t column = 0; column < geometry->columns; column += to->pieces * side, count++) {
      astra_beam beam = {view, some, column, to->pieces, 0, 0};
      astra_measure_beam(geometry, aimed, chunk, side, &beam, &wide, &high, &all);
      if (list) list[count] = beam;
    }
  }
  if (list) qsort(list, (size_t)count, sizeof *list, astra_compare_beams);
  const double depth = geometry->shape[RS_Z], half = 0.5 * depth;
  const int32_t most = geometry->shape[RS_Y] > geometry->shape[RS_X] ? geometry->shape[RS_Y] : geometry->shape[RS_X];
  wide = fmin(wide / RS_TEXTURE_SCALE + 4, most + RS_TEXTURE_BORDER), high += 9;
  if (!(wide <= ASTRA_BEAM_LINES && high <= ASTRA_HIGH && high < 7 * chunk && -all.low - half < 2 * (depth + high) &&
        all.high - half < 2 * (depth + high)))
    return 0;
  to->wide = (int32_t)wide;
  to->high = (int32_t)high & ~3;
  to->margin = ((int32_t)fmax(0, -all.low - half) + 8) & ~3;
  to->length = (int32_t)round(all.high + half + to->margin + 40) & ~31; // what no ray meets is left out
  return count;
}

// Chooses the shape whose windows are smallest. False where there is none, or too little to do for it.
static inline bool astra_plan_beams(const rs_geometry *geometry, const astra_aimed *aimed, int32_t device, astra_beams *to) {
  const int64_t room = astra_room_of(device);
  const int32_t chunk = geometry->rows > 64 && astra_beams_tile(128) <= room ? 128 : geometry->rows > 32 ? 64 : 32;
  int64_t blocks = 0;
  for (int32_t views = ASTRA_WARPS; views > 0; views /= 2) {
    if (ASTRA_WARPS / views / 2 * STACK_SIDE >= geometry->columns) continue;
    astra_beams beams;
    const int64_t count = astra_measure_beams(geometry, aimed, chunk, views, &beams, nullptr);
    if (count && (int64_t)astra_beams_bytes(beams) <= room && (!blocks || beams.wide < to->wide))
      *to = beams, blocks = count * ((geometry->rows + chunk - 1) / chunk);
  }
  return blocks >= ASTRA_BEAM_TURNS * 2 * (int64_t)rs_cuda_multiprocessors(device);
}
