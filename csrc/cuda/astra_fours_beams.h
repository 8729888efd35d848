// astra_fours_beams.h: astra_beams.h for the cone beams of astra_fours.h: a place is one of four rays', a word of a voxel a view's.
//
// A block owns FOURS_WARPS x FOURS_PLACES columns of neighbouring views in a chunk of rows of the lower half, and the mirror images of
// these rays; and, in the volume turned by 180 degrees, those of the opposite views. Lanes are rows, a warp owns FOURS_PLACES columns.
// Each makes its own tables, for FOURS_STEPS planes at a time.
//
// There is room for two planes. While the warps work off one, each of them sends its share of the next, once all are done with the one
// before: not at once, so that none waits for the slowest of its block, but early enough for the voxels to come in time.
//
// The opposite view takes the places of its partner. ASTRA would find them in float32 from the other end of the volume: at N = 512 the
// sum ends on another 256th of a voxel for one place of 150. Turned, neighbours across change places, and with them the products that a tie
// rounds up and those that it rounds down: their weights are not the same.
#pragma once
#include "astra_beams.h"
#include "astra_fours.h"
#include "ring.h"

// A view, and the one that sees of the turned volume what this sees of the volume; or -1.
struct fours_pair_of_views {
  int32_t view, opposite;
};

// What the rows of a column share: their way, and where ASTRA finds it across.
struct fours_column {
  astra_way way;
  float start, slope;
};

struct fours_beams_work {
  rs_output output; // of the batch item
  const astra_aimed *views;
  const fours_pair_of_views *pairs;
  const astra_beam *beams; // of pairs
  const uint2 *packed;
  const unsigned *largest; // of what was packed
  double *squares;         // a block, or null
  int64_t step[3];         // in texels along z, y, x
  int32_t count[3];        // voxels along z, y, x
  int32_t view_count, rows, columns;
  astra_beams room;
};

static inline size_t fours_beams_bytes(const astra_beams &b) {
  const size_t stages = 2 * (size_t)b.wide * b.high * sizeof(uint2) + FOURS_STEPS * FOURS_WARPS * FOURS_PLACES * sizeof(fours_entry);
  const size_t tile = FOURS_WARPS * FOURS_PLACES * (b.chunk + 1) * sizeof(float);
  return stages > tile ? stages : tile;
}

// (y, x, z) from (z, y, x), with a border of zeros; `margin` + 1 of them before the first slice.
__global__ void fours_pack_volume(uint2 *to, const float *from, int32_t depth, int32_t height, int32_t width, astra_beams packed,
                                  const unsigned *largest) {
  __shared__ uint2 tile[32][33];
  const int32_t lines = width + RS_TEXTURE_BORDER, across = (lines + 31) / 32, x0 = blockIdx.x % across * 32,
                at0 = blockIdx.x / across * 32, x = x0 + threadIdx.x - 1, z = at0 + threadIdx.y - packed.margin - 1;
  const int64_t slice = (int64_t)height * width, pitch = 8 * slice;
  const float scale = half_scale(*largest);
  for (int32_t line = blockIdx.y; line < height + RS_TEXTURE_BORDER; line += gridDim.y) {
    const int32_t y = line - 1;
    const bool seen = (uint32_t)y < (uint32_t)height && (uint32_t)x < (uint32_t)width;
    const int64_t place = (int64_t)y * width + x, turned = slice - 1 - place;
    const int64_t here = z * slice, mirrored = (depth - 1 - z) * slice;
    float values[4][4]; // all on their way together
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const bool inside = seen && (uint32_t)(z + 8 * k) < (uint32_t)depth;
      values[k][0] = inside ? from[here + place + k * pitch] : 0;
      values[k][1] = inside ? from[mirrored + place - k * pitch] : 0;
      values[k][2] = inside ? from[here + turned + k * pitch] : 0;
      values[k][3] = inside ? from[mirrored + turned - k * pitch] : 0;
    }
#pragma unroll
    for (int k = 0; k < 4; k++)
      tile[threadIdx.y + 8 * k][threadIdx.x] =
          make_uint2(half_pair(scale * values[k][0], scale * values[k][1]), half_pair(scale * values[k][2], scale * values[k][3]));
    __syncthreads();
    const int32_t column = x0 + threadIdx.y, at = at0 + threadIdx.x;
    uint2 *target = to + ((int64_t)line * lines + column) * packed.length + at;
#pragma unroll
    for (int k = 0; k < 4; k++)
      if (column + 8 * k < lines && at < packed.length) target[(int64_t)k * 8 * packed.length] = tile[threadIdx.x][threadIdx.y + 8 * k];
    __syncthreads();
  }
}

template <int VEC> __global__ void __launch_bounds__(32 * FOURS_WARPS, 2) fours_beams_forward(fours_beams_work work) {
  constexpr int CHUNK = 32 * VEC, PLACES = FOURS_WARPS * FOURS_PLACES;
  RS_SHARED(uint2, voxels);
  __shared__ ring_arrivals ring;
  const shared_address ring_at = shared_hold(&ring);
  __shared__ fours_window windows[3][FOURS_STEPS];
  __shared__ fours_column columns[PLACES];
  const astra_beams room = work.room;
  const astra_beam beam = work.beams[blockIdx.x];
  const int32_t slot = room.wide * room.high, count = beam.last - beam.first, groups = (count + FOURS_STEPS - 1) / FOURS_STEPS;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, row0 = blockIdx.y * CHUNK;
  fours_entry *table = (fours_entry *)(voxels + 2 * slot) + warp * FOURS_STEPS * FOURS_PLACES; // of the warp
  const int main = work.views[work.pairs[beam.view].view].main, over = main == RS_X ? RS_Y : RS_X, width = beam.pieces * FOURS_PLACES;
  const float count0 = work.count[main], count1 = work.count[over];
  const double middle = 0.5 * (work.count[main] - 1), height = 256 * (0.5 * work.count[RS_Z]) + 128.5;
  const int32_t lines = work.count[over] + RS_TEXTURE_BORDER, wide = min(room.wide, lines), sends = (wide + FOURS_WARPS - 1) / FOURS_WARPS;
  const bool busy = warp < beam.views * beam.pieces;
  const int planes = work.views[work.pairs[beam.view].view].frame[0].slab;
  auto pair_of = [&](int place) { return work.pairs[beam.view + min(place / width, beam.views - 1)]; };
  auto column_of = [&](int place) { return beam.column + place % width; };

  auto find = [&](int32_t group) { // the windows of planes, by one warp: the first and last columns of views
    const double h = min(beam.first + group * FOURS_STEPS + lane / 8, beam.last - 1) - middle;
    int32_t first = INT32_MAX, last = INT32_MIN, slice = INT32_MAX;
#pragma unroll 1
    for (int n = lane % 8; n < 2 * beam.views; n += 8) {
      const astra_way &way = columns[n / 2 * width + n % 2 * (width - 1)].way;
      const double across = way.across[0] + h * way.across[1], dz = way.row[0] + h * way.row[1],
                   z = way.height[0] + h * way.height[1] + fmin(dz * row0, dz * (row0 + CHUNK - 1));
      first = min(first, __double2int_rd((across - 2) * (1 / RS_TEXTURE_SCALE)));
      last = max(last, __double2int_rd((across + 2) * (1 / RS_TEXTURE_SCALE)));
      slice = min(slice, __double2int_rd((256 * z + height - 2) * (1 / RS_TEXTURE_SCALE)));
    }
    for (int k = 1; k < 8; k *= 2) {
      first = min(first, __shfl_xor_sync(0xffffffffu, first, k));
      last = max(last, __shfl_xor_sync(0xffffffffu, last, k));
      slice = min(slice, __shfl_xor_sync(0xffffffffu, slice, k));
    }
    first = min(max(first, 0), lines - wide);
    slice = min(max(slice + room.margin, 0) & ~3, room.length - room.high);
    if (lane % 8 == 0) windows[group % 3][lane / 8] = {first, slice, min(max(last - first, 0) + 2, wide)};
  };
  auto send = [&](int32_t n) { // a plane: a lane sends a column of voxels, neighbours are sent by neighbouring warps
    const fours_window window = windows[n / FOURS_STEPS % 3][n % FOURS_STEPS];
    const uint2 *from = work.packed + (beam.first + n + 1) * work.step[main] + window.column * work.step[over] + window.row;
    const int k = lane * FOURS_WARPS + warp;
    ring_send(ring, n & 1, lane < sends, voxels + (n & 1) * slot + k * room.high, from + k * work.step[over],
              k < window.wide ? room.high * (unsigned)sizeof(uint2) : 0);
  };
  auto make = [&](int32_t group) { // the tables of a group: a lane makes a place of a plane
    const int place = warp * FOURS_PLACES + lane % FOURS_PLACES, s = lane / FOURS_PLACES;
    const int32_t n = group * FOURS_STEPS + s, plane = beam.first + n;
    if (!busy || n >= count) return;
    const fours_window window = windows[group % 3][s];
    const fours_column &column = columns[place];
    const int32_t slab = plane / planes * planes;
    float position = 256 * astra_enter(column.start, column.slope, (float)slab, count0, count1);
#pragma unroll 1
    for (int32_t k = slab; k < plane; k++) position += 256 * column.slope;
    // As astra_place, but before the first voxel stays there, since windows may begin there.
    const float rounded = __fadd_rd(fmaxf(position, -4e6f) + 0.5f, RS_MAGIC + RS_TEXTURE_OFFSET32);
    const uint32_t at = min(max((int32_t)(__float_as_uint(rounded) - RS_MAGIC_BITS), 0), 256 * (work.count[over] + 1)), fraction = at & 255;
    const double h = plane - middle, dz = column.way.row[0] + h * column.way.row[1],
                 z = 256 * (column.way.height[0] + h * column.way.height[1] + dz * (row0 + 16)) + height +
                     RS_TEXTURE_SCALE * (room.margin - window.row);
    const int32_t line = min(max((int32_t)(at >> 8) - window.column, 0), room.wide - 2);
    table[lane] = {(uint32_t)(((n & 1) * slot + line * room.high) * (int32_t)sizeof(uint2)), (uint32_t)(int64_t)rint(z * 65536),
                   (int32_t)rint(dz * (256 * 32 * 65536.0)), fraction * 0x10001u};
  };

  if (threadIdx.x == 0) ring_prepare(ring, 2, FOURS_WARPS, sends, FOURS_WARPS);
  if (threadIdx.x < PLACES) {
    const astra_frame &frame = work.views[pair_of(threadIdx.x).view].frame[0];
    const int32_t column = min(column_of(threadIdx.x), work.columns - 1);
    const astra_ray ray = astra_aim(&frame, 1, 0, (float)column);
    columns[threadIdx.x] = {astra_way_of(frame, 1, column, count1), ray.start[0], ray.slope[0]};
  }
  __syncthreads();
  if (warp < 2 && warp < groups) find(warp);
  __syncthreads();
  const int32_t ahead = (lane - 16) * (1 << 27);
  const uint32_t far_half = main == RS_X ? FOURS_BELOW : FOURS_HALF, near_half = main == RS_X ? FOURS_HALF : FOURS_BELOW;
  float sum[FOURS_PLACES][VEC][4] = {};
  if (count) send(0);
#pragma unroll 1
  for (int32_t n = 0; n < count; n++) {
    ring_wait(ring_full(ring_at, n & 1), n >> 1 & 1);
    const int32_t group = n / FOURS_STEPS, s = n % FOURS_STEPS;
    if (s == 0) {
      make(group);
      __syncwarp();
    }
    auto add = [&](int p) {
      const uint4 shared = *(const uint4 *)(table + s * FOURS_PLACES + p);
      const uint32_t fraction = shared.w & 255;
      const char *line = (const char *)voxels + shared.x, *next = line + room.high * sizeof(uint2);
      uint32_t at = shared.y + (uint32_t)__mulhi((int32_t)shared.z, ahead);
#pragma unroll
      for (int k = 0; k < VEC; k++, at += shared.z) {
        const uint2 *near = (const uint2 *)line + fours_whole(at), *far = (const uint2 *)next + fours_whole(at);
        const uint2 self = near[0], second = near[1], first = far[0], both = far[1];
        const fours_weights w = fours_weigh(at, fraction, shared.w, far_half, near_half),
                            opposed = fours_weigh(at, fraction, shared.w, near_half, far_half);
        const float2 here = half_floats(fours_mix(w, self.x, first.x, second.x, both.x)),
                     turned = half_floats(fours_mix(opposed, self.y, first.y, second.y, both.y));
        sum[p][k][0] += here.x;
        sum[p][k][1] += here.y;
        sum[p][k][2] += turned.x;
        sum[p][k][3] += turned.y;
      }
    };
    constexpr int EARLY = FOURS_PLACES / 4;
    if (busy)
#pragma unroll
      for (int p = 0; p < EARLY; p++) add(p);
    if (n + 1 < count) {
      if (n) ring_wait(ring_empty(ring_at, (n + 1) & 1), (n - 1) >> 1 & 1);
      send(n + 1);
    }
    // The windows before this group's were read: else its first plane would not have come. All know the new ones when its third has.
    if (s == 0 && warp == group % FOURS_WARPS && group + 2 < groups) find(group + 2);
    if (busy)
#pragma unroll
      for (int p = EARLY; p < FOURS_PLACES; p++) add(p);
    ring_release(ring_at, n & 1);
  }

  const float unscale = half_unscale(*work.largest) * FOURS_WEIGHT;
  const astra_frame &frame = work.views[pair_of(warp * FOURS_PLACES).view].frame[0];
#pragma unroll
  for (int p = 0; p < FOURS_PLACES; p++)
#pragma unroll
    for (int k = 0; k < VEC; k++) {
      const float length = astra_aim(&frame, 1, (float)(row0 + lane + 32 * k), (float)column_of(warp * FOURS_PLACES + p)).length;
#pragma unroll
      for (int kind = 0; kind < 4; kind++) sum[p][k][kind] *= unscale * length;
    }
  const int place = threadIdx.x % PLACES, column = column_of(place);
  const fours_pair_of_views pair = pair_of(place);
  float *tile = (float *)voxels;
  double square = 0;
#pragma unroll
  for (int kind = 0; kind < 4; kind++) {
    __syncthreads(); // what stood there was read
#pragma unroll
    for (int p = 0; p < FOURS_PLACES; p++)
#pragma unroll
      for (int k = 0; k < VEC; k++) tile[(warp * FOURS_PLACES + p) * (CHUNK + 1) + lane + 32 * k] = sum[p][k][kind];
    __syncthreads();
    constexpr int STEP = 32 * FOURS_WARPS / PLACES;
    const int32_t view = kind & 2 ? pair.opposite : pair.view;
    const bool mine = place < beam.views * width && column < work.columns && view >= 0;
    const float *values = tile + place * (CHUNK + 1);
    for (int32_t from = threadIdx.x / PLACES; from < CHUNK && mine; from += 8 * STEP)
      square += rs_finish_all<8>(
          work.output, 0,
          [&](int k) {
            const int32_t row = row0 + from + k * STEP, mirrored = work.rows - 1 - row;
            return kind & 1 ? row < mirrored : row <= mirrored;
          },
          [&](int k) {
            const int32_t row = row0 + from + k * STEP;
            return ((size_t)(kind & 1 ? work.rows - 1 - row : row) * work.view_count + view) * work.columns + column;
          },
          [&](int k) { return values[from + k * STEP]; });
  }
  if (!work.squares) return;
  square = rs_block_sum(square);
  if (threadIdx.x == 0) work.squares[blockIdx.y * gridDim.x + blockIdx.x] = square;
}

// ---- on the host

constexpr int64_t FOURS_STATIC = 4 << 10; // bytes of shared memory beside stages
constexpr double FOURS_NEAR = 0.01;       // voxels by which float32 may move what is the same

// fours_are_mirrored and fours_pair look at what the volume shows; these look at all rays, as float32 knows them. Do those of a view look
// the same upside down?
static inline bool fours_mirror_rays(const rs_geometry *geometry, const astra_aimed &view) {
  const double end = 0.5 * geometry->shape[view.main], last = geometry->rows - 1;
  for (int32_t column : {0, geometry->columns - 1})
    for (double h : {-end, end}) {
      const astra_way way = astra_way_of(view.frame[0], 1, column, 0);
      if (!(fabs(2 * (way.height[0] + h * way.height[1]) + (way.row[0] + h * way.row[1]) * last) < FOURS_NEAR)) return false;
    }
  return true;
}

// Are those of another view the same in the volume turned?
static inline bool fours_turn_rays(const rs_geometry *geometry, const astra_aimed &one, const astra_aimed &other) {
  const double end = 0.5 * geometry->shape[one.main], last = geometry->rows - 1, zero = 128.5; // across, in the middle
  for (int32_t column : {0, geometry->columns - 1})
    for (double h : {-end, end}) {
      const astra_way a = astra_way_of(one.frame[0], 1, column, 0), b = astra_way_of(other.frame[0], 1, column, 0);
      const double across = (a.across[0] + h * a.across[1] - zero) + (b.across[0] - h * b.across[1] - zero),
                   low = (a.height[0] + h * a.height[1]) - (b.height[0] - h * b.height[1]),
                   step = (a.row[0] + h * a.row[1]) - (b.row[0] - h * b.row[1]);
      if (!(fabs(across) < 256 * FOURS_NEAR && fabs(low) < FOURS_NEAR && fabs(step) * last < FOURS_NEAR)) return false;
    }
  return one.main == other.main;
}

// Every view once, as itself or as the opposite one of another; returns how many pairs there are, 0 where this is no way to do it.
// `opposite` is used up.
static inline int32_t fours_make_pairs(const rs_geometry *geometry, const astra_aimed *aimed, int32_t *opposite,
                                       fours_pair_of_views *pairs) {
  constexpr int32_t TAKEN = -2;
  int32_t count = 0;
  for (int32_t n = 0; n < geometry->views; n++) {
    if (!fours_mirror_rays(geometry, aimed[n])) return 0;
    if (opposite[n] == TAKEN) continue;
    int32_t m = opposite[n];
    if (m < n || opposite[m] == TAKEN || !fours_turn_rays(geometry, aimed[n], aimed[m])) m = -1;
    if (m >= 0) opposite[m] = TAKEN;
    pairs[count++] = {n, m};
  }
  return count;
}

// Chooses blocks for the lower half of the rows: chunks as in fours_plan_columns, the shape whose windows are smallest. `lower` is that half
// of a geometry, its views are pairs. False where this is no way to do it.
static inline bool fours_plan_beams(const rs_geometry *lower, const astra_aimed *aimed, int32_t device, astra_beams *to) {
  const int64_t tiles = ((int64_t)lower->views * lower->columns + FOURS_WARPS * FOURS_PLACES - 1) / (FOURS_WARPS * FOURS_PLACES),
                places = 2 * rs_cuda_multiprocessors(device), room = astra_room_of(device) - FOURS_STATIC;
  auto rounds = [=](int32_t chunk) { return (tiles * ((lower->rows + chunk - 1) / chunk) + places - 1) / places; };
  const int32_t best = 0.58 * (double)rounds(32) < (double)rounds(64) ? 32 : 64;
  to->chunk = 0;
  for (int32_t chunk = best; chunk >= 32 && !to->chunk; chunk /= 2)
    for (int32_t views = FOURS_WARPS; views > 0; views /= 2) {
      if (FOURS_WARPS / views / 2 * FOURS_PLACES >= lower->columns) continue;
      astra_beams beams;
      // Slices are counted in 8 bits, and 32 steps must fit into 31.
      if (astra_measure_beams(lower, aimed, chunk, views, &beams, nullptr, FOURS_PLACES) && beams.high <= 250 &&
          beams.high < 3.9 * (chunk - 1) && (int64_t)fours_beams_bytes(beams) <= room && (!to->chunk || beams.wide < to->wide))
        *to = beams;
    }
  return to->chunk > 0;
}
