// astra_fours_back.h: astra_columns.h for the cone beams of astra_fours.h: a place is one of four voxels, a word of a pixel a view.
//
// A block owns FOURS_WARPS x FOURS_PLACES voxels of a slice, half as many as there are at most, in a chunk of slices of the lower half, and
// those that are these turned, mirrored, or both. Lanes are slices, a warp owns a row of FOURS_PLACES voxels. A stage is a few steps:
// float16 adds up its values, float32 the stages.
#pragma once
#include "astra_fours.h"

// A view, and those whose pixels are the two words of a packed one; -1: zeros. A view without an opposite is one step for its voxels, and
// one, turned, for those that are turned.
struct fours_step {
  astra_view view;
  int32_t source[2];
};

struct fours_columns {
  astra_columns columns; // packed, but for the differences
  int32_t together;      // steps of a stage
  float factor;          // what is left to multiply by
};

struct fours_columns_work {
  rs_output output; // of the batch item
  const fours_step *steps;
  const uint2 *packed;
  const unsigned *largest; // of what was packed
  int32_t step_count, depth, height, width;
  fours_columns fours;
};

static inline size_t fours_columns_bytes(const fours_columns &fours) {
  const astra_columns &c = fours.columns;
  const size_t window = (size_t)c.wide * c.high * sizeof(uint2), table = FOURS_WARPS * FOURS_PLACES * sizeof(fours_entry);
  const size_t stages = 2 * fours.together * (window + table), tile = FOURS_WARPS * FOURS_PLACES * (c.chunk + 1) * sizeof(float);
  return stages > tile ? stages : tile;
}

__global__ void fours_pack_columns(uint2 *to, const float *from, const fours_step *steps, int32_t step_count, int32_t rows, int32_t columns,
                                   int64_t views, astra_columns packed, const unsigned *largest) {
  __shared__ uint2 tile[32][33];
  const int32_t across = (packed.lines + 31) / 32, line0 = blockIdx.x % across * 32, at0 = blockIdx.x / across * 32;
  const float scale = half_scale(*largest);
  for (int64_t n = blockIdx.y; n < step_count; n += gridDim.y) {
    const int32_t *source = steps[n].source, column = line0 + threadIdx.x - 1;
    for (int k = threadIdx.y; k < 32; k += 8) {
      const int32_t row = at0 + k - packed.margin - 1;
      const bool inside = row >= 0 && row < rows && column >= 0 && column < columns;
      auto pair = [&](int64_t view) {
        if (!inside || view < 0) return 0u;
        return half_pair(scale * from[(row * views + view) * columns + column],
                         scale * from[((rows - 1 - row) * views + view) * columns + column]);
      };
      tile[k][threadIdx.x] = make_uint2(pair(source[0]), pair(source[1]));
    }
    __syncthreads();
    const int32_t at = at0 + threadIdx.x;
    for (int k = threadIdx.y; k < 32; k += 8)
      if (line0 + k < packed.lines && at < packed.length) to[(n * packed.lines + line0 + k) * packed.length + at] = tile[threadIdx.x][k];
    __syncthreads();
  }
}

template <int VEC> __global__ void __launch_bounds__(32 * FOURS_WARPS, 2) fours_columns_back(fours_columns_work work) {
  constexpr int CHUNK = 32 * VEC, PLACES = FOURS_WARPS * FOURS_PLACES;
  RS_SHARED(uint2, pixels);
  __shared__ stack_arrival arrivals[2];
  __shared__ fours_window windows[3][FOURS_STEPS];
  const astra_columns c = work.fours.columns;
  const int32_t slot = c.wide * c.high, together = work.fours.together, stages = (work.step_count + together - 1) / together;
  fours_entry *tables = (fours_entry *)(pixels + 2 * together * slot);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, tiles = (work.width + FOURS_PLACES - 1) / FOURS_PLACES;
  const int y0 = blockIdx.x / tiles * FOURS_WARPS, x0 = blockIdx.x % tiles * FOURS_PLACES, z0 = blockIdx.y * CHUNK;

  auto find = [&](int32_t stage) { // the windows of a stage, by one warp: four corners, both ends
    const int32_t n = min(stage * together + lane / 8, work.step_count - 1);
    const astra_seen seen = astra_see<2>(work.steps[n].view, min(y0 + lane % 2 * (FOURS_WARPS - 1), work.height - 1),
                                         min(x0 + lane / 2 % 2 * (FOURS_PLACES - 1), work.width - 1));
    const int32_t column = __double2int_rd((seen.column - 0.5) * (1 / RS_TEXTURE_SCALE));
    int32_t first = column, last = column,
            row = __double2int_rd((seen.row + seen.step * (z0 + lane / 4 % 2 * (CHUNK - 1)) - 0.5) * (1 / RS_TEXTURE_SCALE));
    for (int k = 1; k < 8; k *= 2) {
      first = min(first, __shfl_xor_sync(0xffffffffu, first, k));
      last = max(last, __shfl_xor_sync(0xffffffffu, last, k));
      row = min(row, __shfl_xor_sync(0xffffffffu, row, k));
    }
    first = min(max(first, 0), c.lines - c.wide);
    row = min(max(row + c.margin, 0) & ~1, c.length - c.high);
    if (lane % 8 == 0) windows[stage % 3][lane / 8] = {first, row, min(max(last - first, 0) + 3, c.wide)};
  };
  auto send = [&](int32_t stage) { // a lane sends a column, neighbours are sent by neighbouring warps
    const int s = lane / 8, k = lane % 8 * FOURS_WARPS + warp;
    const int32_t n = stage * together + s;
    const bool exists = s < together && n < work.step_count && k < windows[stage % 3][s].wide;
    const fours_window window = exists ? windows[stage % 3][s] : fours_window{};
    stack_send(&arrivals[stage & 1], (float *)(pixels + ((stage & 1) * together + s) * slot + k * c.high),
               (const float *)(work.packed + ((int64_t)n * c.lines + window.column + k) * c.length + window.row),
               exists ? c.high * (unsigned)sizeof(uint2) : 0);
  };
  auto make = [&](int32_t stage) { // the tables: a lane makes a place of a step
    const int place = lane % FOURS_PLACES, s = lane / FOURS_PLACES;
    const int32_t n = stage * together + s, window_slot = (stage & 1) * together + s;
    if (s >= together || n >= work.step_count) return;
    const fours_window window = windows[stage % 3][s];
    const astra_seen seen = astra_see<2>(work.steps[n].view, min(y0 + warp, work.height - 1), min(x0 + place, work.width - 1));
    const uint32_t column = min(max(__double2int_rd(seen.column), 0), 256 * (c.lines - 2)), fraction = column & 255;
    const double row = seen.row + seen.step * (z0 + 16) + RS_TEXTURE_SCALE * (c.margin - window.row);
    const int32_t line = min(max((int32_t)(column >> 8) - window.column, 0), c.wide - 2);
    tables[window_slot * PLACES + warp * FOURS_PLACES + place] = {fraction,
                                                                  fraction * 0x10001u,
                                                                  __float_as_uint(seen.share),
                                                                  (uint32_t)((window_slot * slot + line * c.high) * (int32_t)sizeof(uint2)),
                                                                  (uint32_t)(int64_t)rint(row * 65536),
                                                                  (int32_t)rint(seen.step * (32 * 65536.0))};
  };

  if (threadIdx.x == 0)
    for (stack_arrival &arrival : arrivals) stack_expect_lanes(&arrival, 32 * FOURS_WARPS);
  if (warp < 2 && warp < stages) find(warp);
  __syncthreads();
  const int32_t ahead = (lane - 16) * (1 << 27);
  float sum[FOURS_PLACES][VEC][4] = {};
  send(0);
  make(0);
  for (int32_t stage = 0; stage < stages; stage++) {
    stack_wait(&arrivals[stage & 1], stage >> 1 & 1);
    __syncthreads();
    if (stage + 1 < stages) {
      send(stage + 1);
      if (warp == stage % FOURS_WARPS && stage + 2 < stages) find(stage + 2);
      make(stage + 1);
    }
    const int32_t count = min(together, work.step_count - stage * together);
    const uint4 *table = (const uint4 *)(tables + (stage & 1) * together * PLACES + warp * FOURS_PLACES);
#pragma unroll 1
    for (int32_t s = 0; s < count; s++, table += 2 * PLACES)
#pragma unroll
      for (int p = 0; p < FOURS_PLACES; p++) {
        const uint4 shared = table[2 * p];
        const uint2 way = *(const uint2 *)&table[2 * p + 1];
        const char *line = (const char *)pixels + shared.w, *next = line + c.high * sizeof(uint2);
        const float share = __uint_as_float(shared.z);
        uint32_t at = way.x + (uint32_t)__mulhi((int32_t)way.y, ahead);
#pragma unroll
        for (int k = 0; k < VEC; k++, at += way.y) {
          const uint2 *near = (const uint2 *)line + fours_whole(at), *far = (const uint2 *)next + fours_whole(at);
          const uint2 self = near[0], second = near[1], first = far[0], both = far[1];
          const fours_weights w = fours_weigh(at, shared.x, shared.y, FOURS_HALF, FOURS_BELOW);
          const float2 here = half_floats(fours_mix(w, self.x, first.x, second.x, both.x)),
                       turned = half_floats(fours_mix(w, self.y, first.y, second.y, both.y));
          sum[p][k][0] = fmaf(share, here.x, sum[p][k][0]);
          sum[p][k][1] = fmaf(share, here.y, sum[p][k][1]);
          sum[p][k][2] = fmaf(share, turned.x, sum[p][k][2]);
          sum[p][k][3] = fmaf(share, turned.y, sum[p][k][3]);
        }
      }
  }

  const float unscale = half_unscale(*work.largest) * work.fours.factor;
  const int32_t x = x0 + threadIdx.x % FOURS_PLACES, y = y0 + threadIdx.x / FOURS_PLACES % FOURS_WARPS;
  const int64_t place = (int64_t)y * work.width + x, turned = (int64_t)work.height * work.width - 1 - place;
  float *tile = (float *)pixels;
#pragma unroll
  for (int kind = 0; kind < 4; kind++) {
    __syncthreads(); // what stood there was read
#pragma unroll
    for (int p = 0; p < FOURS_PLACES; p++)
#pragma unroll
      for (int k = 0; k < VEC; k++) tile[(warp * FOURS_PLACES + p) * (CHUNK + 1) + lane + 32 * k] = sum[p][k][kind];
    __syncthreads();
    constexpr int STEP = 32 * FOURS_WARPS / PLACES;
    const bool mine = y < work.height && x < work.width && (kind & 2 ? place < turned : place <= turned);
    const float *values = tile + threadIdx.x % PLACES * (CHUNK + 1);
    for (int32_t from = threadIdx.x / PLACES; from < CHUNK && mine; from += 8 * STEP)
      rs_finish_all<8>(
          work.output, 0,
          [&](int k) {
            const int32_t z = z0 + from + k * STEP, mirrored = work.depth - 1 - z;
            return kind & 1 ? z < mirrored : z <= mirrored;
          },
          [&](int k) {
            const int32_t z = z0 + from + k * STEP;
            return (size_t)(kind & 1 ? work.depth - 1 - z : z) * work.height * work.width + (kind & 2 ? turned : place);
          },
          [&](int k) { return unscale * values[from + k * STEP]; });
  }
}

// ---- on the host

// The steps for all views: at most two a view. Weights come with a power of two, so that no share is above 1; *exponent is that.
static inline int32_t fours_make_steps(const rs_geometry *geometry, const astra_view *view, const int32_t *opposite, const int32_t *opposed,
                                       fours_step *steps, int *exponent) {
  float most = 0;
  int32_t count = 0;
  for (int32_t n = 0; n < geometry->views; n++) {
    steps[count++] = {view[n], {n, opposite[n]}};
    if (opposed[n] < 0) steps[count++] = {fours_turn(view[n], geometry->shape), {-1, n}};
    for (int corner = 0; corner < 4; corner++) most = fmaxf(most, fours_see(view[n], corner, geometry->shape).share);
  }
  frexpf(most, exponent);
  for (int32_t n = 0; n < count; n++) steps[n].view.weight = ldexp(steps[n].view.weight, -*exponent);
  return count;
}

// Finds the room that windows need with chunks of so many slices, and how many steps a stage has. False where this is no way to do it.
static inline bool fours_measure_columns(const rs_geometry *geometry, const fours_step *steps, int32_t count, int exponent, int32_t chunk,
                                         int64_t room, fours_columns *to) {
  astra_reach reach;
  if (abs(exponent) > 60 || !astra_measure_views<2>(
                                geometry, count, [=](int32_t n) -> const astra_view & { return steps[n].view; },
                                {FOURS_WARPS, FOURS_PLACES, chunk, (geometry->shape[RS_Z] + 1) / 2}, &reach))
    return false;
  const double wide = reach.wide / RS_TEXTURE_SCALE + 4, high = reach.high / RS_TEXTURE_SCALE + 6;
  const double before = fmax(0, -reach.rows.low) / RS_TEXTURE_SCALE, end = fmax(0, reach.rows.high) / RS_TEXTURE_SCALE,
               most = 2 * (geometry->rows + high);
  // Rows are counted in 8 bits, and 32 steps must fit into 31; shares below 2^-10 of the largest would lose digits.
  if (!(wide <= ASTRA_WIDE && high <= 250 && reach.step < 3.9 * RS_TEXTURE_SCALE && before < most && end < most &&
        reach.shares.low > 1. / 1024))
    return false;
  astra_columns &c = to->columns;
  c.lines = geometry->columns + RS_TEXTURE_BORDER;
  c.wide = wide < c.lines ? (int32_t)wide : c.lines;
  c.high = (int32_t)high & ~1;
  c.margin = ((int32_t)before + 4) & ~1;
  c.length = (c.margin + (int32_t)fmax(end, high) + 8) & ~1;
  c.chunk = chunk;
  to->factor = ldexpf(FOURS_WEIGHT, exponent);
  for (int64_t limit : {room / 2 - (1 << 10), room}) // first for two blocks on a multiprocessor
    for (to->together = FOURS_STEPS; to->together > 0; to->together--)
      if ((int64_t)fours_columns_bytes(*to) <= limit) return true;
  return false;
}

// The tiles of voxels whose place comes before that of the turned one.
static inline int64_t fours_tiles(const rs_geometry *geometry) {
  const int32_t height = (geometry->shape[RS_Y] + 1) / 2;
  return (int64_t)((height + FOURS_WARPS - 1) / FOURS_WARPS) * ((geometry->shape[RS_X] + FOURS_PLACES - 1) / FOURS_PLACES);
}

// As astra_plan_columns. Two blocks run on a multiprocessor.
static inline bool fours_plan_columns(const rs_geometry *geometry, const fours_step *steps, int32_t count, int exponent, int32_t device,
                                      fours_columns *to) {
  const int64_t tiles = fours_tiles(geometry), places = 2 * rs_cuda_multiprocessors(device), half = (geometry->shape[RS_Z] + 1) / 2;
  auto rounds = [=](int32_t chunk) { return (tiles * ((half + chunk - 1) / chunk) + places - 1) / places; };
  const int32_t best = 0.58 * (double)rounds(32) < (double)rounds(64) ? 32 : 64;
  for (int32_t chunk = best; chunk >= 32; chunk /= 2)
    if (fours_measure_columns(geometry, steps, count, exponent, chunk, astra_room_of(device), to)) return true;
  return false;
}
